//! Configurations and indexes that are wrong in one way each.

use serde_json::{Map, Value, json};
use sostenuto_formats::ModelConfig;

use crate::support::micro_config;

/// What breaks the configuration, how, and how the error must begin.
type Case = (&'static str, fn(&mut Map<String, Value>), &'static str);

const FIELDS: &[Case] = &[
    (
        "another model",
        |c| c["model_type"] = json!("qwen3"),
        "model_type: not supported: expected gpt_oss, found \"qwen3\"",
    ),
    ("no model type", |c| drop(c.remove("model_type")), "model_type: expected gpt_oss, found nothing"),
    (
        "activation",
        |c| c["hidden_act"] = json!("gelu"),
        "hidden_act: not supported: expected silu, found \"gelu\"",
    ),
    (
        "missing size",
        |c| drop(c.remove("hidden_size")),
        "hidden_size: expected a whole number, found nothing",
    ),
    ("null size", |c| c["head_dim"] = Value::Null, "head_dim: expected a whole number, found nothing"),
    ("text for a size", |c| c["head_dim"] = json!("64"), "head_dim: expected a whole number, found \"64\""),
    ("negative size", |c| c["vocab_size"] = json!(-1), "vocab_size: expected a whole number, found -1"),
    ("fractional size", |c| c["vocab_size"] = json!(1.5), "vocab_size: expected a whole number, found 1.5"),
    ("zero layers", |c| c["num_hidden_layers"] = json!(0), "num_hidden_layers: expected 1 to 1024, found 0"),
    (
        "absurd layers",
        |c| c["num_hidden_layers"] = json!(1_u64 << 40),
        "num_hidden_layers: expected 1 to 1024, found 1099511627776",
    ),
    (
        "absurd vocabulary",
        |c| c["vocab_size"] = json!(u64::MAX),
        "vocab_size: expected 1 to 4194304, found 18446744073709551615",
    ),
    (
        "zero heads",
        |c| c["num_key_value_heads"] = json!(0),
        "num_key_value_heads: expected 1 to 1024, found 0",
    ),
    (
        "width no multiple of an MX block",
        |c| c["hidden_size"] = json!(80),
        "hidden_size: expected a multiple of 32, found 80",
    ),
    (
        "inner width no multiple of an MX block",
        |c| c["intermediate_size"] = json!(33),
        "intermediate_size: expected a multiple of 32, found 33",
    ),
    ("odd head", |c| c["head_dim"] = json!(9), "head_dim: expected a multiple of 2, found 9"),
    (
        "uneven groups",
        |c| c["num_key_value_heads"] = json!(3),
        "num_attention_heads: expected a multiple of 3, found 4",
    ),
    (
        "more chosen than there are",
        |c| {
            c["num_experts_per_tok"] = json!(4);
            c.remove("experts_per_token");
        },
        "num_experts_per_tok: expected 1 to 3, found 4",
    ),
    (
        "experts_per_token differs",
        |c| c["experts_per_token"] = json!(1),
        "experts_per_token: expected the same value as num_experts_per_tok (2), found 1",
    ),
    (
        "num_experts differs",
        |c| drop(c.insert("num_experts".into(), json!(8))),
        "num_experts: expected the same value as num_local_experts (3), found 8",
    ),
    (
        "initial_context_length differs",
        |c| c["initial_context_length"] = json!(17),
        "initial_context_length: expected the same value as rope_scaling.original_max_position_embeddings (16), found 17",
    ),
    (
        "layer types too few",
        |c| c["layer_types"] = json!(["full_attention"]),
        "layer_types: expected 2 (num_hidden_layers), found 1",
    ),
    (
        "unknown layer type",
        |c| c["layer_types"][1] = json!("linear_attention"),
        "layer_types: not supported: expected a list of \"sliding_attention\" and \"full_attention\", found \"linear_attention\"",
    ),
    (
        "layer types no list",
        |c| c["layer_types"] = json!("full_attention"),
        "layer_types: expected a list of \"sliding_attention\" and \"full_attention\", found \"full_attention\"",
    ),
    (
        "no window",
        |c| c["sliding_window"] = Value::Null,
        "sliding_window: expected a whole number, found nothing",
    ),
    (
        "no scaling",
        |c| c["rope_scaling"] = Value::Null,
        "rope_scaling: expected an object with rope_type \"yarn\", found nothing",
    ),
    (
        "other scaling",
        |c| c["rope_scaling"]["rope_type"] = json!("llama3"),
        "rope_scaling.rope_type: not supported: expected yarn, found \"llama3\"",
    ),
    (
        "scaling without type",
        |c| drop(c["rope_scaling"].as_object_mut().unwrap().remove("rope_type")),
        "rope_scaling.rope_type: expected yarn, found nothing",
    ),
    (
        "own attention factor",
        |c| c["rope_scaling"]["attention_factor"] = json!(1.1),
        "rope_scaling.attention_factor: not supported: expected nothing, found 1.1",
    ),
    (
        "scaling below one",
        |c| c["rope_scaling"]["factor"] = json!(0.5),
        "rope_scaling.factor: expected 1e0 to 1e6, found 0.5",
    ),
    ("ramp reversed", |c| c["rope_scaling"]["beta_slow"] = json!(64), "rope_scaling.beta_slow: expected"),
    (
        "truncate no boolean",
        |c| c["rope_scaling"]["truncate"] = json!(0),
        "rope_scaling.truncate: expected true or false, found 0",
    ),
    ("theta of zero", |c| c["rope_theta"] = json!(0), "rope_theta: expected"),
    ("theta of text", |c| c["rope_theta"] = json!("1e5"), "rope_theta: expected a number, found \"1e5\""),
    ("epsilon of zero", |c| c["rms_norm_eps"] = json!(0.0), "rms_norm_eps: expected 1e-12 to 1e0, found 0"),
    ("negative clamp", |c| c["swiglu_limit"] = json!(-7.0), "swiglu_limit: expected"),
    (
        "tied embeddings",
        |c| c["tie_word_embeddings"] = json!(true),
        "tie_word_embeddings: not supported: expected false, found true",
    ),
    (
        "no biases",
        |c| c["attention_bias"] = json!(false),
        "attention_bias: not supported: expected true, found false",
    ),
    (
        "no quantization",
        |c| drop(c.remove("quantization_config")),
        "quantization_config: expected an object with quant_method \"mxfp4\", found nothing",
    ),
    (
        "other quantization",
        |c| c["quantization_config"]["quant_method"] = json!("gptq"),
        "quantization_config.quant_method: not supported: expected mxfp4, found \"gptq\"",
    ),
    (
        "stop token beyond the vocabulary",
        |c| c["eos_token_id"] = json!([1, 48]),
        "eos_token_id: expected 0 to 47, found 48",
    ),
    (
        "stop token of text",
        |c| c["eos_token_id"] = json!(["</s>"]),
        "eos_token_id: expected a token id or a list of token ids, found \"</s>\"",
    ),
    (
        "65 stop tokens",
        |c| c["eos_token_id"] = json!(vec![1; 65]),
        "eos_token_id (how many): expected 0 to 64, found 65",
    ),
];

