//! Attention multiplied by tiles of AMX.
//!
//! A tile holds 16 rows of the product: query heads of one row of the step after those of the row before. Keys and values of 64
//! positions are put into the order of tiles once for all rows of a task.

// Tiles are read and written at addresses within slices.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::kernel::attention::{Attend, Span, TILE, TILE_GROUPS, Tile, part_of};
use crate::kernel::linear::bf16_at;
use crate::kv::{GROUP, Geometry};
use crate::simd::amx::{Amx, Bf16Block, TILE_ROW, TILE_ROWS};
use crate::simd::{BLOCK, Kernel, Simd};

/// Most rows of the step that go through the tiles of positions together.
pub(crate) const MOST_ROWS: usize = 32;

/// Elements of a head, the last ones zero where it has fewer; columns of the four tiles of sums.
const WIDTH: usize = 64;

/// Blocks of a query or of a position's weights, in which products go.
const STEPS: usize = 2;

/// Parts of a query: the nearest bf16, and that of what is left.
const PARTS: usize = 2;

/// Blocks of four tiles that lie one after another.
const FOUR_TILES: usize = 4 * TILE_ROWS;

/// f32 of a block's bytes.
const BLOCK_F32: usize = TILE_ROW / size_of::<f32>();

/// Lanes of a vector beside the tiles.
const LANES: usize = 16;

/// Zeros instead of values that no row sees.
static NOTHING: [u16; WIDTH] = [0; WIDTH];

/// Whether heads are short enough.
pub(crate) fn fits(geometry: &Geometry) -> bool {
    geometry.dim <= WIDTH
}

/// f32 of scratch that [`AttendTiled`] needs for a KV head with `group` query heads.
pub(crate) fn scratch_len(group: usize) -> usize {
    let rows = (MOST_ROWS * group).next_multiple_of(TILE_ROWS);
    let queries = rows * PARTS * STEPS * BLOCK_F32;
    let tiles = 2 * 2 * STEPS * FOUR_TILES * BLOCK_F32;
    let one_tile_of_rows = TILE_ROWS * (TILE + STEPS * BLOCK_F32);
    queries + tiles + one_tile_of_rows + rows * (WIDTH + 2 * LANES)
}

/// [`Attend`] over bf16, multiplied by tiles.
///
/// # Numerics
/// As [`Attend`], but for this: a query is rounded to the sum of two bf16 and so is multiplied with keys as they are; weights are
/// rounded to bf16, for values and denominator alike. Sums are f32, by pairs of elements as the processor adds them,
/// subnormal numbers counting as zero.
///
/// # Cost
/// As [`Attend`], but that the tiles hold up to 32 rows of the step.
pub(crate) struct AttendTiled<'a> {
    pub(crate) amx: Amx,
    pub(crate) attend: Attend<'a, u16>,
}

/// A tile of positions that is being packed, in pieces: keys and values of each group by turns.
///
/// That is done between the products of the tile before, so that memory is read all the time.
struct Packing<'a> {
    tile: Tile<'a, u16>,
    span: Span,
    /// The tile after it, whose pieces are asked for meanwhile.
    ahead: Tile<'a, u16>,
    /// Pieces that are packed.
    done: usize,
}

/// Pieces of a tile.
const PIECES: usize = 2 * TILE_GROUPS;

/// Parts of the scratch.
struct Room<'a> {
    /// By tile of rows, block and part: `[16 rows]` blocks.
    queries: &'a mut [Bf16Block],
    /// Of two tiles of positions: by block of elements and group of positions, a tile.
    keys: [&'a mut [Bf16Block]; 2],
    /// The same by block of positions and 16 columns.
    values: [&'a mut [Bf16Block]; 2],
    /// `[16 rows, TILE]`.
    scores: &'a mut [f32],
    /// `[16 rows, STEPS]` blocks.
    weights: &'a mut [Bf16Block],
    /// `[rows, WIDTH]`.
    sums: &'a mut [f32],
    /// `[rows]`, each with its maximum and with parts of its denominator.
    states: &'a mut [State],
}

/// What a row carries from tile to tile beside its sums.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct State {
    /// To be added up at the end.
    denominators: [f32; LANES],
    /// Times log₂ e, as all exponents.
    maximum: f32,
}

