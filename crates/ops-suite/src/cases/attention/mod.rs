//! Rotation, KV write and attention, over sequences that arrive in steps.

mod copies;

use std::ops::Range;
use std::sync::Arc;

use sostenuto_ops::{
    Backend, BufferId, KV_BLOCK_SLOTS, KernelChoice, KvDtype, KvLayerId, KvLayerSpec, KvSpec, Op, ProgramId,
};

use super::U;
use crate::data::{Rng, Tensor};
use crate::device::{Device, StepData};
use crate::runner::{Bound, MakeBackend, assert_bits, compare};

/// Sequences with given queries, keys and values, and one layer.
#[derive(Clone)]
pub(crate) struct AttentionCase {
    pub(crate) name: String,
    num_heads: usize,
    kv_heads: usize,
    dim: usize,
    window: Option<usize>,
    ring_slots: usize,
    dtype: KvDtype,
    /// Length of each sequence.
    lengths: Vec<usize>,
    inv_freq: Arc<[f64]>,
    sinks: Tensor,
    /// For each sequence, `[length, (num_heads + 2·kv_heads)·dim]`.
    qkv: Vec<Vec<f32>>,
    /// For each sequence, its ring and block table.
    rings: Vec<u32>,
    tables: Vec<Vec<u32>>,
    num_blocks: usize,
}

/// What a device made of a row: the rotated heads, and the attention's output.
struct Row {
    sequence: usize,
    position: usize,
    qkv: Vec<f32>,
    out: Vec<f32>,
}

/// Positions of sequences, in the order in which a step computes them.
type Step = Vec<(usize, Range<usize>)>;

#[derive(Clone, Copy)]
struct Shape<'a> {
    heads: (usize, usize, usize),
    window: Option<usize>,
    /// Most rows of a sequence in a step that the rings must bear.
    ring_rows: usize,
    dtype: KvDtype,
    lengths: &'a [usize],
    /// Standard deviation of queries and keys.
    scale: f32,
}

pub(super) fn cases() -> Vec<AttentionCase> {
    let base = Shape {
        heads: (4, 2, 64),
        window: None,
        ring_rows: 1,
        dtype: KvDtype::F32,
        lengths: &[37, 1, 16, 17],
        scale: 1.0,
    };
    // Longer than what some kernels attend to at once.
    let long = Shape { heads: (2, 1, 16), lengths: &[1_100, 20], ..base };
    let wide = Shape { heads: (8, 1, 64), lengths: &[200, 65], ..base };
    let sliding = Shape { window: Some(8), ring_rows: 5, lengths: &[40, 3, 23], ..base };
    [
        base,
        Shape { dtype: KvDtype::Bf16, ..base },
        Shape { dtype: KvDtype::Int8, ..base },
        Shape { dtype: KvDtype::Int8, scale: 0.0, ..base },
        Shape { dtype: KvDtype::Int8, heads: (5, 1, 6), ..base },
        Shape { scale: 4.0, ..base },
        Shape { scale: 0.0, ..base },
        Shape { heads: (3, 3, 32), ..base },
        Shape { heads: (2, 1, 16), ..base },
        Shape { heads: (5, 1, 6), ..base },
        Shape { dtype: KvDtype::Bf16, heads: (5, 1, 6), ..base },
        long,
        Shape { dtype: KvDtype::Bf16, ..long },
        Shape { dtype: KvDtype::Int8, ..long },
        Shape { window: Some(128), ring_rows: 30, ..long },
        Shape { dtype: KvDtype::Bf16, window: Some(128), ring_rows: 30, ..long },
        wide,
        Shape { dtype: KvDtype::Bf16, scale: 2.0, ..wide },
        Shape { dtype: KvDtype::Int8, scale: 2.0, ..wide },
        Shape { window: Some(128), ring_rows: 17, ..wide },
        Shape { window: Some(128), ring_rows: 30, dtype: KvDtype::Bf16, ..wide },
        sliding,
        Shape { window: Some(16), ring_rows: 16, ..sliding },
        Shape { window: Some(1), ring_rows: 1, ..sliding },
        Shape { window: Some(100), ring_rows: 50, lengths: &[120, 7], ..sliding },
        Shape { dtype: KvDtype::Bf16, heads: (8, 1, 32), ..sliding },
        Shape { dtype: KvDtype::Int8, heads: (8, 2, 32), ..sliding },
    ]
    .into_iter()
    .map(AttentionCase::new)
    .collect()
}

