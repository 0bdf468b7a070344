//! Runs one op of a step: cuts it into tasks and hands them to the threads.
//!
//! Tasks are parts of the output: rows, heads, or output features of all rows. None splits a sum, but that of attention
//! (`attention.rs`).

// Tasks write disjoint parts of a buffer.
#![allow(unsafe_code)]

use std::ops::Range;

use sostenuto_ops::{BufferId, KvLayerId, Op, Precision, Registry, Rows, StepInputs, WeightId};

use super::Buffer;
use super::scratch::Scratch;
use super::weight::{Form, Piece, Weight};
use crate::isa::Witness;
use crate::kernel::attention::write_slot;
use crate::kernel::linear::Linear;
use crate::kernel::matrix::{Bf16, Experts, Matrix, MxExperts};
use crate::kernel::moe::{Combine, GateUp};
use crate::kernel::pack::{Order, Pack, Packing, blocks};
use crate::kernel::packed::{GROUP_ROWS, Int8, Packed, PackedExperts};
use crate::kernel::panel::{FEW_TOKENS, PANEL_ROWS, PanelScratch, TASK_ROWS};
use crate::kernel::rows::{RmsNorm, Rotate, embed, rope_table, top_k};
#[cfg(target_arch = "x86_64")]
use crate::kernel::tiled::{Tiled, TiledExperts};
use crate::kv::{self, Element, GROUP, KvStore, Layer};
use crate::memory::{Memory, Parts};
use crate::pool::Pool;
use crate::simd::BLOCK;
#[cfg(target_arch = "x86_64")]
use crate::simd::amx::Amx;
use crate::simd::int8::{Int8Block, Int9Block};

/// Multiplications below which an op is not worth waking the workers for.
const PARALLEL_FROM: usize = 1 << 16;

/// Rows up to which integer products are faster than tiles: of a dense product, and of an expert's on average.
const FEW_DENSE: usize = 8;
const FEW_OF_AN_EXPERT: usize = 4;

/// Features that one task of an exact dense product computes at most.
const EXACT_ROWS: usize = 48;

/// A step in progress.
pub(super) struct Run<'a> {
    pub(super) witness: Witness,
    pub(super) precision: Precision,
    pub(super) pool: &'a mut Pool,
    pub(super) registry: &'a Registry,
    pub(super) buffers: &'a mut [Buffer],
    pub(super) weights: &'a [Weight],
    pub(super) kv: Option<&'a mut KvStore>,
    pub(super) scratch: &'a mut Scratch,
    pub(super) step: StepInputs<'a>,
}

