//! Packed matrices multiplied by tiles of AMX.
//!
//! Activations are rounded to integers with powers of two as scales, and 8-bit weights have such scales too. So all are
//! exact in bf16, and so are the sums over a block: results are those of integer products, bit for bit, and few rows may
//! take the one way and many the other.
//!
//! Weights become tiles of bf16 as they are used, two blocks ahead of the products, which run beside. Only 8-bit weights of
//! many rows of activations do so once for all rows.

// Tiles are read and written at addresses within slices.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::isa::Witness;
use crate::kernel::matrix::{Experts, Matrix};
use crate::kernel::pack::ToBf16;
use crate::kernel::packed::{E2m1, Format, GROUP_ROWS, Int8, Packed, PackedExperts};
use crate::kernel::panel::{PANEL_ROWS, Panel, TASK_ROWS, expanded_tiles};
use crate::simd::amx::{Amx, Bf16Block, E2M1_PAIRS, INT8_PAIRS, TILE_ROWS, WEIGHT_TILE};
use crate::simd::int8::Int9Block;
use crate::simd::{BLOCK, Kernel, Simd};

/// Rows of activations in a panel.
const TOKENS: usize = 128;

/// Rows of activations in two tiles.
const PAIR: usize = 2 * TILE_ROWS;

/// Decoded blocks that are kept, and how many blocks before their products they are decoded.
const RING: usize = 4;
const EARLY: usize = 2;

/// How far ahead of their use codes are asked for, in bytes.
const AHEAD: usize = 4096;

/// Bytes between a row's sums and the next row's.
const SUMS_STRIDE: usize = PANEL_ROWS * size_of::<f32>();

/// Bytes of a cache line.
const LINE: usize = 64;

/// A packed format as tiles.
pub(crate) trait Expand: Format {
    /// Whether decoding takes so long that it should be done once for many rows of activations.
    const ONCE: bool;

    /// The order of a block's elements.
    const ORDER: &'static [u16; BLOCK];

    /// Decodes a block of a panel.
    ///
    /// # Safety
    /// Codes and scales of a block of the format, and room for a tile.
    unsafe fn expand(amx: Amx, codes: *const u8, scales: *const u8, out: *mut u8);
}

impl Expand for E2m1 {
    const ONCE: bool = false;
    const ORDER: &'static [u16; BLOCK] = &E2M1_PAIRS;

    #[inline(always)]
    unsafe fn expand(amx: Amx, codes: *const u8, scales: *const u8, out: *mut u8) {
        // SAFETY: the caller's.
        unsafe { amx.expand_e2m1(codes, scales, out) };
    }
}

impl Expand for Int8 {
    const ONCE: bool = true;
    const ORDER: &'static [u16; BLOCK] = &INT8_PAIRS;

    #[inline(always)]
    unsafe fn expand(amx: Amx, codes: *const u8, scales: *const u8, out: *mut u8) {
        // SAFETY: the caller's.
        unsafe { amx.expand_int8(codes, scales, out) };
    }
}

/// A packed matrix and the tiles to multiply it with.
#[derive(Clone, Copy)]
pub(crate) struct Tiled<'a, F> {
    amx: Amx,
    packed: Packed<'a, F, Int9Block>,
}

impl<'a, F: Expand> Tiled<'a, F> {
    pub(crate) fn new(amx: Amx, packed: Packed<'a, F, Int9Block>) -> Self {
        Self { amx, packed }
    }

    /// Scales and codes of P panels from one on. Where there are fewer, the last one comes again.
    #[inline(always)]
    fn sources<const P: usize>(&self, panels: &Range<usize>) -> [(&'a [u8], &'a [u8]); P] {
        std::array::from_fn(|i| self.packed.panel((panels.start + i).min(panels.end - 1)))
    }

    /// Decodes a block of P panels to tiles that lie one after another.
    #[inline(always)]
    fn expand<const P: usize>(&self, sources: &[(&[u8], &[u8]); P], block: usize, tiles: &mut [u8]) {
        for (tile, (scales, codes)) in tiles.chunks_exact_mut(WEIGHT_TILE).zip(sources) {
            // SAFETY: a block of the panel, and room for a tile; prefetches may go anywhere.
            unsafe {
                let codes = codes.as_ptr().add(block * F::CODE_BYTES);
                for line in (0..F::CODE_BYTES).step_by(LINE) {
                    self.amx.vectors().prefetch(codes.wrapping_add(AHEAD + line));
                }
                let scales = scales.as_ptr().add(block * GROUP_ROWS * F::SCALE_BYTES);
                F::expand(self.amx, codes, scales, tile.as_mut_ptr());
            }
        }
    }

