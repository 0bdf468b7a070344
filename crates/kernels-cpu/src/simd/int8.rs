//! Integer products: weights as unsigned bytes, activations rounded to integers.
//!
//! Processors multiply unsigned with signed bytes. So weights carry an offset that makes them unsigned, and a sum of
//! products starts with what the offset adds too much.

use super::BLOCK;
use crate::memory::Number;

/// Twice the value of each E2M1 code, plus [`E2M1_OFFSET`].
pub(crate) const E2M1_BYTES: [u8; 16] = [12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0];

/// What [`E2M1_BYTES`] have too much.
pub(crate) const E2M1_OFFSET: i32 = 12;

/// What bytes of int8 weights have too much.
pub(crate) const INT8_OFFSET: i32 = 128;

/// Bytes of a lane: elements whose products one instruction adds up.
pub(crate) const QUAD: usize = 4;

/// Quads of a block.
pub(crate) const QUADS: usize = BLOCK / QUAD;

/// Which element of a block of 32 comes at each place of an [`Int8Block`] and of packed weights: of each eight the
/// even ones, then the odd ones. So the bytes of an MX block, each with an even element in its low nibble and the odd
/// one after it in the high nibble, are packed four at a time as they come.
pub(crate) const QUAD_ORDER: [u8; BLOCK] = [
    0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15, //
    16, 18, 20, 22, 17, 19, 21, 23, 24, 26, 28, 30, 25, 27, 29, 31,
];

/// 32 activations rounded to integers, each the sum of `PARTS` signed bytes: `x ≈ scale · value`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Integers<const PARTS: usize> {
    /// Bytes of each, in [`QUAD_ORDER`], from −127 to 127.
    pub(crate) values: [[[i8; QUAD]; QUADS]; PARTS],
    /// The sum of the values times minus the offset of the weights.
    pub(crate) offset: i32,
    /// What a product's integer is multiplied with beside the weights' scale.
    pub(crate) scale: f32,
}

/// From −127 to 127.
pub(crate) type Int8Block = Integers<1>;

/// From −254 to 254, with a power of two as the scale.
pub(crate) type Int9Block = Integers<2>;

/// Activations as integers that are sums of signed bytes.
pub(crate) trait IntegerBlock: Number {
    /// Bytes of a value.
    const PARTS: usize;

    /// A part of the values of a quad.
    fn quad(&self, part: usize, quad: usize) -> [i8; QUAD];

    /// See [`Integers::offset`].
    fn offset(&self) -> i32;

    /// See [`Integers::scale`].
    fn scale(&self) -> f32;
}

impl<const PARTS: usize> IntegerBlock for Integers<PARTS> {
    const PARTS: usize = PARTS;

    #[inline(always)]
    fn quad(&self, part: usize, quad: usize) -> [i8; QUAD] {
        self.values[part][quad]
    }

    #[inline(always)]
    fn offset(&self) -> i32 {
        self.offset
    }

    #[inline(always)]
    fn scale(&self) -> f32 {
        self.scale
    }
}