impl Run<'_> {
    /// Runs an op of a checked program on a checked step.
    pub(super) fn op(&mut self, op: &Op) {
        match *op {
            Op::Embed { table, out } => self.embed(table, out),
            Op::RmsNorm { rows, input, weight, eps, out } => self.rms_norm(rows, input, weight, eps, out),
            Op::Linear { .. } => self.linear(op),
            Op::RopeTable { ref inv_freq, concentration, out } => {
                let width = 2 * inv_freq.len();
                let mut result = self.take_f32(out);
                for (row, &position) in result.chunks_exact_mut(width).zip(self.step.positions) {
                    rope_table(position, inv_freq, concentration, row);
                }
                self.put(out, Buffer::F32(result));
            }
            Op::RopeKvWrite { qkv, table, layer, num_heads } => {
                self.rope_kv_write(qkv, table, layer, num_heads);
            }
            Op::Attention { .. } => self.attention(op),
            Op::TopK { logits, experts, weights } => self.top_k(logits, experts, weights),
            Op::MoeGateUp { .. } => self.moe_gate_up(op),
            Op::MoeDown { .. } => self.moe_down(op),
            Op::GatherLogitRows { input, out } => {
                let width = self.width(input);
                let mut result = self.take_f32(out);
                let rows = f32_of(self.buffers, input);
                for (row, &t) in result.chunks_exact_mut(width).zip(self.step.logit_rows) {
                    row.copy_from_slice(&rows[t as usize * width..(t as usize + 1) * width]);
                }
                self.put(out, Buffer::F32(result));
            }
        }
    }

    fn embed(&mut self, table: WeightId, out: BufferId) {
        let mut result = self.take_f32(out);
        let table = self.weight(table);
        let width = table.spec.in_features;
        for (row, &token) in result.chunks_exact_mut(width).zip(self.step.token_ids) {
            embed(table.row(token as usize), row);
        }
        self.put(out, Buffer::F32(result));
    }

    fn rms_norm(&mut self, rows: Rows, input: BufferId, weight: WeightId, eps: f32, out: BufferId) {
        let (rows, width) = (self.count(rows), self.width(input));
        let mut result = self.take_f32(out);
        let source = (input != out).then(|| f32_of(self.buffers, input));
        let (witness, weight) = (self.witness, self.weights[weight.0 as usize].values());
        let parts = Parts::new(&mut result[..rows * width]);
        let region = |t: usize, _: usize| {
            let range = t * width..(t + 1) * width;
            // SAFETY: each task has one row.
            let row = unsafe { parts.get(range.clone()) };
            if let Some(source) = source {
                row.copy_from_slice(&source[range]);
            }
            witness.run(RmsNorm { row, weight, eps });
        };
        self.pool.run_if(rows * width >= PARALLEL_FROM, rows, &region);
        self.put(out, Buffer::F32(result));
    }

    fn linear(&mut self, op: &Op) {
        let Op::Linear { rows, input, weight, bias, out, accumulate } = *op else {
            unreachable!("linear only")
        };
        let rows = self.count(rows);
        let mut result = self.take_f32(out);
        let (n, k) = self.shape(weight);
        let weights = self.weights;
        let bias = bias.map(|bias| weights[bias.0 as usize].values());
        let weight = &weights[weight.0 as usize];
        let tasks = LinearTasks { rows, n, k, bias, out: Parts::new(&mut result[..rows * n]), accumulate };
        match Form::of(&weight.spec, self.precision, self.witness) {
            Form::Stored => self.stored_linear(tasks, input, weight),
            Form::Int8 => {
                self.packed_linear(tasks, input, Packed::<Int8, Int8Block>::new(weight.panels(), n, k));
            }
            Form::Int9 => {
                let packed = Packed::<Int8, Int9Block>::new(weight.panels(), n, k);
                match self.tiles(weight, rows > FEW_DENSE) {
                    #[cfg(target_arch = "x86_64")]
                    Some(amx) => self.packed_linear(tasks, input, Tiled::new(amx, packed)),
                    _ => self.packed_linear(tasks, input, packed),
                }
            }
        }
        self.put(out, Buffer::F32(result));
    }

    /// One task per chunk of features of each piece.
    fn stored_linear(&mut self, tasks: LinearTasks<'_>, input: BufferId, weight: &Weight) {
        let LinearTasks { rows, n, k, .. } = tasks;
        self.pack(Order::Bf16, input, rows, k);
        let (inputs, _, _, rooms) = self.scratch.of_product(rows * blocks(k));
        let size = chunk(n, self.pool.threads(), EXACT_ROWS);
        let witness = self.witness;
        let region = |i: usize, thread: usize| {
            let (piece, features) = part_of_piece(i, size, weight);
            let matrix = Bf16::new(piece.bytes, k);
            // SAFETY: each thread has its own room.
            let scratch = unsafe { rooms.of(thread) };
            witness.run(tasks.kernel(matrix, inputs, piece.first, features, scratch));
        };
        let count = weight.rows().map(|piece| piece.rows.div_ceil(size)).sum();
        self.pool.run_if(tasks.are_many(), count, &region);
    }

    /// One task per chunk of features.
    fn packed_linear<M: Matrix + Sync>(&mut self, tasks: LinearTasks<'_>, input: BufferId, matrix: M) {
        let LinearTasks { rows, n, k, .. } = tasks;
        self.pack(matrix.packing(), input, rows, k);
        let (inputs, _, _, rooms) = self.scratch.of_product(rows * blocks(k));
        let size = chunk(n, self.pool.threads(), task_rows(rows));
        let witness = self.witness;
        let region = |i: usize, thread: usize| {
            // SAFETY: each thread has its own room.
            let scratch = unsafe { rooms.of(thread) };
            witness.run_int8(tasks.kernel(matrix, inputs, 0, part(i, size, n), scratch));
        };
        self.pool.run_if(tasks.are_many(), n.div_ceil(size), &region);
    }

    fn rope_kv_write(&mut self, qkv: BufferId, table: BufferId, layer: KvLayerId, num_heads: usize) {
        let mut result = self.take_f32(qkv);
        let kv = self.kv.take().expect("the program was checked: there is a KV store");
        // The layer is taken out for writing, so that the rest of the store can be read.
        let mut elements = std::mem::take(kv.layer_mut(layer));
        match &mut elements {
            Layer::F32(planes) => {
                self.rotate_and_write(&mut result, planes.parts(), kv, table, layer, num_heads);
            }
            Layer::Bf16(planes) => {
                self.rotate_and_write(&mut result, planes.parts(), kv, table, layer, num_heads);
            }
            Layer::Int8(planes) => {
                self.rotate_and_write(&mut result, planes.parts(), kv, table, layer, num_heads);
            }
        }
        *kv.layer_mut(layer) = elements;
        self.kv = Some(kv);
        self.put(qkv, Buffer::F32(result));
    }

    /// One task per KV head, with the query heads that read it: slots may coincide, heads don't.
    fn rotate_and_write<E: Element>(
        &mut self,
        qkv: &mut [f32],
        planes: kv::Parts<'_, E>,
        kv: &KvStore,
        table: BufferId,
        layer: KvLayerId,
        num_heads: usize,
    ) {
        let geometry = kv.geometry;
        let (dim, heads) = (geometry.dim, geometry.kv_heads);
        let (width, group) = ((num_heads + 2 * heads) * dim, num_heads / heads);
        let (witness, step, rows) = (self.witness, self.step, self.step.rows());
        let angles = f32_of(self.buffers, table);
        let qkv = Parts::new(qkv);
        let region = |head: usize, _: usize| {
            for t in 0..rows {
                let head_at = |index: usize| t * width + index * dim;
                let angles = &angles[t * dim..(t + 1) * dim];
                let [queries, key, value] = [
                    head_at(head * group)..head_at((head + 1) * group),
                    head_at(num_heads + head)..head_at(num_heads + head + 1),
                    head_at(num_heads + heads + head)..head_at(num_heads + heads + head + 1),
                ]
                // SAFETY: each task has one KV head and the query heads of its group.
                .map(|range| unsafe { qkv.get(range) });
                witness.run(Rotate { heads: queries, angles });
                witness.run(Rotate { heads: key, angles });
                if !step.writes_kv(t, kv.kind(layer)) {
                    continue;
                }
                let position = step.positions[t] as usize;
                let groups = kv.groups(layer, &step, step.sequences[t] as usize);
                let place = (head, groups.at(position / GROUP), position % GROUP);
                // SAFETY: each task has one KV head.
                unsafe { write_slot(&geometry, (key, value), planes, place) };
            }
        };
        self.pool.run_if(rows * width >= PARALLEL_FROM, heads, &region);
    }

    fn top_k(&mut self, logits: BufferId, experts: BufferId, weights: BufferId) {
        let (num_experts, k) = (self.width(logits), self.width(experts));
        let (mut chosen, mut shares) = (self.take_u32(experts), self.take_f32(weights));
        let rows = f32_of(self.buffers, logits).chunks_exact(num_experts).take(self.step.rows());
        let places = chosen.chunks_exact_mut(k).zip(shares.chunks_exact_mut(k));
        for (logits, (experts, weights)) in rows.zip(places) {
            top_k(logits, experts, weights);
        }
        self.put(experts, Buffer::U32(chosen));
        self.put(weights, Buffer::F32(shares));
    }

    fn moe_gate_up(&mut self, op: &Op) {
        let Op::MoeGateUp { input, experts, weight, bias, limit, alpha, out } = *op else {
            unreachable!("moe_gate_up only")
        };
        let (rows, k) = (self.step.rows(), self.width(experts));
        let (out_features, _) = self.shape(weight);
        let mut result = self.take_f32(out);
        self.route(experts, rows * k, weight);
        let bias = self.weights[bias.0 as usize].values();
        let out_parts = Parts::new(&mut result[..rows * k * out_features / 2]);
        let tasks = GateUpTasks { input, rows, k, bias, limit, alpha, out: out_parts };
        match self.experts(weight) {
            ExpertWeights::Stored(experts) => self.gate_up(tasks, experts),
            ExpertWeights::Int8(experts) => self.gate_up(tasks, experts),
            ExpertWeights::Int9(experts) => self.gate_up(tasks, experts),
            #[cfg(target_arch = "x86_64")]
            ExpertWeights::Tiled(experts) => self.gate_up(tasks, experts),
        }
        self.put(out, Buffer::F32(result));
    }

    /// One task per chosen expert and chunk of features.
    fn gate_up<E: Experts>(&mut self, tasks: GateUpTasks<'_>, experts: E) {
        let GateUpTasks { input, rows, k, bias, limit, alpha, out } = tasks;
        let matrix = experts.expert(0);
        self.pack_routed(matrix.packing(), input, (rows, k), matrix.blocks() * BLOCK);
        let (inputs, routing, _, rooms) = self.scratch.of_product(rows * k * matrix.blocks());
        let intermediate = experts.out_features() / 2;
        let most = E::TASK_ROWS.min(task_rows(routing.mean()));
        let size = chunk(2 * intermediate, self.pool.threads(), most) / 2;
        let chunks = intermediate.div_ceil(size);
        let witness = self.witness;
        let region = |task: usize, thread: usize| {
            let (expert, places) = routing.active(task / chunks);
            let bias = &bias[4 * expert * intermediate..4 * (expert + 1) * intermediate];
            let (weight, features) = (experts.expert(expert), part(task % chunks, size, intermediate));
            let inputs = &inputs[places.start * weight.blocks()..places.end * weight.blocks()];
            let choices = routing.choices(places);
            // SAFETY: each thread has its own room.
            let scratch = unsafe { rooms.of(thread) };
            let kernel = GateUp { weight, bias, inputs, choices, features, limit, alpha, out, scratch };
            experts.run(witness, kernel);
        };
        self.pool.run(routing.num_active() * chunks, &region);
    }

    fn moe_down(&mut self, op: &Op) {
        let Op::MoeDown { input, experts, weights, weight, bias, out } = *op else {
            unreachable!("moe_down only")
        };
        let (rows, k) = (self.step.rows(), self.width(experts));
        let (out_features, _) = self.shape(weight);
        let mut result = self.take_f32(out);
        self.route(experts, rows * k, weight);
        let bias = self.weights[bias.0 as usize].values();
        let tasks = DownTasks { input, rows, k, bias };
        match self.experts(weight) {
            ExpertWeights::Stored(experts) => self.down(tasks, experts),
            ExpertWeights::Int8(experts) => self.down(tasks, experts),
            ExpertWeights::Int9(experts) => self.down(tasks, experts),
            #[cfg(target_arch = "x86_64")]
            ExpertWeights::Tiled(experts) => self.down(tasks, experts),
        }
        self.combine(weights, (rows, k), &mut result[..rows * out_features]);
        self.put(out, Buffer::F32(result));
    }

    /// Products of all choices: one task per chosen expert and chunk of features.
    fn down<E: Experts>(&mut self, tasks: DownTasks<'_>, experts: E) {
        let DownTasks { input, rows, k, bias } = tasks;
        let matrix = experts.expert(0);
        self.pack_routed(matrix.packing(), input, (rows * k, 1), matrix.blocks() * BLOCK);
        let (inputs, routing, products, rooms) = self.scratch.of_product(rows * k * matrix.blocks());
        let n = experts.out_features();
        let most = E::TASK_ROWS.min(task_rows(routing.mean()));
        let size = chunk(n, self.pool.threads(), most);
        let chunks = n.div_ceil(size);
        let out = Parts::new(&mut products[..rows * k * n]);
        let witness = self.witness;
        let region = |task: usize, thread: usize| {
            let (expert, places) = routing.active(task / chunks);
            let bias = Some(&bias[2 * expert * n..2 * (expert + 1) * n]);
            let (weight, features) = (experts.expert(expert), part(task % chunks, size, n));
            let (row, width, column, accumulate) = (places.start, n, 0, false);
            let inputs = &inputs[places.start * weight.blocks()..places.end * weight.blocks()];
            // SAFETY: each thread has its own room.
            let scratch = unsafe { rooms.of(thread) };
            let kernel =
                Linear { weight, inputs, bias, features, accumulate, out, row, width, column, scratch };
            experts.run(witness, kernel);
        };
        self.pool.run(routing.num_active() * chunks, &region);
    }

    /// Adds every row's products to the output.
    fn combine(&mut self, weights: BufferId, (rows, k): (usize, usize), result: &mut [f32]) {
        let weights = f32_of(self.buffers, weights);
        let Scratch { products, routing, .. } = &*self.scratch;
        let (witness, n) = (self.witness, result.len() / rows.max(1));
        let out = Parts::new(result);
        let region = |t: usize, _: usize| {
            let choices = t * k..(t + 1) * k;
            // SAFETY: each task has one row.
            let out = unsafe { out.get(t * n..(t + 1) * n) };
            let (places, weights) = (routing.places(choices.clone()), &weights[choices]);
            witness.run(Combine { products, places, weights, out });
        };
        self.pool.run_if(rows * k * n >= PARALLEL_FROM, rows, &region);
    }

    /// Packs rows of `width` f32 of a buffer for a product.
    fn pack<P: Packing>(&mut self, packing: P, input: BufferId, rows: usize, width: usize) {
        let input = f32_of(self.buffers, input);
        let (witness, blocks) = (self.witness, blocks(width));
        let parts = Parts::new(self.scratch.activations.view::<P::Block>(rows * blocks));
        let region = |t: usize, _: usize| {
            // SAFETY: each task has one row.
            let out = unsafe { parts.get(t * blocks..(t + 1) * blocks) };
            witness.run(Pack { packing, row: &input[t * width..(t + 1) * width], out });
        };
        self.pool.run_if(rows * width >= PARALLEL_FROM, rows, &region);
    }

    /// Packs rows of `width` f32 of a buffer for a product of experts: a copy for each of a row's `copies` choices, those
    /// of an expert one after another.
    fn pack_routed<P: Packing>(
        &mut self,
        packing: P,
        input: BufferId,
        (rows, copies): (usize, usize),
        width: usize,
    ) {
        let blocks = blocks(width);
        let input = f32_of(self.buffers, input);
        let Scratch { activations, routing, .. } = &mut *self.scratch;
        let (witness, routing) = (self.witness, &*routing);
        let parts = Parts::new(activations.view::<P::Block>(rows * copies * blocks));
        let region = |t: usize, _: usize| {
            let (first, others) =
                routing.places(t * copies..(t + 1) * copies).split_first().expect("a choice of the row");
            // SAFETY: each task has the places of its row's choices, which are all different.
            let place =
                |place: u32| unsafe { parts.get(place as usize * blocks..(place as usize + 1) * blocks) };
            let packed = place(*first);
            witness.run(Pack { packing, row: &input[t * width..(t + 1) * width], out: &mut *packed });
            for &other in others {
                place(other).copy_from_slice(packed);
            }
        };
        self.pool.run_if(rows * width >= PARALLEL_FROM, rows, &region);
    }

    /// Sorts the choices in `experts` by expert.
    fn route(&mut self, experts: BufferId, choices: usize, weight: WeightId) {
        let Buffer::U32(chosen) = &self.buffers[experts.0 as usize] else {
            unreachable!("checked: a u32 buffer")
        };
        let experts = self.weights[weight.0 as usize].spec.experts;
        self.scratch.routing.sort(&chosen[..choices], experts);
    }

    fn count(&self, rows: Rows) -> usize {
        match rows {
            Rows::Step => self.step.rows(),
            Rows::Logits => self.step.logit_rows.len(),
        }
    }

    fn width(&self, id: BufferId) -> usize {
        self.registry.buffer("submit", id).expect("the program was checked: the buffer exists").width
    }

    fn weight(&self, id: WeightId) -> &Weight {
        &self.weights[id.0 as usize]
    }

    /// Takes a buffer's memory out for writing, so that others can be read; [`Self::put`] returns it.
    pub(super) fn take_f32(&mut self, id: BufferId) -> Memory<f32> {
        match &mut self.buffers[id.0 as usize] {
            Buffer::F32(values) => std::mem::take(values),
            Buffer::U32(_) => unreachable!("the program was checked: an f32 buffer"),
        }
    }

    /// As [`Self::take_f32`], for u32.
    fn take_u32(&mut self, id: BufferId) -> Memory<u32> {
        match &mut self.buffers[id.0 as usize] {
            Buffer::U32(values) => std::mem::take(values),
            Buffer::F32(_) => unreachable!("the program was checked: a u32 buffer"),
        }
    }

    pub(super) fn put(&mut self, id: BufferId, buffer: Buffer) {
        self.buffers[id.0 as usize] = buffer;
    }

    /// Output and input features of a weight.
    fn shape(&self, id: WeightId) -> (usize, usize) {
        let spec = &self.weight(id).spec;
        (spec.out_features, spec.in_features)
    }
}

