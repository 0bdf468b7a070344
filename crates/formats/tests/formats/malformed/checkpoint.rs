//! Sound containers that do not make a checkpoint.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};
use sostenuto_formats::{Checkpoint, Loading};

use super::{Case, NORM, check, weights};
use crate::support::*;

const EMBEDDING: &str = "model.embed_tokens.weight";
const SCALES: &str = "model.layers.1.mlp.experts.down_proj_scales";
const INDEX: &str = "model.safetensors.index.json";

fn index(folder: &Path, edit: fn(&mut Map<String, Value>)) {
    edit_json(&folder.join(INDEX), |index| edit(index["weight_map"].as_object_mut().unwrap()));
}

const TENSORS: &[Case] = &[
    (
        "missing",
        |f| edit_tensors(&weights(f), |file| file.tensors.retain(|tensor| tensor.name != NORM)),
        &["missing tensor", NORM, "expected BF16 [64]", "found no such name in 1 file"],
    ),
    (
        "extra",
        |f| {
            edit_tensors(&weights(f), |file| {
                let mut extra = file.get(NORM).clone();
                extra.name = "model.layers.2.input_layernorm.weight".into();
                file.tensors.push(extra);
            });
        },
        &["extra tensor", "model.layers.2.input_layernorm.weight", "only the 41 tensors", "found BF16 [64]"],
    ),
    (
        "renamed",
        |f| edit_tensors(&weights(f), |file| file.get_mut(NORM).name = "model.norm.scale".into()),
        &["missing tensor", NORM],
    ),
    (
        "transposed",
        |f| edit_tensors(&weights(f), |file| file.get_mut(EMBEDDING).shape = vec![64, 48]),
        &[EMBEDDING, "expected shape [48, 64]", "found [64, 48]"],
    ),
    (
        "flattened",
        |f| edit_tensors(&weights(f), |file| file.get_mut(EMBEDDING).shape = vec![48 * 64]),
        &[EMBEDDING, "expected shape [48, 64]", "found [3072]"],
    ),
    (
        "a row less",
        |f| {
            edit_tensors(&weights(f), |file| {
                let embedding = file.get_mut(EMBEDDING);
                embedding.shape[0] = 47;
                embedding.data.truncate(47 * 64 * 2);
            });
        },
        &[EMBEDDING, "expected shape [48, 64]", "found [47, 64]"],
    ),
    (
        "f16 for bf16",
        |f| edit_tensors(&weights(f), |file| file.get_mut(NORM).dtype = "F16".into()),
        &[NORM, "expected element type BF16", "found F16"],
    ),
    (
        "signed blocks",
        |f| edit_tensors(&weights(f), |file| file.get_mut(SCALES).dtype = "I8".into()),
        &[SCALES, "expected element type U8", "found I8"],
    ),
    (
        "a NaN scale",
        |f| edit_tensors(&weights(f), |file| file.get_mut(SCALES).data[17] = 255),
        &[SCALES, "expected E8M0 scales 0 to 254", "found 255 (NaN) at element 17"],
    ),
    (
        "a layer more in the configuration",
        |f| {
            edit_json(&f.join("config.json"), |config| {
                config["num_hidden_layers"] = json!(3);
                config.remove("layer_types");
            });
        },
        &["missing tensor", "model.layers.2.", "found no such name"],
    ),
    (
        "a layer less in the configuration",
        |f| {
            edit_json(&f.join("config.json"), |config| {
                config["num_hidden_layers"] = json!(1);
                config.remove("layer_types");
            });
        },
        &["extra tensor", "model.layers.1."],
    ),
    (
        "other head counts in the configuration",
        |f| edit_json(&f.join("config.json"), |config| config["num_key_value_heads"] = json!(4)),
        &["k_proj.weight", "expected shape [40, 64]", "found [20, 64]"],
    ),
];

#[test]
fn a_tensor_missing_extra_or_of_the_wrong_kind_is_refused_with_its_name() {
    check(single_file_checkpoint, TENSORS);
}