impl AttentionCase {
    fn new(shape: Shape<'_>) -> Self {
        let Shape { heads: (num_heads, kv_heads, dim), window, ring_rows, dtype, lengths, scale } = shape;
        let mut rng = Rng::new(30);
        let width = (num_heads + 2 * kv_heads) * dim;
        // Unit queries and keys have scores of deviation 1 after scaling; values stay of unit size.
        let element = |rng: &mut Rng, i: usize| {
            let value = i % width >= (num_heads + kv_heads) * dim;
            rng.normal(if value { 1.0 } else { scale })
        };
        let qkv = lengths.iter().map(|n| (0..n * width).map(|i| element(&mut rng, i)).collect()).collect();
        let blocks: Vec<usize> = lengths.iter().map(|n| n.div_ceil(KV_BLOCK_SLOTS)).collect();
        // As many to spare as the longest sequence has.
        let num_blocks = blocks.iter().sum::<usize>() + blocks.iter().copied().max().unwrap_or(0);
        let mut free = rng.permutation(num_blocks);
        let tables = blocks.iter().map(|&n| free.split_off(free.len() - n)).collect();
        Self {
            name: format!(
                "attention heads {num_heads}/{kv_heads}x{dim} window {window:?} {dtype:?} scale {scale} {lengths:?}"
            ),
            num_heads,
            kv_heads,
            dim,
            window,
            ring_slots: window.unwrap_or(1) + ring_rows - 1,
            dtype,
            lengths: lengths.to_vec(),
            inv_freq: (0..dim / 2).map(|i| 150_000f64.powf(-2.0 * i as f64 / dim as f64)).collect(),
            sinks: Tensor::bf16(&mut rng, "sinks", [1, 1, num_heads], 2.0),
            qkv,
            rings: rng.permutation(lengths.len() + 1)[..lengths.len()].to_vec(),
            tables,
            num_blocks,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Everything of every sequence, in as few steps as the rings allow; output rows in order of sequence and
    /// position.
    pub(crate) fn run_whole(&self, make: MakeBackend<'_>) -> Vec<f32> {
        flatten(&self.run(make, &self.whole()))
    }

    /// Compares with the formula, and the groupings with each other.
    pub(crate) fn check(&self, make: MakeBackend<'_>) {
        let rows = self.run(make, &self.whole());
        for row in &rows {
            self.check_rotation(row);
        }
        let kernels = make().info().kernels;
        let is_rounding =
            |choice: &KernelChoice| choice.op == "attention" && choice.kernel.starts_with("bf16_");
        let rounds = self.dtype == KvDtype::Bf16 && kernels.iter().any(is_rounding);
        let bounds: Vec<Bound> = rows.iter().flat_map(|row| self.expect(row, &rows, rounds)).collect();
        let all = flatten(&rows);
        compare(&self.name, &all, &bounds, self.rows());
        for (grouping, steps) in [("one by one", self.decode()), ("in mixed steps", self.mixed())] {
            let grouped = flatten(&self.run(make, &steps));
            assert_bits(&format!("{} {grouping}", self.name), &all, &grouped, self.rows());
        }
        self.check_copies(make, &rows);
        self.check_kv_write_from(make, &rows);
    }

    /// One more than sequences.
    fn num_rings(&self) -> usize {
        self.lengths.len() + 1
    }

    /// Most rows of a sequence in a step.
    fn most_rows(&self) -> usize {
        self.window.map_or(usize::MAX, |window| self.ring_slots + 1 - window)
    }

    /// Each sequence alone, in chunks as long as the rings bear.
    fn whole(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (sequence, &length) in self.lengths.iter().enumerate() {
            steps.extend(self.chunks(sequence, 0..length));
        }
        steps
    }

    /// Positions of a sequence, in chunks as long as the rings bear.
    fn chunks(&self, sequence: usize, range: Range<usize>) -> Vec<Step> {
        let chunk = self.most_rows().min(range.len().max(1));
        let starts = range.clone().step_by(chunk);
        starts.map(|start| vec![(sequence, start..range.end.min(start + chunk))]).collect()
    }

    /// One row of each sequence that still has some.
    fn decode(&self) -> Vec<Step> {
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let step = |position| -> Step {
            let running = self.lengths.iter().enumerate().filter(|(_, length)| position < **length);
            running.map(|(sequence, _)| (sequence, position..position + 1)).collect()
        };
        (0..longest).map(step).collect()
    }

    /// Chunks of random lengths of random sequences, in random order.
    fn mixed(&self) -> Vec<Step> {
        let mut rng = Rng::new(31);
        let mut done = vec![0; self.lengths.len()];
        let mut steps = Vec::new();
        while done != self.lengths {
            let mut step = Vec::new();
            for sequence in rng.permutation(self.lengths.len()) {
                let sequence = sequence as usize;
                let left = self.lengths[sequence] - done[sequence];
                let rows = left.min(rng.below(self.most_rows().min(23) + 1));
                if rows > 0 {
                    step.push((sequence, done[sequence]..done[sequence] + rows));
                    done[sequence] += rows;
                }
            }
            if !step.is_empty() {
                steps.push(step);
            }
        }
        steps
    }

    fn width(&self) -> usize {
        (self.num_heads + 2 * self.kv_heads) * self.dim
    }

    fn score_scale(&self) -> f32 {
        1.0 / (self.dim as f32).sqrt()
    }

    /// Runs the steps on a fresh device whose KV store holds stale values; rows in order of sequence and position.
    fn run(&self, make: MakeBackend<'_>, steps: &[Step]) -> Vec<Row> {
        let mut backend = make();
        let session = Session::new(self, &mut *backend);
        let mut rows = session.run(self, &mut *backend, steps);
        rows.sort_by_key(|row| (row.sequence, row.position));
        rows
    }

    /// Query and key heads of a row are rotated, value heads are as given.
    fn check_rotation(&self, row: &Row) {
        let (half, width) = (self.dim / 2, self.width());
        let given = &self.qkv[row.sequence][row.position * width..(row.position + 1) * width];
        let mut bounds = Vec::new();
        for (head, given) in given.chunks_exact(self.dim).enumerate() {
            for i in 0..self.dim {
                if head >= self.num_heads + self.kv_heads {
                    bounds.push(Bound { want: f64::from(given[i]), tolerance: 0.0 });
                    continue;
                }
                let (sin, cos) = (row.position as f64 * self.inv_freq[i % half]).sin_cos();
                let (a, b) = (f64::from(given[i % half]), f64::from(given[half + i % half]));
                let want = if i < half { a * cos - b * sin } else { b * cos + a * sin };
                bounds.push(Bound { want, tolerance: 4.0 * U * (a.abs() + b.abs()) });
            }
        }
        let name = format!("{} rotation of {} at {}", self.name, row.sequence, row.position);
        compare(&name, &row.qkv, &bounds, 1);
    }

    /// The formula, from the rotated heads as the device has them. `rounds`: queries may be rounded to two bf16, weights to
    /// one.
    fn expect(&self, row: &Row, rows: &[Row], rounds: bool) -> Vec<Bound> {
        let (query_off, weight_off) =
            if rounds { (64.0 * U, 2_f64.powi(-8) + 100.0 * U) } else { (0.0, 0.0) };
        let first = self.window.map_or(0, |window| (row.position + 1).saturating_sub(window));
        let seen: Vec<&Row> = rows
            .iter()
            .filter(|r| r.sequence == row.sequence && (first..=row.position).contains(&r.position))
            .collect();
        let mut bounds = Vec::new();
        for head in 0..self.num_heads {
            let kv_head = head / (self.num_heads / self.kv_heads);
            let query = &row.qkv[head * self.dim..][..self.dim];
            let scale = f64::from(self.score_scale());
            let (mut scores, mut score_off) = (Vec::new(), 0.0_f64);
            for other in &seen {
                let terms = || {
                    let key = self.stored(other, self.num_heads + kv_head);
                    query.iter().map(|&q| f64::from(q)).zip(key).map(|(q, k)| q * k * scale)
                };
                scores.push(terms().sum::<f64>());
                let size: f64 = terms().map(f64::abs).sum();
                score_off = score_off.max((U * (8.0 + (self.dim as f64).sqrt()) + query_off) * size);
            }
            let sink = self.sinks.row(0, 0)[head];
            let max = scores.iter().copied().fold(sink, f64::max);
            let sum: f64 = scores.iter().chain([&sink]).map(|score| (score - max).exp()).sum();
            let mut values = vec![(0.0, 0.0); self.dim];
            for (score, other) in scores.iter().zip(&seen) {
                let weight = (score - max).exp() / sum;
                let stored = self.stored(other, self.num_heads + self.kv_heads + kv_head);
                for ((want, size), v) in values.iter_mut().zip(stored) {
                    *want += weight * v;
                    *size += weight * v.abs();
                }
            }
            bounds.extend(values.iter().map(|&(want, size)| Bound {
                want,
                tolerance: (2.0 * score_off + 24.0 * U + weight_off) * size + 1e-37,
            }));
        }
        bounds
    }

    /// A key or value head of a row, as the KV store keeps it.
    fn stored(&self, row: &Row, head: usize) -> Vec<f64> {
        let values = &row.qkv[head * self.dim..(head + 1) * self.dim];
        let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
        let round = |value: f32| match self.dtype {
            KvDtype::F32 => f64::from(value),
            KvDtype::Bf16 => {
                let bits = value.to_bits();
                let rounded = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff_0000;
                f64::from(f32::from_bits(rounded))
            }
            KvDtype::Int8 if largest == 0.0 => 0.0,
            KvDtype::Int8 => {
                let scale = largest / 127.0;
                f64::from((value / scale).round_ties_even()) * f64::from(scale)
            }
        };
        values.iter().map(|&value| round(value)).collect()
    }
}

/// A case's buffers and program on one device.
struct Session {
    qkv: BufferId,
    out: BufferId,
    program: ProgramId,
    /// The same without attention.
    write: ProgramId,
}

impl Session {
    fn new(case: &AttentionCase, backend: &mut dyn Backend) -> Self {
        let mut device = Device(backend);
        // Two layers: neither the other layer's memory nor its kind may matter.
        let layers = match case.window {
            None => vec![KvLayerSpec::Sliding, KvLayerSpec::Full],
            Some(_) => vec![KvLayerSpec::Full, KvLayerSpec::Sliding],
        };
        let spec = KvSpec {
            layers,
            dtype: case.dtype,
            num_kv_heads: case.kv_heads,
            head_dim: case.dim,
            num_blocks: case.num_blocks,
            num_rings: case.num_rings(),
            ring_slots: case.ring_slots,
            window: case.window.unwrap_or(1),
            num_snapshots: 2,
        };
        device.0.create_kv(spec).expect("a valid KV store");
        let rows = case.rows();
        let qkv = device.buffer("qkv", rows, case.width());
        let out = device.buffer("attention", rows, case.num_heads * case.dim);
        let table = device.buffer("rope table", rows, case.dim);
        let sinks = device.weight(&case.sinks);
        let (layer, num_heads) = (KvLayerId(1), case.num_heads);
        let program = vec![
            Op::RopeTable { inv_freq: Arc::clone(&case.inv_freq), concentration: 1.0, out: table },
            Op::RopeKvWrite { qkv, table, layer, num_heads },
            Op::Attention {
                qkv,
                layer,
                num_heads,
                sinks,
                window: case.window,
                scale: case.score_scale(),
                out,
            },
        ];
        let write = device.0.compile(program[..2].to_vec()).expect("a valid program");
        let program = device.0.compile(program).expect("a valid program");
        let session = Self { qkv, out, program, write };
        session.write_stale_values(case, device.0);
        session
    }

    /// Fills every ring and block with keys and values that are not numbers, as a sequence that failed leaves them; no later
    /// row may see one.
    fn write_stale_values(&self, case: &AttentionCase, backend: &mut dyn Backend) {
        for (sequence, table) in case.tables.iter().enumerate() {
            let slots = if case.window.is_some() { case.ring_slots } else { table.len() * KV_BLOCK_SLOTS };
            let chunk = case.most_rows().min(case.rows());
            let mut start = 0;
            while start < slots {
                let rows = chunk.min(slots - start);
                backend.write(self.qkv, 0, &vec![f32::NAN; rows * case.width()]).expect("whole rows");
                let step = step_data(case, &[(sequence, start..start + rows)]);
                backend.submit(self.write, &step.inputs()).expect("a valid step");
                start += rows;
            }
        }
    }

    fn run(&self, case: &AttentionCase, backend: &mut dyn Backend, steps: &[Step]) -> Vec<Row> {
        self.run_from(case, backend, steps, 0)
    }

    /// Runs steps with the same `kv_write_from` for every sequence.
    fn run_from(
        &self,
        case: &AttentionCase,
        backend: &mut dyn Backend,
        steps: &[Step],
        kv_write_from: u32,
    ) -> Vec<Row> {
        let (width, out_width) = (case.width(), case.num_heads * case.dim);
        let mut result = Vec::new();
        for step in steps {
            let places: Vec<(usize, usize)> =
                step.iter().flat_map(|(s, range)| range.clone().map(|p| (*s, p))).collect();
            let given = |&(s, p): &(usize, usize)| case.qkv[s][p * width..(p + 1) * width].to_vec();
            let rows: Vec<f32> = places.iter().flat_map(given).collect();
            backend.write(self.qkv, 0, &rows).expect("whole rows");
            let mut data = step_data(case, step);
            data.kv_write_from.fill(kv_write_from);
            backend.submit(self.program, &data.inputs()).expect("a valid step");
            let (mut qkv, mut out) = (vec![0.0; rows.len()], vec![0.0; places.len() * out_width]);
            backend.read(self.qkv, 0, &mut qkv).expect("whole rows");
            backend.read(self.out, 0, &mut out).expect("whole rows");
            for (i, &(sequence, position)) in places.iter().enumerate() {
                let qkv = qkv[i * width..(i + 1) * width].to_vec();
                let out = out[i * out_width..(i + 1) * out_width].to_vec();
                result.push(Row { sequence, position, qkv, out });
            }
        }
        result
    }
}

fn step_data(case: &AttentionCase, step: &[(usize, Range<usize>)]) -> StepData {
    let mut data = StepData { block_table_offsets: vec![0], ..StepData::default() };
    for (index, (sequence, range)) in step.iter().enumerate() {
        for position in range.clone() {
            data.token_ids.push(0);
            data.positions.push(position as u32);
            data.sequences.push(index as u32);
        }
        data.rings.push(case.rings[*sequence]);
        data.block_tables.extend(&case.tables[*sequence]);
        data.block_table_offsets.push(data.block_tables.len() as u32);
        data.kv_write_from.push(0);
    }
    data
}

fn flatten(rows: &[Row]) -> Vec<f32> {
    rows.iter().flat_map(|row| row.out.iter().copied()).collect()
}