/// The experts' matrices, and how they are multiplied.
enum ExpertWeights<'a> {
    Stored(MxExperts<'a>),
    Int8(PackedExperts<'a, Int8Block>),
    Int9(PackedExperts<'a, Int9Block>),
    #[cfg(target_arch = "x86_64")]
    Tiled(TiledExperts<'a>),
}

impl<'a> Run<'a> {
    fn experts(&self, id: WeightId) -> ExpertWeights<'a> {
        let weights = self.weights;
        let weight = &weights[id.0 as usize];
        let (out_features, in_features) = (weight.spec.out_features, weight.spec.in_features);
        match Form::of(&weight.spec, self.precision, self.witness) {
            Form::Stored => {
                let (codes, scales) = (weight.values(), weight.scales());
                ExpertWeights::Stored(MxExperts { codes, scales, out_features, in_features })
            }
            Form::Int8 => ExpertWeights::Int8(PackedExperts::new(weight.panels(), out_features, in_features)),
            Form::Int9 => {
                let experts = PackedExperts::new(weight.panels(), out_features, in_features);
                match self.tiles(weight, self.scratch.routing.mean() > FEW_OF_AN_EXPERT) {
                    #[cfg(target_arch = "x86_64")]
                    Some(amx) => ExpertWeights::Tiled(TiledExperts { amx, experts }),
                    _ => ExpertWeights::Int9(experts),
                }
            }
        }
    }

    /// The tiles that a weight can be multiplied with, where rows are `many` enough.
    #[cfg(target_arch = "x86_64")]
    fn tiles(&self, weight: &Weight, many: bool) -> Option<Amx> {
        weight.tiles(self.witness).filter(|_| many)
    }

    /// There are none.
    #[cfg(not(target_arch = "x86_64"))]
    fn tiles(&self, _: &Weight, _: bool) -> Option<std::convert::Infallible> {
        None
    }
}

/// What the tasks of a dense product share.
#[derive(Clone, Copy)]
struct LinearTasks<'a> {
    rows: usize,
    /// Columns of the output.
    n: usize,
    /// Columns of the input.
    k: usize,
    bias: Option<&'a [u8]>,
    out: Parts<'a, f32>,
    accumulate: bool,
}

impl<'a> LinearTasks<'a> {
    /// Of a matrix whose first row is column `column` of the output.
    fn kernel<M: Matrix>(
        &self,
        weight: M,
        inputs: &'a [M::Activation],
        column: usize,
        features: Range<usize>,
        scratch: PanelScratch<'a>,
    ) -> Linear<'a, M> {
        let bias = self.bias.map(|bias| &bias[2 * column..2 * (column + weight.rows())]);
        let &Self { n, out, accumulate, .. } = self;
        Linear { weight, inputs, bias, features, accumulate, out, row: 0, width: n, column, scratch }
    }

    /// Whether they are worth waking the workers for.
    fn are_many(&self) -> bool {
        self.rows * self.n * self.k >= PARALLEL_FROM
    }
}

