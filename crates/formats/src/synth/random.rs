//! Random tensor bytes from a counter: byte i of a tensor depends on seed, name and i only.

use crate::codes::f32_to_bf16;

/// Entries of the table that turns 16 random bits into a normally distributed bf16.
const QUANTILES: usize = 1 << 16;

/// What a tensor's elements look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Values {
    /// bf16, normally distributed (to ±4.3 deviations).
    Normal { mean: f64, deviation: f64 },
    /// Pairs of uniformly distributed E2M1 codes.
    Codes,
    /// E8M0 from `middle` − 2 to `middle` + 1, uniformly.
    Scales { middle: u8 },
}

impl Values {
    /// The bytes of the tensor called `name`, to be taken in pieces of a multiple of 8 bytes; only the last may be
    /// of another length.
    pub(super) fn stream(self, seed: u64, name: &str) -> Stream {
        let quantiles = match self {
            Values::Normal { mean, deviation } => normal_quantiles(mean, deviation),
            Values::Codes | Values::Scales { .. } => Vec::new(),
        };
        Stream { values: self, key: key_of(seed, name), counter: 0, quantiles }
    }
}

/// The bytes of one tensor, from the first to the last.
pub(super) struct Stream {
    values: Values,
    key: u64,
    counter: u64,
    quantiles: Vec<u16>,
}

impl Stream {
    /// Writes the next `out.len()` bytes.
    pub(super) fn fill(&mut self, out: &mut [u8]) {
        let (key, first) = (self.key, self.counter);
        self.counter += out.len().div_ceil(8) as u64;
        match self.values {
            Values::Normal { .. } => {
                let table: &[u16; QUANTILES] = self.quantiles.as_slice().try_into().expect("one per 16 bits");
                fill_words(out, key, first, |bits| normals(table, bits));
            }
            Values::Codes => fill_words(out, key, first, |bits| bits),
            Values::Scales { middle } => {
                let lowest = u64::from(middle - 2) * 0x0101_0101_0101_0101;
                fill_words(out, key, first, |bits| lowest + (bits & 0x0303_0303_0303_0303));
            }
        }
    }
}

/// Eight bytes per counter value from `first` on; the last ones are cut to `out`'s length.
#[inline]
fn fill_words(out: &mut [u8], key: u64, first: u64, word_of: impl Fn(u64) -> u64) {
    let (words, rest) = out.as_chunks_mut::<8>();
    let last = word_of(mix(key, first + words.len() as u64)).to_le_bytes();
    for (word, counter) in words.iter_mut().zip(first..) {
        *word = word_of(mix(key, counter)).to_le_bytes();
    }
    rest.copy_from_slice(&last[..rest.len()]);
}

#[inline]
fn normals(table: &[u16; QUANTILES], bits: u64) -> u64 {
    let value = |shift: u32| u64::from(table[(bits >> shift) as u16 as usize]) << shift;
    value(0) | value(16) | value(32) | value(48)
}

/// SplitMix64's output function over a counter (Steele, Lea and Flood, 2014).
#[inline]
fn mix(key: u64, counter: u64) -> u64 {
    let mut z = key.wrapping_add(counter.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a over the name, keyed by the seed and mixed.
fn key_of(seed: u64, name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(mix(seed, 1), hash)
}

/// The middles of `QUANTILES` equally likely slices of a normal distribution, as bf16 bits.
fn normal_quantiles(mean: f64, deviation: f64) -> Vec<u16> {
    let value = |index: usize| {
        let probability = (index as f64 + 0.5) / QUANTILES as f64;
        f32_to_bf16((mean + deviation * normal_quantile(probability)) as f32)
    };
    (0..QUANTILES).map(value).collect()
}

/// The standard normal quantile, by P. J. Acklam's rational approximation (relative error below 1.2e-9).
fn normal_quantile(probability: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969683028665376e1,
        2.209460984245205e2,
        -2.759285104469687e2,
        1.38357751867269e2,
        -3.066479806614716e1,
        2.506628277459239,
    ];
    const B: [f64; 5] = [
        -5.447609879822406e1,
        1.615858368580409e2,
        -1.556989798598866e2,
        6.680131188771972e1,
        -1.328068155288572e1,
    ];
    const C: [f64; 6] = [
        -7.784894002430293e-3,
        -3.223964580411365e-1,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 4] = [7.784695709041462e-3, 3.224671290700398e-1, 2.445134137142996, 3.754408661907416];
    const TAIL: f64 = 0.02425;
    let polynomial = |coefficients: &[f64], x: f64| coefficients.iter().fold(0.0, |sum, c| sum * x + c);
    let tail = |p: f64| {
        let q = (-2.0 * p.ln()).sqrt();
        polynomial(&C, q) / (polynomial(&D, q) * q + 1.0)
    };
    if probability < TAIL {
        tail(probability)
    } else if probability > 1.0 - TAIL {
        -tail(1.0 - probability)
    } else {
        let q = probability - 0.5;
        let r = q * q;
        q * polynomial(&A, r) / (polynomial(&B, r) * r + 1.0)
    }
}
