//! Rotated rows to the KV store, and attention over it.

// Tasks write disjoint rows and slots.
#![allow(unsafe_code)]

use crate::kernel::linear::bf16_at;
use crate::kv::{Element, GROUP, Geometry, Groups, Parts, Planes};
use crate::simd::{Kernel, Simd, math};

/// Positions whose scores are held at once, aligned to multiples of their number.
const TILE: usize = 64;

/// Groups of a tile.
const TILE_GROUPS: usize = TILE / GROUP;

/// What is kept per head between tiles: running maximum, denominator.
const STATE: usize = 2;

/// Query heads whose scores are computed side by side.
const HEADS: usize = 4;

/// f32 of scratch that [`Attend`] needs for a KV head with `group` query heads.
pub(crate) fn scratch_len(group: usize, geometry: &Geometry) -> usize {
    group * (TILE + geometry.value_row + STATE)
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
/// bf16 is rounded to nearest even, int8 as [`sostenuto_ops::KvDtype::Int8`] says.
///
/// # Safety
/// The caller vouches that no other task writes or reads this head.
pub(crate) unsafe fn write_slot<E: Element>(
    geometry: &Geometry,
    (key, value): (&[f32], &[f32]),
    layer: Parts<'_, E>,
    (head, group, slot): (usize, usize, usize),
) {
    let head = group * geometry.kv_heads + head;
    let at = head * geometry.key_elements();
    // SAFETY: this head's keys in the group; the caller vouches for the head.
    let keys = unsafe { layer.keys.get(at..at + geometry.key_elements()) };
    let key_scale = E::encode(key, |i, element| keys[i * GROUP + slot] = element);
    let at = head * geometry.value_elements() + slot * geometry.value_row;
    // SAFETY: this head's values of the slot; the caller vouches for the head.
    let row = unsafe { layer.values.get(at..at + geometry.dim) };
    let value_scale = E::encode(value, |i, element| row[i] = element);
    if E::SCALED {
        // SAFETY: this head's scales in the group; the caller vouches for the head.
        let scales = unsafe { layer.scales.get(2 * head * GROUP..2 * (head + 1) * GROUP) };
        (scales[slot], scales[GROUP + slot]) = (key_scale, value_scale);
    }
}

/// Attention with sinks of the query heads that share a KV head, for one row.
///
/// `s_j = scale · q_h · k_j`, `w = softmax([s…, sink_h])`, `out_h = Σ_j w_j v_j` over positions `first..=last`.
///
/// | argument | type | shape |
/// |---|---|---|
/// | `queries` | f32 | `[group, head_dim]`, rotated |
/// | `layer` | f32, bf16 or int8 | the layer's store, see [`crate::kv`] |
/// | `kv_head` | | the head read |
/// | `groups` | | where the sequence's positions lie |
/// | `sinks` | bf16 bytes | `[group]` |
/// | `out` | f32 | `[group, head_dim]` |
/// | `scratch` | f32 | [`scratch_len`] |
///
/// # Numerics
/// f32, online softmax over tiles of 64 positions aligned to multiples of 64, in ascending order, starting from the
/// sink (maximum `sink`, denominator 1). In a tile: scores by ascending element of the head, exponentials by
/// [`math::exp`], values by ascending position. A key's scale multiplies its finished dot product, a value's scale its
/// weight. So the result depends on the row, `first` and `last` alone.
///
/// # Panics
/// If sizes do not belong together.
///
/// # Cost
/// Reads keys and values of the positions once for all heads of the group; scratch does not grow with the context.
///
/// # Source
/// `sdpa` of openai/gpt-oss `gpt_oss/torch/model.py`; arXiv 1805.02867 (online softmax).
pub(crate) struct Attend<'a, E> {
    pub(crate) geometry: Geometry,
    pub(crate) queries: &'a [f32],
    pub(crate) layer: &'a Planes<E>,
    pub(crate) kv_head: usize,
    pub(crate) groups: Groups<'a>,
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) scale: f32,
    pub(crate) sinks: &'a [u8],
    pub(crate) out: &'a mut [f32],
    pub(crate) scratch: &'a mut [f32],
}