/// What the tasks of the experts' first product share.
struct GateUpTasks<'a> {
    input: BufferId,
    rows: usize,
    k: usize,
    bias: &'a [u8],
    limit: f32,
    alpha: f32,
    out: Parts<'a, f32>,
}

/// What the tasks of the experts' second product share.
struct DownTasks<'a> {
    input: BufferId,
    rows: usize,
    k: usize,
    bias: &'a [u8],
}

/// An f32 buffer's memory.
pub(super) fn f32_of(buffers: &[Buffer], id: BufferId) -> &[f32] {
    match &buffers[id.0 as usize] {
        Buffer::F32(values) => values,
        Buffer::U32(_) => unreachable!("the program was checked: an f32 buffer"),
    }
}

/// Size of the chunks that `n` features are cut into: whole packed panels, at most `most`, and several chunks for each
/// thread.
fn chunk(n: usize, threads: usize, most: usize) -> usize {
    (n / (4 * threads)).next_multiple_of(GROUP_ROWS).clamp(GROUP_ROWS, most)
}

/// Features of a task of packed weights: few where memory is waited for, so that the threads end together; many where a
/// task's weights are asked for while those before them are multiplied.
fn task_rows(tokens: usize) -> usize {
    if tokens <= FEW_TOKENS { PANEL_ROWS / 2 } else { TASK_ROWS }
}

/// The i-th chunk of a matrix whose pieces are each cut into chunks: its piece, and the chunk's rows in that.
fn part_of_piece(mut i: usize, size: usize, weight: &Weight) -> (Piece<'_>, Range<usize>) {
    for piece in weight.rows() {
        let chunks = piece.rows.div_ceil(size);
        if i < chunks {
            return (piece, part(i, size, piece.rows));
        }
        i -= chunks;
    }
    unreachable!("a chunk of the matrix")
}

/// The i-th chunk of `n` features.
pub(super) fn part(i: usize, size: usize, n: usize) -> Range<usize> {
    i * size..n.min((i + 1) * size)
}
