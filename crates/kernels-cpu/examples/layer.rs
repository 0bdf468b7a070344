//! Times one layer and the unembedding at the shapes of gpt-oss-20b with random weights, and extrapolates to the
//! whole model.
//!
//! `cargo run --release -p sostenuto-kernels-cpu --example layer -- [exact|fast] [threads] [seconds]`
//!
//! Weights take 1.6 GB, so that caches don't flatter. Prints times, and memory bandwidth of a plain read beside
//! them. With one thread the times are processor time, which other work on the machine disturbs less; with several
//! they are wall-clock time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sostenuto_formats::SharedBytes;
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions};
use sostenuto_ops::{
    Backend, BufferId, BufferKind, BufferSpec, KvDtype, KvLayerId, KvLayerSpec, KvSpec, Op, Precision,
    Program, ProgramId, Rows, StepInputs, WeightData, WeightFormat, WeightId, WeightSpec,
};

const HIDDEN: usize = 2880;
const EXPERTS: usize = 32;
const CHOSEN: usize = 4;
const HEADS: usize = 64;
const KV_HEADS: usize = 8;
const DIM: usize = 64;
const VOCAB: usize = 201_088;
const LAYERS: f64 = 24.0;
const QKV: usize = (HEADS + 2 * KV_HEADS) * DIM;
const MOST_ROWS: usize = 512;
const CONTEXT: usize = 4_096;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let precision = match arguments.first().map(String::as_str) {
        Some("exact") => Precision::Exact,
        None | Some("fast") => Precision::Fast,
        Some(other) => panic!("precision {other}: exact or fast"),
    };
    let number = |i: usize, default: usize| {
        arguments.get(i).map_or(default, |argument| argument.parse().expect("a whole number"))
    };
    let threads = number(1, CpuOptions::default().threads);
    let time = Duration::from_secs(number(2, 3) as u64);
    let backend = CpuBackend::new(CpuOptions { threads, precision, isa: None }).expect("a CPU backend");
    let mut model = Model::new(backend, precision);
    let info = model.backend.info();
    println!("{} {} {} threads {:?}", info.name, info.device, info.threads, info.precision);
    for rows in [1, 8, 128, 512] {
        model.report(rows, time);
    }
}

struct Model {
    backend: CpuBackend,
    rng: u64,
    input: BufferId,
    layer: ProgramId,
    /// Each op of the layer, alone.
    ops: Vec<(&'static str, ProgramId)>,
    unembed: ProgramId,
    start: Instant,
}

impl Model {
    fn new(backend: CpuBackend, precision: Precision) -> Self {
        let mut builder = Builder { backend, rng: 1 };
        let kv = KvSpec {
            layers: vec![KvLayerSpec::Full],
            dtype: if precision == Precision::Exact { KvDtype::F32 } else { KvDtype::Bf16 },
            num_kv_heads: KV_HEADS,
            head_dim: DIM,
            num_blocks: CONTEXT / 16,
            num_rings: 0,
            ring_slots: 0,
            window: 0,
            num_snapshots: 0,
        };
        builder.backend.create_kv(kv).expect("a KV store");
        let input = builder.buffer("input", BufferKind::F32, HIDDEN);
        let ops = builder.layer(input);
        let out = builder.buffer("logits", BufferKind::F32, VOCAB);
        let weight = builder.bf16(VOCAB, HIDDEN);
        let linear = Op::Linear { rows: Rows::Logits, input, weight, bias: None, out, accumulate: false };
        let Builder { mut backend, rng } = builder;
        let mut compile = |program: Program| backend.compile(program).expect("a valid program");
        let layer = compile(ops.clone());
        let ops = ops.into_iter().map(|op| (op.name(), compile(vec![op]))).collect();
        let unembed = compile(vec![linear]);
        Self { backend, rng, input, layer, ops, unembed, start: Instant::now() }
    }