/// The part of a tile that is attended to: positions `from..to` counted from the tile's start.
#[derive(Clone, Copy)]
struct Span {
    /// Group index (position / 16) of the tile's start.
    first_group: usize,
    from: usize,
    to: usize,
}

impl<E: Element> Kernel for Attend<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let heads = self.heads();
        let row = self.geometry.value_row;
        assert!(self.first <= self.last, "a row sees itself");
        assert_eq!(self.queries.len(), heads * self.geometry.dim, "a query per sink");
        let (scores, rest) = std::mem::take(&mut self.scratch).split_at_mut(heads * TILE);
        let (sums, rest) = rest.split_at_mut(heads * row);
        let states = &mut rest[..heads * STATE];
        sums.fill(0.0);
        for (head, state) in states.chunks_exact_mut(STATE).enumerate() {
            state.copy_from_slice(&[bf16_at(self.sinks, head), 1.0]);
        }
        for tile in self.first / TILE..=self.last / TILE {
            let start = tile * TILE;
            let from = self.first.saturating_sub(start);
            let to = TILE.min(self.last + 1 - start);
            let span = Span { first_group: start / GROUP, from, to };
            self.score(s, span, scores);
            for (head, state) in states.chunks_exact_mut(STATE).enumerate() {
                let scores = &mut scores[head * TILE..(head + 1) * TILE];
                let shrink = soften(s, span, scores, state);
                scale_by(s, &mut sums[head * row..(head + 1) * row], shrink);
            }
            self.add_values(s, span, scores, sums);
        }
        let results = sums.chunks_exact(row).zip(states.chunks_exact(STATE));
        for (out, (sums, state)) in self.out.chunks_exact_mut(self.geometry.dim).zip(results) {
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum / state[1];
            }
        }
    }
}