#[test]
fn a_wrong_field_is_refused_with_expected_and_found() {
    let good = micro_config().to_json();
    for (name, break_it, expected) in FIELDS {
        let mut value: Value = serde_json::from_str(&good).unwrap();
        break_it(value.as_object_mut().unwrap());
        match ModelConfig::from_json(value.to_string().as_bytes()) {
            Ok(_) => panic!("{name}: accepted"),
            Err(error) => {
                assert!(error.to_string().starts_with(expected), "{name}: expected {expected:?} in: {error}")
            }
        }
    }
}

#[test]
fn text_that_is_no_configuration_is_refused() {
    let good = micro_config().to_json();
    let twice = good.replacen('{', r#"{"vocab_size": 48,"#, 1);
    let deep = "[".repeat(100_000);
    let long = " ".repeat((1 << 20) + 1);
    for (text, expected) in [
        ("", "expected a JSON object, found: EOF"),
        ("null", "expected a JSON object, found: null"),
        ("[1]", "expected a JSON object, found: an array of 1"),
        ("{\"model_type\": \"gpt_oss\"", "expected a JSON object, found: EOF"),
        (twice.as_str(), "expected a JSON object, found: the key \"vocab_size\" is given twice"),
        (deep.as_str(), "expected a JSON object, found: recursion limit exceeded"),
        (long.as_str(), "file too long: expected at most 1048576 bytes, found 1048577"),
    ] {
        let error = ModelConfig::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with(expected), "expected {expected:?} in: {error}");
    }
}

const ORIGINAL_FIELDS: &[Case] = &[
    (
        "missing",
        |c| drop(c.remove("experts_per_token")),
        "experts_per_token: expected a whole number, found nothing",
    ),
    (
        "wrong type",
        |c| c["rope_ntk_beta"] = json!([32]),
        "rope_ntk_beta: expected a number, found an array of 1",
    ),
    (
        "absurd context",
        |c| c["initial_context_length"] = json!(1 << 20),
        "max_position_embeddings: expected 1 to 16777216, found 33554432",
    ),
    ("out of range", |c| c["num_experts"] = json!(5000), "num_local_experts: expected 1 to 4096, found 5000"),
];

#[test]
fn a_wrong_original_configuration_is_refused() {
    let good = json!({
        "num_hidden_layers": 2, "num_experts": 3, "experts_per_token": 2, "vocab_size": 48, "hidden_size": 64,
        "intermediate_size": 32, "swiglu_limit": 7.0, "head_dim": 10, "num_attention_heads": 4,
        "num_key_value_heads": 2, "sliding_window": 8, "initial_context_length": 16, "rope_theta": 150_000,
        "rope_scaling_factor": 32.0, "rope_ntk_alpha": 1, "rope_ntk_beta": 32,
    });
    ModelConfig::from_json(good.to_string().as_bytes()).unwrap();
    for (name, break_it, expected) in ORIGINAL_FIELDS {
        let mut value = good.clone();
        break_it(value.as_object_mut().unwrap());
        let result = ModelConfig::from_json(value.to_string().as_bytes());
        let error = result.expect_err(name).to_string();
        assert!(error.starts_with(expected), "{name}: expected {expected:?} in: {error}");
    }
}