    /// Times steps of `rows` rows of one sequence.
    fn report(&mut self, rows: usize, time: Duration) {
        let bandwidth = self.memory_bandwidth();
        let layer = self.time(self.layer, rows, 0, time);
        let unembed = self.time(self.unembed, rows, 1, time);
        let total = LAYERS * layer + unembed;
        println!(
            "rows {rows:3}: layer {:8.3} ms, unembedding {:7.2} ms; extrapolated {:7.2} tok/s; plain read {bandwidth:.1} GB/s",
            1e3 * layer,
            1e3 * unembed,
            rows as f64 / total
        );
        if rows == 1 {
            let experts = CHOSEN as f64 * 3.0 * (HIDDEN * HIDDEN) as f64 * 17.0 / 32.0;
            let bytes = if self.backend.info().precision == Precision::Fast { 34.0 / 32.0 } else { 2.0 };
            let dense = bytes * (HIDDEN * (QKV + HEADS * DIM + EXPERTS)) as f64;
            let head = bytes * (VOCAB * HIDDEN) as f64;
            println!(
                "          layer {:.1} GB/s, unembedding {:.1} GB/s",
                (experts + dense) / layer / 1e9,
                head / unembed / 1e9
            );
        }
        for (name, program) in self.ops.clone() {
            let seconds = self.time(program, rows, 0, time / 10);
            println!("          {name:20} {:9.1} us", 1e6 * seconds);
        }
    }

    /// Time of a step (the median, or the mean of processor times, whose resolution is coarse), each with other inputs and so other experts.
    fn time(&mut self, program: ProgramId, rows: usize, logit_rows: usize, time: Duration) -> f64 {
        let positions: Vec<u32> = (0..rows as u32).map(|i| i + 512).collect();
        let tables: Vec<u32> = (0..(CONTEXT / 16) as u32).collect();
        let zeros = vec![0; rows];
        let step = StepInputs {
            token_ids: &zeros,
            positions: &positions,
            sequences: &zeros,
            rings: &[0],
            block_tables: &tables,
            block_table_offsets: &[0, tables.len() as u32],
            kv_write_from: &[0],
            logit_rows: &zeros[..logit_rows],
        };
        let mut times = Vec::new();
        let start = Instant::now();
        while times.len() < 3 || start.elapsed() < time {
            let values: Vec<f32> =
                (0..rows * HIDDEN).map(|_| (next(&mut self.rng) >> 40) as f32 / 8e6 - 1.0).collect();
            self.backend.write(self.input, 0, &values).expect("whole rows");
            let before = self.clock();
            self.backend.submit(program, &step).expect("a valid step");
            times.push(self.clock() - before);
        }
        if self.backend.info().threads == 1 {
            return times.iter().sum::<f64>() / times.len() as f64;
        }
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    }

    /// Seconds: processor time of this thread where it is the only one and the system tells, else wall-clock time.
    fn clock(&self) -> f64 {
        let alone = self.backend.info().threads == 1;
        let stat = alone.then(|| std::fs::read_to_string("/proc/thread-self/schedstat").ok()).flatten();
        let nanoseconds = stat.and_then(|stat| stat.split(' ').next()?.parse::<f64>().ok());
        nanoseconds.map_or_else(|| self.start.elapsed().as_secs_f64(), |nanoseconds| nanoseconds / 1e9)
    }

    /// Reads half a GB with every thread.
    fn memory_bandwidth(&self) -> f64 {
        let threads = self.backend.info().threads;
        let block = vec![1_u64; 64 << 20];
        let mut best: f64 = 0.0;
        for _ in 0..3 {
            let start = self.clock();
            let sum: u64 = if threads == 1 {
                block.iter().fold(0, |a, b| a ^ b)
            } else {
                std::thread::scope(|scope| {
                    let parts = block.chunks(block.len() / threads);
                    let sums: Vec<_> =
                        parts.map(|part| scope.spawn(|| part.iter().fold(0, |a, b| a ^ b))).collect();
                    sums.into_iter().map(|sum| sum.join().expect("a reading thread")).sum()
                })
            };
            assert!(sum <= threads as u64);
            best = best.max(8.0 * block.len() as f64 / (self.clock() - start) / 1e9);
        }
        best
    }
}

struct Builder {
    backend: CpuBackend,
    rng: u64,
}

impl Builder {
    fn buffer(&mut self, name: &'static str, kind: BufferKind, width: usize) -> BufferId {
        let rows = if width == VOCAB { 1 } else { MOST_ROWS };
        self.backend.create_buffer(BufferSpec { name, kind, rows, width }).expect("a buffer")
    }

