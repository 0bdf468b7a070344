//! Attention multiplied by tiles of AMX.
//!
//! A tile holds 16 rows of the product: query heads of one row of the step after those of the row before. Keys and values of 64
//! positions are put into the order of tiles once for all rows of a task.

// Tiles are read and written at addresses within slices.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::kernel::attention::{Attend, TILE, TILE_GROUPS, Tile, part_of};
use crate::kernel::pieces::{NO_MAXIMUM, clear, pieces_of, record_len, tiles_of};
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

/// Stages of a strip of 16 rows: of its scores, and of adding its values.
const SCORE_STAGES: usize = PARTS * STEPS + 1;
const VALUE_STAGES: usize = STEPS + 2;

/// Blocks of four tiles that lie one after another.
const FOUR_TILES: usize = 4 * TILE_ROWS;

/// f32 of a block's bytes.
const BLOCK_F32: usize = TILE_ROW / size_of::<f32>();

/// Lanes of a vector beside the tiles.
const LANES: usize = 16;

/// Whether heads are short enough.
pub(crate) fn fits(geometry: &Geometry) -> bool {
    geometry.dim <= WIDTH
}

/// f32 of scratch that [`AttendTiled`] needs for a KV head with `group` query heads.
pub(crate) fn scratch_len(group: usize, geometry: &Geometry) -> usize {
    let rows = (MOST_ROWS * group).next_multiple_of(TILE_ROWS);
    let queries = rows * PARTS * STEPS * BLOCK_F32;
    let tiles = 2 * 2 * STEPS * FOUR_TILES * BLOCK_F32;
    let two_strips = 2 * TILE_ROWS * (TILE + STEPS * BLOCK_F32);
    queries + tiles + two_strips + rows * (WIDTH + 2 * LANES + record_len(geometry))
}

/// [`Attend`] over bf16, multiplied by tiles.
///
/// # Numerics
/// As [`Attend`], but for this: a query is rounded to the sum of two bf16 and so is multiplied with keys as they are; exponentials
/// are powers of two by [`Amx::soften`], of scores times log₂ e; weights are rounded to bf16, for values and denominator alike.
/// Sums are f32, by pairs of elements as the processor adds them, subnormal numbers counting as zero. Positions that a row does not
/// see have weight 0: their values must be finite, as [`super::attention::write_slot`] keeps them.
///
/// # Cost
/// As [`Attend`], but that the tiles hold up to 32 rows of the step.
pub(crate) struct AttendTiled<'a> {
    pub(crate) amx: Amx,
    pub(crate) attend: Attend<'a, u16>,
}

/// A tile of positions that is being packed, in portions: keys and values of each group by turns.
///
/// That is done between the products of the tile before, so that memory is read all the time.
struct Packing<'a> {
    tile: Tile<'a, u16>,
    /// The tile after it, which is asked for meanwhile.
    ahead: Tile<'a, u16>,
    /// Portions that are packed.
    done: usize,
}

/// Portions of a tile.
const PORTIONS: usize = 2 * TILE_GROUPS;

