//! A checkpoint folder: found, opened, checked against its configuration, and bound weight by weight.

mod error;
mod index;
mod locate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::bytes::{LoadedAs, Loading};
use crate::codes::E8M0_NAN;
use crate::config::ModelConfig;
use crate::safetensors::{Header, SafetensorsFile, UnloadedFile};
use crate::tensor::TensorView;
use crate::weights::{LayerWeight, Layout, TensorSpec, WeightRef, expected_tensors};

pub use error::CheckpointError;
pub use index::{IndexError, MAX_INDEX_BYTES, ShardIndex};

use locate::{Located, locate};

/// A complete gpt-oss checkpoint: exactly the tensors that its configuration calls for, each of the right type and
/// shape, no E8M0 scale a NaN.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    config: ModelConfig,
    layout: Layout,
    files: Vec<SafetensorsFile>,
    /// Index into `files` of each tensor's file.
    file_of: BTreeMap<String, usize>,
}

/// A checkpoint whose headers are checked and whose weights are not in memory yet.
struct Checked {
    folder: PathBuf,
    config: ModelConfig,
    layout: Layout,
    files: Vec<UnloadedFile>,
    file_of: BTreeMap<String, usize>,
}

impl Checked {
    fn open(folder: &Path) -> Result<Checked, CheckpointError> {
        let located = locate(folder)?;
        let config = located.config.read()?;
        let files =
            located.weights.iter().map(|path| UnloadedFile::open(path)).collect::<Result<Vec<_>, _>>()?;
        let file_of = map_tensors(&files)?;
        check_index(&located, &files, &file_of)?;
        let layout = layout_of(&file_of);
        check_tensors(&config, layout, &files, &file_of)?;
        Ok(Checked { folder: located.folder, config, layout, files, file_of })
    }
}

impl Checkpoint {
    /// Opens the checkpoint in `folder`: `config.json` (and `generation_config.json` if there is one) with
    /// `model.safetensors`, or with `model.safetensors.index.json` and its shards, or with every `*.safetensors`; in
    /// Hugging Face's layout or OpenAI's. If `folder` has no weights but its folder `original` does, those are opened.
    ///
    /// Every header is checked before any weight is loaded; then every E8M0 scale is looked at once (a seventeenth of the
    /// experts' bytes).
    ///
    /// # Errors
    /// The first violation, with the file or tensor, what was expected and what was found.
    pub fn open(folder: &Path, loading: Loading) -> Result<Checkpoint, CheckpointError> {
        let Checked { folder, config, layout, files, file_of } = Checked::open(folder)?;
        let files = files.into_iter().map(|file| file.load(loading)).collect::<Result<_, _>>()?;
        let checkpoint = Checkpoint { folder, config, layout, files, file_of };
        checkpoint.check_scales()?;
        Ok(checkpoint)
    }

    /// Checks the checkpoint in `folder` as [`Checkpoint::open`] does before it loads any weight, and gives its
    /// configuration.
    ///
    /// # Errors
    /// As for [`Checkpoint::open`], except for what only the weights' bytes show.
    pub fn check(folder: &Path) -> Result<ModelConfig, CheckpointError> {
        Ok(Checked::open(folder)?.config)
    }

    /// Reads the configuration of the checkpoint in `folder` alone: its `config.json` (and `generation_config.json` if
    /// there is one), or that of its folder `original`. The weights need not be there.
    ///
    /// # Errors
    /// [`CheckpointError`] where there is none, or where it is not one of a gpt-oss model.
    pub fn read_config(folder: &Path) -> Result<ModelConfig, CheckpointError> {
        locate::locate_config(folder)?.read()
    }

    /// Brings every page of mapped files into memory, as far as the operating system keeps them there: a first answer
    /// then waits for no disk. Calls `on_progress` with the bytes done and all bytes, a few hundred times. Files that were
    /// read are in memory already.
    pub fn make_resident(&self, on_progress: &mut dyn FnMut(u64, u64)) {
        let total = self.files.iter().map(SafetensorsFile::len_bytes).sum();
        let mut done = 0;
        for file in &self.files {
            file.touch(&mut |bytes| {
                done += bytes;
                on_progress(done, total);
            });
        }
    }

    /// The folder that holds the weights.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The configuration that every tensor was checked against.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Whose names the tensors have.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The weight files, in the order of their names.
    pub fn files(&self) -> &[SafetensorsFile] {
        &self.files
    }

    /// How the files came into memory; [`LoadedAs::Read`] as soon as one of them was read.
    pub fn loaded_as(&self) -> LoadedAs {
        self.files.iter().map(SafetensorsFile::loaded_as).max().unwrap_or(LoadedAs::Mapped)
    }

    /// The tensor that the files call `name`.
    ///
    /// # Errors
    /// [`CheckpointError::UnknownTensor`] if there is none.
    pub fn tensor(&self, name: &str) -> Result<TensorView, CheckpointError> {
        let file = self.file_of.get(name).map(|index| &self.files[*index]);
        file.and_then(|file| file.tensor(name)).ok_or_else(|| CheckpointError::UnknownTensor {
            name: name.to_owned(),
            layout: self.layout,
            count: self.file_of.len(),
        })
    }

