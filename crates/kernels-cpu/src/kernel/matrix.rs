//! Weights as kernels see them: rows of blocks that are decoded in registers.

// Blocks are read without bounds checks in the innermost loops.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::kernel::panel::{Panel, strips, strips_of};
use crate::simd::{BLOCK, Simd};

/// A matrix whose rows are multiplied with packed activations.
pub(crate) trait Matrix<S: Simd>: Copy {
    /// One block of activations.
    type Activation: Copy;
    /// One block of weights in registers.
    type Decoded: Copy;
    /// Running sum of a dot product.
    type Sum: Copy;

    /// Rows.
    fn rows(&self) -> usize;

    /// Blocks of a row that are whole.
    fn whole_blocks(&self) -> usize;

    /// Whether a row ends with a shorter block.
    fn has_tail(&self) -> bool;

    /// Loads a whole block.
    ///
    /// # Safety
    /// `row < self.rows()` and `block < self.whole_blocks()`.
    unsafe fn decode(&self, s: S, row: usize, block: usize) -> Self::Decoded;

    /// Loads the shorter block, zeros beyond its end.
    fn decode_tail(&self, s: S, row: usize) -> Self::Decoded;

    /// The sum of nothing.
    fn zero(&self, s: S) -> Self::Sum;

    /// `sum + w · x`.
    fn step(&self, s: S, sum: Self::Sum, w: Self::Decoded, x: &Self::Activation) -> Self::Sum;

    /// The dot product.
    fn finish(&self, s: S, sum: Self::Sum) -> f32;

    /// Multiplies rows with the panel's activations, in tiles that suit the format.
    fn multiply(&self, s: S, rows: Range<usize>, panel: &mut Panel<'_, Self::Activation>);
}

/// bf16 rows.
#[derive(Clone, Copy)]
pub(crate) struct Bf16<'a> {
    bytes: &'a [u8],
    rows: usize,
    row_bytes: usize,
}

impl<'a> Bf16<'a> {
    /// A matrix `[bytes.len() / 2 / columns, columns]`.
    ///
    /// # Panics
    /// If the bytes are not whole rows.
    pub(crate) fn new(bytes: &'a [u8], columns: usize) -> Self {
        let row_bytes = 2 * columns;
        assert!(row_bytes > 0 && bytes.len().is_multiple_of(row_bytes), "whole rows of bf16");
        Self { bytes, rows: bytes.len() / row_bytes, row_bytes }
    }
}

impl<S: Simd> Matrix<S> for Bf16<'_> {
    type Activation = [f32; BLOCK];
    type Decoded = S::Block;
    type Sum = S::F32;

    #[inline(always)]
    fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn whole_blocks(&self) -> usize {
        self.row_bytes / (2 * BLOCK)
    }

    #[inline(always)]
    fn has_tail(&self) -> bool {
        !self.row_bytes.is_multiple_of(2 * BLOCK)
    }

    #[inline(always)]
    unsafe fn decode(&self, s: S, row: usize, block: usize) -> S::Block {
        // SAFETY: `new` checked that the bytes hold `rows` rows; the caller vouches for row and block.
        let bytes = unsafe { &*self.bytes.as_ptr().add(row * self.row_bytes + block * 2 * BLOCK).cast() };
        s.bf16_block(bytes)
    }

    #[inline(always)]
    fn decode_tail(&self, s: S, row: usize) -> S::Block {
        let row = &self.bytes[row * self.row_bytes..(row + 1) * self.row_bytes];
        let tail = row.as_chunks::<{ 2 * BLOCK }>().1;
        let mut padded = [0; 2 * BLOCK];
        padded[..tail.len()].copy_from_slice(tail);
        s.bf16_block(&padded)
    }

    #[inline(always)]
    fn zero(&self, s: S) -> S::F32 {
        s.splat(0.0)
    }

    #[inline(always)]
    fn step(&self, s: S, sum: S::F32, w: S::Block, x: &[f32; BLOCK]) -> S::F32 {
        s.dot_block(sum, w, x)
    }

    #[inline(always)]
    fn finish(&self, s: S, sum: S::F32) -> f32 {
        s.sum(sum)
    }

    #[inline(always)]
    fn multiply(&self, s: S, rows: Range<usize>, panel: &mut Panel<'_, Self::Activation>) {
        match panel.tokens() {
            1 => strips::<S, Self, 8, 1>(s, *self, rows, panel),
            2 => strips::<S, Self, 4, 2>(s, *self, rows, panel),
            _ => strips_of::<S, Self, 3, 4>(s, *self, rows, panel),
        }
    }
}

