//! What must hold for any bytes whatever; the fuzz targets and the replay of their corpus in every test run share it.

use std::path::Path;

use sostenuto_formats::checkpoint::ShardIndex;
use sostenuto_formats::{Layout, ModelConfig, SafetensorsFile, SharedBytes, expected_tensors};

/// A safetensors file is refused, or its tensors cover its data exactly and every view has its shape's bytes.
/// Returns whether it was accepted.
pub(crate) fn check_safetensors(bytes: &[u8]) -> bool {
    let shared = SharedBytes::from_vec(bytes.to_vec());
    let Ok(file) = SafetensorsFile::from_bytes(Path::new("input.safetensors"), shared) else { return false };
    let mut covered = file.header().data_start();
    for tensor in file.tensors() {
        let tensor = tensor.expect("the bytes are in memory");
        assert_eq!(tensor.bytes.len(), tensor.num_elements() * tensor.dtype.size_bytes());
        assert_eq!(&tensor.bytes[..], &bytes[covered..covered + tensor.bytes.len()]);
        let again = file.tensor(&tensor.name).expect("found by its name").expect("the bytes are in memory");
        assert_eq!(again.shape, tensor.shape);
        covered += tensor.bytes.len();
    }
    assert_eq!(covered, bytes.len());
    true
}

/// Which readers of JSON took some bytes for theirs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) config: bool,
    pub(crate) generation: bool,
    pub(crate) index: bool,
}

/// A configuration is refused, or valid, of bounded size, and the same after it is written and read again; an index is
/// refused or names plain files only. Returns which readers accepted the bytes.
pub(crate) fn check_json(bytes: &[u8]) -> Accepted {
    let config = ModelConfig::from_json(bytes);
    if let Ok(config) = &config {
        check_config(config);
    }
    let mut preset = ModelConfig::gpt_oss_20b();
    let generation = preset.apply_generation_json(bytes);
    if generation.is_ok() {
        check_config(&preset);
    }
    let index = ShardIndex::parse(bytes);
    if let Ok(index) = &index {
        for (_, file) in index.entries() {
            assert_eq!(Path::new("folder").join(file).parent(), Some(Path::new("folder")));
        }
    }
    Accepted { config: config.is_ok(), generation: generation.is_ok(), index: index.is_ok() }
}

fn check_config(config: &ModelConfig) {
    config.validate().expect("what a parser returns is valid");
    let mut again = ModelConfig::from_json(config.to_json().as_bytes()).expect("reads what it wrote");
    again.apply_generation_json(config.to_generation_json().as_bytes()).expect("reads what it wrote");
    assert_eq!(&again, config);
    let size = |layout| {
        let tensors = expected_tensors(config, layout);
        tensors.iter().try_fold(0_usize, |sum, spec| sum.checked_add(spec.size_bytes()))
    };
    assert!(size(Layout::HuggingFace).is_some());
    assert_eq!(size(Layout::HuggingFace), size(Layout::Original));
}
