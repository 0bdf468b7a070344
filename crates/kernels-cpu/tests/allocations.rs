//! Steps and copies within the KV store allocate nothing. Apart from the other tests, because it counts every allocation of the process.

// A global allocator is unsafe to write.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sostenuto_formats::SharedBytes;
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions};
use sostenuto_ops::{
    Backend, BufferId, BufferKind, BufferSpec, KvCopy, KvDtype, KvLayerId, KvLayerSpec, KvSpec, Op,
    Precision, ProgramId, Rows, StepInputs, WeightData, WeightFormat, WeightId, WeightSpec,
};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROWS: usize = 70;

const COPIES: [KvCopy; 3] = [
    KvCopy::Block { from: 5, to: 2 },
    KvCopy::SaveWindow { ring: 1, position: 1, snapshot: 0 },
    KvCopy::RestoreWindow { snapshot: 0, position: 1, ring: 0 },
];

/// A program with every op over a small model: hidden 64, 4 query heads over 2 KV heads of 16, 4 experts of 64, top 2.
fn model(precision: Precision, dtype: KvDtype, threads: usize) -> (CpuBackend, ProgramId) {
    let mut device = CpuBackend::new(CpuOptions { threads, precision, isa: None }).unwrap();
    let kv = KvSpec {
        layers: vec![KvLayerSpec::Sliding, KvLayerSpec::Full],
        dtype,
        num_kv_heads: 2,
        head_dim: 16,
        num_blocks: 6,
        num_rings: 2,
        ring_slots: ROWS + 7,
        window: 8,
        num_snapshots: 2,
    };
    device.create_kv(kv).unwrap();
    let mut buffer =
        |name, kind, width| device.create_buffer(BufferSpec { name, kind, rows: ROWS, width }).unwrap();
    let [hidden, normed, attended] =
        ["hidden", "normed", "attended"].map(|name| buffer(name, BufferKind::F32, 64));
    let (qkv, table) = (buffer("qkv", BufferKind::F32, 128), buffer("table", BufferKind::F32, 16));
    let (router, last) = (buffer("router", BufferKind::F32, 4), buffer("last", BufferKind::F32, 64));
    let (experts, weights) = (buffer("experts", BufferKind::U32, 2), buffer("weights", BufferKind::F32, 2));
    let (swiglu, logits) = (buffer("swiglu", BufferKind::F32, 128), buffer("logits", BufferKind::F32, 3000));
    let mut weight = |format, experts, out_features, in_features| {
        let spec = WeightSpec {
            name: "weight".into(),
            format,
            experts,
            out_features,
            in_features,
            may_round: format == WeightFormat::Bf16 && [64, 128].contains(&out_features),
        };
        let bytes = |len: usize| if len == 0 { vec![] } else { vec![SharedBytes::from_vec(vec![60; len])] };
        let data = WeightData { values: bytes(spec.value_bytes()), scales: bytes(spec.scale_bytes()) };
        device.load_weight(spec, data).unwrap()
    };
    let (bf16, mxfp4) = (WeightFormat::Bf16, WeightFormat::Mxfp4);
    let norm = weight(bf16, 1, 1, 64);
    let sinks = weight(bf16, 1, 1, 4);
    let embedding = weight(bf16, 1, 3000, 64);
    let dense = [(128, normed, qkv), (64, attended, hidden), (4, normed, router)]
        .map(|(n, input, out)| linear(weight(bf16, 1, n, 64), input, out, out == hidden));
    let (gate_up, gate_up_bias) = (weight(mxfp4, 4, 128, 64), weight(bf16, 4, 1, 128));
    let (down, down_bias) = (weight(mxfp4, 4, 64, 64), weight(bf16, 4, 1, 64));
    let rows = Rows::Step;
    let mut program = vec![
        Op::Embed { table: embedding, out: hidden },
        Op::RopeTable { inv_freq: Arc::from([0.5; 8]), concentration: 1.0, out: table },
    ];
    for (layer, window) in [(KvLayerId(0), Some(8)), (KvLayerId(1), None)] {
        let num_heads = 4;
        program.extend([
            Op::RmsNorm { rows, input: hidden, weight: norm, eps: 1e-5, out: normed },
            dense[0].clone(),
            Op::RopeKvWrite { qkv, table, layer, num_heads },
            Op::Attention { qkv, layer, num_heads, sinks, window, scale: 0.25, out: attended },
            dense[1].clone(),
            dense[2].clone(),
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
            Op::MoeDown { input: swiglu, experts, weights, weight: down, bias: down_bias, out: hidden },
        ]);
    }
    program.push(Op::GatherLogitRows { input: hidden, out: last });
    program.push(linear(embedding, last, logits, false));
    let program = device.compile(program).unwrap();
    (device, program)
}

fn linear(weight: WeightId, input: BufferId, out: BufferId, accumulate: bool) -> Op {
    Op::Linear { rows: Rows::Step, input, weight, bias: None, out, accumulate }
}

/// Without the test harness, whose own thread allocates at any time.
fn main() {
    a_step_and_copies_allocate_nothing();
    println!("test a_step_and_copies_allocate_nothing ... ok");
}

fn a_step_and_copies_allocate_nothing() {
    for (precision, dtype, threads) in [
        (Precision::Exact, KvDtype::F32, 1),
        (Precision::Exact, KvDtype::Bf16, 3),
        (Precision::Fast, KvDtype::Bf16, 2),
        (Precision::Fast, KvDtype::Int8, 3),
    ] {
        let (mut device, program) = model(precision, dtype, threads);
        for rows in [1, ROWS, 1] {
            let positions: Vec<u32> = (0..rows as u32).collect();
            let (zeros, logit_rows) = (vec![0; rows], [rows as u32 - 1]);
            let step = StepInputs {
                token_ids: &zeros,
                positions: &positions,
                sequences: &zeros,
                rings: &[1],
                block_tables: &[5, 0, 3, 1, 4],
                block_table_offsets: &[0, 5],
                kv_write_from: &[3],
                logit_rows: &logit_rows,
            };
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            device.submit(program, &step).unwrap();
            device.copy_kv(&COPIES).unwrap();
            let after = ALLOCATIONS.load(Ordering::Relaxed);
            assert_eq!(after - before, 0, "{rows} rows, {threads} threads, {precision:?}, {dtype:?}");
        }
    }
}
