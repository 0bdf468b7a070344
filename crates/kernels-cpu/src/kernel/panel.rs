//! Products of some rows of a matrix with some rows of activations.

// Blocks are read without bounds checks in the innermost loops.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::kernel::matrix::{Matrix, RowMatrix};
use crate::simd::Simd;

/// Most rows of the matrix in a panel.
pub(crate) const PANEL_ROWS: usize = 128;

/// Most rows of activations in a panel.
pub(crate) const MOST_TOKENS: usize = 128;

/// Most rows of a packed matrix in a task: the first ones' weights are waited for, those of the rest asked for
/// meanwhile.
pub(crate) const TASK_ROWS: usize = 4 * PANEL_ROWS;

/// Room for the products of a panel.
pub(crate) const PANEL_SUMS: usize = PANEL_ROWS * MOST_TOKENS;

/// Tiles of so few tokens wait for memory rather than for multiplications.
pub(crate) const FEW_TOKENS: usize = 3;

/// Tiles of 1 KiB that are decoded ahead of their products: four blocks of four panels.
pub(crate) const RING_TILES: usize = 4 * 4;

/// Bytes of [`Panel::expanded`] for products by tiles: these, or two panels of rows of `blocks` blocks.
pub(crate) fn expanded_tiles(blocks: usize) -> usize {
    (2 * blocks).max(RING_TILES) << 10
}

/// Rows of activations and room for their products.
pub(crate) struct Panel<'a, X> {
    /// `[tokens, blocks]`: at most [`Matrix::TOKENS`] rows, each with a packed block per block of the matrix's rows.
    pub(crate) inputs: &'a [X],
    pub(crate) tokens: usize,
    /// `[tokens, PANEL_ROWS]`.
    pub(crate) sums: &'a mut [f32],
    /// Room for decoded rows of the matrix, as much as its format asks for.
    pub(crate) expanded: &'a mut [u8],
}

/// Room of a thread for the products of its panels.
pub(crate) struct PanelScratch<'a> {
    /// [`PANEL_SUMS`].
    pub(crate) sums: &'a mut [f32],
    /// See [`Panel::expanded`].
    pub(crate) expanded: &'a mut [u8],
}

impl PanelScratch<'_> {
    /// The panel of some rows of activations of `blocks` blocks.
    #[inline(always)]
    pub(crate) fn panel<'a, X>(&'a mut self, inputs: &'a [X], blocks: usize) -> Panel<'a, X> {
        Panel { inputs, tokens: inputs.len() / blocks, sums: &mut *self.sums, expanded: &mut *self.expanded }
    }
}

/// The panels of a product of `rows` with `tokens` rows of activations: rows of the matrix, which stay in the caches,
/// with all activations one after another.
pub(crate) fn panels<M: Matrix>(
    rows: Range<usize>,
    tokens: usize,
) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let end = rows.end;
    rows.step_by(PANEL_ROWS).flat_map(move |row| {
        let rows = row..end.min(row + PANEL_ROWS);
        (0..tokens).step_by(M::TOKENS).map(move |t| (rows.clone(), t..tokens.min(t + M::TOKENS)))
    })
}

/// `sums[t][r] = matrix[rows.start + r] · inputs[t]`.
///
/// # Numerics
/// Blocks in ascending order into one sum per product, whatever the tile.
///
/// # Panics
/// If `rows` are more than [`PANEL_ROWS`] or not the matrix's, or the panel's sizes are wrong.
#[inline(always)]
pub(crate) fn multiply<S: Simd, M: Matrix>(
    s: S,
    matrix: M,
    rows: Range<usize>,
    panel: &mut Panel<'_, M::Activation>,
) {
    assert!(rows.start <= rows.end && rows.end <= matrix.rows(), "rows of the matrix");
    assert!(rows.len() <= PANEL_ROWS && panel.tokens <= M::TOKENS, "at most a panel");
    assert!(panel.sums.len() >= panel.tokens * PANEL_ROWS, "room for the products");
    assert_eq!(panel.inputs.len(), panel.tokens * matrix.blocks(), "a packed block per block");
    matrix.multiply(s, rows, panel);
}

/// Tiles of R rows and T tokens, where the panel has exactly T tokens.
#[inline(always)]
pub(crate) fn strips<S: Simd, M: RowMatrix, const R: usize, const T: usize>(
    s: S,
    matrix: M,
    rows: Range<usize>,
    panel: &mut Panel<'_, M::Activation>,
) {
    let mut row = 0;
    while row + R <= rows.len() {
        tile::<S, M, R, T>(s, matrix, rows.start + row, row, 0, panel);
        row += R;
    }
    while row < rows.len() {
        tile::<S, M, 1, T>(s, matrix, rows.start + row, row, 0, panel);
        row += 1;
    }
}

