//! Weights as kernels see them: rows of blocks that are decoded in registers.

// Blocks are read without bounds checks in the innermost loops.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::isa::Witness;
use crate::kernel::pack::{Order, Packing};
use crate::kernel::panel::{Panel, strips, strips_of};
use crate::memory::Number;
use crate::simd::{BLOCK, Kernel, Simd};

/// Rows of f32 activations in a panel.
const F32_TOKENS: usize = 12;

/// A matrix whose rows are multiplied with packed activations.
pub(crate) trait Matrix: Copy {
    /// One block of activations.
    type Activation: Number;

    /// How activations become blocks.
    type Packing: Packing<Block = Self::Activation>;

    /// Most rows of activations in a panel, at most [`MOST_TOKENS`](crate::kernel::panel::MOST_TOKENS): they stay in
    /// the second-level cache while the matrix's rows pass.
    const TOKENS: usize;

    /// Rows.
    fn rows(&self) -> usize;

    /// Blocks of a row of activations.
    fn blocks(&self) -> usize;

    /// How activations become blocks.
    fn packing(&self) -> Self::Packing;

    /// Multiplies rows with the panel's activations, in tiles that suit the format.
    fn multiply<S: Simd>(&self, s: S, rows: Range<usize>, panel: &mut Panel<'_, Self::Activation>);
}

/// A matrix that is multiplied row by row: a sum runs along a row's blocks.
pub(crate) trait RowMatrix: Matrix {
    /// One block of weights in registers.
    type Decoded<S: Simd>: Copy;

    /// Blocks of a row that are whole.
    fn whole_blocks(&self) -> usize;

    /// Whether a row ends with a shorter block.
    fn has_tail(&self) -> bool;

    /// Loads a whole block.
    ///
    /// # Safety
    /// `row < self.rows()` and `block < self.whole_blocks()`.
    unsafe fn decode<S: Simd>(&self, s: S, row: usize, block: usize) -> Self::Decoded<S>;

    /// Loads the shorter block, zeros beyond its end.
    fn decode_tail<S: Simd>(&self, s: S, row: usize) -> Self::Decoded<S>;

    /// `sum + w · x`.
    fn step<S: Simd>(&self, s: S, sum: S::F32, w: Self::Decoded<S>, x: &Self::Activation) -> S::F32;

    /// Hints that the `rows` rows from `row` on will be read next; called once per block of the rows before them.
    fn prefetch<S: Simd>(&self, s: S, row: usize, rows: usize, block: usize);
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

impl Matrix for Bf16<'_> {
    type Activation = [f32; BLOCK];
    type Packing = Order;
    const TOKENS: usize = F32_TOKENS;

    #[inline(always)]
    fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn blocks(&self) -> usize {
        self.whole_blocks() + usize::from(self.has_tail())
    }

    fn packing(&self) -> Order {
        Order::Bf16
    }

    #[inline(always)]
    fn multiply<S: Simd>(&self, s: S, rows: Range<usize>, panel: &mut Panel<'_, Self::Activation>) {
        match panel.tokens {
            1 => strips::<S, Self, 8, 1>(s, *self, rows, panel),
            2 => strips::<S, Self, 4, 2>(s, *self, rows, panel),
            _ => strips_of::<S, Self, 3, 4>(s, *self, rows, panel),
        }
    }
}

impl RowMatrix for Bf16<'_> {
    type Decoded<S: Simd> = S::Block;

    #[inline(always)]
    fn whole_blocks(&self) -> usize {
        self.row_bytes / (2 * BLOCK)
    }

