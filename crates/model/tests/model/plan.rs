//! The memory plan against the published sizes and against what a device holds.

use sostenuto_formats::ModelConfig;
use sostenuto_model::{ModelLimits, memory_plan};
use sostenuto_ops::{KvDtype, KvLayerSpec};

use crate::support::{checkpoint, load, scalar};

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

#[test]
fn full_layers_take_the_published_bytes_per_token() {
    for (config, per_token) in [(ModelConfig::gpt_oss_20b(), 24_576), (ModelConfig::gpt_oss_120b(), 36_864)] {
        let kv = limits(131_072).kv_spec(&config);
        let full = kv.layers.iter().filter(|&&layer| layer == KvLayerSpec::Full).count();
        assert_eq!(full * kv.slot_bytes(), per_token);
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
    let plan = memory_plan(&config, &ModelLimits { window_snapshots: 5, ..limits(4096) });
    let row = plan.rows.iter().find(|row| row.purpose == "KV, window snapshots").unwrap();
    // 12 sliding layers, 127 tokens, 8 heads of 64, key and value, 2 bytes.
    assert_eq!(row.bytes, 5 * 12 * 127 * 8 * 64 * 2 * 2);
}

#[test]
fn weights_take_the_published_gigabytes() {
    for (config, gigabytes) in [(ModelConfig::gpt_oss_20b(), 13.76), (ModelConfig::gpt_oss_120b(), 65.25)] {
        let weights = memory_plan(&config, &limits(4096)).rows[0].bytes as f64 / 1e9;
        assert!((weights - gigabytes).abs() < 0.005, "{weights} GB, published {gigabytes} GB");
    }
}

#[test]
fn a_device_holds_what_the_plan_says() {
    for (name, layout) in [("base", "hf"), ("base", "original"), ("experts16", "hf")] {
        let checkpoint = checkpoint(name, layout);
        let model = load(&checkpoint, scalar());
        let memory = model.memory();
        let plan = memory_plan(checkpoint.config(), model.limits());
        assert_eq!(memory.weights as u64, checkpoint.total_bytes(), "{name} ({layout})");
        assert_eq!(memory.weights + memory.kv + memory.buffers, plan.total_bytes(), "{name} ({layout})");
    }
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
        let Err(error) = sostenuto_model::Model::load(&checkpoint, scalar(), &limits) else {
            panic!("{message}: loaded")
        };
        assert!(error.to_string().starts_with(message), "{error}");
    }
}
