//! Runs one kernel once at a fixed shape, for a tool that counts the instructions of [`measured`].
//!
//! `cargo xtask instructions` runs it under callgrind. Without arguments it prints the names of the cases, one a line;
//! with a name it runs that case.

use sostenuto_formats::SharedBytes;
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions};
use sostenuto_ops::{
    Backend, BufferId, BufferKind, BufferSpec, KvDtype, KvLayerId, KvLayerSpec, KvSpec, Op, Precision,
    ProgramId, Rows, StepInputs, WeightData, WeightFormat, WeightId, WeightSpec,
};

/// Name, what builds its op, and rows.
type Case = (&'static str, fn(&mut Builder) -> Op, usize);

/// Each case: name, the op it builds, rows of the step.
const CASES: [Case; 12] = [
    ("i8_linear_1", linear, 1),
    ("i8_linear_12", linear, 12),
    ("bf16_linear_1", router, 1),
    ("bf16_linear_12", router, 12),
    ("moe_gate_up_1", gate_up, 1),
    ("moe_gate_up_12", gate_up, 12),
    ("moe_down_1", down, 1),
    ("moe_down_12", down, 12),
    ("attention_1", attention, 1),
    ("attention_8", attention, 8),
    ("rms_norm_1", rms_norm, 1),
    ("rms_norm_12", rms_norm, 12),
];

const HIDDEN: usize = 576;
const OUT: usize = 640;
const EXPERTS: usize = 4;
/// Every row goes to the same experts, so that these have as many rows as the step.
const CHOSEN: usize = 2;
const HEADS: usize = 16;
const KV_HEADS: usize = 2;
const DIM: usize = 64;
const CONTEXT: usize = 512;
const MOST_ROWS: usize = 12;

fn main() {
    let Some(name) = std::env::args().nth(1) else {
        CASES.iter().for_each(|(name, ..)| println!("{name}"));
        return;
    };
    let (_, op, rows) = CASES.into_iter().find(|(case, ..)| *case == name).expect("the name of a case");
    let options = CpuOptions { threads: 1, precision: Precision::Fast, isa: None };
    let backend = CpuBackend::new(options).expect("the instruction set is there");
    let mut builder = Builder { backend, rng: 1 };
    let op = op(&mut builder);
    let program = builder.backend.compile(vec![op]).expect("a valid program");
    let positions: Vec<u32> = (CONTEXT - rows..CONTEXT).map(|position| position as u32).collect();
    let blocks: Vec<u32> = (0..(CONTEXT / 16) as u32).collect();
    let zeros = vec![0; rows];
    let step = StepInputs {
        token_ids: &zeros,
        positions: &positions,
        sequences: &zeros,
        rings: &[0],
        block_tables: &blocks,
        block_table_offsets: &[0, blocks.len() as u32],
        kv_write_from: &[0],
        logit_rows: &[],
    };
    measured(&mut builder.backend, program, &step);
}

/// What is counted.
#[inline(never)]
fn measured(backend: &mut CpuBackend, program: ProgramId, step: &StepInputs<'_>) {
    backend.submit(program, step).expect("a valid step");
}

fn linear(builder: &mut Builder) -> Op {
    let weight = WeightSpec { may_round: true, ..WeightSpec::matrix("dense", OUT, HIDDEN) };
    builder.linear(weight, OUT)
}

fn router(builder: &mut Builder) -> Op {
    builder.linear(WeightSpec::matrix("router", OUT, HIDDEN), OUT)
}

fn gate_up(builder: &mut Builder) -> Op {
    Op::MoeGateUp {
        input: builder.f32("input", HIDDEN),
        experts: builder.chosen(),
        weight: builder.experts(2 * OUT, HIDDEN),
        bias: builder.weight(WeightSpec { experts: EXPERTS, ..WeightSpec::vector("bias", 2 * OUT) }),
        limit: 7.0,
        alpha: 1.702,
        out: builder.f32("out", CHOSEN * OUT),
    }
}

fn down(builder: &mut Builder) -> Op {
    Op::MoeDown {
        input: builder.f32("input", CHOSEN * HIDDEN),
        experts: builder.chosen(),
        weights: builder.f32("weights", CHOSEN),
        weight: builder.experts(OUT, HIDDEN),
        bias: builder.weight(WeightSpec { experts: EXPERTS, ..WeightSpec::vector("bias", OUT) }),
        out: builder.f32("out", OUT),
    }
}

fn attention(builder: &mut Builder) -> Op {
    let kv = KvSpec {
        layers: vec![KvLayerSpec::Full],
        dtype: KvDtype::Bf16,
        num_kv_heads: KV_HEADS,
        head_dim: DIM,
        num_blocks: CONTEXT / 16,
        num_rings: 0,
        ring_slots: 0,
        window: 0,
        num_snapshots: 0,
    };
    builder.backend.create_kv(kv).expect("a KV store");
    Op::Attention {
        qkv: builder.f32("qkv", (HEADS + 2 * KV_HEADS) * DIM),
        layer: KvLayerId(0),
        num_heads: HEADS,
        sinks: builder.weight(WeightSpec::vector("sinks", HEADS)),
        window: None,
        scale: 0.125,
        out: builder.f32("out", HEADS * DIM),
    }
}

fn rms_norm(builder: &mut Builder) -> Op {
    Op::RmsNorm {
        rows: Rows::Step,
        input: builder.f32("input", HIDDEN),
        weight: builder.weight(WeightSpec::vector("norm", HIDDEN)),
        eps: 1e-5,
        out: builder.f32("out", HIDDEN),
    }
}

struct Builder {
    backend: CpuBackend,
    rng: u64,
}

impl Builder {
    /// A buffer of random values from −1 to 1.
    fn f32(&mut self, name: &'static str, width: usize) -> BufferId {
        let spec = BufferSpec { name, kind: BufferKind::F32, rows: MOST_ROWS, width };
        let id = self.backend.create_buffer(spec).expect("a buffer");
        let value = |_| (next(&mut self.rng) >> 40) as f32 / 8_388_608.0 - 1.0;
        let values: Vec<f32> = (0..MOST_ROWS * width).map(value).collect();
        self.backend.write(id, 0, &values).expect("whole rows");
        id
    }

    /// The same experts for every row.
    fn chosen(&mut self) -> BufferId {
        let spec = BufferSpec { name: "experts", kind: BufferKind::U32, rows: MOST_ROWS, width: CHOSEN };
        let id = self.backend.create_buffer(spec).expect("a buffer");
        self.backend.write_u32(id, 0, &[1, 3].repeat(MOST_ROWS)).expect("whole rows");
        id
    }

    fn linear(&mut self, weight: WeightSpec, out: usize) -> Op {
        Op::Linear {
            rows: Rows::Step,
            input: self.f32("input", HIDDEN),
            weight: self.weight(weight),
            bias: Some(self.weight(WeightSpec::vector("bias", out))),
            out: self.f32("out", out),
            accumulate: false,
        }
    }

    fn experts(&mut self, out_features: usize, in_features: usize) -> WeightId {
        let (name, format) = ("experts".into(), WeightFormat::Mxfp4);
        self.weight(WeightSpec {
            name,
            format,
            experts: EXPERTS,
            out_features,
            in_features,
            may_round: false,
        })
    }

    /// Random weights: bf16 from 2^-7 to 2^-5, or any E2M1 with scales from 2^-11 to 2^-8.
    fn weight(&mut self, spec: WeightSpec) -> WeightId {
        let (mask, exponents) = match spec.format {
            WeightFormat::Bf16 => (0x80ff_80ff_80ff_80ff, 0x3c00_3c00_3c00_3c00),
            WeightFormat::Mxfp4 => (u64::MAX, 0),
        };
        let values = self.random(spec.value_bytes(), |word| word & mask | exponents);
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
}

fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
