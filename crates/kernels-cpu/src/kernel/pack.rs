//! Activations in the order in which decoded weights come.

use crate::simd::int8::{CODE_OFFSET, Int8Block};
use crate::simd::{BLOCK, Kernel, Simd};

/// Blocks of a row of `len` elements.
pub(crate) fn blocks(len: usize) -> usize {
    len.div_ceil(BLOCK)
}

/// Which weights the activations are packed for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Bf16,
    Mx,
}

/// `out[b][i] = row[32·b + order[i]]`, zeros beyond the end.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `row` | f32 | `[n]` |
/// | `out` | f32 | `[⌈n/32⌉, 32]` |
///
/// # Numerics
/// Exact.
///
/// # Panics
/// If the lengths do not belong together.
///
/// # Cost
/// Reads and writes the row once.
pub(crate) struct Pack<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) order: Order,
    pub(crate) out: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        match self.order {
            Order::Bf16 => permute(self.row, &S::BF16_ORDER, self.out),
            Order::Mx => permute(self.row, &S::MX_ORDER, self.out),
        }
    }
}

#[inline(always)]
fn permute(row: &[f32], order: &[u8; BLOCK], out: &mut [f32]) {
    let (inputs, tail) = row.as_chunks::<BLOCK>();
    let (outputs, rest) = out.as_chunks_mut::<BLOCK>();
    assert!(rest.is_empty() && outputs.len() == blocks(row.len()), "a whole number of blocks");
    for (input, output) in inputs.iter().zip(&mut *outputs) {
        for (value, &element) in output.iter_mut().zip(order) {
            *value = input[usize::from(element)];
        }
    }
    if !tail.is_empty() {
        let output = &mut outputs[inputs.len()];
        for (value, &element) in output.iter_mut().zip(order) {
            *value = tail.get(usize::from(element)).copied().unwrap_or(0.0);
        }
    }
}

/// Magnitudes below this count as zero when rounded to int8: 127 over it would overflow.
const SMALLEST: f32 = 1e-36;

/// Rounds a row to int8 per block of 32: `scale = max|x| / 127`, `value = round(x · (127 / max|x|))`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `row` | f32 | `[n]`, n a multiple of 32 |
/// | `out` | int8 blocks | `[n/32]` |
///
/// # Numerics
/// To nearest even; off by at most `max|x| / 254` and the rounding of the factors. A block whose magnitudes are all
/// below 1e-36 becomes zeros.
///
/// # Panics
/// If the lengths do not belong together.
///
/// # Cost
/// Reads the row twice.
pub(crate) struct ToInt8<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) out: &'a mut [Int8Block],
}

impl Kernel for ToInt8<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (blocks, rest) = self.row.as_chunks::<BLOCK>();
        assert!(rest.is_empty() && blocks.len() == self.out.len(), "a whole number of blocks");
        for (x, out) in blocks.iter().zip(self.out) {
            let mut largest = s.splat(0.0);
            for x in x.chunks_exact(S::LANES) {
                let x = s.load(x);
                largest = s.max(largest, s.max(x, s.sub(s.splat(0.0), x)));
            }
            let largest = s.largest(largest);
            let (factor, scale) =
                if largest < SMALLEST { (0.0, 0.0) } else { (127.0 / largest, largest / 127.0) };
            let mut rounded = [0.0; BLOCK];
            for (x, rounded) in x.chunks_exact(S::LANES).zip(rounded.chunks_exact_mut(S::LANES)) {
                s.store(s.round(s.mul(s.load(x), s.splat(factor))), rounded);
            }
            *out = split(&rounded, scale);
        }
    }
}

/// Even elements, then odd ones, and the lanes' offsets.
#[inline(always)]
fn split(rounded: &[f32; BLOCK], scale: f32) -> Int8Block {
    let mut block = Int8Block { values: [0; BLOCK], offsets: [0; 8], scale };
    let (even, odd) = block.values.split_at_mut(BLOCK / 2);
    for ((even, odd), pair) in even.iter_mut().zip(odd).zip(rounded.as_chunks::<2>().0) {
        // The factor's rounding may carry the largest value to 127.00001, never to 128.
        *even = pair[0] as i8;
        *odd = pair[1] as i8;
    }
    for (offset, values) in block.offsets.iter_mut().zip(block.values.as_chunks::<4>().0) {
        *offset = -CODE_OFFSET * values.iter().map(|&value| i32::from(value)).sum::<i32>();
    }
    block
}
