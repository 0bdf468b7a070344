//! Activations in the order in which decoded weights come.

use crate::memory::Number;
#[cfg(target_arch = "x86_64")]
use crate::simd::amx::{Amx, Bf16Block};
use crate::simd::int8::{Int8Block, Int9Block, IntegerBlock, QUAD, QUAD_ORDER, QUADS};
use crate::simd::{BLOCK, Kernel, Simd};

/// Blocks of a row of `len` elements.
pub(crate) fn blocks(len: usize) -> usize {
    len.div_ceil(BLOCK)
}

/// How a product takes its activations: rounded or not, and in which order.
pub(crate) trait Packing: Copy + Send + Sync {
    /// 32 activations.
    type Block: Number;

    /// Packs a block.
    fn pack<S: Simd>(self, s: S, x: &[f32; BLOCK]) -> Self::Block;
}

/// Packs a row of activations; zeros beyond its end.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `row` | f32 | `[n]` |
/// | `out` | blocks | `[⌈n/32⌉]` |
///
/// # Panics
/// If the lengths do not belong together.
///
/// # Cost
/// Reads the row once or twice.
pub(crate) struct Pack<'a, P: Packing> {
    pub(crate) packing: P,
    pub(crate) row: &'a [f32],
    pub(crate) out: &'a mut [P::Block],
}

impl<P: Packing> Kernel for Pack<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        assert_eq!(self.out.len(), blocks(self.row.len()), "a block of the output per block");
        let (whole, tail) = self.row.as_chunks::<BLOCK>();
        let (outputs, last) = self.out.split_at_mut(whole.len());
        for (x, out) in whole.iter().zip(outputs) {
            *out = self.packing.pack(s, x);
        }
        if let Some(out) = last.first_mut() {
            let mut padded = [0.0; BLOCK];
            padded[..tail.len()].copy_from_slice(tail);
            *out = self.packing.pack(s, &padded);
        }
    }
}

/// Activations in f32, `out[b][i] = row[32·b + order[i]]`, in the order of decoded weights.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    Bf16,
    Mx,
}

impl Packing for Order {
    type Block = [f32; BLOCK];

    #[inline(always)]
    fn pack<S: Simd>(self, _: S, x: &[f32; BLOCK]) -> [f32; BLOCK] {
        let order = match self {
            Self::Bf16 => S::BF16_ORDER,
            Self::Mx => S::MX_ORDER,
        };
        order.map(|element| x[usize::from(element)])
    }
}

/// Magnitudes below this count as zero when rounded to integers: a 254th of it is barely a normal number.
const SMALLEST: f32 = 1e-35;

/// Activations rounded to int8 per block of 32: `value = round(x · (127 / max|x|))`, `x ≈ max|x| / 127 · value`.
///
/// `unit` and `offset` are [`Format::UNIT`](super::packed::Format) and [`Format::OFFSET`](super::packed::Format) of the
/// weights.
///
/// # Numerics
/// To nearest even; off by at most `max|x| / 254` and the rounding of the factors. A block whose magnitudes are all
/// below 1e-35 becomes zeros, one with an infinity or a NaN gets the scale NaN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToInt8 {
    pub(crate) unit: f32,
    pub(crate) offset: i32,
}

impl Packing for ToInt8 {
    type Block = Int8Block;

    #[inline(always)]
    fn pack<S: Simd>(self, s: S, x: &[f32; BLOCK]) -> Int8Block {
        // The factor's rounding may carry the largest value to 127.00001, never to 128.
        let (factor, scale) = match Magnitude::of(s, x) {
            Magnitude::Some(largest) => (127.0 / largest, largest / 127.0),
            other => other.factor_and_scale(),
        };
        let mut integers = [0; BLOCK];
        let sum = to_integers(&round_by(s, x, factor), &mut integers);
        let mut values = [[0; QUAD]; QUADS];
        for (value, &element) in values.as_flattened_mut().iter_mut().zip(&QUAD_ORDER) {
            *value = integers[usize::from(element)] as i8;
        }
        Int8Block { values: [values], offset: -self.offset * sum, scale: scale * self.unit }
    }
}

