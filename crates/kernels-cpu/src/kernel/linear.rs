//! Dense products.

// Tasks write disjoint columns of the output.
#![allow(unsafe_code)]

use std::ops::Range;

use sostenuto_formats::codes::bf16_to_f32;

use crate::kernel::matrix::Matrix;
use crate::kernel::panel::{MOST_TOKENS, PANEL_ROWS, Panel, multiply};
use crate::memory::Parts;
use crate::simd::{Kernel, Simd};

/// `out[t][first + o] = weight[o] · input[t] + bias[o]`, or `+=`, for the output features `features`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `weight` | bf16, or packed int8 | `[n, k]` |
/// | `inputs` | f32 blocks, or int8 blocks | `[rows, ⌈k/32⌉]` |
/// | `bias` | bf16 bytes | `[n]` |
/// | `features` | output features | within `n`, at most 128, starting at a multiple of 16 |
/// | `out` | f32 | `[rows, width]` |
/// | `sums` | scratch | see [`Panel`] |
/// | `width`, `first` | | columns of `out`, and the one of feature 0; `first + n` at most `width` |
///
/// # Numerics
/// See the crate's documentation; the bias is added to the finished sum, then that to what `out` held.
///
/// # Panics
/// If sizes do not belong together.
///
/// # Cost
/// `2·k` bytes of weights per output feature once per 12 rows, or `17/16·k` bytes once per 64 rows; bound by memory for
/// one row, by multiplications for many.
///
/// # Source
/// The linear layers of openai/gpt-oss `gpt_oss/torch/model.py`: q, k, v, output, router, unembedding.
///
/// # Safety
/// Whoever makes it vouches that no other task writes columns `first + features` of `out`.
pub(crate) struct Linear<'a, M: Matrix> {
    pub(crate) weight: M,
    pub(crate) inputs: &'a [M::Activation],
    pub(crate) bias: Option<&'a [u8]>,
    pub(crate) features: Range<usize>,
    pub(crate) accumulate: bool,
    pub(crate) out: Parts<'a, f32>,
    pub(crate) width: usize,
    pub(crate) first: usize,
    pub(crate) sums: &'a mut [f32],
}

impl<M: Matrix> Kernel for Linear<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (width, column) = (self.width, self.first);
        assert!(column + self.weight.rows() <= width, "columns of the output");
        let blocks = self.weight.blocks();
        let sums = std::mem::take(&mut self.sums);
        let mut first = 0;
        for group in self.inputs.chunks(blocks * M::TOKENS) {
            let tokens = group.len() / blocks;
            let mut rows: [&[M::Activation]; MOST_TOKENS] = [&[]; MOST_TOKENS];
            for (row, input) in rows.iter_mut().zip(group.chunks_exact(blocks)) {
                *row = input;
            }
            let mut panel = Panel { inputs: &rows[..tokens], sums, expanded: &mut [] };
            multiply(s, self.weight, self.features.clone(), &mut panel);
            for t in 0..tokens {
                let start = (first + t) * width + column;
                // SAFETY: no other task has these columns.
                let out = unsafe { self.out.get(start + self.features.start..start + self.features.end) };
                self.finish(&sums[t * PANEL_ROWS..(t + 1) * PANEL_ROWS], out);
            }
            first += tokens;
        }
    }
}

impl<M: Matrix> Linear<'_, M> {
    /// Adds the bias, and what was there.
    #[inline(always)]
    fn finish(&self, sums: &[f32], out: &mut [f32]) {
        for (i, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
            let bias = self.bias.map_or(0.0, |bias| bf16_at(bias, self.features.start + i));
            let value = sum + bias;
            *out = if self.accumulate { *out + value } else { value };
        }
    }
}

/// Element of a bf16 vector.
#[inline(always)]
pub(crate) fn bf16_at(bytes: &[u8], index: usize) -> f32 {
    bf16_to_f32(u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]))
}
