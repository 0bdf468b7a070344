//! What is in a checkpoint or in a single file, for people: `sostenuto inspect`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::bytes::{LoadedAs, Loading};
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::codes::MX_BLOCK_VALUES;
use crate::config::ModelConfig;
use crate::safetensors::SafetensorsFile;
use crate::tensor::Dtype;
use crate::weights::{LayerWeight, Layout, WeightRef};

/// What is in a checkpoint folder or a safetensors file.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Folder of the weights, or the single file.
    pub path: PathBuf,
    /// How the files came into memory.
    pub loaded_as: LoadedAs,
    /// The files, in the order of their names.
    pub files: Vec<FileSummary>,
    /// Tensors that differ in numbers within their names only (layers), taken together; sorted by name.
    pub groups: Vec<TensorGroup>,
    /// Number of tensors and bytes of each element type.
    pub dtypes: BTreeMap<Dtype, (usize, u64)>,
    /// What only a whole checkpoint has.
    pub model: Option<ModelSummary>,
}

/// One weight file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// Where it is.
    pub path: PathBuf,
    /// Length of the whole file, header included.
    pub size_bytes: u64,
    /// How many tensors it has.
    pub tensors: usize,
    /// Its free-form metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Tensors of the same name but for numbers, the same type and the same shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorGroup {
    /// The name, each number between dots replaced by `*`.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape of each.
    pub shape: Vec<usize>,
    /// How many.
    pub count: usize,
    /// Bytes of all together.
    pub size_bytes: u64,
}

/// The model that a whole checkpoint is.
#[derive(Clone, Debug)]
pub struct ModelSummary {
    /// Whose names the tensors have.
    pub layout: Layout,
    /// Shape and constants.
    pub config: ModelConfig,
    /// How many numbers.
    pub parameters: Parameters,
}

/// How many numbers a model has. MXFP4 counts as 32 per MX block; scales are no parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// All of them.
    pub total: u64,
    /// Those that one token's forward pass multiplies with, as OpenAI's model card counts: all but the embedding and the experts that
    /// are not chosen.
    pub active: u64,
}

impl Parameters {
    /// Counts the parameters of a model of this configuration.
    pub fn of(config: &ModelConfig) -> Parameters {
        let (mut total, mut active) = (0, 0);
        for weight in WeightRef::all(config) {
            let (_, shape) = weight.dtype_and_shape(config);
            let elements: u64 = shape.iter().map(|dim| *dim as u64).product();
            use LayerWeight::*;
            let (count, is_expert) = match weight {
                WeightRef::Layer(_, GateUpScales | DownScales) => continue,
                WeightRef::Layer(_, GateUpBlocks | DownBlocks) => {
                    (elements / crate::codes::MX_BLOCK_BYTES as u64 * MX_BLOCK_VALUES as u64, true)
                }
                WeightRef::Layer(_, GateUpBias | DownBias) => (elements, true),
                _ => (elements, false),
            };
            total += count;
            active += match weight {
                WeightRef::Embedding => 0,
                _ if is_expert => count / config.num_local_experts as u64 * config.num_experts_per_tok as u64,
                _ => count,
            };
        }
        Parameters { total, active }
    }
}

impl Summary {
    /// Opens and summarises a checkpoint folder, or a single safetensors file of any kind.
    ///
    /// # Errors
    /// As [`Checkpoint::open`] and [`SafetensorsFile::open`].
    pub fn open(path: &Path, loading: Loading) -> Result<Summary, CheckpointError> {
        if path.is_dir() {
            Ok(Summary::of_checkpoint(&Checkpoint::open(path, loading)?))
        } else {
            Ok(Summary::of_file(&SafetensorsFile::open(path, loading)?))
        }
    }

    /// Summarises an open checkpoint.
    pub fn of_checkpoint(checkpoint: &Checkpoint) -> Summary {
        let config = checkpoint.config().clone();
        let parameters = Parameters::of(&config);
        let model = ModelSummary { layout: checkpoint.layout(), config, parameters };
        summarise(checkpoint.folder(), checkpoint.loaded_as(), checkpoint.files(), Some(model))
    }

    /// Summarises one open file.
    pub fn of_file(file: &SafetensorsFile) -> Summary {
        summarise(file.path(), file.loaded_as(), std::slice::from_ref(file), None)
    }

    /// Number of tensors in all files.
    pub fn num_tensors(&self) -> usize {
        self.files.iter().map(|file| file.tensors).sum()
    }

    /// Bytes of tensor data in all files.
    pub fn total_bytes(&self) -> u64 {
        self.dtypes.values().map(|(_, bytes)| bytes).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.path.display(), self.loaded_as)?;
        if let Some(ModelSummary { layout, config, parameters }) = &self.model {
            writeln!(
                f,
                "gpt_oss, {layout} layout: {} layers, {} experts ({} active), hidden {}, {} parameters ({} active)",
                config.num_hidden_layers,
                config.num_local_experts,
                config.num_experts_per_tok,
                config.hidden_size,
                short(parameters.total),
                short(parameters.active),
            )?;
        }
        for file in &self.files {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            writeln!(f, "  {name}: {} tensors, {} bytes", file.tensors, file.size_bytes)?;
        }
        let width = self.groups.iter().map(|group| group.name.len()).max().unwrap_or(0);
        for TensorGroup { name, dtype, shape, count, size_bytes } in &self.groups {
            writeln!(f, "  {name:width$}  {count:5} × {dtype} {shape:?}, {size_bytes} bytes")?;
        }
        for (dtype, (count, bytes)) in &self.dtypes {
            writeln!(f, "  {dtype}: {count} tensors, {bytes} bytes")?;
        }
        writeln!(f, "  total: {} tensors, {} bytes", self.num_tensors(), self.total_bytes())
    }
}

fn summarise(
    path: &Path,
    loaded_as: LoadedAs,
    files: &[SafetensorsFile],
    model: Option<ModelSummary>,
) -> Summary {
    let mut groups: BTreeMap<(String, Dtype, Vec<usize>), (usize, u64)> = BTreeMap::new();
    let mut dtypes: BTreeMap<Dtype, (usize, u64)> = BTreeMap::new();
    for info in files.iter().flat_map(|file| file.header().tensors()) {
        let group = groups.entry((pattern(&info.name), info.dtype, info.shape.clone())).or_default();
        for (count, size_bytes) in [group, dtypes.entry(info.dtype).or_default()] {
            *count += 1;
            *size_bytes += info.size_bytes() as u64;
        }
    }
    let groups = groups.into_iter().map(|((name, dtype, shape), (count, size_bytes))| TensorGroup {
        name,
        dtype,
        shape,
        count,
        size_bytes,
    });
    let files = files.iter().map(|file| FileSummary {
        path: file.path().to_owned(),
        size_bytes: file.len_bytes(),
        tensors: file.header().tensors().len(),
        metadata: file.header().metadata().clone(),
    });
    let (path, files, groups) = (path.to_owned(), files.collect(), groups.collect());
    Summary { path, loaded_as, files, groups, dtypes, model }
}

/// A count in millions, from a billion on in billions.
fn short(count: u64) -> String {
    match count {
        0..1_000_000_000 => format!("{:.2}M", count as f64 / 1e6),
        _ => format!("{:.2}B", count as f64 / 1e9),
    }
}

fn pattern(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = name.split('.').map(|part| if is_number(part) { "*" } else { part }).collect();
    parts.join(".")
}
