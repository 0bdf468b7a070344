//! Attention: its tasks, and how it is computed.
//!
//! Every row is attended to by pieces of its context. These are fixed, and what they give is merged in a fixed order,
//! so that it makes no difference whether they are tasks of their own.

// Tasks write disjoint parts of a buffer.
#![allow(unsafe_code)]

use sostenuto_ops::{Op, Precision, StepInputs};

use super::Buffer;
use super::run::{Run, f32_of, part};
use crate::isa::Witness;
use crate::kernel::attention::{Attend, MOST_ROWS};
#[cfg(target_arch = "x86_64")]
use crate::kernel::attention_tiled::{self, AttendTiled};
use crate::kernel::pieces::{MOST_SPLIT_ROWS, MergePieces, PIECE, Records, record_len};
use crate::kv::{Element, Geometry, KvStore, Layer, Planes};
use crate::memory::Parts;
#[cfg(target_arch = "x86_64")]
use crate::simd::amx::Amx;

/// Tasks for each thread at least; where there are fewer, pieces of contexts are tasks of their own.
const TASKS: usize = 4;

/// How attention is computed.
struct Way<R> {
    /// Rows that it takes at once at most.
    most_rows: usize,
    /// Its exponential, with whose base its results are noted.
    exp: fn(f32) -> f32,
    run: R,
}

