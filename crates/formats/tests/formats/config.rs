use serde_json::{Value, json};
use sostenuto_formats::{LayerType, ModelConfig};

use crate::support::micro_config;

/// The micro configuration as written, changed.
fn parse(change: fn(&mut Value)) -> ModelConfig {
    let mut value: Value = serde_json::from_str(&micro_config().to_json()).unwrap();
    change(&mut value);
    ModelConfig::from_json(value.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn presets_are_the_published_configurations() {
    for (preset, layers, experts) in
        [(ModelConfig::gpt_oss_20b(), 24, 32), (ModelConfig::gpt_oss_120b(), 36, 128)]
    {
        preset.validate().unwrap();
        let written: Value = serde_json::from_str(&preset.to_json()).unwrap();
        let layer_types: Vec<&str> =
            ["sliding_attention", "full_attention"].into_iter().cycle().take(layers).collect();
        let published = json!({
            "architectures": ["GptOssForCausalLM"], "attention_bias": true, "attention_dropout": 0.0,
            "eos_token_id": 200_002, "experts_per_token": 4, "head_dim": 64, "hidden_act": "silu",
            "hidden_size": 2880, "initial_context_length": 4096, "initializer_range": 0.02,
            "intermediate_size": 2880, "layer_types": layer_types, "max_position_embeddings": 131_072,
            "model_type": "gpt_oss", "num_attention_heads": 64, "num_experts_per_tok": 4,
            "num_hidden_layers": layers, "num_key_value_heads": 8, "num_local_experts": experts,
            "output_router_logits": false, "pad_token_id": 199_999,
            "quantization_config": {
                "modules_to_not_convert":
                    ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"],
                "quant_method": "mxfp4",
            },
            "rms_norm_eps": 1e-5,
            "rope_scaling": {
                "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
                "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": false,
            },
            "rope_theta": 150_000.0, "router_aux_loss_coef": 0.9, "sliding_window": 128,
            "swiglu_limit": 7.0, "tie_word_embeddings": false, "use_cache": true, "vocab_size": 201_088,
        });
        assert_eq!(written, published);
        assert_eq!(preset.eos_token_id, [200_002, 199_999, 200_012]);
    }
}

#[test]
fn a_configuration_survives_writing_and_reading() {
    for config in [micro_config(), ModelConfig::gpt_oss_20b(), ModelConfig::gpt_oss_120b()] {
        let mut again = ModelConfig::from_json(config.to_json().as_bytes()).unwrap();
        again.apply_generation_json(config.to_generation_json().as_bytes()).unwrap();
        assert_eq!(again, config);
    }
}

#[test]
fn constants_are_parsed_to_the_nearest_double() {
    // serde_json's default parser gives another last bit here.
    let text =
        micro_config().to_json().replace("\"rope_theta\": 150000.0", "\"rope_theta\": 122.416294033786585");
    let config = ModelConfig::from_json(text.as_bytes()).unwrap();
    assert_eq!(config.rope_theta.to_bits(), "122.416294033786585".parse::<f64>().unwrap().to_bits());
}

#[test]
fn absent_fields_take_the_defaults_of_transformers() {
    let config = parse(|config| {
        for field in
            ["layer_types", "swiglu_limit", "rms_norm_eps", "experts_per_token", "initial_context_length"]
        {
            config.as_object_mut().unwrap().remove(field).expect(field);
        }
        config["rope_scaling"].as_object_mut().unwrap().remove("truncate").unwrap();
    });
    assert_eq!(config.layer_types, [LayerType::SlidingAttention, LayerType::FullAttention]);
    assert_eq!((config.swiglu_limit, config.rms_norm_eps), (7.0, 1e-5));
    assert!(config.rope_scaling.truncate, "transformers rounds the ramp unless told otherwise");
    let mut expected = micro_config();
    expected.eos_token_id = vec![5];
    expected.rope_scaling.truncate = true;
    assert_eq!(config, expected);
}

#[test]
fn rope_parameters_of_newer_files_are_read() {
    let config = parse(|config| {
        let fields = config.as_object_mut().unwrap();
        let mut parameters = fields.remove("rope_scaling").unwrap();
        parameters["rope_theta"] = fields.remove("rope_theta").unwrap();
        fields.insert("rope_parameters".into(), parameters);
    });
    assert_eq!(config, ModelConfig { eos_token_id: vec![5], ..micro_config() });
}

#[test]
fn the_older_key_type_names_the_scaling_too() {
    let config = parse(|config| {
        let scaling = config["rope_scaling"].as_object_mut().unwrap();
        let kind = scaling.remove("rope_type").unwrap();
        scaling.insert("type".into(), kind);
    });
    assert_eq!(config.rope_scaling, micro_config().rope_scaling);
}

#[test]
fn a_single_stop_token_a_list_and_none_are_read() {
    assert_eq!(parse(|config| config["eos_token_id"] = json!([3, 4])).eos_token_id, [3, 4]);
    assert_eq!(parse(|config| config["eos_token_id"] = json!(3)).eos_token_id, [3]);
    assert!(parse(|config| config["eos_token_id"] = Value::Null).eos_token_id.is_empty());
}

#[test]
fn the_original_configuration_of_the_published_vocabulary_has_its_stop_tokens() {
    let text = json!({
        "num_hidden_layers": 24, "num_experts": 32, "experts_per_token": 4, "vocab_size": 201_088,
        "hidden_size": 2880, "intermediate_size": 2880, "swiglu_limit": 7.0, "head_dim": 64,
        "num_attention_heads": 64, "num_key_value_heads": 8, "sliding_window": 128,
        "initial_context_length": 4096, "rope_theta": 150_000, "rope_scaling_factor": 32.0,
        "rope_ntk_alpha": 1, "rope_ntk_beta": 32,
    });
    let config = ModelConfig::from_json(text.to_string().as_bytes()).unwrap();
    assert_eq!(config, ModelConfig { bos_token_id: None, ..ModelConfig::gpt_oss_20b() });
}
