//! The memory plan against the published sizes and against what a device holds.

use sostenuto_formats::ModelConfig;
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions, Isa};
use sostenuto_model::{MemoryPlan, Model, ModelLimits, Purpose, memory_plan};
use sostenuto_ops::{Backend, KvDtype, KvLayerSpec, KvSpec, Precision};

use crate::support::{checkpoint, scalar};

fn limits(max_context: usize) -> ModelLimits {
    ModelLimits {
        max_step_rows: 256,
        max_logit_rows: 4,
        max_sequences: 4,
        max_context,
        kv_tokens: max_context,
        window_snapshots: 3,
        kv_dtype: KvDtype::Bf16,
    }
}

/// The published models and their figures.
fn published() -> [(ModelConfig, Published); 2] {
    [
        (
            ModelConfig::gpt_oss_20b(),
            Published { weights_gb: 13.76, kv_gb: [0.205, 0.809, 3.225], sequences: [146, 37, 9] },
        ),
        (
            ModelConfig::gpt_oss_120b(),
            Published { weights_gb: 65.25, kv_gb: [0.307, 1.213, 4.837], sequences: [97, 24, 6] },
        ),
    ]
}

/// Of one model, at contexts of 8k, 32k and 128k.
struct Published {
    weights_gb: f64,
    /// KV of one sequence with rings of 144 slots.
    kv_gb: [f64; 3],
    /// Sequences in 30 GB.
    sequences: [usize; 3],
}

const CONTEXTS: [usize; 3] = [8_192, 32_768, 131_072];

/// The plan on a device.
fn plan_on(backend: &dyn Backend, config: &ModelConfig, limits: &ModelLimits) -> MemoryPlan {
    memory_plan(config, limits, |registry, program| backend.planned_memory(registry, program)).unwrap()
}

#[test]
fn full_layers_take_the_published_bytes_per_token() {
    for ((config, _), per_token) in published().into_iter().zip([24_576, 36_864]) {
        let kv = |tokens| {
            let limits = ModelLimits { kv_tokens: tokens, ..limits(16) };
            plan_on(&*scalar(), &config, &limits).bytes(Purpose::KvFull)
        };
        assert_eq!(kv(32) - kv(16), 16 * per_token);
        let spec = limits(131_072).kv_spec(&config);
        assert_eq!(spec.count(KvLayerSpec::Full) * spec.slot_bytes(), per_token);
        // A byte an element and a scale of 4 bytes for each head of 64.
        let int8 = KvSpec { dtype: KvDtype::Int8, ..spec };
        assert_eq!(int8.count(KvLayerSpec::Full) * int8.slot_bytes(), per_token / 128 * 68);
    }
}

#[test]
fn rings_hold_the_window_a_whole_step_and_the_way_back_to_the_start_of_a_block() {
    let config = ModelConfig::gpt_oss_20b();
    for (max_step_rows, ring_slots) in [(1, 143), (16, 143), (17, 144), (256, 383)] {
        let limits = ModelLimits { max_step_rows, ..limits(4096) };
        assert_eq!(limits.ring_slots(&config), ring_slots, "{max_step_rows} rows");
    }
}

#[test]
fn window_snapshots_have_a_row_of_their_own() {
    let config = ModelConfig::gpt_oss_20b();
    let plan = plan_on(&*scalar(), &config, &ModelLimits { window_snapshots: 5, ..limits(4096) });
    // 12 sliding layers, 127 tokens, 8 heads of 64, key and value, 2 bytes.
    assert_eq!(plan.bytes(Purpose::KvSnapshots), 5 * 12 * 127 * 8 * 64 * 2 * 2);
}

#[test]
fn weights_take_the_published_gigabytes() {
    for (config, Published { weights_gb, .. }) in published() {
        let weights = plan_on(&*scalar(), &config, &limits(4096)).bytes(Purpose::Weights) as f64 / 1e9;
        assert!((weights - weights_gb).abs() < 0.005, "{weights} GB, published {weights_gb} GB");
    }
}

#[test]
fn kv_of_a_sequence_takes_the_published_bytes() {
    for (config, published) in published() {
        for (i, context) in CONTEXTS.into_iter().enumerate() {
            let limits = ModelLimits { max_sequences: 1, ..limits(context) };
            let kv = KvSpec { ring_slots: 144, num_snapshots: 0, ..limits.kv_spec(&config) };
            let gb = kv.bytes() as f64 / 1e9;
            assert!((gb - published.kv_gb[i]).abs() < 0.000_6, "{context}: {gb} GB");
            assert_eq!(30_000_000_000 / kv.bytes(), published.sequences[i], "{context}");
        }
    }
}

#[test]
fn a_device_holds_what_the_plan_says() {
    for (name, layout) in [("base", "hf"), ("base", "original"), ("experts16", "hf")] {
        let checkpoint = checkpoint(name, layout);
        let other = ModelLimits { max_step_rows: 33, max_sequences: 3, ..limits(240) };
        for limits in [limits(64), other, ModelLimits { kv_dtype: KvDtype::Int8, ..other }] {
            for backend in devices() {
                let plan = plan_on(&*backend, checkpoint.config(), &limits);
                let info = backend.info();
                let held = Model::load(&checkpoint, backend, &limits).unwrap().memory();
                let context = format!("{name} ({layout}), {}, {:?}", info.name, info.precision);
                if info.precision == Precision::Exact {
                    assert_eq!(held.weights as u64, checkpoint.total_bytes(), "{context}");
                }
                assert_eq!(held.weights, plan.bytes(Purpose::Weights), "{context}");
                assert_eq!(held.kv.full, plan.bytes(Purpose::KvFull), "{context}");
                assert_eq!(held.kv.sliding, plan.bytes(Purpose::KvSliding), "{context}");
                assert_eq!(held.kv.snapshots, plan.bytes(Purpose::KvSnapshots), "{context}");
                let buffers = plan.bytes(Purpose::Activations) + plan.bytes(Purpose::Logits);
                assert_eq!(held.buffers, buffers, "{context}");
                assert_eq!(held.scratch, plan.bytes(Purpose::Scratch), "{context}");
                assert!(held.scratch > 0, "{context}");
                assert_eq!(held.total(), plan.total_bytes(), "{context}");
            }
        }
    }
}

/// The reference, and the CPU backend in both modes with one thread and three.
fn devices() -> Vec<Box<dyn Backend>> {
    let mut devices = vec![scalar()];
    for precision in [Precision::Exact, Precision::Fast] {
        for threads in [1, 3] {
            let options = CpuOptions { threads, precision, isa: Some(Isa::Scalar) };
            devices.push(Box::new(CpuBackend::new(options).unwrap()));
        }
    }
    devices
}

#[test]
fn limits_under_which_nothing_could_run_are_refused() {
    let checkpoint = checkpoint("base", "hf");
    let good = limits(64);
    let bad = [
        ("max_step_rows is 0", ModelLimits { max_step_rows: 0, ..good }),
        ("max_sequences is 0", ModelLimits { max_sequences: 0, ..good }),
        ("max_context is 1000000; the model's context is", ModelLimits { max_context: 1_000_000, ..good }),
        ("kv_tokens is 48; one sequence may need 64", ModelLimits { kv_tokens: 48, ..good }),
    ];
    for (message, limits) in bad {
        let Err(error) = Model::load(&checkpoint, scalar(), &limits) else { panic!("{message}: loaded") };
        assert!(error.to_string().starts_with(message), "{error}");
        let planned = memory_plan(checkpoint.config(), &limits, |registry, _| Ok(registry.memory()));
        assert_eq!(planned.unwrap_err().to_string(), error.to_string());
    }
}