impl<E: Element> Attend<'_, E> {
    #[inline(always)]
    fn heads(&self) -> usize {
        self.sinks.len() / 2
    }

    /// Scores of every head with the keys of the span's groups; `[heads, TILE]`.
    #[inline(always)]
    fn score<S: Simd>(&self, s: S, span: Span, scores: &mut [f32]) {
        let heads = self.heads();
        for g in span.from / GROUP..span.to.div_ceil(GROUP) {
            let group = self.groups.at(span.first_group + g);
            let at = (group * self.geometry.kv_heads + self.kv_head) * self.geometry.key_elements();
            let keys = self.layer.keys[at..at + self.geometry.key_elements()].as_chunks::<GROUP>().0;
            let scales = self.scales(group, 0);
            let mut head = 0;
            while head + HEADS <= heads {
                self.score_heads::<S, HEADS>(s, (keys, scales), head, g, scores);
                head += HEADS;
            }
            while head < heads {
                self.score_heads::<S, 1>(s, (keys, scales), head, g, scores);
                head += 1;
            }
        }
    }

    /// Scales of the keys (`part` 0) or values (1) of a group; empty where there are none.
    #[inline(always)]
    fn scales(&self, group: usize, part: usize) -> &[f32] {
        if !E::SCALED {
            return &[];
        }
        let at = (2 * (group * self.geometry.kv_heads + self.kv_head) + part) * GROUP;
        &self.layer.scales[at..at + GROUP]
    }

    /// H heads from `head` on with the 16 keys of a group.
    #[inline(always)]
    fn score_heads<S: Simd, const H: usize>(
        &self,
        s: S,
        (keys, scales): (&[[E; GROUP]], &[f32]),
        head: usize,
        g: usize,
        scores: &mut [f32],
    ) {
        let dim = self.geometry.dim;
        // 16 positions are one or two vectors.
        let mut sums = [[s.splat(0.0); 2]; H];
        let queries = &self.queries[head * dim..(head + H) * dim];
        for (i, keys) in keys.iter().enumerate() {
            for (v, keys) in keys.chunks_exact(S::LANES).enumerate() {
                let key = E::load(s, keys);
                for (h, sums) in sums.iter_mut().enumerate() {
                    sums[v] = s.mul_add(s.splat(queries[h * dim + i]), key, sums[v]);
                }
            }
        }
        for (h, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate().take(GROUP / S::LANES) {
                let at = (head + h) * TILE + g * GROUP + v * S::LANES;
                let sum = if E::SCALED { s.mul(*sum, s.load(&scales[v * S::LANES..])) } else { *sum };
                let score = s.mul(sum, s.splat(self.scale));
                s.store(score, &mut scores[at..at + S::LANES]);
            }
        }
    }

    /// `sums[h] += Σ_j weights[h][j] · v_j` over the span.
    #[inline(always)]
    fn add_values<S: Simd>(&self, s: S, span: Span, weights: &[f32], sums: &mut [f32]) {
        let row = self.geometry.value_row;
        for g in span.from / GROUP..span.to.div_ceil(GROUP) {
            let group = self.groups.at(span.first_group + g);
            let at = (group * self.geometry.kv_heads + self.kv_head) * self.geometry.value_elements();
            let values = &self.layer.values[at..at + self.geometry.value_elements()];
            let from = span.from.saturating_sub(g * GROUP);
            let to = GROUP.min(span.to - g * GROUP);
            let values = &values[from * row..to * row];
            for (head, sums) in sums.chunks_exact_mut(row).enumerate() {
                let start = head * TILE + g * GROUP;
                let mut weights = &weights[start + from..start + to];
                let mut scaled = [0.0; GROUP];
                if E::SCALED {
                    let scales = &self.scales(group, 1)[from..to];
                    let products = weights.iter().zip(scales).map(|(weight, scale)| weight * scale);
                    scaled.iter_mut().zip(products).for_each(|(scaled, product)| *scaled = product);
                    weights = &scaled[..to - from];
                }
                let mut column = 0;
                while column + 4 * S::LANES <= row {
                    add_columns::<S, E, 4>(s, weights, values, row, column, sums);
                    column += 4 * S::LANES;
                }
                while column < row {
                    add_columns::<S, E, 1>(s, weights, values, row, column, sums);
                    column += S::LANES;
                }
            }
        }
    }
}

/// V vectors of columns of `Σ_j weights[j] · values[j]`, by ascending j.
#[inline(always)]
fn add_columns<S: Simd, E: Element, const V: usize>(
    s: S,
    weights: &[f32],
    values: &[E],
    row: usize,
    column: usize,
    sums: &mut [f32],
) {
    let mut acc = [s.splat(0.0); V];
    for (v, acc) in acc.iter_mut().enumerate() {
        *acc = s.load(&sums[column + v * S::LANES..]);
    }
    for (&weight, values) in weights.iter().zip(values.chunks_exact(row)) {
        let weight = s.splat(weight);
        for (v, acc) in acc.iter_mut().enumerate() {
            *acc = s.mul_add(weight, E::load(s, &values[column + v * S::LANES..]), *acc);
        }
    }
    for (v, acc) in acc.iter().enumerate() {
        s.store(*acc, &mut sums[column + v * S::LANES..]);
    }
}

/// Turns the tile's scores into weights relative to the new maximum; updates `state` (maximum, denominator) and
/// gives the factor by which older sums shrink. Weights beyond the span become 0.
#[inline(always)]
fn soften<S: Simd>(s: S, span: Span, scores: &mut [f32], state: &mut [f32]) -> f32 {
    let groups = span.from / GROUP * GROUP..span.to.div_ceil(GROUP) * GROUP;
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

const _: () = assert!(TILE_GROUPS * GROUP == TILE, "a tile is whole groups");