const _: () = assert!(size_of::<State>() == 2 * LANES * size_of::<f32>(), "as the scratch is counted");

impl<'a> Room<'a> {
    #[inline(always)]
    fn new(scratch: &'a mut [f32], rows: usize) -> Self {
        let rows = rows.next_multiple_of(TILE_ROWS);
        let (queries, rest) = scratch.split_at_mut(rows * PARTS * STEPS * BLOCK_F32);
        let (keys, rest) = rest.split_at_mut(2 * STEPS * FOUR_TILES * BLOCK_F32);
        let (values, rest) = rest.split_at_mut(2 * STEPS * FOUR_TILES * BLOCK_F32);
        let (weights, rest) = rest.split_at_mut(TILE_ROWS * STEPS * BLOCK_F32);
        let (states, rest) = rest.split_at_mut(rows * 2 * LANES);
        let (scores, rest) = rest.split_at_mut(TILE_ROWS * TILE);
        let sums = &mut rest[..rows * WIDTH];
        let [queries, keys, values, weights] = [queries, keys, values, weights].map(lines);
        // What is never written is read all the same, and must be numbers.
        for tiles in [&mut *keys, &mut *values, &mut *weights] {
            tiles.fill(Bf16Block([0; BLOCK]));
        }
        sums.fill(0.0);
        let [keys, values] = [keys, values].map(|two| two.split_at_mut(STEPS * FOUR_TILES).into());
        Self { queries, keys, values, scores, weights, sums, states: lines(states) }
    }
}

/// Floats as structures of whole cache lines.
#[inline(always)]
fn lines<T>(floats: &mut [f32]) -> &mut [T] {
    // SAFETY: both kinds are plain numbers: any bits are a value of either.
    let (before, lines, after) = unsafe { floats.align_to_mut() };
    assert!(before.is_empty() && after.is_empty(), "scratch starts on a cache line and is counted in them");
    lines
}

impl Kernel for AttendTiled<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        assert_eq!(S::LANES, LANES, "the vectors beside the tiles");
        assert!(self.attend.rows.len() <= MOST_ROWS && fits(&self.attend.geometry), "rows that fit");
        let heads = self.attend.heads.len();
        let rows = self.attend.rows.len() * heads;
        let mut room = Room::new(std::mem::take(&mut self.attend.scratch), rows);
        self.pack_queries(s, &mut room);
        for (row, state) in room.states.iter_mut().enumerate().take(rows) {
            let sink = bf16_at(self.attend.sinks, self.attend.heads.start + row % heads);
            state.maximum = sink * std::f32::consts::LOG2_E;
            state.denominators = [0.0; LANES];
            state.denominators[0] = 1.0;
        }
        self.amx.configure(rows.min(TILE_ROWS));
        let seen = self.attend.seen();
        let tiles = seen.start / TILE..seen.end.div_ceil(TILE);
        let mut packing = self.packing(&seen, tiles.start);
        self.pack_rest(s, &mut packing, tiles.start, &mut room);
        for index in tiles {
            let mut packing = self.packing(&seen, index + 1);
            for first in (0..rows).step_by(TILE_ROWS) {
                self.attend_16(s, index, first..rows.min(first + TILE_ROWS), &mut packing, &mut room);
            }
            self.pack_rest(s, &mut packing, index + 1, &mut room);
        }
        self.amx.release();
        self.finish(s, &room);
    }
}

