//! Packed matrices multiplied by tiles of AMX.
//!
//! Activations are rounded to integers with powers of two as scales, and 8-bit weights have such scales too. So all are
//! exact in bf16, and so are the sums over a block: results are those of integer products, bit for bit, and few rows may
//! take the one way and many the other.
//!
//! Weights become tiles of bf16 as they are used, two blocks ahead of the products, which run beside. Only 8-bit weights
//! of many rows of activations do so once for all rows.

// Tiles are read and written at addresses within slices.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::isa::Witness;
use crate::kernel::matrix::{Experts, Matrix};
use crate::kernel::pack::ToBf16;
use crate::kernel::packed::{AHEAD, E2m1, Format, GROUP_ROWS, Int8, LINE, Packed, PackedExperts};
use crate::kernel::panel::{PANEL_ROWS, Panel, RING_TILES, TASK_ROWS, expanded_tiles};
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

/// Bytes between a row's sums and the next row's.
const SUMS_STRIDE: usize = PANEL_ROWS * size_of::<f32>();

/// A packed format as tiles.
pub(crate) trait Expand: Format {
    /// Whether decoding takes so long that it should be done once for many rows of activations.
    const ONCE: bool;

    /// The order of a block's elements.
    const ORDER: &'static [u16; BLOCK];

    /// Decodes a block of a panel.
    ///
    /// # Safety
    /// Codes and scales of a block of the format, and room for a tile on a cache line.
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
            // SAFETY: a block of the panel, and room for a tile on a cache line, as `multiply` asserted; prefetches may go
            // anywhere.
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

    /// Up to P panels with the activations from one row on, where P is 4, or from two rows on, where it is 2.
    #[inline(always)]
    fn strip<const P: usize>(
        &self,
        panels: Range<usize>,
        place: usize,
        tokens: [usize; 2],
        panel: &mut Panel<'_, Bf16Block>,
    ) {
        let sources = self.sources::<P>(&panels);
        let x = self.rows_from(tokens, panel);
        self.amx.zero();
        for block in 0..self.packed.layout.blocks + EARLY {
            if block < self.packed.layout.blocks {
                let at = block % RING * P * WEIGHT_TILE;
                self.expand(&sources, block, &mut panel.expanded[at..at + P * WEIGHT_TILE]);
            }
            if block >= EARLY {
                let block = block - EARLY;
                let at = block % RING * P * WEIGHT_TILE;
                let tiles = &panel.expanded[at..at + P * WEIGHT_TILE];
                // SAFETY: the block is one of the rows', and its tiles were decoded before.
                unsafe { self.step::<P>(x, block, tiles) };
            }
        }
        self.store::<P>(&panels, place, tokens, panel);
    }

    /// Up to two panels, decoded once, with all rows of activations, two tiles at a time. What comes next in memory is
    /// asked for meanwhile.
    #[inline(always)]
    fn strip_of_all(&self, panels: Range<usize>, place: usize, panel: &mut Panel<'_, Bf16Block>) {
        const P: usize = 2;
        let blocks = self.packed.layout.blocks;
        let sources = self.sources::<P>(&panels);
        for (block, tiles) in panel.expanded.chunks_exact_mut(P * WEIGHT_TILE).take(blocks).enumerate() {
            self.expand(&sources, block, tiles);
        }
        let mut next = self.packed.panel(panels.end - 1).1.as_ptr_range().end;
        let pairs = panel.tokens.div_ceil(PAIR);
        let lines = (panels.len() * self.packed.layout.panel).div_ceil(LINE * pairs * blocks);
        for token in (0..panel.tokens).step_by(PAIR) {
            let tokens = pair_of(token, panel.tokens);
            let x = self.rows_from(tokens, panel);
            self.amx.zero();
            for (block, tiles) in panel.expanded.chunks_exact(P * WEIGHT_TILE).take(blocks).enumerate() {
                for _ in 0..lines {
                    self.amx.vectors().prefetch(next);
                    next = next.wrapping_add(LINE);
                }
                // SAFETY: as in `strip`.
                unsafe { self.step::<P>(x, block, tiles) };
            }
            self.store::<P>(&panels, place, tokens, panel);
        }
    }

    /// Where the activations of two tiles start.
    #[inline(always)]
    fn rows_from(&self, tokens: [usize; 2], panel: &Panel<'_, Bf16Block>) -> [*const Bf16Block; 2] {
        let (blocks, rows) = (self.packed.layout.blocks, panel.tokens.min(TILE_ROWS));
        tokens.map(|token| panel.inputs[token * blocks..(token + rows) * blocks].as_ptr())
    }

    /// A block of one tile of activations with four of weights, or of two with two.
    ///
    /// # Safety
    /// Tiles are configured with as many rows as lie at `x`, and the block is one of theirs.
    #[inline(always)]
    unsafe fn step<const P: usize>(&self, x: [*const Bf16Block; 2], block: usize, tiles: &[u8]) {
        assert_eq!(tiles.len(), P * WEIGHT_TILE, "tiles of the block");
        let stride = self.packed.layout.blocks * size_of::<Bf16Block>();
        // SAFETY: the caller's.
        unsafe {
            let x = x.map(|x| x.add(block));
            match P {
                4 => self.amx.step_1_by_4(x[0], stride, tiles.as_ptr()),
                2 => self.amx.step_2_by_2(x, stride, tiles.as_ptr()),
                _ => unreachable!("four tiles of sums"),
            }
        }
    }

    /// Stores the sums of [`Self::step`].
    #[inline(always)]
    fn store<const P: usize>(
        &self,
        panels: &Range<usize>,
        place: usize,
        tokens: [usize; 2],
        panel: &mut Panel<'_, Bf16Block>,
    ) {
        let rows = panel.tokens.min(TILE_ROWS);
        assert!(panel.sums.len() >= (tokens[1].max(tokens[0]) + rows) * PANEL_ROWS, "room for the products");
        let sums = panel.sums.as_mut_ptr();
        let at: [usize; 4] =
            std::array::from_fn(|i| place_of(panels, i % P, place) + tokens[i / P] * PANEL_ROWS);
        assert!(at.iter().all(|at| at % PANEL_ROWS + GROUP_ROWS <= PANEL_ROWS), "sums of a panel");
        // SAFETY: a row of sums for each row of activations, as asserted.
        unsafe { self.amx.store(at.map(|at| sums.add(at)), SUMS_STRIDE) };
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
        assert_eq!(panel.inputs.len(), panel.tokens * self.blocks(), "a packed block per block");
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
                self.strip_of_all(strip, place, panel);
            }
        } else {
            for token in (0..panel.tokens).step_by(PAIR) {
                if panel.tokens - token > TILE_ROWS {
                    let tokens = pair_of(token, panel.tokens);
                    for (strip, place) in strips(2) {
                        self.strip::<2>(strip, place, tokens, panel);
                    }
                } else {
                    let token = token.min(panel.tokens.saturating_sub(TILE_ROWS));
                    for (strip, place) in strips(4) {
                        self.strip::<4>(strip, place, [token; 2], panel);
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
    fn run<K: Kernel>(&self, witness: Witness, kernel: K) -> K::Output {
        witness.run(kernel)
    }
}

const _: () = assert!(RING * 4 * WEIGHT_TILE == RING_TILES << 10, "the ring fits");
const _: () = assert!(EARLY < RING, "a tile stays until it was used");
