//! Rotated rows to the KV store, and attention over it.

// Tasks write disjoint rows and slots.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::kernel::linear::bf16_at;
use crate::kernel::pieces::{
    NO_MAXIMUM, PIECE, Records, STATE, clear, divide, merge, pieces_of, record_len, tiles_of,
};
use crate::kv::{Element, GROUP, Geometry, Groups, Parts, Planes};
use crate::memory;
use crate::simd::{Kernel, Simd, math};

/// Positions whose scores are held at once, aligned to multiples of their number.
pub(super) const TILE: usize = 64;

/// Groups of a tile.
pub(super) const TILE_GROUPS: usize = TILE / GROUP;

/// Most rows that go through the tiles together.
pub(crate) const MOST_ROWS: usize = 8;

/// Query heads that are multiplied side by side, and vectors of each.
const HEADS: usize = 8;
const FEW_HEADS: usize = 4;
const VECTORS: usize = 2;

/// f32 of scratch that [`Attend`] needs for a KV head with `group` query heads.
pub(crate) fn scratch_len(group: usize, geometry: &Geometry) -> usize {
    let widened = TILE_GROUPS * (geometry.key_elements() + geometry.value_elements() + 2 * GROUP);
    widened + group * TILE + 2 * MOST_ROWS * group * record_len(geometry)
}

/// Writes a key head and a value head to a slot.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `key`, `value` | f32 | `[head_dim]` |
/// | `layer` | f32, bf16 or int8 | the layer's store, see [`crate::kv`] |
/// | `head`, `group`, `slot` | | KV head; the slot's group in the layer and its place there |
///
/// # Numerics
/// bf16 is rounded to nearest even, int8 as [`sostenuto_ops::KvDtype::Int8`] says. Where a value is infinite or no number the slot's
/// values are zeros and its keys NaN: who sees the slot gets NaN as before, and for who does not its weight 0 is enough.
///
/// # Safety
/// The caller vouches that no other task writes or reads this head.
pub(crate) unsafe fn write_slot<E: Element>(
    geometry: &Geometry,
    (key, value): (&[f32], &[f32]),
    layer: Parts<'_, E>,
    (head, group, slot): (usize, usize, usize),
) {
    let head = layer.place(head, group);
    let at = head * geometry.key_elements();
    // SAFETY: this head's keys in the group; the caller vouches for the head.
    let keys = unsafe { layer.keys.get(at..at + geometry.key_elements()) };
    let key_scale = E::encode(key, |i, element| keys[i * GROUP + slot] = element);
    let at = head * geometry.value_elements() + slot * geometry.value_row;
    // SAFETY: this head's values of the slot; the caller vouches for the head.
    let row = unsafe { layer.values.get(at..at + geometry.dim) };
    let mut is_finite = true;
    let value_scale = E::encode(value, |i, element| {
        is_finite &= element.is_finite();
        row[i] = element;
    });
    if !is_finite {
        row.fill(E::default());
        E::encode(&[f32::NAN], |_, nan| {
            (0..geometry.dim).for_each(|i| keys[i * GROUP + slot] = nan);
        });
    }
    if E::SCALED {
        // SAFETY: this head's scales in the group; the caller vouches for the head.
        let scales = unsafe { layer.scales.get(2 * head * GROUP..2 * (head + 1) * GROUP) };
        (scales[slot], scales[GROUP + slot]) = (key_scale, value_scale);
    }
}

