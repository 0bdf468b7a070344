//! Activations in the order in which decoded weights come.

use crate::simd::int8::{Int8Block, QUAD, QUAD_ORDER, QUADS};
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

/// Rounds a row to int8 per block of 32, for a product with weights in a packed format:
/// `value = round(x · (127 / max|x|))`, `x ≈ max|x| / 127 · value`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `row` | f32 | `[n]` |
/// | `unit`, `offset` | | [`Format::UNIT`](super::packed::Format), [`Format::OFFSET`](super::packed::Format) |
/// | `out` | int8 blocks | `[⌈n/32⌉]`, zeros beyond the row's end |
///
/// # Numerics
/// To nearest even; off by at most `max|x| / 254` and the rounding of the factors. A block whose magnitudes are all
/// below 1e-36 becomes zeros, one with an infinity or a NaN gets the scale NaN.
///
/// # Panics
/// If the lengths do not belong together.
///
/// # Cost
/// Reads the row twice.
pub(crate) struct ToInt8<'a> {
    pub(crate) row: &'a [f32],
    pub(crate) unit: f32,
    pub(crate) offset: i32,
    pub(crate) out: &'a mut [Int8Block],
}

impl Kernel for ToInt8<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (blocks, tail) = self.row.as_chunks::<BLOCK>();
        assert_eq!(self.out.len(), self.row.len().div_ceil(BLOCK), "a block of the output per block");
        let (outputs, last) = self.out.split_at_mut(blocks.len());
        for (x, out) in blocks.iter().zip(outputs) {
            *out = to_int8(s, x, self.unit, self.offset);
        }
        if let Some(out) = last.first_mut() {
            let mut padded = [0.0; BLOCK];
            padded[..tail.len()].copy_from_slice(tail);
            *out = to_int8(s, &padded, self.unit, self.offset);
        }
    }
}

#[inline(always)]
fn to_int8<S: Simd>(s: S, x: &[f32; BLOCK], unit: f32, offset: i32) -> Int8Block {
    let largest = largest_magnitude(s, x);
    let (factor, scale) = if largest < SMALLEST { (0.0, 0.0) } else { (127.0 / largest, largest / 127.0) };
    let mut rounded = [0.0; BLOCK];
    let mut poison = s.splat(0.0);
    for (x, rounded) in x.chunks_exact(S::LANES).zip(rounded.chunks_exact_mut(S::LANES)) {
        let x = s.load(x);
        // 0, or NaN where x is infinite or NaN.
        poison = s.mul_add(x, s.splat(0.0), poison);
        s.store(s.round(s.mul(x, s.splat(factor))), rounded);
    }
    let scale = scale + s.sum(poison);
    // The factor's rounding may carry the largest value to 127.00001, never to 128.
    let mut integers = [0; BLOCK];
    let mut sum = 0;
    for (integer, rounded) in integers.iter_mut().zip(rounded) {
        *integer = rounded as i32;
        sum += *integer;
    }
    let mut values = [[0; QUAD]; QUADS];
    for (value, &element) in values.as_flattened_mut().iter_mut().zip(&QUAD_ORDER) {
        *value = integers[usize::from(element)] as i8;
    }
    Int8Block { values, offset: -offset * sum, scale: scale * unit }
}

/// `max|x|`, where no x is NaN.
#[inline(always)]
pub(crate) fn largest_magnitude<S: Simd>(s: S, x: &[f32; BLOCK]) -> f32 {
    let mut largest = s.splat(0.0);
    for x in x.chunks_exact(S::LANES) {
        let x = s.load(x);
        largest = s.max(largest, s.max(x, s.sub(s.splat(0.0), x)));
    }
    s.largest(largest)
}