const INDEXES: &[Case] = &[
    ("no JSON", |f| fs::write(f.join(INDEX), "weights").unwrap(), &[INDEX, "expected a JSON object"]),
    ("a list", |f| fs::write(f.join(INDEX), "[]").unwrap(), &[INDEX, "found: an array of 0"]),
    ("no map", |f| fs::write(f.join(INDEX), "{}").unwrap(), &[INDEX, "weight_map", "found nothing"]),
    (
        "an empty map",
        |f| fs::write(f.join(INDEX), r#"{"weight_map": {}}"#).unwrap(),
        &["weight_map", "an object of 0"],
    ),
    (
        "a tensor twice",
        |f| {
            let text = fs::read_to_string(f.join(INDEX)).unwrap();
            let entry = "\"weight_map\": {\n\"lm_head.weight\": \"a.safetensors\",";
            fs::write(f.join(INDEX), text.replace("\"weight_map\": {", entry)).unwrap();
        },
        &[INDEX, "\"lm_head.weight\"", "twice"],
    ),
    ("a number for a file", |f| index(f, |map| map[NORM] = json!(3)), &[NORM, "plain name", "found 3"]),
    (
        "a path upwards",
        |f| index(f, |map| map[NORM] = json!("../model.safetensors")),
        &[NORM, "plain name", "\"../model.safetensors\""],
    ),
    (
        "an absolute path",
        |f| index(f, |map| map[NORM] = json!("/etc/passwd.safetensors")),
        &[NORM, "plain name", "/etc/passwd"],
    ),
    (
        "a path with backslashes",
        |f| index(f, |map| map[NORM] = json!("..\\model.safetensors")),
        &[NORM, "plain name"],
    ),
    (
        "no weight file",
        |f| index(f, |map| map[NORM] = json!("config.json")),
        &[NORM, "plain name", "config.json"],
    ),
    (
        "a shard that is not there",
        |f| index(f, |map| map[NORM] = json!("model-00009-of-00002.safetensors")),
        &["missing shard", "model-00009-of-00002.safetensors", "expected 1 tensors", NORM],
    ),
    (
        "a shard removed",
        |f| fs::remove_file(&shards(f)[1]).unwrap(),
        &["missing shard", "model-00001-of-", "found no such file"],
    ),
    (
        "a shard that is a folder",
        |f| {
            let shard = &shards(f)[1];
            fs::remove_file(shard).unwrap();
            fs::create_dir(shard).unwrap();
        },
        &["model-00001-of-", "expected a file"],
    ),
    (
        "a shard truncated",
        |f| {
            let shard = &shards(f)[1];
            let bytes = fs::read(shard).unwrap();
            fs::write(shard, &bytes[..bytes.len() - 10]).unwrap();
        },
        &["model-00001-of-", "truncated file"],
    ),
    (
        "a tensor in another shard than the index says",
        |f| index(f, |map| map["lm_head.weight"] = map[NORM].clone()),
        &["\"lm_head.weight\"", "as the index says", "found it in", "model-00000-of-"],
    ),
    (
        "a tensor in the index only",
        |f| index(f, |map| drop(map.insert("ghost".into(), map[NORM].clone()))),
        &["\"ghost\"", "as the index says", "found it nowhere"],
    ),
    (
        "a tensor in a shard only",
        |f| index(f, |map| drop(map.remove("model.layers.0.self_attn.sinks"))),
        &["model.layers.0.self_attn.sinks", "expected an entry in the index"],
    ),
    (
        "a tensor in two shards",
        |f| {
            let extra = RawFile::read(&shards(f)[0]).tensors.remove(0);
            edit_tensors(&shards(f)[1], |file| file.tensors.push(extra));
        },
        &["expected in one file", "model-00000-of-", "model-00001-of-"],
    ),
];

#[test]
fn an_index_that_does_not_fit_its_shards_is_refused() {
    check(sharded_checkpoint, INDEXES);
}

const FOLDERS: &[Case] = &[
    ("no weights", |f| fs::remove_file(weights(f)).unwrap(), &["expected model.safetensors", "found none"]),
    (
        "no weights, an empty folder original",
        |f| {
            fs::remove_file(weights(f)).unwrap();
            fs::create_dir(f.join("original")).unwrap();
        },
        &["expected model.safetensors", "found none"],
    ),
    (
        "no configuration",
        |f| fs::remove_file(f.join("config.json")).unwrap(),
        &["config.json", "found no such file"],
    ),
    (
        "a configuration of 2 MB",
        |f| fs::write(f.join("config.json"), " ".repeat(2_000_000)).unwrap(),
        &["config.json", "expected at most 1048576 bytes", "found 2000000"],
    ),
    (
        "another architecture",
        |f| edit_json(&f.join("config.json"), |config| config["model_type"] = json!("llama")),
        &["config.json", "model_type", "expected gpt_oss", "found \"llama\""],
    ),
    (
        "stop tokens beyond the vocabulary",
        |f| fs::write(f.join("generation_config.json"), r#"{"eos_token_id": [48]}"#).unwrap(),
        &["generation_config.json", "eos_token_id", "expected 0 to 47", "found 48"],
    ),
    (
        "OpenAI's configuration beside Hugging Face's tensors, experts counted otherwise",
        |f| edit_json(&f.join("config.json"), |config| config["num_local_experts"] = json!(4)),
        &["expected shape [4, ", "found [3, "],
    ),
];

#[test]
fn a_folder_that_is_no_checkpoint_is_refused() {
    check(single_file_checkpoint, FOLDERS);
    let file = single_file_checkpoint();
    let refused = |path: &Path| Checkpoint::open(path, Loading::Auto).unwrap_err().to_string();
    assert!(refused(&weights(file.path())).contains("expected a checkpoint folder, found a file"));
    assert!(refused(&file.path().join("nowhere")).contains("cannot open"));
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_the_weights_is_refused_and_not_waited_for() {
    let folder = single_file_checkpoint();
    fs::remove_file(weights(folder.path())).unwrap();
    let made = std::process::Command::new("mkfifo").arg(weights(folder.path())).status().unwrap();
    assert!(made.success());
    let error = Checkpoint::open(folder.path(), Loading::Auto).unwrap_err().to_string();
    assert!(error.contains("expected a file"), "{error}");
}
