//! The fake model, defined twice: here on plain vectors, in [`crate::device`] on blocks, rings and snapshots.
//!
//! The data flow is that of gpt-oss in miniature. Layer `l` keeps one value for each position, its own input `h_l(p)`; it
//! attends to the values of the last `window` positions (sliding) or of all positions (full):
//!
//! ```text
//! h_0(p)     = embed(token_p, p)
//! h_{l+1}(p) = mix(h_l(p) ^ c_l * sum over attended q of h_l(q) * w(q))
//! ```
//!
//! All arithmetic is modulo 2^64, `w(q)` and `c_l` are odd, so one wrong value among the attended ones always changes
//! the sum. `h_L(p)` of the last layer decides the logits of position `p`. Hence every token is a function of all tokens
//! before it, through the same memory as in the true model, and a window is rebuilt exactly by re-running
//! `(window - 1) * (number of sliding layers)` positions with the full layers' values read-only.

use crate::rng::mix;

/// Most positions of a sequence.
pub(crate) const MAX_POSITIONS: usize = 512;

/// Token ids are below this.
pub(crate) const VOCAB_SIZE: usize = 48;

/// What a layer attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    /// The last `window` positions, kept in a ring.
    Sliding,
    /// All positions, kept in blocks.
    Full,
}

/// The layers and the window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelShape {
    pub(crate) layers: &'static [Layer],
    /// Positions a sliding layer attends to, the row's own included.
    pub(crate) window: usize,
}

impl ModelShape {
    pub(crate) fn sliding_layers(&self) -> usize {
        self.layers.iter().filter(|&&layer| layer == Layer::Sliding).count()
    }

    pub(crate) fn full_layers(&self) -> usize {
        self.layers.len() - self.sliding_layers()
    }
}

/// `w(q)`.
pub(crate) static WEIGHTS: [u64; MAX_POSITIONS] = odd_numbers::<MAX_POSITIONS>(1 << 32);

static LAYER_FACTORS: [u64; 8] = odd_numbers::<8>(2 << 32);

static TOKEN_FACTORS: [u64; VOCAB_SIZE] = odd_numbers::<VOCAB_SIZE>(3 << 32);

const fn odd_numbers<const N: usize>(salt: u64) -> [u64; N] {
    let mut numbers = [0; N];
    let mut i = 0;
    while i < N {
        numbers[i] = mix(salt + i as u64) | 1;
        i += 1;
    }
    numbers
}

/// `h_0(p)`.
pub(crate) fn embed(token: u32, position: usize) -> u64 {
    mix((u64::from(token) + 1) << 32 | position as u64)
}

/// `h_{l+1}(p)` from `h_l(p)` and the weighted sum of what the layer attends to.
pub(crate) fn layer_output(layer: usize, input: u64, attended: u64) -> u64 {
    mix(input ^ attended.wrapping_mul(LAYER_FACTORS[layer]))
}

/// The logits of a position: multiples of 2^-16 from -4 to 4.
pub(crate) fn logits(hidden: u64, out: &mut [f32]) {
    for (logit, factor) in out.iter_mut().zip(&TOKEN_FACTORS) {
        *logit = (hidden.wrapping_mul(*factor) >> 45) as f32 / 65_536.0 - 4.0;
    }
}

/// One sequence run alone, by the definition: no blocks, no rings, no steps.
#[derive(Debug)]
pub(crate) struct SoloRun {
    shape: ModelShape,
    /// For each layer, the weighted sums over the positions before each: `[layer][position]`.
    sums: Vec<Vec<u64>>,
    /// Output of the last layer: `[position]`.
    outputs: Vec<u64>,
}

impl SoloRun {
    pub(crate) fn new(shape: ModelShape) -> Self {
        Self { shape, sums: vec![vec![0]; shape.layers.len()], outputs: Vec::new() }
    }

    /// Appends a token.
    pub(crate) fn push(&mut self, token: u32) {
        let position = self.outputs.len();
        let mut hidden = embed(token, position);
        for (layer, kind) in self.shape.layers.iter().enumerate() {
            let sums = &mut self.sums[layer];
            let sum = sums[position].wrapping_add(hidden.wrapping_mul(WEIGHTS[position]));
            sums.push(sum);
            let first = match kind {
                Layer::Sliding => (position + 1).saturating_sub(self.shape.window),
                Layer::Full => 0,
            };
            hidden = layer_output(layer, hidden, sum.wrapping_sub(sums[first]));
        }
        self.outputs.push(hidden);
    }

    /// Tokens so far.
    pub(crate) fn len(&self) -> usize {
        self.outputs.len()
    }

    /// Output of the last layer at a position.
    pub(crate) fn output(&self, position: usize) -> u64 {
        self.outputs[position]
    }
}
