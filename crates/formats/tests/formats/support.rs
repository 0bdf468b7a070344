//! Small checkpoints and the tools to break them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde_json::{Map, Value};
use sostenuto_formats::synth::write_synthetic_sharded;
use sostenuto_formats::{LayerType, LayerWeight, ModelConfig, RopeScaling, WeightRef, write_synthetic};
use tempfile::TempDir;

/// The smallest configuration in which no two sizes that could be confused are equal.
pub(crate) fn micro_config() -> ModelConfig {
    ModelConfig {
        vocab_size: 48,
        hidden_size: 64,
        intermediate_size: 32,
        head_dim: 10,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        num_hidden_layers: 2,
        num_local_experts: 3,
        num_experts_per_tok: 2,
        sliding_window: 8,
        layer_types: vec![LayerType::SlidingAttention, LayerType::FullAttention],
        max_position_embeddings: 512,
        rope_theta: 150_000.0,
        rope_scaling: RopeScaling {
            factor: 32.0,
            original_max_position_embeddings: 16,
            beta_fast: 32.0,
            beta_slow: 1.0,
            truncate: false,
        },
        rms_norm_eps: 1e-5,
        swiglu_limit: 7.0,
        attention_bias: true,
        tie_word_embeddings: false,
        eos_token_id: vec![5, 7],
        bos_token_id: None,
        pad_token_id: Some(7),
    }
}

/// A fresh copy of the micro checkpoint: one `model.safetensors`, no index.
pub(crate) fn single_file_checkpoint() -> TempDir {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    copy(TEMPLATE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        write_synthetic(folder.path(), &micro_config(), 1, &mut |_, _| {}).unwrap();
        folder
    }))
}

/// A fresh copy of the micro checkpoint in several shards with an index; the same tensors as
/// [`single_file_checkpoint`].
pub(crate) fn sharded_checkpoint() -> TempDir {
    static TEMPLATE: OnceLock<TempDir> = OnceLock::new();
    copy(TEMPLATE.get_or_init(|| {
        let folder = TempDir::new().unwrap();
        write_synthetic_sharded(folder.path(), &micro_config(), 1, 24_000, &mut |_, _| {}).unwrap();
        folder
    }))
}

/// The same tensors as [`single_file_checkpoint`] in OpenAI's layout, in a folder `original`.
pub(crate) fn original_checkpoint() -> TempDir {
    let source = single_file_checkpoint();
    let tensors = RawFile::read(&source.path().join("model.safetensors"));
    let folder = TempDir::new().unwrap();
    let original = folder.path().join("original");
    fs::create_dir(&original).unwrap();
    to_original(&tensors).write(&original.join("model.safetensors"));
    let config = micro_config();
    let json = serde_json::json!({
        "num_hidden_layers": config.num_hidden_layers, "num_experts": config.num_local_experts,
        "experts_per_token": config.num_experts_per_tok, "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size, "intermediate_size": config.intermediate_size,
        "swiglu_limit": 7.0, "head_dim": config.head_dim, "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads, "sliding_window": config.sliding_window,
        "initial_context_length": 16, "rope_theta": 150_000, "rope_scaling_factor": 32.0,
        "rope_ntk_alpha": 1, "rope_ntk_beta": 32,
    });
    fs::write(original.join("config.json"), json.to_string()).unwrap();
    folder
}

fn to_original(source: &RawFile) -> RawFile {
    use sostenuto_formats::Layout;
    let config = micro_config();
    let mut result = RawFile { tensors: Vec::new() };
    for weight in WeightRef::all(&config) {
        let pieces = weight.pieces(&config, Layout::HuggingFace);
        let data = pieces.iter().flat_map(|piece| source.get(&piece.name).data.clone()).collect();
        let [whole] = weight.pieces(&config, Layout::Original).try_into().unwrap();
        let shape = whole.shape.iter().map(|dim| *dim as u64).collect();
        let dtype = whole.dtype.name().to_owned();
        result.tensors.push(RawTensor { name: whole.name, dtype, shape, data });
    }
    assert_eq!(source.tensors.len(), result.tensors.len() + 2 * 2 * config.num_hidden_layers);
    result
}

fn copy(template: &TempDir) -> TempDir {
    let folder = TempDir::new().unwrap();
    for entry in fs::read_dir(template.path()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    folder
}

/// A safetensors file taken apart without the reader under test.
pub(crate) struct RawFile {
    pub(crate) tensors: Vec<RawTensor>,
}

#[derive(Clone)]
pub(crate) struct RawTensor {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<u64>,
    pub(crate) data: Vec<u8>,
}

impl RawFile {
    pub(crate) fn read(path: &Path) -> RawFile {
        let (header, data) = split(&fs::read(path).unwrap());
        let mut tensors = Vec::new();
        for (name, entry) in header.as_object().unwrap() {
            if name == "__metadata__" {
                continue;
            }
            let offset = |index: usize| entry["data_offsets"][index].as_u64().unwrap() as usize;
            tensors.push(RawTensor {
                name: name.clone(),
                dtype: entry["dtype"].as_str().unwrap().to_owned(),
                shape: entry["shape"].as_array().unwrap().iter().map(|dim| dim.as_u64().unwrap()).collect(),
                data: data[offset(0)..offset(1)].to_vec(),
            });
        }
        RawFile { tensors }
    }

    pub(crate) fn write(&self, path: &Path) {
        let (mut header, mut data) = (Map::new(), Vec::new());
        for RawTensor { name, dtype, shape, data: bytes } in &self.tensors {
            let offsets = [data.len(), data.len() + bytes.len()];
            header.insert(
                name.clone(),
                serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }),
            );
            data.extend_from_slice(bytes);
        }
        fs::write(path, join(Value::Object(header).to_string().as_bytes(), &data)).unwrap();
    }

    pub(crate) fn get(&self, name: &str) -> &RawTensor {
        self.tensors.iter().find(|tensor| tensor.name == name).unwrap()
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> &mut RawTensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }
}

/// Header and data of a safetensors file.
pub(crate) fn split(file: &[u8]) -> (Value, Vec<u8>) {
    let header_len = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&file[8..8 + header_len]).unwrap();
    (header, file[8 + header_len..].to_vec())
}

/// A safetensors file with this header and these data, whatever they say.
pub(crate) fn join(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Changes the JSON header of the file at `path` and leaves its data alone.
pub(crate) fn edit_header(path: &Path, edit: impl FnOnce(&mut Map<String, Value>)) {
    let (mut header, data) = split(&fs::read(path).unwrap());
    edit(header.as_object_mut().unwrap());
    fs::write(path, join(header.to_string().as_bytes(), &data)).unwrap();
}

/// Changes tensors of the file at `path`; offsets follow.
pub(crate) fn edit_tensors(path: &Path, edit: impl FnOnce(&mut RawFile)) {
    let mut file = RawFile::read(path);
    edit(&mut file);
    file.write(path);
}

/// Changes the JSON object in the file at `path`.
pub(crate) fn edit_json(path: &Path, edit: impl FnOnce(&mut Map<String, Value>)) {
    let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    edit(value.as_object_mut().unwrap());
    fs::write(path, value.to_string()).unwrap();
}

/// The shards of a checkpoint, sorted by name.
pub(crate) fn shards(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    paths.sort();
    paths
}

/// A layer weight's reference, short.
pub(crate) fn layer(index: usize, weight: LayerWeight) -> WeightRef {
    WeightRef::Layer(index, weight)
}
