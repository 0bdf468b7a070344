//! The published models.

use super::{ModelConfig, RopeScaling, alternating_layer_types};

/// Size of the o200k_harmony vocabulary as the published models pad it.
pub(super) const HARMONY_VOCAB_SIZE: usize = 201_088;

/// `<|return|>`, `<|endoftext|>`, `<|call|>`.
pub(super) const HARMONY_EOS_TOKENS: [u32; 3] = [200_002, 199_999, 200_012];

const HARMONY_BOS_TOKEN: u32 = 199_998;

/// `<|endoftext|>`.
pub(super) const HARMONY_PAD_TOKEN: u32 = 199_999;

impl ModelConfig {
    /// openai/gpt-oss-20b, as its `config.json` and `generation_config.json` say.
    pub fn gpt_oss_20b() -> ModelConfig {
        published(24, 32)
    }

    /// openai/gpt-oss-120b, as its `config.json` and `generation_config.json` say.
    pub fn gpt_oss_120b() -> ModelConfig {
        published(36, 128)
    }
}

fn published(num_hidden_layers: usize, num_local_experts: usize) -> ModelConfig {
    ModelConfig {
        vocab_size: HARMONY_VOCAB_SIZE,
        hidden_size: 2880,
        intermediate_size: 2880,
        head_dim: 64,
        num_attention_heads: 64,
        num_key_value_heads: 8,
        num_hidden_layers,
        num_local_experts,
        num_experts_per_tok: 4,
        sliding_window: 128,
        layer_types: alternating_layer_types(num_hidden_layers),
        max_position_embeddings: 131_072,
        rope_theta: 150_000.0,
        rope_scaling: RopeScaling {
            factor: 32.0,
            original_max_position_embeddings: 4096,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: false,
        },
        rms_norm_eps: 1e-5,
        swiglu_limit: 7.0,
        attention_bias: true,
        tie_word_embeddings: false,
        eos_token_id: HARMONY_EOS_TOKENS.to_vec(),
        bos_token_id: Some(HARMONY_BOS_TOKEN),
        pad_token_id: Some(HARMONY_PAD_TOKEN),
    }
}
