//! A checkpoint folder: found, opened, checked against its configuration, and bound weight by weight.

mod error;
mod index;
mod locate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::bytes::{LoadedAs, Loading};
use crate::codes::E8M0_NAN;
use crate::config::ModelConfig;
use crate::safetensors::{Header, SafetensorsFile, TensorInfo, UnloadedFile};
use crate::tensor::TensorView;
use crate::weights::{Layout, TensorSpec, WeightRef, expected_tensors};

pub use error::CheckpointError;
pub use index::{IndexError, MAX_INDEX_BYTES, ShardIndex};

use locate::{Located, locate};

/// A complete gpt-oss checkpoint: exactly the tensors that its configuration calls for, each of the right type and
/// shape. It holds the files open, and their mappings where they are mapped; tensors that are read belong to who asks for
/// them.
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
        let checkpoint = Self::open_unread(folder, loading)?;
        for weight in WeightRef::all(&checkpoint.config).filter(|weight| weight.is_scales()) {
            checkpoint.weight(weight)?;
        }
        Ok(checkpoint)
    }

    /// As [`Checkpoint::open`], for who will load every weight in any case: the scales are looked at only by
    /// [`Checkpoint::weight`], so that nothing is read twice.
    ///
    /// # Errors
    /// As for [`Checkpoint::open`], except for what only the weights' bytes show.
    pub fn open_unread(folder: &Path, loading: Loading) -> Result<Checkpoint, CheckpointError> {
        let Checked { folder, config, layout, files, file_of } = Checked::open(folder)?;
        let files = files.into_iter().map(|file| file.load(loading)).collect::<Result<_, _>>()?;
        Ok(Checkpoint { folder, config, layout, files, file_of })
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

    /// How tensors come into memory; [`LoadedAs::Read`] as soon as those of one file are read.
    pub fn loaded_as(&self) -> LoadedAs {
        self.files.iter().map(SafetensorsFile::loaded_as).max().unwrap_or(LoadedAs::Mapped)
    }

    /// The tensor that the files call `name`.
    ///
    /// # Errors
    /// [`CheckpointError::UnknownTensor`] if there is none; [`CheckpointError::Io`] where it can't be read.
    pub fn tensor(&self, name: &str) -> Result<TensorView, CheckpointError> {
        let file = self.file_of.get(name).map(|index| &self.files[*index]);
        file.and_then(|file| file.tensor(name)).unwrap_or_else(|| Err(self.unknown(name)))
    }

    /// A copy of the first and the last `len` bytes of the tensor that the files call `name`; all of its bytes twice
    /// where it has no more. Brings no page of a mapping into this process's memory.
    ///
    /// # Errors
    /// As for [`Checkpoint::tensor`].
    pub fn tensor_ends(&self, name: &str, len: usize) -> Result<[Vec<u8>; 2], CheckpointError> {
        let file = self.file_of.get(name).map(|index| &self.files[*index]);
        let (file, info) =
            file.and_then(|file| Some((file, file.header().get(name)?))).ok_or_else(|| self.unknown(name))?;
        let (size, len) = (info.size_bytes(), len.min(info.size_bytes()));
        let part = |range| file.tensor_part(name, range).unwrap_or_else(|| Err(self.unknown(name)));
        Ok([part(0..len)?, part(size - len..size)?])
    }

    /// All tensors, sorted by name.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] where one can't be read.
    pub fn tensors(&self) -> impl Iterator<Item = Result<TensorView, CheckpointError>> + '_ {
        self.file_of.iter().filter_map(|(name, file)| self.files[*file].tensor(name))
    }

    /// What the headers say of all tensors, sorted by name.
    pub fn tensor_infos(&self) -> impl Iterator<Item = &TensorInfo> {
        self.file_of.iter().filter_map(|(name, file)| self.files[*file].header().get(name))
    }

    /// The tensors that hold `weight`, to be stacked along the first dimension in this order: query, key and value
    /// pieces for the QKV weights of Hugging Face's layout, otherwise one tensor. Of E8M0 scales every one is looked at.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] where the file can't be read; [`CheckpointError::NanScale`].
    ///
    /// # Panics
    /// If the layer's index is not below `num_hidden_layers`.
    pub fn weight(&self, weight: WeightRef) -> Result<Vec<TensorView>, CheckpointError> {
        let pieces = self.pieces(weight).map(|spec| {
            let tensor = self.tensor(&spec.name)?;
            if weight.is_scales() {
                check_scales(&tensor)?
            }
            Ok(tensor)
        });
        pieces.collect()
    }

    /// Asks the operating system to bring `weight` into its cache, and does not wait until it is there.
    ///
    /// # Panics
    /// As for [`Checkpoint::weight`].
    pub fn read_ahead(&self, weight: WeightRef) {
        for spec in self.pieces(weight) {
            self.files[self.file_of[&spec.name]].read_ahead(&spec.name);
        }
    }

    /// Asks the operating system to drop `weight` from its cache, as far as no process has it mapped: for who has made
    /// something else of it and knows that there is no memory for both.
    ///
    /// # Panics
    /// As for [`Checkpoint::weight`].
    pub fn drop_cached(&self, weight: WeightRef) {
        for spec in self.pieces(weight) {
            self.files[self.file_of[&spec.name]].drop_cached(&spec.name);
        }
    }

    /// Every weight in the order in which they lie in the files: who loads them so reads each file from front to back.
    pub fn weights_in_file_order(&self) -> Vec<WeightRef> {
        let place = |weight: &WeightRef| {
            let places = self.pieces(*weight).map(|spec| {
                let file = self.file_of[&spec.name];
                (file, self.files[file].header().get(&spec.name).map(|info| info.begin))
            });
            places.min()
        };
        let mut weights: Vec<WeightRef> = WeightRef::all(&self.config).collect();
        weights.sort_by_cached_key(place);
        weights
    }

    /// Bytes of tensor data, all files together.
    pub fn total_bytes(&self) -> u64 {
        self.tensor_infos().map(|info| info.size_bytes() as u64).sum()
    }

    /// The tensors of a weight; all of them were found when the checkpoint was opened.
    fn pieces(&self, weight: WeightRef) -> impl Iterator<Item = TensorSpec> + use<> {
        if let WeightRef::Layer(layer, _) = weight {
            let layers = self.config.num_hidden_layers;
            assert!(layer < layers, "layer {layer} of a model of {layers} layers");
        }
        weight.pieces(&self.config, self.layout).into_iter()
    }

    fn unknown(&self, name: &str) -> CheckpointError {
        let (layout, count) = (self.layout, self.file_of.len());
        CheckpointError::UnknownTensor { name: name.to_owned(), layout, count }
    }
}

fn check_scales(tensor: &TensorView) -> Result<(), CheckpointError> {
    // Parts in which every byte is looked at become vector code, which tells for the gigabytes of a large model.
    let contains = |part: &[u8]| part.iter().fold(false, |found, &scale| found | (scale == E8M0_NAN));
    if !tensor.bytes.chunks(4096).any(contains) {
        return Ok(());
    }
    let index = tensor.bytes.iter().position(|scale| *scale == E8M0_NAN).unwrap_or_default();
    Err(CheckpointError::NanScale { name: tensor.name.clone(), index })
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
