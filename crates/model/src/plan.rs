//! The memory plan: every byte a model will hold, from its configuration alone.

use std::fmt;

use sostenuto_formats::ModelConfig;
use sostenuto_ops::{ContractError, DeviceMemory, KvLayerSpec, Program, Registry};

use crate::error::ModelError;
use crate::limits::ModelLimits;
use crate::program::{Buffers, buffer_specs, forward};
use crate::weights::{self, Weights};

/// What memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Every weight, as the device holds it.
    Weights,
    /// Block pool of the full-attention layers.
    KvFull,
    /// Rings of the sliding-window layers.
    KvSliding,
    /// Kept windows of the sliding-window layers.
    KvSnapshots,
    /// Activation buffers of a step, without the logits.
    Activations,
    /// Logits of the rows that want them.
    Logits,
    /// What kernels need beside buffers.
    Scratch,
    /// The process around the model: program, tokenizer, queues, connections. Not the device's.
    Runtime,
}

impl Purpose {
    /// A stable name for programs.
    pub fn key(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::KvFull => "kv_full",
            Self::KvSliding => "kv_sliding",
            Self::KvSnapshots => "kv_snapshots",
            Self::Activations => "activations",
            Self::Logits => "logits",
            Self::Scratch => "scratch",
            Self::Runtime => "runtime",
        }
    }
}

/// Words for people.
impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Weights => "weights",
            Self::KvFull => "KV, full layers",
            Self::KvSliding => "KV, sliding layers",
            Self::KvSnapshots => "KV, window snapshots",
            Self::Activations => "activations",
            Self::Logits => "logits",
            Self::Scratch => "kernels' scratch",
            Self::Runtime => "runtime",
        })
    }
}

/// One line of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanRow {
    /// What the memory is for.
    pub purpose: Purpose,
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

    /// Bytes for a purpose.
    pub fn bytes(&self, purpose: Purpose) -> usize {
        self.rows.iter().filter(|row| row.purpose == purpose).map(|row| row.bytes).sum()
    }
}

/// The plan of a model under limits, from its configuration alone: nothing is loaded or allocated. `plan_device` says
/// what the device holds of the specs and the program, [`sostenuto_ops::Backend::planned_memory`] or, where there is no
/// such device, an estimate.
///
/// # Errors
/// [`ModelError::Limit`] for limits under which no request could run; [`ModelError::Contract`] where the
/// configuration makes no valid program.
pub fn memory_plan(
    config: &ModelConfig,
    limits: &ModelLimits,
    plan_device: impl FnOnce(&Registry, &Program) -> Result<DeviceMemory, ContractError>,
) -> Result<MemoryPlan, ModelError> {
    limits.check(config)?;
    let (registry, program) = blueprint(config, limits)?;
    let memory = plan_device(&registry, &program)?;
    Ok(MemoryPlan { rows: rows(config, limits, &memory) })
}

/// Everything that [`crate::Model::load`] puts on a device, by its specs.
fn blueprint(config: &ModelConfig, limits: &ModelLimits) -> Result<(Registry, Program), ContractError> {
    let mut registry = Registry::new();
    let weights =
        Weights::bind(config, |reference| registry.declare_weight(weights::spec(reference, config)))?;
    let buffers = Buffers::create(config, limits, |spec| registry.add_buffer(spec))?;
    registry.set_kv(limits.kv_spec(config))?;
    Ok((registry, forward(config, &weights, &buffers)))
}

fn rows(config: &ModelConfig, limits: &ModelLimits, memory: &DeviceMemory) -> Vec<PlanRow> {
    let kv = limits.kv_spec(config);
    let dtype = kv.dtype.name();
    let specs = buffer_specs(config, limits);
    let (logits, _) = specs.split_last().expect("the list of buffers is never empty");
    let token_bytes = kv.count(KvLayerSpec::Full) * kv.slot_bytes();
    let row = |purpose, bytes, detail| PlanRow { purpose, bytes, detail };
    vec![
        row(
            Purpose::Weights,
            memory.weights,
            format!("{} layers, experts in 4 bits", config.num_hidden_layers),
        ),
        row(
            Purpose::KvFull,
            memory.kv.full,
            format!("{} blocks of 16 tokens, {dtype}, {token_bytes} B per token", kv.num_blocks),
        ),
        row(
            Purpose::KvSliding,
            memory.kv.sliding,
            format!("{} rings of {} tokens, {dtype}", kv.num_rings, kv.ring_slots),
        ),
        row(
            Purpose::KvSnapshots,
            memory.kv.snapshots,
            format!("{} snapshots of {} tokens, {dtype}", kv.num_snapshots, kv.snapshot_slots()),
        ),
        row(
            Purpose::Activations,
            memory.buffers - logits.bytes(),
            format!("{} rows a step", limits.max_step_rows),
        ),
        row(Purpose::Logits, logits.bytes(), format!("{} rows a step", limits.max_logit_rows)),
        row(Purpose::Scratch, memory.scratch, "packed activations, routing, attention".to_owned()),
    ]
}
