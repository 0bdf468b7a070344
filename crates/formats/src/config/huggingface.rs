//! Hugging Face's `config.json` and `generation_config.json`, read and written.

use serde_json::{Value, json};

use super::fields::Fields;
use super::{ConfigError, LayerType, ModelConfig, RopeScaling, alternating_layer_types};
use crate::json::describe;

/// The clamp that transformers applies where `config.json` names none.
const DEFAULT_SWIGLU_LIMIT: f64 = 7.0;

/// The epsilon that transformers applies where `config.json` names none.
const DEFAULT_RMS_NORM_EPS: f64 = 1e-5;

/// Ends of the YaRN ramp where `config.json` names none.
const DEFAULT_BETA_FAST: f64 = 32.0;
const DEFAULT_BETA_SLOW: f64 = 1.0;

const LAYER_TYPES: &str = "a list of \"sliding_attention\" and \"full_attention\"";
const ROPE_SCALING: &str = "an object with rope_type \"yarn\"";

pub(super) fn parse(fields: &Fields) -> Result<ModelConfig, ConfigError> {
    fields.must_be("model_type", "gpt_oss")?;
    fields.only("hidden_act", "silu")?;
    check_quantization(fields)?;
    let num_hidden_layers = fields.size("num_hidden_layers")?;
    let num_local_experts = fields.size("num_local_experts")?;
    fields.agrees("num_experts", "num_local_experts", num_local_experts)?;
    let num_experts_per_tok = match fields.size_opt("num_experts_per_tok")? {
        Some(value) => value,
        None => fields.size("experts_per_token")?,
    };
    fields.agrees("experts_per_token", "num_experts_per_tok", num_experts_per_tok)?;
    let (rope_theta, rope_scaling) = rope(fields)?;
    Ok(ModelConfig {
        vocab_size: fields.size("vocab_size")?,
        hidden_size: fields.size("hidden_size")?,
        intermediate_size: fields.size("intermediate_size")?,
        head_dim: fields.size("head_dim")?,
        num_attention_heads: fields.size("num_attention_heads")?,
        num_key_value_heads: fields.size("num_key_value_heads")?,
        num_hidden_layers,
        num_local_experts,
        num_experts_per_tok,
        sliding_window: fields.size("sliding_window")?,
        layer_types: layer_types(fields, num_hidden_layers)?,
        max_position_embeddings: fields.size("max_position_embeddings")?,
        rope_theta,
        rope_scaling,
        rms_norm_eps: fields.number_opt("rms_norm_eps")?.unwrap_or(DEFAULT_RMS_NORM_EPS),
        swiglu_limit: fields.number_opt("swiglu_limit")?.unwrap_or(DEFAULT_SWIGLU_LIMIT),
        attention_bias: fields.bool_opt("attention_bias")?.unwrap_or(true),
        tie_word_embeddings: fields.bool_opt("tie_word_embeddings")?.unwrap_or(false),
        eos_token_id: fields.token_ids_opt("eos_token_id")?.unwrap_or_default(),
        bos_token_id: fields.token_id_opt("bos_token_id")?,
        pad_token_id: fields.token_id_opt("pad_token_id")?,
    })
}

pub(super) fn apply_generation(config: &mut ModelConfig, fields: &Fields) -> Result<(), ConfigError> {
    if let Some(ids) = fields.token_ids_opt("eos_token_id")? {
        let kept = config.eos_token_id.iter().filter(|id| !ids.contains(id)).copied();
        config.eos_token_id = ids.iter().copied().chain(kept).collect();
    }
    config.bos_token_id = fields.token_id_opt("bos_token_id")?.or(config.bos_token_id);
    config.pad_token_id = fields.token_id_opt("pad_token_id")?.or(config.pad_token_id);
    Ok(())
}