/// Attention with sinks of the query heads that share a KV head, for some rows of one sequence.
///
/// `s_j = scale · q_h · k_j`, `w = softmax([s…, sink_h])`, `out_h = Σ_j w_j v_j` over the positions that a row sees.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `rows` | step rows | at most 8, of one sequence |
/// | `positions` | | of all rows of the step |
/// | `window` | | positions that a row sees at most, its own included |
/// | `qkv` | f32 | `[step rows, heads + 2·kv_heads, head_dim]`, rotated |
/// | `heads` | query heads | those that read the KV head; of `num_heads` |
/// | `layer` | f32, bf16 or int8 | the layer's store, see [`crate::kv`] |
/// | `kv_head` | | the head read |
/// | `groups` | | where the sequence's positions lie |
/// | `sinks` | bf16 bytes | `[num_heads]` |
/// | `out` | f32 | `[step rows, num_heads, head_dim]` |
/// | `piece` | | the only piece attended to, if not all, with the records for its result |
/// | `scratch` | f32 | [`scratch_len`] |
///
/// # Numerics
/// f32, online softmax over pieces of [`PIECE`] positions, and in a piece over tiles of 64, aligned to multiples of their number
/// and in ascending order. A row's first piece starts from the sink (maximum `sink`, denominator 1), others from nothing. In a tile: scores by ascending element of the head, exponentials by
/// [`math::exp`], values by ascending position. A key's scale multiplies its finished dot product, a value's scale its
/// weight. So a row's result depends on the row and what it sees alone.
///
/// # Panics
/// If sizes do not belong together.
///
/// # Cost
/// Reads keys and values of the positions once for all rows and heads; several rows share a tile that is widened to
/// f32 once. Scratch does not grow with the context.
///
/// # Source
/// `sdpa` of openai/gpt-oss `gpt_oss/torch/model.py`; arXiv 1805.02867 (online softmax).
///
/// # Safety
/// Whoever makes it vouches that no other task uses these heads of these rows of `out`, or of the piece's records.
pub(crate) struct Attend<'a, E> {
    pub(crate) geometry: Geometry,
    pub(crate) rows: Range<usize>,
    pub(crate) positions: &'a [u32],
    pub(crate) window: Option<usize>,
    pub(crate) qkv: &'a [f32],
    pub(crate) heads: Range<usize>,
    pub(crate) num_heads: usize,
    pub(crate) layer: &'a Planes<E>,
    pub(crate) kv_head: usize,
    pub(crate) groups: Groups<'a>,
    pub(crate) scale: f32,
    pub(crate) sinks: &'a [u8],
    pub(crate) out: memory::Parts<'a, f32>,
    /// If there is one, the only piece attended to, and where its result goes instead of `out`.
    pub(crate) piece: Option<(usize, Records<'a>)>,
    pub(crate) scratch: &'a mut [f32],
}

/// The part of a tile that a row attends to: positions `from..to` counted from the tile's start.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) from: usize,
    pub(super) to: usize,
}

impl Span {
    /// Groups of the tile that it touches.
    #[inline(always)]
    pub(super) fn groups(self) -> Range<usize> {
        self.from / GROUP..self.to.div_ceil(GROUP)
    }
}

/// Keys, values and scales of a tile, group by group.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a, E> {
    /// `[head_dim, 16]` each.
    pub(super) keys: [&'a [E]; TILE_GROUPS],
    /// `[16, value_row]` each.
    pub(super) values: [&'a [E]; TILE_GROUPS],
    /// Of keys, then of values; empty where there are none.
    scales: [&'a [f32]; TILE_GROUPS],
}

impl<E> Tile<'_, E> {
    pub(super) const NOTHING: Self =
        Self { keys: [&[]; TILE_GROUPS], values: [&[]; TILE_GROUPS], scales: [&[]; TILE_GROUPS] };
}

/// Where the next tile lies, which is asked for while this one is used.
#[derive(Clone, Copy)]
struct Ahead {
    keys: [*const u8; TILE_GROUPS],
    values: [*const u8; TILE_GROUPS],
    /// Bytes of an element.
    element: usize,
}

impl Ahead {
    #[inline(always)]
    fn new<E>(tile: &Tile<'_, E>) -> Self {
        let addresses = |slices: [&[E]; TILE_GROUPS]| slices.map(|slice| slice.as_ptr().cast());
        Self { keys: addresses(tile.keys), values: addresses(tile.values), element: size_of::<E>() }
    }
}

/// What a row carries from tile to tile, of all its heads.
struct Carried<'a> {
    /// `[heads, TILE]`.
    scores: &'a mut [f32],
    /// `[heads, value_row]`.
    sums: &'a mut [f32],
    /// `[heads, STATE]`.
    states: &'a mut [f32],
}

