//! Bytes of a checkpoint file that are cheap to share, whoever owns them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::mapping::map_file;

/// Alignment in bytes of the start of a heap buffer made by [`SharedBytes::read_file`]'s data section.
const HEAP_ALIGNMENT_BYTES: usize = 64;

/// How to bring a checkpoint's files into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Loading {
    /// Map the files. Starts at once and shares memory with other processes. The length is checked when the file is
    /// opened; a file truncated *while* mapped ends the process with SIGBUS when the lost part is touched. Where files
    /// may change underneath (network shares, updates in place), use [`Loading::Read`].
    Mmap,
    /// Read each file once into memory that belongs to this process; later changes of the file have no effect.
    Read,
    /// [`Loading::Mmap`], and [`Loading::Read`] where the file system cannot map.
    #[default]
    Auto,
}

/// How a file came into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LoadedAs {
    /// Mapped: pages come from the file as they are touched.
    Mapped,
    /// Read once into memory of this process.
    Read,
}

impl fmt::Display for LoadedAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadedAs::Mapped => "memory-mapped",
            LoadedAs::Read => "read into memory",
        })
    }
}

/// A range of bytes in a mapping or heap buffer that all its clones own together; `Send + Sync`, cloning counts a
/// reference. A backend may keep a clone and read weights in place for as long as it likes.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<Owner>,
    range: Range<usize>,
}

enum Owner {
    Mapping(memmap2::Mmap),
    Heap(Vec<u8>),
}

impl SharedBytes {
    /// Takes over a heap buffer without copying it.
    pub fn from_vec(bytes: Vec<u8>) -> SharedBytes {
        let range = 0..bytes.len();
        SharedBytes { owner: Arc::new(Owner::Heap(bytes)), range }
    }

    /// The part `range`, counted from the start of these bytes; `None` if it does not lie within them.
    pub fn slice(&self, range: Range<usize>) -> Option<SharedBytes> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(SharedBytes { owner: Arc::clone(&self.owner), range: start..start + range.len() })
    }

    /// Whether a file mapping or this process's memory holds the bytes.
    pub fn loaded_as(&self) -> LoadedAs {
        match *self.owner {
            Owner::Mapping(_) => LoadedAs::Mapped,
            Owner::Heap(_) => LoadedAs::Read,
        }
    }

    /// Maps all of `file`. An empty file gives empty bytes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn map_file(file: &File) -> io::Result<SharedBytes> {
        let mapping = map_file(file)?;
        let range = 0..mapping.len();
        Ok(SharedBytes { owner: Arc::new(Owner::Mapping(mapping)), range })
    }

    /// Reads `file_len` bytes of `file` into memory, so that the byte at `aligned_offset` lies on a 64-byte boundary.
    ///
    /// # Errors
    /// What the operating system says; [`io::ErrorKind::UnexpectedEof`] if the file is shorter;
    /// [`io::ErrorKind::OutOfMemory`] if there is no such buffer to be had.
    pub fn read_file(file: &mut File, file_len: u64, aligned_offset: usize) -> io::Result<SharedBytes> {
        let len = usize::try_from(file_len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let capacity = len.checked_add(HEAP_ALIGNMENT_BYTES).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(capacity).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let misaligned = (buffer.as_ptr() as usize).wrapping_add(aligned_offset) % HEAP_ALIGNMENT_BYTES;
        let padding = (HEAP_ALIGNMENT_BYTES - misaligned) % HEAP_ALIGNMENT_BYTES;
        buffer.resize(padding, 0);
        let read = file.take(file_len).read_to_end(&mut buffer)?;
        if read != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(SharedBytes { owner: Arc::new(Owner::Heap(buffer)), range: padding..padding + len })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.owner {
            Owner::Mapping(mapping) => mapping,
            Owner::Heap(buffer) => buffer,
        };
        &all[self.range.clone()]
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes, {})", self.range.len(), self.loaded_as())
    }
}
