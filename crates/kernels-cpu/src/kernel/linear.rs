//! Dense products.

// Tasks write disjoint columns of the output.
#![allow(unsafe_code)]

use std::ops::Range;

use sostenuto_formats::codes::bf16_to_f32;

use crate::kernel::matrix::Matrix;
use crate::kernel::panel::{PANEL_ROWS, PanelScratch, multiply, panels};
use crate::memory::Parts;
use crate::simd::{Kernel, Simd};

/// `out[t][column + o] = weight[o] · input[t] + bias[o]`, or `+=`, for the output features `features`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `weight` | any [`Matrix`] | `[n, k]` |
/// | `inputs` | blocks as the matrix takes them | `[rows, ⌈k/32⌉]` |
/// | `bias` | bf16 bytes | `[n]` |
/// | `features` | output features | within `n`, starting at a multiple of 16 |
/// | `out` | f32 | `[row + rows, width]` |
/// | `row` | | row of `out` of the first input |
/// | `width`, `column` | | columns of `out`, and the one of feature 0; `column + n` at most `width` |
/// | `scratch` | | see [`PanelScratch`] |
///
/// # Numerics
/// See the crate's documentation; the bias is added to the finished sum, then that to what `out` held.
///
/// # Panics
/// If sizes do not belong together.
///
/// # Cost
/// Reads the weights once and then from the caches, once per [`Matrix::TOKENS`] rows; bound by memory for one row, by
/// multiplications for many.
///
/// # Source
/// The linear layers of openai/gpt-oss `gpt_oss/torch/model.py`: q, k, v, output, router, unembedding; an expert's second
/// matrix.
///
/// # Safety
/// Whoever makes it vouches that no other task writes columns `column + features` of these rows of `out`.
pub(crate) struct Linear<'a, M: Matrix> {
    pub(crate) weight: M,
    pub(crate) inputs: &'a [M::Activation],
    pub(crate) bias: Option<&'a [u8]>,
    pub(crate) features: Range<usize>,
    pub(crate) accumulate: bool,
    pub(crate) out: Parts<'a, f32>,
    pub(crate) row: usize,
    pub(crate) width: usize,
    pub(crate) column: usize,
    pub(crate) scratch: PanelScratch<'a>,
}

impl<M: Matrix> Kernel for Linear<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        assert!(self.column + self.weight.rows() <= self.width, "columns of the output");
        let (bias, accumulate) = (self.bias, self.accumulate);
        let blocks = self.weight.blocks();
        let tokens = self.inputs.len() / blocks;
        for (rows, tokens) in panels::<M>(self.features.clone(), tokens) {
            let inputs = &self.inputs[tokens.start * blocks..tokens.end * blocks];
            multiply(s, self.weight, rows.clone(), &mut self.scratch.panel(inputs, blocks));
            for (t, sums) in tokens.zip(self.scratch.sums.chunks_exact_mut(PANEL_ROWS)) {
                let start = (self.row + t) * self.width + self.column;
                // SAFETY: no other task has these columns of this row.
                let out = unsafe { self.out.get(start + rows.start..start + rows.end) };
                finish(bias.map(|bias| &bias[2 * rows.start..2 * rows.end]), accumulate, sums, out);
            }
        }
    }
}

/// Adds the bias, and what was there.
#[inline(always)]
fn finish(bias: Option<&[u8]>, accumulate: bool, sums: &mut [f32], out: &mut [f32]) {
    let sums = &mut sums[..out.len()];
    if let Some(bias) = bias {
        for (sum, &bias) in sums.iter_mut().zip(bias.as_chunks::<2>().0) {
            *sum += bf16_to_f32(u16::from_le_bytes(bias));
        }
    }
    if accumulate {
        for (out, sum) in out.iter_mut().zip(sums) {
            *out += *sum;
        }
    } else {
        out.copy_from_slice(sums);
    }
}

/// Element of a bf16 vector.
#[inline(always)]
pub(crate) fn bf16_at(bytes: &[u8], index: usize) -> f32 {
    bf16_to_f32(u16::from_le_bytes([bytes[2 * index], bytes[2 * index + 1]]))
}