impl AttendTiled<'_> {
    /// Queries as tiles.
    #[inline(always)]
    fn pack_queries<S: Simd>(&self, s: S, room: &mut Room<'_>) {
        let (dim, heads) = (self.attend.geometry.dim, self.attend.heads.len());
        for i in 0..self.attend.rows.len() {
            for (head, query) in self.attend.queries(i).chunks_exact(dim).enumerate() {
                let row = i * heads + head;
                let mut padded = [0.0; WIDTH];
                padded[..dim].copy_from_slice(query);
                for (step, elements) in padded.as_chunks::<BLOCK>().0.iter().enumerate() {
                    let nearest = self.amx.round(elements);
                    let mut rest = [0.0; BLOCK];
                    for at in (0..BLOCK).step_by(LANES) {
                        let left = s.sub(s.load(&elements[at..]), s.load_bf16(&nearest.0[at..]));
                        s.store(left, &mut rest[at..]);
                    }
                    let place = (row / TILE_ROWS * STEPS + step) * PARTS * TILE_ROWS + row % TILE_ROWS;
                    room.queries[place] = nearest;
                    room.queries[place + TILE_ROWS] = self.amx.round(&rest);
                }
            }
        }
    }

    /// A tile of what is seen, to be packed; beyond the end there is nothing to pack.
    #[inline(always)]
    fn packing(&self, seen: &Range<usize>, index: usize) -> Packing<'_> {
        let tile = |index| part_of(seen, index).map(|span| (self.attend.tile(index, span), span));
        let ahead = tile(index + 1).map_or(Tile::NOTHING, |(tile, _)| tile);
        match tile(index) {
            Some((tile, span)) => Packing { tile, span, ahead, done: 0 },
            None => Packing { tile: Tile::NOTHING, span: Span { from: 0, to: 0 }, ahead, done: PIECES },
        }
    }

    /// Packs the pieces that are left.
    #[inline(always)]
    fn pack_rest<S: Simd>(&self, s: S, packing: &mut Packing<'_>, index: usize, room: &mut Room<'_>) {
        while packing.done < PIECES {
            self.pack_piece(s, packing, index, room);
        }
    }

    /// Keys or values of a group as rows of tiles; values that no row sees become zero.
    #[inline(always)]
    fn pack_piece<S: Simd>(&self, s: S, packing: &mut Packing<'_>, index: usize, room: &mut Room<'_>) {
        let Packing { tile, span, ahead, done } = packing;
        if *done == PIECES {
            return;
        }
        let (dim, width) = (self.attend.geometry.dim, self.attend.geometry.value_row);
        let (g, is_keys) = (*done / 2, done.is_multiple_of(2));
        *done += 1;
        if !span.groups().contains(&g) {
            return;
        }
        if is_keys {
            let packed = &mut room.keys[index % 2];
            let ahead = ahead.keys[g].as_ptr().cast::<u8>();
            for (pair, keys) in tile.keys[g].chunks_exact(2 * GROUP).enumerate().take(dim.div_ceil(2)) {
                s.prefetch(ahead.wrapping_add(pair * TILE_ROW));
                let (even, odd) = keys.split_at(GROUP);
                packed[(pair / GROUP * 4 + g) * TILE_ROWS + pair % GROUP] = self.amx.interleave(even, odd);
            }
            return;
        }
        let packed = &mut room.values[index % 2];
        let ahead = ahead.values[g].as_ptr().cast::<u8>();
        for (pair, values) in tile.values[g].chunks_exact(2 * width).enumerate() {
            for line in (0..2 * width).step_by(BLOCK) {
                s.prefetch(ahead.wrapping_add((2 * pair * width + line) * size_of::<u16>()));
            }
            let position = g * GROUP + 2 * pair;
            let [even, odd] = [0, 1].map(|i| match (span.from..span.to).contains(&(position + i)) {
                true => &values[i * width..(i + 1) * width],
                false => &NOTHING[..width],
            });
            for (c, (even, odd)) in even.chunks_exact(GROUP).zip(odd.chunks_exact(GROUP)).enumerate() {
                let place = (g / 2 * 4 + c) * TILE_ROWS + g % 2 * GROUP / 2 + pair;
                packed[place] = self.amx.interleave(even, odd);
            }
        }
    }

    /// A tile's share of up to 16 rows of the product.
    #[inline(always)]
    fn attend_16<S: Simd>(
        &self,
        s: S,
        index: usize,
        rows: Range<usize>,
        packing: &mut Packing<'_>,
        room: &mut Room<'_>,
    ) {
        let heads = self.attend.heads.len();
        let see = |row: usize| part_of(&self.attend.sees(row / heads), index);
        if rows.clone().all(|row| see(row).is_none()) {
            return;
        }
        let queries = &room.queries[rows.start * PARTS * STEPS..][..PARTS * STEPS * TILE_ROWS];
        let scores = room.scores.as_mut_ptr();
        self.amx.zero();
        for (i, queries) in queries.chunks_exact(TILE_ROWS).enumerate() {
            let keys = &room.keys[index % 2][i / PARTS * FOUR_TILES..][..FOUR_TILES];
            // SAFETY: 16 rows of queries, four tiles of keys.
            unsafe { self.amx.step_1_by_4(queries.as_ptr(), TILE_ROW, keys.as_ptr().cast()) };
        }
        assert_eq!(room.scores.len(), TILE_ROWS * TILE, "room for four tiles");
        // SAFETY: as asserted.
        unsafe {
            let four = [0, 1, 2, 3].map(|n| scores.add(n * GROUP));
            self.amx.store(four, TILE * size_of::<f32>());
        }
        for row in rows.clone() {
            self.pack_piece(s, packing, index + 1, room);
            let at = row - rows.start;
            let weights = &mut room.weights.as_chunks_mut().0[at];
            let Some(span) = see(row) else {
                weights.fill(Bf16Block([0; BLOCK]));
                continue;
            };
            let scores = &mut room.scores.as_chunks_mut().0[at];
            let sums = &mut room.sums[row * WIDTH..(row + 1) * WIDTH];
            self.soften(s, span, scores, weights, (&mut room.states[row], sums));
        }
        let sums = &mut room.sums[rows.start * WIDTH..(rows.start + TILE_ROWS) * WIDTH];
        let sums = sums.as_mut_ptr();
        // SAFETY: 16 rows of sums and of weights, four tiles of values for each block of weights.
        unsafe {
            let four = [0, 1, 2, 3].map(|n| sums.add(n * GROUP));
            self.amx.load(four, WIDTH * size_of::<f32>());
            for step in 0..STEPS {
                let values = &room.values[index % 2][step * FOUR_TILES..][..FOUR_TILES];
                let weights = room.weights[step..].as_ptr();
                self.amx.step_1_by_4(weights, STEPS * TILE_ROW, values.as_ptr().cast());
            }
            self.amx.store(four, WIDTH * size_of::<f32>());
        }
    }

    /// Turns a row's scores into weights relative to its new maximum, and shrinks what it has by the old one.
    #[inline(always)]
    fn soften<S: Simd>(
        &self,
        s: S,
        span: Span,
        scores: &mut [f32; TILE],
        weights: &mut [Bf16Block; STEPS],
        (state, sums): (&mut State, &mut [f32]),
    ) {
        // Beyond the span lies what an older sequence left.
        scores[..span.from].fill(f32::NEG_INFINITY);
        scores[span.to..].fill(f32::NEG_INFINITY);
        let scale = self.attend.scale * std::f32::consts::LOG2_E;
        let (maximum, shrink) =
            self.amx.soften(scores, (scale, state.maximum), weights, &mut state.denominators);
        state.maximum = maximum;
        if shrink != 1.0 {
            for chunk in sums.chunks_exact_mut(LANES) {
                s.store(s.mul(s.load(chunk), s.splat(shrink)), chunk);
            }
        }
    }

    /// Divides sums by their denominators.
    #[inline(always)]
    fn finish<S: Simd>(&self, s: S, room: &Room<'_>) {
        let (dim, heads) = (self.attend.geometry.dim, self.attend.heads.len());
        for i in 0..self.attend.rows.len() {
            // SAFETY: the maker of the kernel vouches for these heads of this row.
            let out = unsafe { self.attend.out_of(i) };
            for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                let row = i * heads + head;
                let denominator = s.sum(s.load(&room.states[row].denominators));
                for (out, sum) in out.iter_mut().zip(&room.sums[row * WIDTH..]) {
                    *out = sum / denominator;
                }
            }
        }
    }
}

const _: () = assert!(TILE == STEPS * BLOCK && WIDTH == STEPS * BLOCK, "two steps of either product");
const _: () = assert!(TILE == 4 * GROUP && WIDTH == 4 * GROUP && GROUP == TILE_ROWS, "four tiles");