/// In vectors.
fn by_vectors<E: Element>(witness: Witness) -> Way<impl Fn(Attend<'_, E>) + Sync> {
    Way { most_rows: MOST_ROWS, exp: f32::exp, run: move |attend: Attend<'_, E>| witness.run(attend) }
}

/// In tiles.
#[cfg(target_arch = "x86_64")]
fn by_tiles(witness: Witness, amx: Amx) -> Way<impl Fn(Attend<'_, u16>) + Sync> {
    let run = move |attend: Attend<'_, u16>| witness.run(AttendTiled { amx, attend });
    Way { most_rows: attention_tiled::MOST_ROWS, exp: f32::exp2, run }
}

impl Run<'_> {
    pub(super) fn attention(&mut self, op: &Op) {
        let Op::Attention { layer, out, .. } = *op else { unreachable!("attention only") };
        let mut result = self.take_f32(out);
        let kv = self.kv.take().expect("the program was checked: there is a KV store");
        let witness = self.witness;
        match (kv.layer(layer), attention_tiles(witness, self.precision, &kv.geometry)) {
            #[cfg(target_arch = "x86_64")]
            (Layer::Bf16(planes), Some(amx)) => {
                self.attend(op, &mut result, (planes, kv), by_tiles(witness, amx));
            }
            (Layer::F32(planes), _) => self.attend(op, &mut result, (planes, kv), by_vectors(witness)),
            (Layer::Bf16(planes), _) => self.attend(op, &mut result, (planes, kv), by_vectors(witness)),
            (Layer::Int8(planes), _) => self.attend(op, &mut result, (planes, kv), by_vectors(witness)),
        }
        self.kv = Some(kv);
        self.put(out, Buffer::F32(result));
    }

    /// One task per KV head and some rows, or, where that would be few, per KV head, row, and piece of its context.
    fn attend<E: Element>(
        &mut self,
        op: &Op,
        out: &mut [f32],
        (planes, kv): (&Planes<E>, &KvStore),
        way: Way<impl Fn(Attend<'_, E>) + Sync>,
    ) {
        let Op::Attention { qkv, layer, num_heads, sinks, window, scale, .. } = *op else {
            unreachable!("attention only")
        };
        let geometry = kv.geometry;
        let (kv_heads, group) = (geometry.kv_heads, num_heads / geometry.kv_heads);
        let (witness, step, count) = (self.witness, self.step, self.step.rows());
        let sinks = self.weights[sinks.0 as usize].values();
        let (per_thread, scratch) = (self.scratch.per_thread, Parts::new(&mut self.scratch.threads));
        let qkv = f32_of(self.buffers, qkv);
        let out = Parts::new(out);
        let records = match window {
            None if needs_split(count * kv_heads, self.pool.threads()) => {
                records_of(&mut self.scratch.records, &step, num_heads, record_len(&geometry))
            }
            _ => None,
        };
        let (size, pieces) = match records {
            Some(records) => (1, records.pieces),
            None => ((count / (2 * self.pool.threads())).clamp(1, way.most_rows), 1),
        };
        let tasks = count.div_ceil(size) * kv_heads;
        let region = |task: usize, thread: usize| {
            let (piece, task) = (task / tasks, task % tasks);
            let kv_head = task % kv_heads;
            let mut rows = part(task / kv_heads, size, count);
            if piece >= pieces_seen(&step, rows.start) {
                return;
            }
            while !rows.is_empty() {
                let sequence = step.sequences[rows.start];
                let same = step.sequences[rows.clone()].iter().take_while(|&&of| of == sequence).count();
                (way.run)(Attend {
                    geometry,
                    rows: rows.start..rows.start + same,
                    positions: step.positions,
                    window,
                    qkv,
                    heads: kv_head * group..(kv_head + 1) * group,
                    num_heads,
                    layer: planes,
                    kv_head,
                    groups: kv.groups(layer, &step, sequence as usize),
                    scale,
                    sinks,
                    out,
                    piece: records.map(|records| (piece, records)),
                    // SAFETY: each thread has its own part.
                    scratch: unsafe { scratch.get(thread * per_thread..(thread + 1) * per_thread) },
                });
                rows.start += same;
            }
        };
        self.pool.run(pieces * tasks, &region);
        let Some(records) = records else { return };
        let merge = |task: usize, _: usize| {
            let (row, kv_head) = (task / kv_heads, task % kv_heads);
            let (heads, pieces) = (kv_head * group..(kv_head + 1) * group, pieces_seen(&step, row));
            witness.run(MergePieces { row, heads, pieces, records, dim: geometry.dim, exp: way.exp, out });
        };
        self.pool.run(tasks, &merge);
    }
}

/// Whether attention has too few tasks without splitting contexts.
fn needs_split(tasks: usize, threads: usize) -> bool {
    threads > 1 && tasks < TASKS * threads
}

/// Pieces of its context that a row of a full layer sees.
fn pieces_seen(step: &StepInputs<'_>, row: usize) -> usize {
    (step.positions[row] as usize + 1).div_ceil(PIECE)
}

/// Room for the results of pieces of the step's contexts, where they have several and there is so much.
fn records_of<'a>(
    memory: &'a mut [f32],
    step: &StepInputs<'_>,
    num_heads: usize,
    len: usize,
) -> Option<Records<'a>> {
    let pieces = (0..step.rows()).map(|row| pieces_seen(step, row)).max().unwrap_or(0);
    let has_room = step.rows() * pieces * num_heads * len <= memory.len();
    (pieces > 1 && has_room).then(|| Records { memory: Parts::new(memory), pieces, num_heads, len })
}

/// Most rows of a step whose contexts are split.
pub(super) fn most_split_rows(kv_heads: usize, threads: usize) -> usize {
    (1..=MOST_SPLIT_ROWS).take_while(|rows| needs_split(rows * kv_heads, threads)).count()
}

/// The tiles that attention over bf16 is multiplied with, where it may round.
#[cfg(target_arch = "x86_64")]
pub(super) fn attention_tiles(witness: Witness, precision: Precision, geometry: &Geometry) -> Option<Amx> {
    match (witness, precision) {
        (Witness::Amx(amx), Precision::Fast) if attention_tiled::fits(geometry) => Some(amx),
        _ => None,
    }
}

/// There are none.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn attention_tiles(_: Witness, _: Precision, _: &Geometry) -> Option<std::convert::Infallible> {
    None
}