    #[inline(always)]
    fn has_tail(&self) -> bool {
        !self.row_bytes.is_multiple_of(2 * BLOCK)
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(&self, s: S, row: usize, block: usize) -> S::Block {
        // SAFETY: `new` checked that the bytes hold `rows` rows; the caller vouches for row and block.
        let bytes = unsafe { &*self.bytes.as_ptr().add(row * self.row_bytes + block * (2 * BLOCK)).cast() };
        s.bf16_block(bytes)
    }

    #[inline(always)]
    fn decode_tail<S: Simd>(&self, s: S, row: usize) -> S::Block {
        let row = &self.bytes[row * self.row_bytes..(row + 1) * self.row_bytes];
        let tail = row.as_chunks::<{ 2 * BLOCK }>().1;
        let mut padded = [0; 2 * BLOCK];
        padded[..tail.len()].copy_from_slice(tail);
        s.bf16_block(&padded)
    }

    #[inline(always)]
    fn step<S: Simd>(&self, s: S, sum: S::F32, w: S::Block, x: &[f32; BLOCK]) -> S::F32 {
        s.dot_block(sum, w, x)
    }

    /// The rows are long enough for the processor to foresee.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, _: S, _: usize, _: usize, _: usize) {}
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

    /// Hints at the part of the codes and scales of `rows` rows from `row` on that is as far into them as `block` is
    /// into a row.
    #[inline(always)]
    fn prefetch_part<S: Simd>(&self, s: S, row: usize, rows: usize, block: usize) {
        let at = row * self.blocks + rows * block;
        s.prefetch(self.codes.as_ptr().wrapping_add(at * (BLOCK / 2)));
        s.prefetch(self.scales.as_ptr().wrapping_add(at));
    }

    /// A block's codes and scale.
    ///
    /// # Safety
    /// `row` is one of the rows and `block` one of its blocks.
    #[inline(always)]
    unsafe fn block(&self, row: usize, block: usize) -> (&'a [u8; BLOCK / 2], u8) {
        let at = row * self.blocks + block;
        // SAFETY: `new` checked that there are 16 code bytes and a scale for each block of each row; the caller
        // vouches for row and block.
        unsafe { (&*self.codes.as_ptr().add(at * (BLOCK / 2)).cast(), *self.scales.get_unchecked(at)) }
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

/// How the experts' matrices are multiplied.
pub(crate) trait Experts: Copy + Sync {
    /// One expert's matrix.
    type Expert: Matrix;

    /// Rows that one task multiplies at most.
    const TASK_ROWS: usize;

    /// One expert's matrix.
    fn expert(&self, expert: usize) -> Self::Expert;

    /// Rows of each.
    fn out_features(&self) -> usize;

    /// Runs a kernel that uses it.
    fn run<K: Kernel>(&self, witness: Witness, kernel: K) -> K::Output;
}

/// With f32 activations.
impl<'a> Experts for MxExperts<'a> {
    type Expert = Mx<'a>;
    const TASK_ROWS: usize = 48;

    fn expert(&self, expert: usize) -> Mx<'a> {
        let blocks = self.out_features * self.in_features / BLOCK;
        let range = expert * blocks..(expert + 1) * blocks;
        let codes = &self.codes[range.start * BLOCK / 2..range.end * BLOCK / 2];
        Mx::new(codes, &self.scales[range], self.in_features)
    }

    fn out_features(&self) -> usize {
        self.out_features
    }

    #[inline]
    fn run<K: Kernel>(&self, witness: Witness, kernel: K) -> K::Output {
        witness.run(kernel)
    }
}

impl Matrix for Mx<'_> {
    type Activation = [f32; BLOCK];
    type Packing = Order;
    const TOKENS: usize = F32_TOKENS;

    #[inline(always)]
    fn rows(&self) -> usize {
        self.rows
    }

    #[inline(always)]
    fn blocks(&self) -> usize {
        self.blocks
    }

    fn packing(&self) -> Order {
        Order::Mx
    }

    #[inline(always)]
    fn multiply<S: Simd>(&self, s: S, rows: Range<usize>, panel: &mut Panel<'_, Self::Activation>) {
        match panel.tokens {
            1 => strips::<S, Self, 4, 1>(s, *self, rows, panel),
            2 => strips::<S, Self, 4, 2>(s, *self, rows, panel),
            3 => strips::<S, Self, 4, 3>(s, *self, rows, panel),
            _ => strips_of::<S, Self, 2, 6>(s, *self, rows, panel),
        }
    }
}

impl RowMatrix for Mx<'_> {
    type Decoded<S: Simd> = S::Block;

    #[inline(always)]
    fn whole_blocks(&self) -> usize {
        self.blocks
    }

    #[inline(always)]
    fn has_tail(&self) -> bool {
        false
    }

    #[inline(always)]
    unsafe fn decode<S: Simd>(&self, s: S, row: usize, block: usize) -> S::Block {
        // SAFETY: the caller vouches for row and block.
        let (codes, scale) = unsafe { self.block(row, block) };
        s.mx_block(codes, scale)
    }

    #[inline(always)]
    fn decode_tail<S: Simd>(&self, _: S, _: usize) -> S::Block {
        unreachable!("rows of whole MX blocks")
    }

    #[inline(always)]
    fn step<S: Simd>(&self, s: S, sum: S::F32, w: S::Block, x: &[f32; BLOCK]) -> S::F32 {
        s.dot_block(sum, w, x)
    }

    #[inline(always)]
    fn prefetch<S: Simd>(&self, s: S, row: usize, rows: usize, block: usize) {
        self.prefetch_part(s, row, rows, block);
    }
}