/// MXFP4 rows of one expert.
#[derive(Clone, Copy)]
pub(crate) struct Mx<'a> {
    codes: &'a [u8],
    scales: &'a [u8],
    rows: usize,
    blocks: usize,
}

impl<'a> Mx<'a> {
    /// A matrix `[scales.len() / (columns / 32), columns]`.
    ///
    /// # Panics
    /// If codes and scales are not those of the same whole rows.
    pub(crate) fn new(codes: &'a [u8], scales: &'a [u8], columns: usize) -> Self {
        let blocks = columns / BLOCK;
        assert!(blocks > 0 && columns.is_multiple_of(BLOCK), "rows of whole MX blocks");
        assert!(scales.len().is_multiple_of(blocks), "whole rows of scales");
        assert_eq!(codes.len(), scales.len() * BLOCK / 2, "16 code bytes per scale");
        Self { codes, scales, rows: scales.len() / blocks, blocks }
    }
}

/// MXFP4 matrices of all experts.
#[derive(Clone, Copy)]
pub(crate) struct MxExperts<'a> {
    pub(crate) codes: &'a [u8],
    pub(crate) scales: &'a [u8],
    pub(crate) out_features: usize,
    pub(crate) in_features: usize,
}

impl<'a> MxExperts<'a> {
    /// One expert's matrix.
    pub(crate) fn expert(&self, expert: usize) -> Mx<'a> {
        let blocks = self.out_features * self.in_features / BLOCK;
        let range = expert * blocks..(expert + 1) * blocks;
        let codes = &self.codes[range.start * BLOCK / 2..range.end * BLOCK / 2];
        Mx::new(codes, &self.scales[range], self.in_features)
    }
}

impl<S: Simd> Matrix<S> for Mx<'_> {
    type Activation = [f32; BLOCK];
    type Decoded = S::Block;
    type Sum = S::F32;

    #[inline(always)]
    fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn whole_blocks(&self) -> usize {
        self.blocks
    }

    #[inline(always)]
    fn has_tail(&self) -> bool {
        false
    }

    #[inline(always)]
    unsafe fn decode(&self, s: S, row: usize, block: usize) -> S::Block {
        let at = row * self.blocks + block;
        // SAFETY: `new` checked that there are 16 code bytes and a scale for each block of each row; the caller
        // vouches for row and block.
        let (codes, scale) =
            unsafe { (&*self.codes.as_ptr().add(at * BLOCK / 2).cast(), *self.scales.get_unchecked(at)) };
        s.mx_block(codes, scale)
    }

    #[inline(always)]
    fn decode_tail(&self, _: S, _: usize) -> S::Block {
        unreachable!("rows of whole MX blocks")
    }

    #[inline(always)]
    fn zero(&self, s: S) -> S::F32 {
        s.splat(0.0)
    }

    #[inline(always)]
    fn step(&self, s: S, sum: S::F32, w: S::Block, x: &[f32; BLOCK]) -> S::F32 {
        s.dot_block(sum, w, x)
    }

    #[inline(always)]
    fn finish(&self, s: S, sum: S::F32) -> f32 {
        s.sum(sum)
    }

    #[inline(always)]
    fn multiply(&self, s: S, rows: Range<usize>, panel: &mut Panel<'_, Self::Activation>) {
        match panel.tokens() {
            1 => strips::<S, Self, 4, 1>(s, *self, rows, panel),
            2 => strips::<S, Self, 4, 2>(s, *self, rows, panel),
            3 => strips::<S, Self, 4, 3>(s, *self, rows, panel),
            _ => strips_of::<S, Self, 2, 6>(s, *self, rows, panel),
        }
    }
}
