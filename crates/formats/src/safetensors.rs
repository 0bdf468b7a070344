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
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bytes::{LoadedAs, Loading, SharedBytes};
use crate::checkpoint::CheckpointError;
use crate::file_io::{drop_cached, read_ahead, read_exact_at};
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

/// One opened safetensors file: header checked, bytes mapped, or read tensor by tensor.
#[derive(Clone, Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    header: Header,
    len_bytes: u64,
    contents: Contents,
}

/// Where a file's bytes are.
#[derive(Clone, Debug)]
enum Contents {
    /// All of them in a mapping; the file for what shall leave no pages of it behind.
    Mapped(SharedBytes, Arc<File>),
    /// In the file.
    Unread(Arc<File>),
    /// All of them in memory, given by the caller.
    Given(SharedBytes),
}

impl SafetensorsFile {
    /// Opens the file at `path`, checks its header against its length, and maps it where `loading` says so.
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
        let (path, len_bytes) = (path.to_owned(), bytes.len() as u64);
        Ok(SafetensorsFile { path, header, len_bytes, contents: Contents::Given(bytes) })
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
        self.len_bytes
    }

    /// How the file's tensors come into memory.
    pub fn loaded_as(&self) -> LoadedAs {
        match &self.contents {
            Contents::Mapped(..) => LoadedAs::Mapped,
            Contents::Unread(_) => LoadedAs::Read,
            Contents::Given(bytes) => bytes.loaded_as(),
        }
    }

    /// The tensor called `name`, if the file has it; in memory of its own where the file is read.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] where the file can't be read.
    pub fn tensor(&self, name: &str) -> Option<Result<TensorView, CheckpointError>> {
        self.header.get(name).map(|info| self.view(info))
    }

    /// All tensors in the order of their bytes; each in memory of its own where the file is read.
    ///
    /// # Errors
    /// As for [`SafetensorsFile::tensor`].
    pub fn tensors(&self) -> impl Iterator<Item = Result<TensorView, CheckpointError>> + '_ {
        self.header.tensors().iter().map(|info| self.view(info))
    }

    /// A copy of a part of the tensor called `name`, if the file has it and the part lies within it. Brings no page of a
    /// mapping into this process's memory.
    ///
    /// # Errors
    /// As for [`SafetensorsFile::tensor`].
    pub fn tensor_part(&self, name: &str, part: Range<usize>) -> Option<Result<Vec<u8>, CheckpointError>> {
        let info = self.header.get(name)?;
        if part.start > part.end || part.end > info.size_bytes() {
            return None;
        }
        let start = self.header.data_start() + info.begin;
        let range = start + part.start..start + part.end;
        Some(match &self.contents {
            Contents::Mapped(_, file) | Contents::Unread(file) => {
                let mut bytes = vec![0; range.len()];
                let read = read_exact_at(file, &mut bytes, range.start as u64);
                read.map(|()| bytes).map_err(|source| self.unreadable(source))
            }
            Contents::Given(bytes) => Ok(bytes[range].to_vec()),
        })
    }

    /// Asks the operating system to bring the tensor called `name` into its cache, and does not wait until it is there.
    pub fn read_ahead(&self, name: &str) {
        if let Some((file, range)) = self.place(name) {
            read_ahead(file, range);
        }
    }

    /// Asks the operating system to drop the tensor called `name` from its cache, as far as no process has it mapped.
    pub fn drop_cached(&self, name: &str) {
        if let Some((file, range)) = self.place(name) {
            drop_cached(file, range);
        }
    }

    /// The file on disk, and where in it the tensor called `name` lies.
    fn place(&self, name: &str) -> Option<(&File, Range<u64>)> {
        let (Contents::Mapped(_, file) | Contents::Unread(file)) = &self.contents else { return None };
        let (info, start) = (self.header.get(name)?, self.header.data_start());
        Some((file, (start + info.begin) as u64..(start + info.end) as u64))
    }

    fn view(&self, info: &TensorInfo) -> Result<TensorView, CheckpointError> {
        let start = self.header.data_start() + info.begin;
        let bytes = match &self.contents {
            Contents::Mapped(bytes, _) | Contents::Given(bytes) => {
                let bytes = bytes.slice(start..start + info.size_bytes());
                bytes.expect("the header was checked against the file's length")
            }
            Contents::Unread(file) => SharedBytes::read_at(file, start as u64, info.size_bytes())
                .map_err(|source| self.unreadable(source))?,
        };
        Ok(TensorView { name: info.name.clone(), dtype: info.dtype, shape: info.shape.clone(), bytes })
    }

    fn unreadable(&self, source: io::Error) -> CheckpointError {
        CheckpointError::Io { path: self.path.clone(), action: "read", source }
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

    pub(crate) fn load(self, loading: Loading) -> Result<SafetensorsFile, CheckpointError> {
        let UnloadedFile { path, file, len_bytes, header } = self;
        let mapped = match loading {
            Loading::Read => None,
            Loading::Mmap => match SharedBytes::map_file(&file) {
                Ok(bytes) => Some(bytes),
                Err(source) => return Err(CheckpointError::Io { path, action: "map", source }),
            },
            Loading::Auto => SharedBytes::map_file(&file).ok(),
        };
        let file = Arc::new(file);
        let Some(bytes) = mapped else {
            return Ok(SafetensorsFile { path, header, len_bytes, contents: Contents::Unread(file) });
        };
        let found = bytes.len() as u64;
        if found != len_bytes {
            let source = SafetensorsError::LengthChanged { expected: len_bytes, found };
            return Err(CheckpointError::Safetensors { path, source });
        }
        Ok(SafetensorsFile { path, header, len_bytes, contents: Contents::Mapped(bytes, file) })
    }
}