impl<E: Element> Kernel for Attend<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (heads, row) = (self.heads.len(), self.geometry.value_row);
        assert!(self.rows.len() <= MOST_ROWS, "at most {MOST_ROWS} rows");
        let (widened, rest) = std::mem::take(&mut self.scratch).split_at_mut(
            TILE_GROUPS * (self.geometry.key_elements() + self.geometry.value_elements() + 2 * GROUP),
        );
        let (scores, rest) = rest.split_at_mut(heads * TILE);
        let (sums, rest) = rest.split_at_mut(self.rows.len() * heads * row);
        let (states, rest) = rest.split_at_mut(self.rows.len() * heads * STATE);
        let totals = &mut rest[..self.rows.len() * heads * (row + STATE)];
        totals.chunks_exact_mut(row + STATE).for_each(clear);
        let seen = self.seen();
        for piece in pieces_of(&seen) {
            sums.fill(0.0);
            for (i, state) in states.chunks_exact_mut(STATE).enumerate() {
                state.copy_from_slice(&self.start(i / heads, i % heads, piece));
            }
            for index in tiles_of(&seen, piece) {
                let all = part_of(&seen, index).expect("a tile of what is seen");
                let tile = self.tile(index, all);
                let following = part_of(&seen, index + 1).map_or(tile, |span| self.tile(index + 1, span));
                let ahead = Ahead::new(&following);
                if self.rows.len() == 1 {
                    self.attend(s, 0, (&tile, all, ahead), Carried { scores, sums, states });
                    continue;
                }
                let tile = self.widen(s, &tile, all, widened);
                for i in 0..self.rows.len() {
                    let Some(span) = part_of(&self.sees(i), index) else { continue };
                    let sums = &mut sums[i * heads * row..(i + 1) * heads * row];
                    let states = &mut states[i * heads * STATE..(i + 1) * heads * STATE];
                    // One row asks for the next tile; the others for what is there.
                    let ahead = if i == 0 { ahead } else { Ahead::new(&tile) };
                    self.attend(s, i, (&tile, span, ahead), Carried { scores, sums, states });
                }
            }
            let results = sums.chunks_exact(row).zip(states.chunks_exact(STATE));
            for (i, (sums, state)) in results.enumerate() {
                let total = &mut totals[i * (row + STATE)..(i + 1) * (row + STATE)];
                self.take_piece(s, (i / heads, piece), total, sums, [state[0], state[1]], f32::exp);
            }
        }
        self.finish(totals);
    }
}

/// The part of a range of positions that lies in a tile.
#[inline(always)]
pub(super) fn part_of(seen: &Range<usize>, tile: usize) -> Option<Span> {
    let start = tile * TILE;
    let (from, to) = (seen.start.max(start), seen.end.min(start + TILE));
    (from < to).then(|| Span { from: from - start, to: to - start })
}