    /// Up to four panels with up to 16 rows of activations, from row `token` on.
    #[inline(always)]
    fn few(&self, panels: Range<usize>, place: usize, token: usize, panel: &mut Panel<'_, Bf16Block>) {
        const P: usize = 4;
        let (amx, blocks) = (self.amx, self.packed.layout.blocks);
        let sources = self.sources::<P>(&panels);
        let x = &raw const panel.inputs[token * blocks];
        amx.zero();
        for block in 0..blocks + EARLY {
            if block < blocks {
                let at = block % RING * P * WEIGHT_TILE;
                self.expand(&sources, block, &mut panel.expanded[at..at + P * WEIGHT_TILE]);
            }
            if block >= EARLY {
                let block = block - EARLY;
                let tiles = panel.expanded[block % RING * P * WEIGHT_TILE..].as_ptr();
                // SAFETY: rows of `blocks` blocks of activations, as many as tiles have; tiles decoded before.
                unsafe { amx.step_1_by_4(x.add(block), blocks * size_of::<Bf16Block>(), tiles) };
            }
        }
        let sums: [usize; P] = std::array::from_fn(|i| place_of(&panels, i, place) + token * PANEL_ROWS);
        // SAFETY: a row of sums for each row of activations.
        unsafe { amx.store(sums.map(|at| &raw mut panel.sums[at]), SUMS_STRIDE) };
    }

    /// Up to two panels with two tiles of activations.
    #[inline(always)]
    fn pair(&self, panels: Range<usize>, place: usize, tokens: [usize; 2], panel: &mut Panel<'_, Bf16Block>) {
        let (amx, blocks) = (self.amx, self.packed.layout.blocks);
        let sources = self.sources::<2>(&panels);
        let x = tokens.map(|token| &raw const panel.inputs[token * blocks]);
        amx.zero();
        for block in 0..blocks + EARLY {
            if block < blocks {
                let at = block % RING * 2 * WEIGHT_TILE;
                self.expand(&sources, block, &mut panel.expanded[at..at + 2 * WEIGHT_TILE]);
            }
            if block >= EARLY {
                let block = block - EARLY;
                let tiles = panel.expanded[block % RING * 2 * WEIGHT_TILE..].as_ptr();
                // SAFETY: as in `few`.
                unsafe { amx.step_2_by_2(x.map(|x| x.add(block)), blocks * size_of::<Bf16Block>(), tiles) };
            }
        }
        self.store_pair(&panels, place, tokens, panel);
    }

    /// Up to two panels, decoded once, with all rows of activations, two tiles at a time. What comes next in memory is
    /// asked for meanwhile.
    #[inline(always)]
    fn many(&self, panels: Range<usize>, place: usize, panel: &mut Panel<'_, Bf16Block>) {
        let (amx, blocks) = (self.amx, self.packed.layout.blocks);
        let sources = self.sources::<2>(&panels);
        for (block, tiles) in panel.expanded.chunks_exact_mut(2 * WEIGHT_TILE).take(blocks).enumerate() {
            self.expand(&sources, block, tiles);
        }
        let mut next = self.packed.panel(panels.end - 1).1.as_ptr_range().end;
        let pairs = panel.tokens.div_ceil(PAIR);
        let lines = (panels.len() * self.packed.layout.panel).div_ceil(LINE * pairs * blocks);
        for pair in 0..pairs {
            let tokens = pair_of(pair * PAIR, panel.tokens);
            let x = tokens.map(|token| &raw const panel.inputs[token * blocks]);
            amx.zero();
            for block in 0..blocks {
                for _ in 0..lines {
                    amx.vectors().prefetch(next);
                    next = next.wrapping_add(LINE);
                }
                let tiles = panel.expanded[block * 2 * WEIGHT_TILE..].as_ptr();
                // SAFETY: as in `few`.
                unsafe { amx.step_2_by_2(x.map(|x| x.add(block)), blocks * size_of::<Bf16Block>(), tiles) };
            }
            self.store_pair(&panels, place, tokens, panel);
        }
    }