    /// bf16, rounded in fast mode but for the router and vectors.
    fn bf16(&mut self, out_features: usize, in_features: usize) -> WeightId {
        let may_round = ![1, EXPERTS].contains(&out_features);
        self.weight(WeightSpec { may_round, ..WeightSpec::matrix("dense", out_features, in_features) })
    }

    fn weight(&mut self, spec: WeightSpec) -> WeightId {
        let mask = match spec.format {
            WeightFormat::Bf16 => 0x80ff_80ff_80ff_80ff,
            WeightFormat::Mxfp4 => u64::MAX,
        };
        // bf16 from 2^-7 to 2^-5: denormal numbers would cost many times as much.
        let exponents = if spec.format == WeightFormat::Bf16 { 0x3c00_3c00_3c00_3c00 } else { 0 };
        let values = self.random(spec.value_bytes(), |word| word & mask | exponents);
        // Scales from 2^-11 to 2^-8.
        let scales =
            self.random(spec.scale_bytes(), |word| (word & 0x0303_0303_0303_0303) + 0x7474_7474_7474_7474);
        self.backend.load_weight(spec, WeightData { values, scales }).expect("a weight")
    }

    fn random(&mut self, len: usize, map: impl Fn(u64) -> u64) -> Vec<SharedBytes> {
        let mut bytes = vec![0; len];
        for chunk in bytes.chunks_mut(8) {
            let word = map(next(&mut self.rng)).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        if len == 0 { Vec::new() } else { vec![SharedBytes::from_vec(bytes)] }
    }

    fn experts(&mut self, out_features: usize) -> (WeightId, WeightId) {
        let format = WeightFormat::Mxfp4;
        let spec = WeightSpec {
            name: "experts".into(),
            format,
            experts: EXPERTS,
            out_features,
            in_features: HIDDEN,
            may_round: false,
        };
        let bias = WeightSpec { experts: EXPERTS, ..WeightSpec::vector("bias", out_features) };
        (self.weight(spec), self.weight(bias))
    }

    /// The ops of a layer with full attention.
    fn layer(&mut self, input: BufferId) -> Program {
        let mut buffer = |name, width| self.buffer(name, BufferKind::F32, width);
        let (normed, qkv, table) = (buffer("normed", HIDDEN), buffer("qkv", QKV), buffer("table", DIM));
        let (attention, router) = (buffer("attention", HEADS * DIM), buffer("router", EXPERTS));
        let (weights, swiglu) = (buffer("weights", CHOSEN), buffer("swiglu", CHOSEN * HIDDEN));
        let experts = self.buffer("experts", BufferKind::U32, CHOSEN);
        let (layer, rows) = (KvLayerId(0), Rows::Step);
        let norm = self.bf16(1, HIDDEN);
        let sinks = self.bf16(1, HEADS);
        let (gate_up, gate_up_bias) = self.experts(2 * HIDDEN);
        let (down, down_bias) = self.experts(HIDDEN);
        let mut linear = |input, out, n: usize, k: usize, accumulate| {
            let (weight, bias) = (self.bf16(n, k), Some(self.bf16(1, n)));
            Op::Linear { rows, input, weight, bias, out, accumulate }
        };
        let inv_freq: Arc<[f64]> = (0..DIM / 2).map(|i| 150_000f64.powf(-(i as f64) / 32.0)).collect();
        vec![
            Op::RmsNorm { rows, input, weight: norm, eps: 1e-5, out: normed },
            linear(normed, qkv, QKV, HIDDEN, false),
            Op::RopeTable { inv_freq, concentration: 1.0, out: table },
            Op::RopeKvWrite { qkv, table, layer, num_heads: HEADS },
            Op::Attention { qkv, layer, num_heads: HEADS, sinks, window: None, scale: 0.125, out: attention },
            linear(attention, input, HIDDEN, HEADS * DIM, true),
            Op::RmsNorm { rows, input, weight: norm, eps: 1e-5, out: normed },
            linear(normed, router, EXPERTS, HIDDEN, false),
            Op::TopK { logits: router, experts, weights },
            Op::MoeGateUp {
                input: normed,
                experts,
                weight: gate_up,
                bias: gate_up_bias,
                limit: 7.0,
                alpha: 1.702,
                out: swiglu,
            },
            Op::MoeDown { input: swiglu, experts, weights, weight: down, bias: down_bias, out: input },
        ]
    }
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
