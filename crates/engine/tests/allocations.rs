//! Decode steps allocate nothing. Apart from the other tests, because it counts every allocation of the process.

// A global allocator is unsafe to write.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sostenuto_engine::{EngineCore, EngineOptions, GenerateRequest, RequestId, SamplingParams};
use sostenuto_formats::{Checkpoint, Loading};
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions};
use sostenuto_model::{Model, ModelLimits};
use sostenuto_ops::{KvDtype, Precision};

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

fn core(precision: Precision) -> EngineCore<Model> {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/golden/logits/checkpoints/experts16");
    let checkpoint = Checkpoint::open(&folder, Loading::Read).unwrap();
    let backend = CpuBackend::new(CpuOptions { threads: 2, precision, isa: None }).unwrap();
    let limits = ModelLimits {
        max_step_rows: 64,
        max_logit_rows: 4,
        max_sequences: 4,
        max_context: 512,
        kv_tokens: 2_048,
        window_snapshots: 8,
        kv_dtype: KvDtype::Bf16,
    };
    let model = Model::load(&checkpoint, Box::new(backend), &limits).unwrap();
    EngineCore::new(model, &EngineOptions::default()).unwrap()
}

/// Greedy, sampled with filters, and penalised.
fn samplings() -> [SamplingParams; 3] {
    let filtered = SamplingParams { top_p: 0.9, top_k: 20, min_p: 0.01, ..SamplingParams::default() };
    let penalised = SamplingParams {
        repetition_penalty: 1.1,
        frequency_penalty: 0.3,
        logit_bias: vec![(3, 1.0)],
        ..SamplingParams::default()
    };
    [SamplingParams::greedy(), filtered, penalised]
}

/// Without the test harness, whose own thread allocates at any time.
fn main() {
    decode_steps_allocate_nothing();
    println!("test decode_steps_allocate_nothing ... ok");
}

fn decode_steps_allocate_nothing() {
    for precision in [Precision::Exact, Precision::Fast] {
        let mut core = core(precision);
        for (id, sampling) in (0..).zip(samplings()) {
            let prompt = (0..40 + id as u32).map(|i| (i * 17 + 3) % 128).collect();
            let request = GenerateRequest { sampling, ..GenerateRequest::greedy(prompt, 300) };
            let request = core.rules().check(request).unwrap();
            core.submit(RequestId(id), request, Duration::ZERO).unwrap();
        }
        let mut events = Vec::with_capacity(64);
        while core.scheduler().totals().decode_tokens < 30 {
            core.step(Duration::ZERO, &mut events).unwrap();
        }
        let (mut steps, mut sampled) = (0, 0);
        // Long enough to take blocks, publish them and fill the counts of penalties' vocabulary.
        while core.scheduler().num_running() == 3 && steps < 200 {
            events.clear();
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            sampled += core.step(Duration::ZERO, &mut events).unwrap().sampled;
            let made = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert_eq!(made, 0, "allocations of decode step {steps}, {precision:?}");
            steps += 1;
        }
        assert_eq!((steps, sampled), (200, 600));
    }
}