/// Activations rounded to integers up to 254 per block of 32, with a power of two as the scale: exact in bf16, and so are
/// their products with weights whose scale is one, and the sums of a block's. So [`ToInt9`] and [`ToBf16`] give the same
/// finite results, bit for bit.
///
/// # Numerics
/// `scale` is the least power of two with `max|x| ≤ 254 · scale`; to nearest even; off by at most `max|x| / 254`. A block
/// whose magnitudes are all below 1e-35 becomes zeros, one with an infinity or a NaN makes the product NaN.
#[inline(always)]
fn round_to_int9<S: Simd>(s: S, x: &[f32; BLOCK]) -> ([f32; BLOCK], f32) {
    let (factor, scale) = match Magnitude::of(s, x) {
        Magnitude::Some(largest) => {
            const EXPONENT: u32 = 0x7f80_0000;
            const SIGNIFICAND: u32 = 0x007f_ffff;
            let scale = f32::from_bits(((largest / 254.0).to_bits() + SIGNIFICAND) & EXPONENT);
            (1.0 / scale, scale)
        }
        other => other.factor_and_scale(),
    };
    (round_by(s, x, factor), scale)
}

/// As two bytes each, see [`Int9Block`]; `unit` and `offset` as for [`ToInt8`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToInt9 {
    pub(crate) unit: f32,
    pub(crate) offset: i32,
}

impl Packing for ToInt9 {
    type Block = Int9Block;

    #[inline(always)]
    fn pack<S: Simd>(self, s: S, x: &[f32; BLOCK]) -> Int9Block {
        let (rounded, scale) = round_to_int9(s, x);
        let mut integers = [0; BLOCK];
        let sum = to_integers(&rounded, &mut integers);
        let mut values = [[[0; QUAD]; QUADS]; 2];
        let [first, second] = &mut values;
        let places = first.as_flattened_mut().iter_mut().zip(second.as_flattened_mut());
        for ((first, second), &element) in places.zip(&QUAD_ORDER) {
            let value = integers[usize::from(element)];
            *first = (value >> 1) as i8;
            *second = (value - (value >> 1)) as i8;
        }
        Int9Block { values, offset: -self.offset * sum, scale: scale * self.unit }
    }
}

/// Activations rounded to integers.
pub(crate) trait Rounded: IntegerBlock {
    /// How they are rounded.
    type Rounding: Packing<Block = Self>;

    /// For weights with this [`Format::UNIT`](super::packed::Format) and [`Format::OFFSET`](super::packed::Format).
    fn rounding(unit: f32, offset: i32) -> Self::Rounding;
}

impl Rounded for Int8Block {
    type Rounding = ToInt8;

    fn rounding(unit: f32, offset: i32) -> ToInt8 {
        ToInt8 { unit, offset }
    }
}

impl Rounded for Int9Block {
    type Rounding = ToInt9;

    fn rounding(unit: f32, offset: i32) -> ToInt9 {
        ToInt9 { unit, offset }
    }
}

/// As bf16, in the order of the pairs of tiles of weights.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToBf16 {
    pub(crate) amx: Amx,
    pub(crate) order: &'static [u16; BLOCK],
}

#[cfg(target_arch = "x86_64")]
impl Packing for ToBf16 {
    type Block = Bf16Block;

    #[inline(always)]
    fn pack<S: Simd>(self, s: S, x: &[f32; BLOCK]) -> Bf16Block {
        let (mut values, scale) = round_to_int9(s, x);
        for values in values.chunks_exact_mut(S::LANES) {
            s.store(s.mul(s.load(values), s.splat(scale)), values);
        }
        self.amx.to_bf16(&values, self.order)
    }
}

/// The largest magnitude of a block.
enum Magnitude {
    /// Zero, or too small to round by.
    None,
    Some(f32),
    /// There is an infinity or a NaN.
    NotFinite,
}

