//! OpenAI's `original/config.json`.
//!
//! # Source
//! `ModelConfig` and `RotaryEmbedding` in openai/gpt-oss, `gpt_oss/torch/model.py`: the YaRN ramp's ends are not rounded,
//! `rope_ntk_alpha` is the slow end and `rope_ntk_beta` the fast one, and RMSNorm's epsilon is a constant.

use super::fields::Fields;
use super::presets::{HARMONY_EOS_TOKENS, HARMONY_PAD_TOKEN, HARMONY_VOCAB_SIZE};
use super::{ConfigError, ModelConfig, RopeScaling, alternating_layer_types};

const RMS_NORM_EPS: f64 = 1e-5;
const DEFAULT_SWIGLU_LIMIT: f64 = 7.0;

pub(super) fn parse(fields: &Fields) -> Result<ModelConfig, ConfigError> {
    let num_hidden_layers = fields.size("num_hidden_layers")?;
    let initial_context_length = fields.size("initial_context_length")?;
    let vocab_size = fields.size("vocab_size")?;
    let factor = fields.number("rope_scaling_factor")?;
    let is_harmony = vocab_size == HARMONY_VOCAB_SIZE;
    Ok(ModelConfig {
        vocab_size,
        hidden_size: fields.size("hidden_size")?,
        intermediate_size: fields.size("intermediate_size")?,
        head_dim: fields.size("head_dim")?,
        num_attention_heads: fields.size("num_attention_heads")?,
        num_key_value_heads: fields.size("num_key_value_heads")?,
        num_hidden_layers,
        num_local_experts: fields.size("num_experts")?,
        num_experts_per_tok: fields.size("experts_per_token")?,
        sliding_window: fields.size("sliding_window")?,
        layer_types: alternating_layer_types(num_hidden_layers),
        // Saturates for absurd values, which validation then refuses.
        max_position_embeddings: (initial_context_length as f64 * factor) as usize,
        rope_theta: fields.number("rope_theta")?,
        rope_scaling: RopeScaling {
            factor,
            original_max_position_embeddings: initial_context_length,
            beta_fast: fields.number("rope_ntk_beta")?,
            beta_slow: fields.number("rope_ntk_alpha")?,
            truncate: false,
        },
        rms_norm_eps: RMS_NORM_EPS,
        swiglu_limit: fields.number_opt("swiglu_limit")?.unwrap_or(DEFAULT_SWIGLU_LIMIT),
        attention_bias: true,
        tie_word_embeddings: false,
        eos_token_id: if is_harmony { HARMONY_EOS_TOKENS.to_vec() } else { Vec::new() },
        bos_token_id: None,
        pad_token_id: is_harmony.then_some(HARMONY_PAD_TOKEN),
    })
}
