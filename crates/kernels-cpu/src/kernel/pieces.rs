//! Attention piece by piece: results over fixed pieces of the context, and how they are merged.

// Tasks write disjoint records.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::kernel::attention::TILE;
use crate::kv::Geometry;
use crate::memory;
use crate::simd::{Kernel, Simd};

/// Positions that are attended to by themselves, aligned to multiples of their number; the results of pieces are merged in
/// ascending order.
pub(crate) const PIECE: usize = 1_024;

/// Most pieces that are attended to by tasks of their own.
pub(crate) const MOST_PIECES: usize = 128;

/// Most rows of a step whose pieces are tasks of their own: more rows keep many threads busy without.
pub(crate) const MOST_SPLIT_ROWS: usize = 16;

/// The maximum of nothing: less than any score but −∞, which has no weight.
pub(super) const NO_MAXIMUM: f32 = f32::MIN;

/// What a result has beside its sums: maximum, denominator.
pub(super) const STATE: usize = 2;

/// f32 of a head's result over some positions: sums, maximum, denominator.
pub(crate) fn record_len(geometry: &Geometry) -> usize {
    geometry.value_row + STATE
}

/// The pieces in which something is seen; none if nothing is.
#[inline(always)]
pub(super) fn pieces_of(seen: &Range<usize>) -> Range<usize> {
    seen.start / PIECE..if seen.is_empty() { 0 } else { seen.end.div_ceil(PIECE) }
}

/// The tiles of a piece in which something is seen.
#[inline(always)]
pub(super) fn tiles_of(seen: &Range<usize>, piece: usize) -> Range<usize> {
    let (from, to) = (seen.start.max(piece * PIECE), seen.end.min((piece + 1) * PIECE));
    from / TILE..to.div_ceil(TILE)
}

/// Results of pieces that tasks of their own attend to: `[rows, pieces, num_heads]` records.
#[derive(Clone, Copy)]
pub(crate) struct Records<'a> {
    pub(crate) memory: memory::Parts<'a, f32>,
    pub(crate) pieces: usize,
    pub(crate) num_heads: usize,
    /// [`record_len`].
    pub(crate) len: usize,
}

impl Records<'_> {
    /// The records of some heads.
    ///
    /// # Safety
    /// No other borrow of them may live at the same time.
    #[allow(clippy::mut_from_ref)]
    #[inline(always)]
    pub(super) unsafe fn of(&self, row: usize, piece: usize, heads: &Range<usize>) -> &mut [f32] {
        let first = (row * self.pieces + piece) * self.num_heads;
        // SAFETY: the caller's.
        unsafe { self.memory.get((first + heads.start) * self.len..(first + heads.end) * self.len) }
    }
}

/// Merges the records of a row's heads, and divides.
///
/// # Safety
/// Whoever makes it vouches that no other task uses these heads of the row, in `records` or `out`.
pub(crate) struct MergePieces<'a> {
    pub(crate) row: usize,
    pub(crate) heads: Range<usize>,
    /// Those that the row sees.
    pub(crate) pieces: usize,
    pub(crate) records: Records<'a>,
    pub(crate) dim: usize,
    /// Of the records' base.
    pub(crate) exp: fn(f32) -> f32,
    pub(crate) out: memory::Parts<'a, f32>,
}

impl Kernel for MergePieces<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let len = self.records.len;
        // SAFETY: the maker vouches for these heads; each piece is borrowed once, the first one apart from the others.
        let totals = unsafe { self.records.of(self.row, 0, &self.heads) };
        for piece in 1..self.pieces {
            // SAFETY: as above.
            let records = unsafe { self.records.of(self.row, piece, &self.heads) };
            for (total, record) in totals.chunks_exact_mut(len).zip(records.chunks_exact(len)) {
                let (sums, state) = record.split_at(len - STATE);
                merge(s, total, sums, [state[0], state[1]], self.exp);
            }
        }
        let start = self.row * self.records.num_heads;
        let range = (start + self.heads.start) * self.dim..(start + self.heads.end) * self.dim;
        // SAFETY: the maker vouches for these heads.
        divide(totals, unsafe { self.out.get(range) }, self.dim);
    }
}

/// A record of nothing.
#[inline(always)]
pub(super) fn clear(record: &mut [f32]) {
    let (sums, state) = record.split_at_mut(record.len() - STATE);
    sums.fill(0.0);
    state.copy_from_slice(&[NO_MAXIMUM, 0.0]);
}

/// Adds a head's result over a piece (sums; maximum and denominator) to a record. Added to nothing it stays as it is.
#[inline(always)]
pub(super) fn merge<S: Simd>(
    s: S,
    record: &mut [f32],
    sums: &[f32],
    [maximum, denominator]: [f32; STATE],
    exp: fn(f32) -> f32,
) {
    let (totals, state) = record.split_at_mut(record.len() - STATE);
    let largest = state[0].max(maximum);
    let (old, new) = (exp(state[0] - largest), exp(maximum - largest));
    for (total, sum) in totals.chunks_exact_mut(S::LANES).zip(sums.chunks_exact(S::LANES)) {
        let kept = s.mul(s.load(total), s.splat(old));
        s.store(s.mul_add(s.load(sum), s.splat(new), kept), total);
    }
    state[1] = state[1] * old + denominator * new;
    state[0] = largest;
}

/// Records to weighted means of the values.
#[inline(always)]
pub(super) fn divide(records: &[f32], out: &mut [f32], dim: usize) {
    let len = records.len() / (out.len() / dim);
    for (out, record) in out.chunks_exact_mut(dim).zip(records.chunks_exact(len)) {
        for (out, sum) in out.iter_mut().zip(record) {
            *out = sum / record[len - 1];
        }
    }
}
