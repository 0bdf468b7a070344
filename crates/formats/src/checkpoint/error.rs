use std::io;
use std::path::PathBuf;

use super::IndexError;
use crate::config::ConfigError;
use crate::safetensors::SafetensorsError;
use crate::tensor::Dtype;
use crate::weights::Layout;

/// Why a checkpoint, or a file of one, is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the fields are the facts that each message names
pub enum CheckpointError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: io::Error },
    /// A folder was expected.
    #[error("{}: expected a checkpoint folder, found {found}", path.display())]
    NotAFolder { path: PathBuf, found: &'static str },
    /// A file was expected.
    #[error("{}: expected a file, found something else", path.display())]
    NotAFile { path: PathBuf },
    /// A folder without weights.
    #[error(
        "{}: expected model.safetensors, model.safetensors.index.json or other *.safetensors files, here or in original/, found none",
        path.display()
    )]
    NoWeights { path: PathBuf },
    /// A folder with more weight files than the bound.
    #[error("{}: expected at most {limit} weight files, found more", path.display())]
    TooManyFiles { path: PathBuf, limit: usize },
    /// A folder without `config.json`.
    #[error("{}: expected the model's configuration there, found no such file", path.display())]
    MissingConfig { path: PathBuf },
    /// A file longer than the bound of its kind.
    #[error("{}: expected at most {limit} bytes, found {found}", path.display())]
    FileTooLong { path: PathBuf, limit: u64, found: u64 },
    /// `config.json` or `generation_config.json` is refused.
    #[error("{}: {source}", path.display())]
    Config { path: PathBuf, source: ConfigError },
    /// The index of shards is refused.
    #[error("{}: {source}", path.display())]
    Index { path: PathBuf, source: IndexError },
    /// A weight file's container is refused.
    #[error("{}: {source}", path.display())]
    Safetensors { path: PathBuf, source: SafetensorsError },
    /// The index names a file that is not there.
    #[error("missing shard {}: expected {tensors} tensors there ({first:?} …), found no such file", path.display())]
    MissingShard { path: PathBuf, tensors: usize, first: String },
    /// The index says a tensor lies in a file where it does not.
    #[error(
        "tensor {name:?}: expected in {} as the index says, found {}",
        shard.display(),
        found.as_ref().map_or("it nowhere".to_owned(), |path| format!("it in {}", path.display()))
    )]
    TensorNotInShard { name: String, shard: PathBuf, found: Option<PathBuf> },
    /// A shard has a tensor that the index does not name.
    #[error("tensor {name:?}: expected an entry in the index, found none though {} has it", file.display())]
    TensorNotInIndex { name: String, file: PathBuf },
    /// Two files have a tensor of the same name.
    #[error("tensor {name:?}: expected in one file, found in {} and {}", first.display(), second.display())]
    TensorInTwoFiles { name: String, first: PathBuf, second: PathBuf },
    /// A tensor that the configuration calls for is not there.
    #[error(
        "missing tensor {name:?}: expected {dtype} {shape:?} ({layout} layout), found no such name in {files} file(s)"
    )]
    MissingTensor { name: String, dtype: Dtype, shape: Vec<usize>, layout: Layout, files: usize },
    /// A tensor that the configuration does not call for.
    #[error(
        "extra tensor {name:?}: expected only the {count} tensors of the {layout} layout, found {dtype} {shape:?} in {}",
        file.display()
    )]
    ExtraTensor { name: String, dtype: Dtype, shape: Vec<usize>, file: PathBuf, layout: Layout, count: usize },
    /// A tensor of another element type.
    #[error("tensor {name:?}: expected element type {expected}, found {found}")]
    WrongDtype { name: String, expected: Dtype, found: Dtype },
    /// A tensor of another shape.
    #[error("tensor {name:?}: expected shape {expected:?}, found {found:?}")]
    WrongShape { name: String, expected: Vec<usize>, found: Vec<usize> },
    /// A scale that is no number.
    #[error("tensor {name:?}: expected E8M0 scales 0 to 254, found 255 (NaN) at element {index}")]
    NanScale { name: String, index: usize },
    /// Asked for a tensor that the checkpoint does not have.
    #[error(
        "tensor {name:?}: expected one of the {count} tensors of the {layout} layout, found no such name"
    )]
    UnknownTensor { name: String, layout: Layout, count: usize },
}