impl<E: Element> Attend<'_, E> {
    /// Positions that the i-th row sees.
    #[inline(always)]
    pub(super) fn sees(&self, i: usize) -> Range<usize> {
        let end = self.positions[self.rows.start + i] as usize + 1;
        self.window.map_or(0, |window| end.saturating_sub(window))..end
    }

    /// Positions from the first that any row sees to the last; of the only piece, if there is one.
    #[inline(always)]
    pub(super) fn seen(&self) -> Range<usize> {
        let mut seen = self.sees(0);
        for i in 1..self.rows.len() {
            let sees = self.sees(i);
            seen = seen.start.min(sees.start)..seen.end.max(sees.end);
        }
        match self.piece {
            Some((piece, _)) => seen.start.max(piece * PIECE)..seen.end.min((piece + 1) * PIECE),
            None => seen,
        }
    }

    /// Maximum and denominator that the i-th row's head starts a piece with.
    #[inline(always)]
    pub(super) fn start(&self, i: usize, head: usize, piece: usize) -> [f32; STATE] {
        match piece == self.sees(i).start / PIECE {
            true => [bf16_at(self.sinks, self.heads.start + head), 1.0],
            false => [NO_MAXIMUM, 0.0],
        }
    }

    /// Adds a head's result over a piece to its total, if the i-th row sees the piece.
    #[inline(always)]
    pub(super) fn take_piece<S: Simd>(
        &self,
        s: S,
        (i, piece): (usize, usize),
        total: &mut [f32],
        sums: &[f32],
        state: [f32; STATE],
        exp: fn(f32) -> f32,
    ) {
        let sees = self.sees(i);
        if pieces_of(&sees).contains(&piece) {
            merge(s, total, sums, state, exp);
        }
    }

    /// Writes a piece's records, or the output: totals of all rows and heads.
    #[inline(always)]
    pub(super) fn finish(&self, totals: &[f32]) {
        let heads = self.heads.len();
        let of_row = totals.len() / self.rows.len();
        for (i, totals) in totals.chunks_exact(of_row).enumerate() {
            match self.piece {
                // SAFETY: the maker vouches for these heads of the row's piece; this is done once.
                Some((piece, records)) => unsafe {
                    records.of(self.rows.start + i, piece, &self.heads).copy_from_slice(totals);
                },
                None => {
                    let start =
                        ((self.rows.start + i) * self.num_heads + self.heads.start) * self.geometry.dim;
                    // SAFETY: no other task has these heads of this row; this is done once.
                    let out = unsafe { self.out.get(start..start + heads * self.geometry.dim) };
                    divide(totals, out, self.geometry.dim);
                }
            }
        }
    }

    /// A tile as it is stored.
    #[inline(always)]
    pub(super) fn tile(&self, index: usize, span: Span) -> Tile<'_, E> {
        let (keys, values) = (self.geometry.key_elements(), self.geometry.value_elements());
        let mut tile = Tile::NOTHING;
        for g in span.groups() {
            let head = self.layer.place(self.kv_head, self.groups.at(index * TILE_GROUPS + g));
            tile.keys[g] = &self.layer.keys[head * keys..(head + 1) * keys];
            tile.values[g] = &self.layer.values[head * values..(head + 1) * values];
            if E::SCALED {
                tile.scales[g] = &self.layer.scales[2 * head * GROUP..2 * (head + 1) * GROUP];
            }
        }
        tile
    }

    /// The i-th row's query heads.
    #[inline(always)]
    pub(super) fn queries(&self, i: usize) -> &[f32] {
        let dim = self.geometry.dim;
        let width = (self.num_heads + 2 * self.geometry.kv_heads) * dim;
        let start = (self.rows.start + i) * width + self.heads.start * dim;
        &self.qkv[start..start + self.heads.len() * dim]
    }

    /// The same with f32 elements.
    #[inline(always)]
    fn widen<'b, S: Simd>(&self, s: S, tile: &Tile<'b, E>, span: Span, room: &'b mut [f32]) -> Tile<'b, f32> {
        let mut wide = Tile { scales: tile.scales, ..Tile::NOTHING };
        let mut rest = room;
        for g in span.groups() {
            wide.keys[g] = widen(s, tile.keys[g], &mut rest);
            wide.values[g] = widen(s, tile.values[g], &mut rest);
        }
        wide
    }

    /// A tile's share of a row.
    #[inline(always)]
    fn attend<S: Simd, T: Element>(
        &self,
        s: S,
        i: usize,
        (tile, span, ahead): (&Tile<'_, T>, Span, Ahead),
        carried: Carried<'_>,
    ) {
        let Carried { scores, sums, states } = carried;
        let row = self.geometry.value_row;
        self.score(s, i, (tile, span, ahead), scores);
        for (head, state) in states.chunks_exact_mut(STATE).enumerate() {
            let scores = &mut scores[head * TILE..(head + 1) * TILE];
            let shrink = soften(s, span, scores, state);
            scale_by(s, &mut sums[head * row..(head + 1) * row], shrink);
            if E::SCALED {
                for g in span.groups() {
                    let scales = &tile.scales[g][GROUP..];
                    let weights = &mut scores[g * GROUP..(g + 1) * GROUP];
                    weights.iter_mut().zip(scales).for_each(|(weight, scale)| *weight *= scale);
                }
            }
        }
        self.add_values(s, (tile, span, ahead), scores, sums);
    }

    /// Scores of every head with the keys of the span's groups; `[heads, TILE]`.
    #[inline(always)]
    fn score<S: Simd, T: Element>(
        &self,
        s: S,
        i: usize,
        (tile, span, ahead): (&Tile<'_, T>, Span, Ahead),
        scores: &mut [f32],
    ) {
        let (dim, heads) = (self.geometry.dim, self.heads.len());
        let queries = self.queries(i);
        let groups = span.groups();
        let mut head = 0;
        while head < heads {
            let size = if head + HEADS <= heads {
                HEADS
            } else if head + FEW_HEADS <= heads {
                FEW_HEADS
            } else {
                1
            };
            let queries = &queries[head * dim..(head + size) * dim];
            let scores = &mut scores[head * TILE..(head + size) * TILE];
            match size {
                HEADS => score_heads::<S, T, HEADS>(s, queries, (tile, &ahead), groups.clone(), scores),
                FEW_HEADS => {
                    score_heads::<S, T, FEW_HEADS>(s, queries, (tile, &ahead), groups.clone(), scores)
                }
                _ => score_heads::<S, T, 1>(s, queries, (tile, &ahead), groups.clone(), scores),
            }
            head += size;
        }
        for scores in scores[..heads * TILE].chunks_exact_mut(TILE) {
            for g in groups.clone() {
                for v in (0..GROUP).step_by(S::LANES) {
                    let scores = &mut scores[g * GROUP + v..g * GROUP + v + S::LANES];
                    let sum = s.load(scores);
                    let sum = if E::SCALED { s.mul(sum, s.load(&tile.scales[g][v..])) } else { sum };
                    s.store(s.mul(sum, s.splat(self.scale)), scores);
                }
            }
        }
    }

    /// `sums[h] += Σ_j weights[h][j] · v_j` over the span.
    #[inline(always)]
    fn add_values<S: Simd, T: Element>(
        &self,
        s: S,
        (tile, span, ahead): (&Tile<'_, T>, Span, Ahead),
        weights: &[f32],
        sums: &mut [f32],
    ) {
        let (row, heads) = (self.geometry.value_row, self.heads.len());
        let mut head = 0;
        while head < heads {
            let size = if head + HEADS <= heads {
                HEADS
            } else if head + FEW_HEADS <= heads {
                FEW_HEADS
            } else {
                1
            };
            let weights = &weights[head * TILE..(head + size) * TILE];
            let sums = &mut sums[head * row..(head + size) * row];
            match size {
                HEADS => add_heads::<S, T, HEADS>(s, weights, (tile, span, &ahead), row, sums),
                FEW_HEADS => add_heads::<S, T, FEW_HEADS>(s, weights, (tile, span, &ahead), row, sums),
                _ => add_heads::<S, T, 1>(s, weights, (tile, span, &ahead), row, sums),
            }
            head += size;
        }
    }
}

/// Elements as f32, in the front of `room`.
#[inline(always)]
fn widen<'b, S: Simd, E: Element>(s: S, elements: &[E], room: &mut &'b mut [f32]) -> &'b [f32] {
    let (wide, rest) = std::mem::take(room).split_at_mut(elements.len());
    *room = rest;
    for (wide, elements) in wide.chunks_exact_mut(S::LANES).zip(elements.chunks_exact(S::LANES)) {
        s.store(E::load(s, elements), wide);
    }
    wide
}