/// Tiles of R rows and up to T tokens (T at most 6), for any number of tokens.
#[inline(always)]
pub(crate) fn strips_of<S: Simd, M: RowMatrix, const R: usize, const T: usize>(
    s: S,
    matrix: M,
    rows: Range<usize>,
    panel: &mut Panel<'_, M::Activation>,
) {
    let mut row = 0;
    while row + R <= rows.len() {
        strip::<S, M, R, T>(s, matrix, rows.start + row, row, panel);
        row += R;
    }
    while row < rows.len() {
        strip::<S, M, 1, T>(s, matrix, rows.start + row, row, panel);
        row += 1;
    }
}

/// R rows with every token.
#[inline(always)]
fn strip<S: Simd, M: RowMatrix, const R: usize, const T: usize>(
    s: S,
    matrix: M,
    row: usize,
    place: usize,
    panel: &mut Panel<'_, M::Activation>,
) {
    let mut token = 0;
    while token + T <= panel.tokens {
        tile::<S, M, R, T>(s, matrix, row, place, token, panel);
        token += T;
    }
    match panel.tokens - token {
        0 => {}
        1 => tile::<S, M, R, 1>(s, matrix, row, place, token, panel),
        2 => tile::<S, M, R, 2>(s, matrix, row, place, token, panel),
        3 => tile::<S, M, R, 3>(s, matrix, row, place, token, panel),
        4 => tile::<S, M, R, 4>(s, matrix, row, place, token, panel),
        5 => tile::<S, M, R, 5>(s, matrix, row, place, token, panel),
        _ => unreachable!("T is at most 6"),
    }
}

/// R·T dot products side by side, so that their chains of additions overlap.
#[inline(always)]
fn tile<S: Simd, M: RowMatrix, const R: usize, const T: usize>(
    s: S,
    matrix: M,
    row: usize,
    place: usize,
    token: usize,
    panel: &mut Panel<'_, M::Activation>,
) {
    assert!(row + R <= matrix.rows() && token + T <= panel.tokens, "a tile of the panel");
    let (blocks, stride) = (matrix.whole_blocks(), matrix.blocks());
    let mut inputs = [panel.inputs; T];
    for (t, input) in inputs.iter_mut().enumerate() {
        *input = &panel.inputs[(token + t) * stride..(token + t + 1) * stride];
        assert!(input.len() >= blocks, "a packed block per block");
    }
    let mut sums = [[s.splat(0.0); T]; R];
    for block in 0..blocks {
        if T <= FEW_TOKENS {
            matrix.prefetch(s, row + R, R, block);
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            // SAFETY: `row + R` rows and `blocks` blocks are the matrix's, as asserted.
            let weights = unsafe { matrix.decode(s, row + r, block) };
            for (sum, input) in sums.iter_mut().zip(&inputs) {
                // SAFETY: every input has `blocks` blocks, as asserted.
                let x = opaque(unsafe { input.get_unchecked(block) });
                *sum = matrix.step(s, *sum, weights, x);
            }
        }
    }
    for (r, sums) in sums.iter_mut().enumerate() {
        for (t, sum) in sums.iter_mut().enumerate() {
            if matrix.has_tail() {
                *sum = matrix.step(s, *sum, matrix.decode_tail(s, row + r), &inputs[t][blocks]);
            }
            panel.sums[(token + t) * PANEL_ROWS + place + r] = s.sum(*sum);
        }
    }
}

/// The same reference, of which the compiler knows nothing: it would else load the activations once for all rows of a
/// tile, keep the decoded weights of all rows until then, and run out of registers.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[inline(always)]
// The assembly has no instruction, so it touches no memory.
#[allow(clippy::pointers_in_nomem_asm_block)]
fn opaque<X>(x: &X) -> &X {
    let mut pointer: *const X = x;
    // SAFETY: no instruction; the pointer stays what it is.
    unsafe {
        std::arch::asm!("/* {0} */", inout(reg) pointer, options(nomem, nostack, preserves_flags));
        &*pointer
    }
}

/// The same reference. Plain code has no vectors to keep in registers.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn opaque<X>(x: &X) -> &X {
    x
}