impl Magnitude {
    #[inline(always)]
    fn of<S: Simd>(s: S, x: &[f32; BLOCK]) -> Self {
        let mut zero = s.splat(0.0);
        for x in x.chunks_exact(S::LANES) {
            zero = s.mul_add(s.load(x), s.splat(0.0), zero);
        }
        if s.sum(zero) != 0.0 {
            return Self::NotFinite;
        }
        let largest = largest_magnitude(s, x);
        if largest < SMALLEST { Self::None } else { Self::Some(largest) }
    }

    /// Where there is nothing to round by: everything becomes zero, or NaN by its scale.
    #[inline(always)]
    fn factor_and_scale(self) -> (f32, f32) {
        (0.0, if matches!(self, Self::NotFinite) { f32::NAN } else { 0.0 })
    }
}

/// `round(x · factor)` to nearest even.
#[inline(always)]
fn round_by<S: Simd>(s: S, x: &[f32; BLOCK], factor: f32) -> [f32; BLOCK] {
    let mut rounded = [0.0; BLOCK];
    for (x, rounded) in x.chunks_exact(S::LANES).zip(rounded.chunks_exact_mut(S::LANES)) {
        s.store(s.round(s.mul(s.load(x), s.splat(factor))), rounded);
    }
    rounded
}

/// Whole numbers as integers, NaN as zero; their sum.
#[inline(always)]
fn to_integers(rounded: &[f32; BLOCK], integers: &mut [i32; BLOCK]) -> i32 {
    let mut sum = 0;
    for (integer, &rounded) in integers.iter_mut().zip(rounded) {
        *integer = rounded as i32;
        sum += *integer;
    }
    sum
}

/// `max|x|`, where no x is NaN.
#[inline(always)]
fn largest_magnitude<S: Simd>(s: S, x: &[f32; BLOCK]) -> f32 {
    let mut largest = s.splat(0.0);
    for x in x.chunks_exact(S::LANES) {
        let x = s.load(x);
        largest = s.max(largest, s.max(x, s.sub(s.splat(0.0), x)));
    }
    s.largest(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;

    #[test]
    fn integers_are_the_nearest_and_their_parts_add_up() {
        for largest in [1e-34, 0.7, 254.0, 255.0, 3e38] {
            let x: [f32; BLOCK] = std::array::from_fn(|i| largest * (1.0 - i as f32 / 16.0));
            let block = ToInt9 { unit: 1.0, offset: 3 }.pack(Scalar, &x);
            assert_eq!(block.scale.to_bits() & 0x7f_ffff, 0, "a power of two");
            assert!(largest <= 254.0 * block.scale && largest > 127.0 * block.scale);
            let mut sum = 0;
            for (place, &element) in QUAD_ORDER.iter().enumerate() {
                let value: i32 = block.values.iter().map(|part| i32::from(part.as_flattened()[place])).sum();
                let x = f64::from(x[usize::from(element)]);
                assert!(
                    (x - f64::from(value) * f64::from(block.scale)).abs() <= 0.5 * f64::from(block.scale)
                );
                sum += value;
            }
            assert_eq!(block.offset, -3 * sum);
        }
    }

    #[test]
    fn block_that_is_not_finite_makes_the_product_nan() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 17, 31] {
                let mut x = [1.0; BLOCK];
                x[place] = bad;
                let int8 = ToInt8 { unit: 0.5, offset: 12 }.pack(Scalar, &x);
                let int9 = ToInt9 { unit: 0.5, offset: 12 }.pack(Scalar, &x);
                assert!(int8.scale.is_nan() && int9.scale.is_nan());
                assert_eq!((int8.offset, int9.offset), (0, 0));
            }
            assert!(ToInt9 { unit: 1.0, offset: 0 }.pack(Scalar, &[bad; BLOCK]).scale.is_nan());
        }
        assert_eq!(ToInt9 { unit: 1.0, offset: 0 }.pack(Scalar, &[-1e-36; BLOCK]).scale, 0.0);
    }
}