/// Dot products of H heads with the keys of some groups, two vectors of positions at a time.
#[inline(always)]
fn score_heads<S: Simd, E: Element, const H: usize>(
    s: S,
    queries: &[f32],
    of: (&Tile<'_, E>, &Ahead),
    groups: Range<usize>,
    scores: &mut [f32],
) {
    let mut position = groups.start * GROUP;
    let end = groups.end * GROUP;
    while position + VECTORS * S::LANES <= end {
        score_vectors::<S, E, H, VECTORS>(s, queries, of, position, scores);
        position += VECTORS * S::LANES;
    }
    while position < end {
        score_vectors::<S, E, H, 1>(s, queries, of, position, scores);
        position += S::LANES;
    }
}

/// Dot products of H heads with V vectors of keys from a position on.
#[inline(always)]
fn score_vectors<S: Simd, E: Element, const H: usize, const V: usize>(
    s: S,
    queries: &[f32],
    (tile, ahead): (&Tile<'_, E>, &Ahead),
    position: usize,
    scores: &mut [f32],
) {
    let dim = queries.len() / H;
    let mut keys = [tile.keys[0]; V];
    let mut soon = [std::ptr::null(); V];
    for (v, soon) in soon.iter_mut().enumerate() {
        *soon = ahead.keys[(position + v * S::LANES) / GROUP];
    }
    for (v, keys) in keys.iter_mut().enumerate() {
        let position = position + v * S::LANES;
        *keys = &tile.keys[position / GROUP][position % GROUP..];
        assert!(keys.len() >= (dim - 1) * GROUP + S::LANES, "a key for each element of the head");
    }
    let mut rows = [queries; H];
    for (h, row) in rows.iter_mut().enumerate() {
        *row = &queries[h * dim..(h + 1) * dim];
    }
    let mut sums = [[s.splat(0.0); H]; V];
    for i in 0..dim {
        for soon in soon {
            s.prefetch(soon.wrapping_add(i * GROUP * ahead.element));
        }
        for (keys, sums) in keys.iter().zip(&mut sums) {
            // SAFETY: as asserted.
            let key = E::load(s, unsafe { keys.get_unchecked(i * GROUP..i * GROUP + S::LANES) });
            for (row, sum) in rows.iter().zip(sums) {
                // SAFETY: a row has `dim` elements.
                *sum = s.mul_add(s.splat(unsafe { *row.get_unchecked(i) }), key, *sum);
            }
        }
    }
    for (v, sums) in sums.iter().enumerate() {
        for (h, sum) in sums.iter().enumerate() {
            let at = h * TILE + position + v * S::LANES;
            s.store(*sum, &mut scores[at..at + S::LANES]);
        }
    }
}

/// `sums[h] += Σ_j weights[h][j] · v_j` of H heads, two vectors of columns at a time.
#[inline(always)]
fn add_heads<S: Simd, E: Element, const H: usize>(
    s: S,
    weights: &[f32],
    of: (&Tile<'_, E>, Span, &Ahead),
    row: usize,
    sums: &mut [f32],
) {
    let mut column = 0;
    while column + VECTORS * S::LANES <= row {
        add_columns::<S, E, H, VECTORS>(s, weights, of, (row, column), sums);
        column += VECTORS * S::LANES;
    }
    while column < row {
        add_columns::<S, E, H, 1>(s, weights, of, (row, column), sums);
        column += S::LANES;
    }
}

/// V vectors of columns of H heads, by ascending position.
#[inline(always)]
fn add_columns<S: Simd, E: Element, const H: usize, const V: usize>(
    s: S,
    weights: &[f32],
    (tile, span, ahead): (&Tile<'_, E>, Span, &Ahead),
    (row, column): (usize, usize),
    sums: &mut [f32],
) {
    assert!(weights.len() >= H * TILE && span.to <= TILE, "a weight for each position");
    let mut acc = [[s.splat(0.0); V]; H];
    for (h, acc) in acc.iter_mut().enumerate() {
        for (v, acc) in acc.iter_mut().enumerate() {
            *acc = s.load(&sums[h * row + column + v * S::LANES..]);
        }
    }
    for g in span.groups() {
        let (from, to) = (span.from.max(g * GROUP), span.to.min((g + 1) * GROUP));
        let values = &tile.values[g][column..];
        assert!(values.len() >= (GROUP - 1) * row + V * S::LANES, "a row of values for each position");
        for j in from..to {
            s.prefetch(ahead.values[g].wrapping_add(((j - g * GROUP) * row + column) * ahead.element));
            let mut vectors = [s.splat(0.0); V];
            for (v, vector) in vectors.iter_mut().enumerate() {
                let at = (j - g * GROUP) * row + v * S::LANES;
                // SAFETY: as asserted.
                *vector = E::load(s, unsafe { values.get_unchecked(at..at + S::LANES) });
            }
            for (h, acc) in acc.iter_mut().enumerate() {
                // SAFETY: as asserted.
                let weight = s.splat(unsafe { *weights.get_unchecked(h * TILE + j) });
                for (acc, vector) in acc.iter_mut().zip(&vectors) {
                    *acc = s.mul_add(weight, *vector, *acc);
                }
            }
        }
    }
    for (h, acc) in acc.iter().enumerate() {
        for (v, acc) in acc.iter().enumerate() {
            let at = h * row + column + v * S::LANES;
            s.store(*acc, &mut sums[at..at + S::LANES]);
        }
    }
}

/// Turns the tile's scores into weights relative to the new maximum; updates `state` (maximum, denominator) and
/// gives the factor by which older sums shrink. Weights beyond the span become 0.
#[inline(always)]
fn soften<S: Simd>(s: S, span: Span, scores: &mut [f32], state: &mut [f32]) -> f32 {
    let groups = span.groups().start * GROUP..span.groups().end * GROUP;
    // Slots beyond the span hold whatever an older sequence left.
    scores[groups.start..span.from].fill(f32::NEG_INFINITY);
    scores[span.to..groups.end].fill(f32::NEG_INFINITY);
    let scores = &mut scores[groups.clone()];
    let mut largest = s.splat(f32::NEG_INFINITY);
    for chunk in scores.chunks_exact(S::LANES) {
        largest = s.max(largest, s.load(chunk));
    }
    let largest = state[0].max(s.largest(largest));
    for chunk in scores.chunks_exact_mut(S::LANES) {
        s.store(math::exp(s, s.sub(s.load(chunk), s.splat(largest))), chunk);
    }
    scores[..span.from - groups.start].fill(0.0);
    scores[span.to - groups.start..].fill(0.0);
    let mut sum = s.splat(0.0);
    for chunk in scores.chunks_exact(S::LANES) {
        sum = s.add(sum, s.load(chunk));
    }
    let shrink = (state[0] - largest).exp();
    state[0] = largest;
    state[1] = state[1] * shrink + s.sum(sum);
    shrink
}

/// `values *= factor`.
#[inline(always)]
fn scale_by<S: Simd>(s: S, values: &mut [f32], factor: f32) {
    for chunk in values.chunks_exact_mut(S::LANES) {
        s.store(s.mul(s.load(chunk), s.splat(factor)), chunk);
    }
}

const _: () = assert!(PIECE.is_multiple_of(TILE), "a piece is whole tiles");
const _: () = assert!(TILE_GROUPS * GROUP == TILE, "a tile is whole groups");
