//! The memory plan: every byte a model will hold, from its configuration alone.

use sostenuto_formats::ModelConfig;
use sostenuto_ops::{KvDtype, KvLayerSpec};

use crate::limits::ModelLimits;
use crate::program::buffer_specs;
use crate::weights;

/// One line of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRow {
    /// What the memory is for.
    pub purpose: &'static str,
    /// Size in bytes.
    pub bytes: usize,
    /// How the size comes about.
    pub detail: String,
}

/// What a model holds from load to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// One row per purpose.
    pub rows: Vec<PlanRow>,
}

impl MemoryPlan {
    /// Sum of all rows, in bytes.
    pub fn total_bytes(&self) -> usize {
        self.rows.iter().map(|row| row.bytes).sum()
    }
}

/// The plan of a model under limits.
pub fn memory_plan(config: &ModelConfig, limits: &ModelLimits) -> MemoryPlan {
    let weight_bytes = weights::all(config).map(|weight| weights::spec(weight, config).bytes()).sum();
    let kv = limits.kv_spec(config);
    let dtype = match kv.dtype {
        KvDtype::F32 => "f32",
        KvDtype::Bf16 => "bf16",
    };
    let specs = buffer_specs(config, limits);
    let (logits, activations) = specs.split_last().expect("the list of buffers is never empty");
    let row = |purpose, bytes, detail| PlanRow { purpose, bytes, detail };
    MemoryPlan {
        rows: vec![
            row("weights", weight_bytes, format!("{} layers, experts in 4 bits", config.num_hidden_layers)),
            row(
                "KV, full layers",
                kv.layer_bytes(KvLayerSpec::Full),
                format!("{} blocks of 16 tokens, {}", kv.num_blocks, dtype),
            ),
            row(
                "KV, sliding layers",
                kv.layer_bytes(KvLayerSpec::Sliding),
                format!("{} rings of {} tokens, {}", kv.num_rings, kv.ring_slots, dtype),
            ),
            row(
                "KV, window snapshots",
                kv.snapshot_bytes(),
                format!("{} snapshots of {} tokens, {}", kv.num_snapshots, kv.snapshot_slots(), dtype),
            ),
            row(
                "activations",
                activations.iter().map(|spec| spec.bytes()).sum(),
                format!("{} rows a step", limits.max_step_rows),
            ),
            row("logits", logits.bytes(), format!("{} rows a step", limits.max_logit_rows)),
        ],
    }
}
