use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::CheckpointError;
use super::index::{MAX_INDEX_BYTES, ShardIndex};
use crate::config::{MAX_CONFIG_BYTES, ModelConfig};

/// Most weight files of one checkpoint.
const MAX_WEIGHT_FILES: usize = 4096;

/// The files of a checkpoint, found but, except for the index, not opened.
pub(super) struct Located {
    /// The folder that holds the weights.
    pub(super) folder: PathBuf,
    /// The weight files, sorted by name.
    pub(super) weights: Vec<PathBuf>,
    /// The index with its path, if that is what named the weights.
    pub(super) index: Option<(PathBuf, ShardIndex)>,
    pub(super) config: ConfigFiles,
}

/// Where a configuration lies.
pub(super) struct ConfigFiles {
    config: PathBuf,
    /// Read if it exists.
    generation_config: PathBuf,
}

/// Finds the checkpoint in `folder`; see [`super::Checkpoint::open`].
pub(super) fn locate(folder: &Path) -> Result<Located, CheckpointError> {
    check_folder(folder)?;
    if let Some(located) = locate_in(folder)? {
        return Ok(located);
    }
    let original = folder.join("original");
    let found = if original.is_dir() { locate_in(&original)? } else { None };
    let mut located = found.ok_or_else(|| CheckpointError::NoWeights { path: folder.to_owned() })?;
    located.config = original_config(folder, &original);
    Ok(located)
}

/// Finds the configuration in `folder`; see [`super::Checkpoint::read_config`].
pub(super) fn locate_config(folder: &Path) -> Result<ConfigFiles, CheckpointError> {
    check_folder(folder)?;
    let (files, original) = (ConfigFiles::of(folder), folder.join("original"));
    if !files.config.exists() && original.join("config.json").exists() {
        return Ok(original_config(folder, &original));
    }
    Ok(files)
}

fn check_folder(folder: &Path) -> Result<(), CheckpointError> {
    let metadata = std::fs::metadata(folder).map_err(|source| io_error(folder, "open", source))?;
    if !metadata.is_dir() {
        return Err(CheckpointError::NotAFolder { path: folder.to_owned(), found: "a file" });
    }
    Ok(())
}

/// The configuration of the folder `original` in `folder`: its own if it has one; `generation_config.json` lies beside
/// that folder.
fn original_config(folder: &Path, original: &Path) -> ConfigFiles {
    let mut files = ConfigFiles::of(folder);
    let own = original.join("config.json");
    if own.exists() {
        files.config = own;
    }
    files
}

fn locate_in(folder: &Path) -> Result<Option<Located>, CheckpointError> {
    let single = folder.join("model.safetensors");
    let index_path = folder.join("model.safetensors.index.json");
    let (weights, index) = if single.exists() {
        (vec![single], None)
    } else if index_path.exists() {
        let json = read_bounded(&index_path, MAX_INDEX_BYTES)?;
        let index = ShardIndex::parse(&json)
            .map_err(|source| CheckpointError::Index { path: index_path.clone(), source })?;
        (shard_paths(folder, &index)?, Some((index_path, index)))
    } else {
        (list_weights(folder)?, None)
    };
    if weights.is_empty() {
        return Ok(None);
    }
    Ok(Some(Located { folder: folder.to_owned(), weights, index, config: ConfigFiles::of(folder) }))
}

fn shard_paths(folder: &Path, index: &ShardIndex) -> Result<Vec<PathBuf>, CheckpointError> {
    let shards = index.shards();
    if shards.len() > MAX_WEIGHT_FILES {
        return Err(CheckpointError::TooManyFiles { path: folder.to_owned(), limit: MAX_WEIGHT_FILES });
    }
    let mut paths = Vec::with_capacity(shards.len());
    for (file, (tensors, first)) in shards {
        let path = folder.join(file);
        if !path.exists() {
            return Err(CheckpointError::MissingShard { path, tensors, first: first.to_owned() });
        }
        paths.push(path);
    }
    Ok(paths)
}

fn list_weights(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|source| io_error(folder, "list", source))? {
        let path = entry.map_err(|source| io_error(folder, "list", source))?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            if paths.len() == MAX_WEIGHT_FILES {
                return Err(CheckpointError::TooManyFiles {
                    path: folder.to_owned(),
                    limit: MAX_WEIGHT_FILES,
                });
            }
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

impl ConfigFiles {
    fn of(folder: &Path) -> ConfigFiles {
        ConfigFiles {
            config: folder.join("config.json"),
            generation_config: folder.join("generation_config.json"),
        }
    }

    /// Reads it.
    pub(super) fn read(&self) -> Result<ModelConfig, CheckpointError> {
        if !self.config.exists() {
            return Err(CheckpointError::MissingConfig { path: self.config.clone() });
        }
        let json = read_bounded(&self.config, MAX_CONFIG_BYTES)?;
        let at = |path: &Path| {
            let path = path.to_owned();
            |source| CheckpointError::Config { path, source }
        };
        let mut config = ModelConfig::from_json(&json).map_err(at(&self.config))?;
        if self.generation_config.exists() {
            let json = read_bounded(&self.generation_config, MAX_CONFIG_BYTES)?;
            config.apply_generation_json(&json).map_err(at(&self.generation_config))?;
        }
        Ok(config)
    }
}

/// Reads a whole file of at most `limit` bytes.
fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, CheckpointError> {
    let file = File::open(path).map_err(|source| io_error(path, "open", source))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|source| io_error(path, "read", source))?;
    if bytes.len() as u64 > limit {
        let found = std::fs::metadata(path).map_or(bytes.len() as u64, |metadata| metadata.len());
        return Err(CheckpointError::FileTooLong { path: path.to_owned(), limit, found });
    }
    Ok(bytes)
}

fn io_error(path: &Path, action: &'static str, source: io::Error) -> CheckpointError {
    CheckpointError::Io { path: path.to_owned(), action, source }
}
