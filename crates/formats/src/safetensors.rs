//! The safetensors container: an 8-byte little-endian header length, a JSON header, then the tensors' bytes.
//!
//! The header is parsed here rather than by the `safetensors` crate because a refusal must say which tensor, what was
//! expected and what was found. A file is accepted when every tensor's type is known, its shape times its element size
//! is its byte range, and the ranges fill the rest of the file without overlap or gap.
//!
//! # Source
//! The format's description in huggingface/safetensors (`README.md`, "Format").

mod error;
mod header;
mod writer;

use std::fs::File;
use std::io::{self, Seek};
use std::path::{Path, PathBuf};

use crate::bytes::{LoadedAs, Loading, SharedBytes};
use crate::checkpoint::CheckpointError;
use crate::tensor::TensorView;

pub use error::SafetensorsError;
pub use header::{Header, TensorInfo};
pub use writer::encode_header;

/// Longest header that is accepted, in bytes; the format's own bound.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Most tensors that one file may name.
pub const MAX_TENSORS: usize = 100_000;

/// Longest tensor name that is accepted, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// Most dimensions that a tensor may have.
pub const MAX_RANK: usize = 8;

/// Bytes before the JSON header: its length, `u64` little-endian.
pub const PREFIX_BYTES: usize = 8;

/// One opened safetensors file: header checked, bytes mapped or read.
#[derive(Clone, Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    header: Header,
    bytes: SharedBytes,
}

impl SafetensorsFile {
    /// Opens the file at `path`, checks its header against its length, and loads it.
    ///
    /// # Errors
    /// [`CheckpointError::Io`], [`CheckpointError::NotAFile`] or [`CheckpointError::Safetensors`], each with the path.
    pub fn open(path: &Path, loading: Loading) -> Result<SafetensorsFile, CheckpointError> {
        UnloadedFile::open(path)?.load(loading)
    }

    /// Takes `bytes` for a whole file; `path` is only its name.
    ///
    /// # Errors
    /// [`CheckpointError::Safetensors`].
    pub fn from_bytes(path: &Path, bytes: SharedBytes) -> Result<SafetensorsFile, CheckpointError> {
        let header = Header::read(&mut &bytes[..], bytes.len() as u64)
            .map_err(|source| CheckpointError::Safetensors { path: path.to_owned(), source })?;
        Ok(SafetensorsFile { path: path.to_owned(), header, bytes })
    }

    /// Where the file was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The checked header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Length of the whole file in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// How the file came into memory.
    pub fn loaded_as(&self) -> LoadedAs {
        self.bytes.loaded_as()
    }

    /// The tensor called `name`, if the file has it.
    pub fn tensor(&self, name: &str) -> Option<TensorView> {
        self.header.get(name).map(|info| self.view(info))
    }

    /// All tensors in the order of their bytes.
    pub fn tensors(&self) -> impl Iterator<Item = TensorView> + '_ {
        self.header.tensors().iter().map(|info| self.view(info))
    }

    /// Touches every page of a mapped file; calls `on_progress` with the bytes of each part when it is done.
    pub(crate) fn touch(&self, on_progress: &mut dyn FnMut(u64)) {
        /// No page of an operating system is smaller.
        const PAGE_BYTES: usize = 4096;
        const PART_BYTES: usize = 64 << 20;
        for part in self.bytes.chunks(PART_BYTES) {
            if self.loaded_as() == LoadedAs::Mapped {
                std::hint::black_box(part.iter().step_by(PAGE_BYTES).fold(0, |sum, byte| sum ^ byte));
            }
            on_progress(part.len() as u64);
        }
    }

    fn view(&self, info: &TensorInfo) -> TensorView {
        let start = self.header.data_start();
        let range = start + info.begin..start + info.end;
        let bytes = self.bytes.slice(range).expect("the header was checked against the file's length");
        TensorView { name: info.name.clone(), dtype: info.dtype, shape: info.shape.clone(), bytes }
    }
}

/// A file whose header is checked and whose tensors are not in memory yet.
pub(crate) struct UnloadedFile {
    path: PathBuf,
    file: File,
    len_bytes: u64,
    header: Header,
}

impl UnloadedFile {
    pub(crate) fn open(path: &Path) -> Result<UnloadedFile, CheckpointError> {
        let io = |action| move |source| CheckpointError::Io { path: path.to_owned(), action, source };
        let metadata = std::fs::metadata(path).map_err(io("open"))?;
        if !metadata.is_file() {
            return Err(CheckpointError::NotAFile { path: path.to_owned() });
        }
        let mut file = File::open(path).map_err(io("open"))?;
        let len_bytes = file.metadata().map_err(io("get the length of"))?.len();
        let header = Header::read(&mut file, len_bytes)
            .map_err(|source| CheckpointError::Safetensors { path: path.to_owned(), source })?;
        Ok(UnloadedFile { path: path.to_owned(), file, len_bytes, header })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    pub(crate) fn load(mut self, loading: Loading) -> Result<SafetensorsFile, CheckpointError> {
        let loaded = self.load_bytes(loading);
        let path = self.path;
        let bytes = match loaded {
            Ok(bytes) => bytes,
            Err(source) => return Err(CheckpointError::Io { path, action: "load", source }),
        };
        let found = bytes.len() as u64;
        if found != self.len_bytes {
            let source = SafetensorsError::LengthChanged { expected: self.len_bytes, found };
            return Err(CheckpointError::Safetensors { path, source });
        }
        Ok(SafetensorsFile { path, header: self.header, bytes })
    }

    fn load_bytes(&mut self, loading: Loading) -> io::Result<SharedBytes> {
        if loading != Loading::Read {
            match SharedBytes::map_file(&self.file) {
                Ok(bytes) => return Ok(bytes),
                Err(error) if loading == Loading::Mmap => return Err(error),
                Err(_) => {}
            }
        }
        self.file.rewind()?;
        SharedBytes::read_file(&mut self.file, self.len_bytes, self.header.data_start())
    }
}
