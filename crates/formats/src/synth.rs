//! Synthetic checkpoints: random weights of a given shape, streamed to disk in Hugging Face's layout. They serve to
//! measure and to test at full size; what such a model says has no meaning.

mod random;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::codes::MX_BLOCK_VALUES;
use crate::config::{ConfigError, ModelConfig};
use crate::safetensors::encode_header;
use crate::weights::{LayerWeight, Layout, TensorSpec, WeightRef};

use random::Values;

/// Largest shard in bytes of tensor data: Hugging Face's default.
pub const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// Bytes made and written at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// Room on disk beyond the tensors' own bytes: headers, index and the file system's tables.
const SPARE_BYTES: u64 = 64 << 20;

/// Why a synthetic checkpoint is not written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields are the facts that each message names
pub enum SynthError {
    /// The configuration is not valid.
    #[error("configuration: {0}")]
    Config(#[from] ConfigError),
    /// The folder has files already.
    #[error("{}: expected an empty or new folder, found files in it", path.display())]
    FolderNotEmpty { path: PathBuf },
    /// The disk is too small.
    #[error("{}: expected {expected} bytes of free disk space, found {found}", path.display())]
    NotEnoughSpace { path: PathBuf, expected: u64, found: u64 },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
}

/// Writes a checkpoint of `config` with random weights into `folder`, which must be new or empty: shards (or one
/// `model.safetensors`), index, `generation_config.json`, and `config.json` last, so that a folder left half-written
/// is not taken for a checkpoint. There is no `tokenizer.json`.
///
/// Equal `config` and `seed` give equal bytes. Never holds more than a few MiB. `progress` is called with the bytes of
/// tensor data written so far and in total.
///
/// # Errors
/// Before anything is written: an invalid configuration, a folder that is not empty, too little free space. Then what
/// the operating system says.
pub fn write_synthetic(
    folder: &Path,
    config: &ModelConfig,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), SynthError> {
    write_synthetic_sharded(folder, config, seed, MAX_SHARD_BYTES, progress)
}

/// As [`write_synthetic`], with another bound on the bytes of tensor data of a shard. A tensor larger than the bound
/// gets a shard of its own.
///
/// # Errors
/// As [`write_synthetic`].
pub fn write_synthetic_sharded(
    folder: &Path,
    config: &ModelConfig,
    seed: u64,
    max_shard_bytes: u64,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), SynthError> {
    config.validate()?;
    let shards = plan_shards(config, max_shard_bytes);
    let total: u64 = shards.iter().flatten().map(|tensor| tensor.spec.size_bytes() as u64).sum();
    prepare_folder(folder, total)?;
    let mut done = 0;
    for (index, shard) in shards.iter().enumerate() {
        let path = folder.join(shard_name(index, shards.len()));
        write_shard(&path, shard, seed, &mut |bytes| {
            done += bytes;
            progress(done, total);
        })
        .map_err(|source| SynthError::Io { path, action: "write", source })?;
    }
    if shards.len() > 1 {
        write_text(&folder.join("model.safetensors.index.json"), &index_json(&shards, total))?;
    }
    write_text(&folder.join("generation_config.json"), &config.to_generation_json())?;
    write_text(&folder.join("config.json"), &config.to_json())
}

/// Bytes of tensor data of a checkpoint of `config`.
pub fn synthetic_size_bytes(config: &ModelConfig) -> u64 {
    tensors(config).iter().map(|tensor| tensor.spec.size_bytes() as u64).sum()
}

/// A tensor to be made up.
struct Planned {
    spec: TensorSpec,
    values: Values,
}

fn tensors(config: &ModelConfig) -> Vec<Planned> {
    let of_weight = |weight: WeightRef| {
        let values = values_of(weight, config);
        let pieces = weight.pieces(config, Layout::HuggingFace).into_iter();
        pieces.map(move |spec| Planned { spec, values })
    };
    WeightRef::all(config).flat_map(of_weight).collect()
}

/// Tensors sorted by name and cut where the next one would pass the bound, as Hugging Face's writer does; so a layer's
/// blocks and scales may lie in different shards. Within a shard, wider elements come first.
fn plan_shards(config: &ModelConfig, max_shard_bytes: u64) -> Vec<Vec<Planned>> {
    let mut all = tensors(config);
    all.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    let mut shards: Vec<Vec<Planned>> = Vec::new();
    let mut shard_bytes = u64::MAX;
    for tensor in all {
        let bytes = tensor.spec.size_bytes() as u64;
        shard_bytes = shard_bytes.saturating_add(bytes);
        match shards.last_mut() {
            Some(shard) if shard_bytes <= max_shard_bytes => shard.push(tensor),
            _ => {
                shards.push(vec![tensor]);
                shard_bytes = bytes;
            }
        }
    }
    for shard in &mut shards {
        shard.sort_by_key(|tensor| std::cmp::Reverse(tensor.spec.dtype.size_bytes()));
    }
    shards
}

/// Numbered from 00000 to the last one's number, as the published checkpoints are.
fn shard_name(index: usize, count: usize) -> String {
    match count {
        1 => "model.safetensors".to_owned(),
        _ => format!("model-{index:05}-of-{:05}.safetensors", count - 1),
    }
}

/// How each weight is spread, so that activations keep their size through any number of layers, routers choose
/// clearly, and the SwiGLU clamp is reached now and then.
fn values_of(weight: WeightRef, config: &ModelConfig) -> Values {
    use LayerWeight::*;
    let per_root = |width: usize| 1.0 / (width as f64).sqrt();
    let hidden = config.hidden_size;
    let normal = |mean, deviation| Values::Normal { mean, deviation };
    let layer_weight = match weight {
        WeightRef::Embedding => return normal(0.0, 1.0),
        WeightRef::Unembedding => return normal(0.0, 2.0 * per_root(hidden)),
        WeightRef::FinalNorm => return normal(1.0, 0.2),
        WeightRef::Layer(_, weight) => weight,
    };
    match layer_weight {
        AttnNorm | MlpNorm => normal(1.0, 0.2),
        QkvWeight | RouterWeight => normal(0.0, per_root(hidden)),
        OutWeight => normal(0.0, per_root(config.query_size())),
        QkvBias | RouterBias | GateUpBias => normal(0.0, 0.5),
        OutBias => normal(0.0, 0.1),
        DownBias => normal(0.0, 0.3),
        Sinks => normal(1.0, 1.5),
        GateUpBlocks | DownBlocks => Values::Codes,
        GateUpScales => scales(6.0, hidden),
        DownScales => scales(0.3, config.intermediate_size),
    }
}

/// Scales under which a row of `width` random E2M1 codes times inputs of deviation 1 has about the deviation `output`.
fn scales(output: f64, width: usize) -> Values {
    debug_assert!(width >= MX_BLOCK_VALUES);
    /// Root mean square of the sixteen E2M1 values.
    const E2M1_DEVIATION: f64 = 2.93;
    let exponent = (output / E2M1_DEVIATION / (width as f64).sqrt()).log2().round();
    Values::Scales { middle: (exponent + 127.0) as u8 }
}

fn prepare_folder(folder: &Path, total: u64) -> Result<(), SynthError> {
    let io = |action| move |source| SynthError::Io { path: folder.to_owned(), action, source };
    std::fs::create_dir_all(folder).map_err(io("create"))?;
    if std::fs::read_dir(folder).map_err(io("list"))?.next().is_some() {
        return Err(SynthError::FolderNotEmpty { path: folder.to_owned() });
    }
    let found = fs4::available_space(folder).map_err(io("get the free space of"))?;
    check_space(folder, total, found)
}

fn check_space(folder: &Path, total: u64, found: u64) -> Result<(), SynthError> {
    let expected = total.saturating_add(SPARE_BYTES);
    if found < expected {
        return Err(SynthError::NotEnoughSpace { path: folder.to_owned(), expected, found });
    }
    Ok(())
}

fn write_shard(path: &Path, shard: &[Planned], seed: u64, written: &mut dyn FnMut(u64)) -> io::Result<()> {
    let specs: Vec<TensorSpec> = shard.iter().map(|tensor| tensor.spec.clone()).collect();
    let mut file = File::create_new(path)?;
    file.write_all(&encode_header(&specs))?;
    let mut chunk = vec![0; CHUNK_BYTES];
    for Planned { spec, values } in shard {
        let mut stream = values.stream(seed, &spec.name);
        let mut left = spec.size_bytes();
        while left > 0 {
            let part = &mut chunk[..left.min(CHUNK_BYTES)];
            stream.fill(part);
            file.write_all(part)?;
            left -= part.len();
            written(part.len() as u64);
        }
    }
    Ok(())
}

fn index_json(shards: &[Vec<Planned>], total: u64) -> String {
    let mut weight_map = serde_json::Map::new();
    for (index, shard) in shards.iter().enumerate() {
        for tensor in shard {
            weight_map.insert(tensor.spec.name.clone(), shard_name(index, shards.len()).into());
        }
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    let mut text = serde_json::to_string_pretty(&index).expect("a JSON value always serialises");
    text.push('\n');
    text
}

fn write_text(path: &Path, text: &str) -> Result<(), SynthError> {
    std::fs::write(path, text).map_err(|source| SynthError::Io {
        path: path.to_owned(),
        action: "write",
        source,
    })
}