/// Parts of the scratch.
struct Room<'a> {
    /// By tile of rows, block and part: `[16 rows]` blocks.
    queries: &'a mut [Bf16Block],
    /// Of two tiles of positions: by block of elements and group of positions, a tile.
    keys: [&'a mut [Bf16Block]; 2],
    /// The same by block of positions and 16 columns.
    values: [&'a mut [Bf16Block]; 2],
    /// Of two strips: `[16 rows, TILE]`.
    scores: [&'a mut [f32]; 2],
    /// Of two strips: `[16 rows, STEPS]` blocks.
    weights: [&'a mut [Bf16Block]; 2],
    /// `[rows, WIDTH]`.
    sums: &'a mut [f32],
    /// `[rows]`, each with its maximum and with parts of its denominator.
    states: &'a mut [State],
    /// `[rows]` records of the pieces so far.
    totals: &'a mut [f32],
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
    fn new(scratch: &'a mut [f32], rows: usize, geometry: &Geometry) -> Self {
        let totals = rows * record_len(geometry);
        let rows = rows.next_multiple_of(TILE_ROWS);
        let (queries, rest) = scratch.split_at_mut(rows * PARTS * STEPS * BLOCK_F32);
        let (keys, rest) = rest.split_at_mut(2 * STEPS * FOUR_TILES * BLOCK_F32);
        let (values, rest) = rest.split_at_mut(2 * STEPS * FOUR_TILES * BLOCK_F32);
        let (weights, rest) = rest.split_at_mut(2 * TILE_ROWS * STEPS * BLOCK_F32);
        let (states, rest) = rest.split_at_mut(rows * 2 * LANES);
        let (scores, rest) = rest.split_at_mut(2 * TILE_ROWS * TILE);
        let (sums, rest) = rest.split_at_mut(rows * WIDTH);
        let totals = &mut rest[..totals];
        totals.chunks_exact_mut(record_len(geometry)).for_each(clear);
        let [queries, keys, values, weights] = [queries, keys, values, weights].map(lines);
        // What is never written is read all the same, and must be numbers.
        for tiles in [&mut *keys, &mut *values, &mut *weights] {
            tiles.fill(Bf16Block([0; BLOCK]));
        }
        let [keys, values] = [keys, values].map(|two| two.split_at_mut(STEPS * FOUR_TILES).into());
        let weights = weights.split_at_mut(TILE_ROWS * STEPS).into();
        let scores = scores.split_at_mut(TILE_ROWS * TILE).into();
        Self { queries, keys, values, scores, weights, sums, states: lines(states), totals }
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
        let geometry = self.attend.geometry;
        let mut room = Room::new(std::mem::take(&mut self.attend.scratch), rows, &geometry);
        self.pack_queries(s, &mut room);
        self.amx.configure(rows.min(TILE_ROWS));
        let seen = self.attend.seen();
        let first = seen.start / TILE;
        let mut packing = self.packing(&seen, first);
        self.pack_rest(s, &mut packing, first, &mut room);
        for piece in pieces_of(&seen) {
            room.sums.fill(0.0);
            for (row, state) in room.states.iter_mut().enumerate().take(rows) {
                let [maximum, denominator] = self.attend.start(row / heads, row % heads, piece);
                let maximum = maximum * std::f32::consts::LOG2_E;
                // Not the larger of both, which would hide a NaN.
                state.maximum = if maximum < NO_MAXIMUM { NO_MAXIMUM } else { maximum };
                state.denominators = [0.0; LANES];
                state.denominators[0] = denominator;
            }
            for index in tiles_of(&seen, piece) {
                let mut packing = self.packing(&seen, index + 1);
                self.attend_tile(s, (index, rows), &mut packing, &mut room);
                self.pack_rest(s, &mut packing, index + 1, &mut room);
            }
            for row in 0..rows {
                let state = &room.states[row];
                let state = [state.maximum, s.sum(s.load(&state.denominators))];
                let sums = &room.sums[row * WIDTH..row * WIDTH + geometry.value_row];
                let total = &mut room.totals[row * record_len(&geometry)..(row + 1) * record_len(&geometry)];
                self.attend.take_piece(s, (row / heads, piece), total, sums, state, f32::exp2);
            }
        }
        self.amx.release();
        self.attend.finish(room.totals);
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
        let tile = |index| match part_of(seen, index) {
            Some(span) => self.attend.tile(index, span),
            None => Tile::NOTHING,
        };
        Packing { tile: tile(index), ahead: tile(index + 1), done: 0 }
    }

    /// Packs the portions that are left.
    #[inline(always)]
    fn pack_rest<S: Simd>(&self, s: S, packing: &mut Packing<'_>, index: usize, room: &mut Room<'_>) {
        while packing.done < PORTIONS {
            self.pack_portion(s, packing, index, room);
        }
    }

    /// Keys or values of a group as rows of tiles.
    #[inline(always)]
    fn pack_portion<S: Simd>(&self, s: S, packing: &mut Packing<'_>, index: usize, room: &mut Room<'_>) {
        let Packing { tile, ahead, done } = packing;
        if *done == PORTIONS {
            return;
        }
        let width = self.attend.geometry.value_row;
        let (g, is_keys) = (*done / 2, done.is_multiple_of(2));
        *done += 1;
        if is_keys {
            let packed = &mut room.keys[index % 2];
            let ahead = ahead.keys[g].as_ptr().cast::<u8>();
            for (pair, keys) in tile.keys[g].chunks_exact(2 * GROUP).enumerate() {
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
            let (even, odd) = values.split_at(width);
            for (c, (even, odd)) in even.chunks_exact(GROUP).zip(odd.chunks_exact(GROUP)).enumerate() {
                let place = (g / 2 * 4 + c) * TILE_ROWS + g % 2 * GROUP / 2 + pair;
                packed[place] = self.amx.interleave(even, odd);
            }
        }
    }

    /// A tile's share of all rows, strip by strip. Between the rows of a strip the scores of the next strip are computed, and the
    /// values of the one before are added: tiles and vectors work at the same time.
    #[inline(always)]
    fn attend_tile<S: Simd>(
        &self,
        s: S,
        (index, rows): (usize, usize),
        packing: &mut Packing<'_>,
        room: &mut Room<'_>,
    ) {
        let strips = rows.div_ceil(TILE_ROWS);
        for stage in 0..SCORE_STAGES {
            self.score(index, 0, stage, room);
        }
        for strip in 0..strips {
            let mut stage = 0;
            for row in strip * TILE_ROWS..rows.min((strip + 1) * TILE_ROWS) {
                self.pack_portion(s, packing, index + 1, room);
                self.soften(s, index, row, room);
                self.beside(index, (strip, strips), stage, room);
                stage += 1;
            }
            while stage < SCORE_STAGES + VALUE_STAGES {
                self.beside(index, (strip, strips), stage, room);
                stage += 1;
            }
        }
        for stage in 0..VALUE_STAGES {
            self.add_values(index, strips - 1, stage, room);
        }
    }

    /// What is done beside a strip's rows.
    #[inline(always)]
    fn beside(&self, index: usize, (strip, strips): (usize, usize), stage: usize, room: &mut Room<'_>) {
        if stage < SCORE_STAGES {
            if strip + 1 < strips {
                self.score(index, strip + 1, stage, room);
            }
        } else if strip > 0 && stage < SCORE_STAGES + VALUE_STAGES {
            self.add_values(index, strip - 1, stage - SCORE_STAGES, room);
        }
    }

    /// A stage of the scores of a strip with a tile's positions: products, and at last their store.
    #[inline(always)]
    fn score(&self, index: usize, strip: usize, stage: usize, room: &mut Room<'_>) {
        if stage == 0 {
            self.amx.zero();
        }
        if stage < PARTS * STEPS {
            let queries = &room.queries[(strip * PARTS * STEPS + stage) * TILE_ROWS..][..TILE_ROWS];
            let keys = &room.keys[index % 2][stage / PARTS * FOUR_TILES..][..FOUR_TILES];
            // SAFETY: 16 rows of queries, four tiles of keys.
            unsafe { self.amx.step_1_by_4(queries.as_ptr(), TILE_ROW, keys.as_ptr().cast()) };
            return;
        }
        let scores = &mut room.scores[strip % 2];
        assert_eq!(scores.len(), TILE_ROWS * TILE, "room for four tiles");
        let scores = scores.as_mut_ptr();
        // SAFETY: as asserted.
        unsafe { self.amx.store([0, 1, 2, 3].map(|n| scores.add(n * GROUP)), TILE * size_of::<f32>()) };
    }

    /// A stage of adding a tile's values to a strip's sums: their load, products, their store.
    #[inline(always)]
    fn add_values(&self, index: usize, strip: usize, stage: usize, room: &mut Room<'_>) {
        let sums = &mut room.sums[strip * TILE_ROWS * WIDTH..(strip + 1) * TILE_ROWS * WIDTH];
        let sums = sums.as_mut_ptr();
        // SAFETY: 16 rows of sums and of weights, four tiles of values for each block of weights.
        unsafe {
            let four = [0, 1, 2, 3].map(|n| sums.add(n * GROUP));
            match stage {
                0 => self.amx.load(four, WIDTH * size_of::<f32>()),
                1..=STEPS => {
                    let values = &room.values[index % 2][(stage - 1) * FOUR_TILES..][..FOUR_TILES];
                    let weights = &room.weights[strip % 2][stage - 1..];
                    self.amx.step_1_by_4(weights.as_ptr(), STEPS * TILE_ROW, values.as_ptr().cast());
                }
                _ => self.amx.store(four, WIDTH * size_of::<f32>()),
            }
        }
    }

    /// Turns a row's scores into weights relative to its new maximum, and shrinks what it has by the old one.
    #[inline(always)]
    fn soften<S: Simd>(&self, s: S, index: usize, row: usize, room: &mut Room<'_>) {
        let (side, at) = (row / TILE_ROWS % 2, row % TILE_ROWS);
        let weights = &mut room.weights[side].as_chunks_mut::<STEPS>().0[at];
        let sees = self.attend.sees(row / self.attend.heads.len());
        let Some(span) = part_of(&sees, index) else { return weights.fill(Bf16Block([0; BLOCK])) };
        let scores = &mut room.scores[side].as_chunks_mut::<TILE>().0[at];
        // Beyond the span lies what an older sequence left.
        scores[..span.from].fill(f32::NEG_INFINITY);
        scores[span.to..].fill(f32::NEG_INFINITY);
        let scale = self.attend.scale * std::f32::consts::LOG2_E;
        let state = &mut room.states[row];
        let (maximum, shrink) =
            self.amx.soften(scores, (scale, state.maximum), weights, &mut state.denominators);
        state.maximum = maximum;
        if shrink != 1.0 {
            for chunk in room.sums[row * WIDTH..(row + 1) * WIDTH].chunks_exact_mut(LANES) {
                s.store(s.mul(s.load(chunk), s.splat(shrink)), chunk);
            }
        }
    }
}

const _: () = assert!(TILE == STEPS * BLOCK && WIDTH == STEPS * BLOCK, "two steps of either product");
const _: () = assert!(TILE == 4 * GROUP && WIDTH == 4 * GROUP && GROUP == TILE_ROWS, "four tiles");