    /// All tensors, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView> + '_ {
        self.file_of.iter().filter_map(|(name, file)| self.files[*file].tensor(name))
    }

    /// The tensors that hold `weight`, to be stacked along the first dimension in this order: query, key and value
    /// pieces for the QKV weights of Hugging Face's layout, otherwise one tensor.
    ///
    /// # Panics
    /// If the layer's index is not below `num_hidden_layers`.
    pub fn weight(&self, weight: WeightRef) -> Vec<TensorView> {
        if let WeightRef::Layer(layer, _) = weight {
            let layers = self.config.num_hidden_layers;
            assert!(layer < layers, "layer {layer} of a model of {layers} layers");
        }
        let pieces = weight.pieces(&self.config, self.layout);
        let bound =
            |spec: TensorSpec| self.tensor(&spec.name).expect("every expected tensor was found at load");
        pieces.into_iter().map(bound).collect()
    }

    /// Bytes of tensor data, all files together.
    pub fn total_bytes(&self) -> u64 {
        self.tensors().map(|tensor| tensor.bytes.len() as u64).sum()
    }

    fn check_scales(&self) -> Result<(), CheckpointError> {
        for layer in 0..self.config.num_hidden_layers {
            for weight in [LayerWeight::GateUpScales, LayerWeight::DownScales] {
                for tensor in self.weight(WeightRef::Layer(layer, weight)) {
                    // `contains` scans words at a time, which tells for the gigabytes of a large model.
                    if tensor.bytes.contains(&E8M0_NAN) {
                        let is_nan = |scale: &u8| *scale == E8M0_NAN;
                        let index = tensor.bytes.iter().position(is_nan).unwrap_or_default();
                        return Err(CheckpointError::NanScale { name: tensor.name, index });
                    }
                }
            }
        }
        Ok(())
    }
}

fn map_tensors(files: &[UnloadedFile]) -> Result<BTreeMap<String, usize>, CheckpointError> {
    let mut file_of = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        for info in file.header().tensors() {
            if let Some(first) = file_of.insert(info.name.clone(), index) {
                return Err(CheckpointError::TensorInTwoFiles {
                    name: info.name.clone(),
                    first: files[first].path().to_owned(),
                    second: file.path().to_owned(),
                });
            }
        }
    }
    Ok(file_of)
}

/// The index and the shards must say the same about which tensor lies where.
fn check_index(
    located: &Located,
    files: &[UnloadedFile],
    file_of: &BTreeMap<String, usize>,
) -> Result<(), CheckpointError> {
    let Some((_, index)) = &located.index else { return Ok(()) };
    for (name, shard) in index.entries() {
        let found = file_of.get(name).map(|file| files[*file].path());
        if found.and_then(Path::file_name).and_then(|found| found.to_str()) != Some(shard) {
            return Err(CheckpointError::TensorNotInShard {
                name: name.to_owned(),
                shard: located.folder.join(shard),
                found: found.map(Path::to_owned),
            });
        }
    }
    for (name, file) in file_of {
        if index.shard_of(name).is_none() {
            return Err(CheckpointError::TensorNotInIndex {
                name: name.clone(),
                file: files[*file].path().to_owned(),
            });
        }
    }
    Ok(())
}

/// OpenAI's names all begin otherwise than Hugging Face's; a checkpoint with none of OpenAI's is held against the latter.
fn layout_of(file_of: &BTreeMap<String, usize>) -> Layout {
    let is_original = |name: &String| name.starts_with("block.") || name == "embedding.weight";
    if file_of.keys().any(is_original) { Layout::Original } else { Layout::HuggingFace }
}

fn check_tensors(
    config: &ModelConfig,
    layout: Layout,
    files: &[UnloadedFile],
    file_of: &BTreeMap<String, usize>,
) -> Result<(), CheckpointError> {
    let header_of = |index: &usize| -> &Header { files[*index].header() };
    let expected = expected_tensors(config, layout);
    for spec in &expected {
        let found = file_of.get(&spec.name).and_then(|file| header_of(file).get(&spec.name));
        let Some(found) = found else {
            return Err(CheckpointError::MissingTensor {
                name: spec.name.clone(),
                dtype: spec.dtype,
                shape: spec.shape.clone(),
                layout,
                files: files.len(),
            });
        };
        if found.dtype != spec.dtype {
            let (name, expected, found) = (spec.name.clone(), spec.dtype, found.dtype);
            return Err(CheckpointError::WrongDtype { name, expected, found });
        }
        if found.shape != spec.shape {
            let (name, expected, found) = (spec.name.clone(), spec.shape.clone(), found.shape.clone());
            return Err(CheckpointError::WrongShape { name, expected, found });
        }
    }
    if file_of.len() == expected.len() {
        return Ok(());
    }
    let known: std::collections::BTreeSet<&str> = expected.iter().map(|spec| spec.name.as_str()).collect();
    for (name, file) in file_of {
        if !known.contains(name.as_str()) {
            let info = header_of(file).get(name).expect("mapped from this header");
            return Err(CheckpointError::ExtraTensor {
                name: name.clone(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                file: files[*file].path().to_owned(),
                layout,
                count: expected.len(),
            });
        }
    }
    Ok(())
}
