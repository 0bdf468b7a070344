//! The fuzz targets' committed inputs, replayed. A name says what must come of it: `good_…` is accepted, `bad_…` refused;
//! of the JSON files `config_…`, `generation_…` and `index_…` are accepted by that reader. Other names are
//! inputs that a fuzzer found: nothing more is asked of them than what the checks ask of any bytes.

use std::fs;
use std::path::Path;

use crate::checks::{Accepted, check_json, check_safetensors};

/// Every input of a fuzz target, with its name.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        inputs.push((entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()));
    }
    assert!(inputs.len() >= 15, "{} inputs in {}", inputs.len(), folder.display());
    inputs
}

#[test]
fn every_committed_weight_file_is_read_right_or_refused() {
    for (name, bytes) in corpus("safetensors") {
        let accepted = check_safetensors(&bytes);
        match name.split('_').next() {
            Some("good") => assert!(accepted, "{name}"),
            Some("bad") => assert!(!accepted, "{name}"),
            _ => {}
        }
    }
}

#[test]
fn every_committed_configuration_and_index_is_read_right_or_refused() {
    for (name, bytes) in corpus("json") {
        let Accepted { config, generation, index } = check_json(&bytes);
        match name.split('_').next() {
            Some("config") => assert!(config && !index, "{name}"),
            Some("generation") => assert!(generation && !config && !index, "{name}"),
            Some("index") => assert!(index && !config, "{name}"),
            Some("bad") => assert!(!config && !index, "{name}"),
            _ => {}
        }
    }
}