    #[inline(always)]
    fn store_pair(
        &self,
        panels: &Range<usize>,
        place: usize,
        tokens: [usize; 2],
        panel: &mut Panel<'_, Bf16Block>,
    ) {
        let sums = [(0, 0), (0, 1), (1, 0), (1, 1)];
        let sums = sums.map(|(t, i)| place_of(panels, i, place) + tokens[t] * PANEL_ROWS);
        // SAFETY: a row of sums for each row of activations.
        unsafe { self.amx.store(sums.map(|at| &raw mut panel.sums[at]), SUMS_STRIDE) };
    }
}

/// The place in a row of sums of the i-th panel of a strip that starts at `place`; the last one's, where there are fewer.
#[inline(always)]
fn place_of(panels: &Range<usize>, i: usize, place: usize) -> usize {
    place + i.min(panels.len() - 1) * GROUP_ROWS
}

/// The rows with which two tiles start from row `token` on, where there are `tokens` rows, 16 or more: so that they end
/// with the last row, be it that they overlap.
#[inline(always)]
fn pair_of(token: usize, tokens: usize) -> [usize; 2] {
    [token, token + TILE_ROWS].map(|token| token.min(tokens - TILE_ROWS))
}

impl<F: Expand> Matrix for Tiled<'_, F> {
    type Activation = Bf16Block;
    type Packing = ToBf16;
    const TOKENS: usize = TOKENS;

    #[inline(always)]
    fn rows(&self) -> usize {
        self.packed.rows
    }

    #[inline(always)]
    fn blocks(&self) -> usize {
        self.packed.layout.blocks
    }

    fn packing(&self) -> ToBf16 {
        ToBf16 { amx: self.amx, order: F::ORDER }
    }

    #[inline(always)]
    fn multiply<S: Simd>(&self, _: S, rows: Range<usize>, panel: &mut Panel<'_, Bf16Block>) {
        assert!(rows.start.is_multiple_of(GROUP_ROWS), "rows start on a panel");
        assert!(panel.expanded.len() >= expanded_tiles(self.blocks()), "room for decoded tiles");
        assert!(panel.expanded.as_ptr().cast::<Bf16Block>().is_aligned(), "tiles on cache lines");
        if panel.tokens == 0 {
            return;
        }
        let panels = rows.start / GROUP_ROWS..rows.end.div_ceil(GROUP_ROWS);
        self.amx.configure(panel.tokens.min(TILE_ROWS));
        let strips = |size: usize| {
            let panels = panels.clone();
            panels
                .clone()
                .step_by(size)
                .map(move |first| (first..panels.end.min(first + size), (first - panels.start) * GROUP_ROWS))
        };
        // Loops and not closures, which would not be compiled for the instruction set.
        if F::ONCE && panel.tokens > PAIR {
            for (strip, place) in strips(2) {
                self.many(strip, place, panel);
            }
        } else {
            for token in (0..panel.tokens).step_by(PAIR) {
                if panel.tokens - token > TILE_ROWS {
                    let tokens = pair_of(token, panel.tokens);
                    for (strip, place) in strips(2) {
                        self.pair(strip, place, tokens, panel);
                    }
                } else {
                    let token = token.min(panel.tokens.saturating_sub(TILE_ROWS));
                    for (strip, place) in strips(4) {
                        self.few(strip, place, token, panel);
                    }
                }
            }
        }
        self.amx.release();
    }
}

/// The experts' packed matrices and the tiles to multiply them with.
#[derive(Clone, Copy)]
pub(crate) struct TiledExperts<'a> {
    pub(crate) amx: Amx,
    pub(crate) experts: PackedExperts<'a, Int9Block>,
}

impl<'a> Experts for TiledExperts<'a> {
    type Expert = Tiled<'a, E2m1>;
    const TASK_ROWS: usize = TASK_ROWS;

    fn expert(&self, expert: usize) -> Tiled<'a, E2m1> {
        Tiled::new(self.amx, self.experts.expert(expert))
    }

    fn out_features(&self) -> usize {
        self.experts.out_features
    }

    #[inline]
    fn run<K: Kernel>(&self, _: Witness, kernel: K) -> K::Output {
        self.amx.vectorize(kernel)
    }
}