pub(super) fn to_json(config: &ModelConfig) -> Value {
    let rope = &config.rope_scaling;
    json!({
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": config.attention_bias,
        "attention_dropout": 0.0,
        "eos_token_id": config.eos_token_id.first(),
        "experts_per_token": config.num_experts_per_tok,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initial_context_length": rope.original_max_position_embeddings,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "layer_types": config.layer_types.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
        "max_position_embeddings": config.max_position_embeddings,
        "model_type": "gpt_oss",
        "num_attention_heads": config.num_attention_heads,
        "num_experts_per_tok": config.num_experts_per_tok,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "num_local_experts": config.num_local_experts,
        "output_router_logits": false,
        "pad_token_id": config.pad_token_id,
        "quantization_config": {
            "modules_to_not_convert":
                ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
            "quant_method": "mxfp4",
        },
        "rms_norm_eps": config.rms_norm_eps,
        "rope_scaling": {
            "beta_fast": rope.beta_fast,
            "beta_slow": rope.beta_slow,
            "factor": rope.factor,
            "original_max_position_embeddings": rope.original_max_position_embeddings,
            "rope_type": "yarn",
            "truncate": rope.truncate,
        },
        "rope_theta": config.rope_theta,
        "router_aux_loss_coef": 0.9,
        "sliding_window": config.sliding_window,
        "swiglu_limit": config.swiglu_limit,
        "tie_word_embeddings": config.tie_word_embeddings,
        "use_cache": true,
        "vocab_size": config.vocab_size,
    })
}

pub(super) fn to_generation_json(config: &ModelConfig) -> Value {
    json!({
        "bos_token_id": config.bos_token_id,
        "do_sample": true,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
    })
}

fn check_quantization(fields: &Fields) -> Result<(), ConfigError> {
    let expected = "an object with quant_method \"mxfp4\"";
    let quantization = fields.object("quantization_config", "quantization_config.", expected)?;
    quantization
        .ok_or_else(|| fields.missing("quantization_config", expected))?
        .must_be("quant_method", "mxfp4")
}

fn layer_types(fields: &Fields, num_hidden_layers: usize) -> Result<Vec<LayerType>, ConfigError> {
    let parse = |value: &Value| match value.as_str() {
        Some("sliding_attention") => Ok(LayerType::SlidingAttention),
        Some("full_attention") => Ok(LayerType::FullAttention),
        _ => Err(ConfigError::unsupported("layer_types", LAYER_TYPES, describe(value))),
    };
    match fields.get("layer_types") {
        None => Ok(alternating_layer_types(num_hidden_layers)),
        Some(Value::Array(values)) => values.iter().map(parse).collect(),
        Some(other) => Err(fields.wrong_type("layer_types", LAYER_TYPES, other)),
    }
}

/// `rope_theta` and `rope_scaling`, or `rope_parameters`, which holds both in files that newer transformers write.
fn rope(fields: &Fields) -> Result<(f64, RopeScaling), ConfigError> {
    if let Some(parameters) = fields.object("rope_parameters", "rope_parameters.", ROPE_SCALING)? {
        let theta = match parameters.number_opt("rope_theta")? {
            Some(theta) => theta,
            None => fields.number("rope_theta")?,
        };
        return Ok((theta, rope_scaling(fields, &parameters)?));
    }
    let scaling = fields.object("rope_scaling", "rope_scaling.", ROPE_SCALING)?;
    let scaling = scaling.ok_or_else(|| fields.missing("rope_scaling", ROPE_SCALING))?;
    Ok((fields.number("rope_theta")?, rope_scaling(fields, &scaling)?))
}

fn rope_scaling(fields: &Fields, scaling: &Fields) -> Result<RopeScaling, ConfigError> {
    if scaling.has("type") {
        scaling.only("type", "yarn")?;
        scaling.only("rope_type", "yarn")?;
    } else {
        scaling.must_be("rope_type", "yarn")?;
    }
    for key in ["attention_factor", "mscale", "mscale_all_dim"] {
        if let Some(value) = scaling.get(key) {
            return Err(ConfigError::unsupported(scaling.name(key), "nothing", describe(value)));
        }
    }
    let original = match scaling.size_opt("original_max_position_embeddings")? {
        Some(original) => original,
        None => fields.size("initial_context_length")?,
    };
    fields.agrees("initial_context_length", "rope_scaling.original_max_position_embeddings", original)?;
    Ok(RopeScaling {
        factor: scaling.number("factor")?,
        original_max_position_embeddings: original,
        beta_fast: scaling.number_opt("beta_fast")?.unwrap_or(DEFAULT_BETA_FAST),
        beta_slow: scaling.number_opt("beta_slow")?.unwrap_or(DEFAULT_BETA_SLOW),
        truncate: scaling.bool_opt("truncate")?.unwrap_or(true),
    })
}
