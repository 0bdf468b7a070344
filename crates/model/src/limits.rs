//! How much a model may hold at once.

use sostenuto_formats::{LayerType, ModelConfig};
use sostenuto_ops::{KV_BLOCK_SLOTS, KvDtype, KvLayerSpec, KvSpec};

use crate::error::ModelError;

/// Sizes fixed at load: everything is allocated from them, and nothing grows later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelLimits {
    /// Most rows (tokens) of one step.
    pub max_step_rows: usize,
    /// Most rows of one step whose logits are wanted.
    pub max_logit_rows: usize,
    /// Most sequences that run at once: one ring of each sliding layer each.
    pub max_sequences: usize,
    /// Most tokens of one sequence, prompt and completion.
    pub max_context: usize,
    /// Tokens that the full-attention layers' block pool holds over all sequences; rounded up to whole blocks.
    pub kv_tokens: usize,
    /// Window snapshots: what the sliding layers see before a position, kept for sequences that go on from there.
    pub window_snapshots: usize,
    /// Element type of the KV store.
    pub kv_dtype: KvDtype,
}

/// Rows for which a ring has room at least, however few a step has: so the window before each of the newest 16
/// positions can still be saved, the start of a block among them.
const MIN_RING_ROWS: usize = KV_BLOCK_SLOTS;

impl ModelLimits {
    /// Blocks of the pool.
    pub fn num_blocks(&self) -> usize {
        self.kv_tokens.div_ceil(KV_BLOCK_SLOTS)
    }

    /// Slots of one ring: a row must still find the `sliding_window - 1` positions before it after all the rows
    /// of its step were written, and a window snapshot those before any of the newest 16 positions.
    pub fn ring_slots(&self, config: &ModelConfig) -> usize {
        config.sliding_window + self.max_step_rows.max(MIN_RING_ROWS) - 1
    }

    /// The KV store of a model under these limits.
    pub fn kv_spec(&self, config: &ModelConfig) -> KvSpec {
        let layer = |kind: &LayerType| match kind {
            LayerType::FullAttention => KvLayerSpec::Full,
            LayerType::SlidingAttention => KvLayerSpec::Sliding,
        };
        KvSpec {
            layers: config.layer_types.iter().map(layer).collect(),
            dtype: self.kv_dtype,
            num_kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            num_blocks: self.num_blocks(),
            num_rings: self.max_sequences,
            ring_slots: self.ring_slots(config),
            window: config.sliding_window,
            num_snapshots: self.window_snapshots,
        }
    }
}

impl ModelLimits {
    /// Refuses limits under which no request could run.
    pub(crate) fn check(&self, config: &ModelConfig) -> Result<(), ModelError> {
        let at_least_one = [
            ("max_step_rows", self.max_step_rows),
            ("max_logit_rows", self.max_logit_rows),
            ("max_sequences", self.max_sequences),
            ("max_context", self.max_context),
        ];
        if let Some(&(field, value)) = at_least_one.iter().find(|(_, value)| *value == 0) {
            return Err(ModelError::Limit { field, value, rule: "it must be at least 1".into() });
        }
        if self.max_context > config.max_position_embeddings {
            let rule = format!("the model's context is {} tokens", config.max_position_embeddings);
            return Err(ModelError::Limit { field: "max_context", value: self.max_context, rule });
        }
        if self.num_blocks() * KV_BLOCK_SLOTS < self.max_context {
            let rule = format!("one sequence may need {} tokens of KV", self.max_context);
            return Err(ModelError::Limit { field: "kv_tokens", value: self.kv_tokens, rule });
        }
        Ok(())
    }
}
