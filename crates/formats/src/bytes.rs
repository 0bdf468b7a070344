//! Bytes of a checkpoint file that are cheap to share, whoever owns them.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::file_io::read_exact_at;
use crate::mapping;

/// Bytes of a mapping that are brought into memory between two calls of a progress function.
const RESIDENT_PART_BYTES: usize = 64 << 20;

/// How to bring a checkpoint's files into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Loading {
    /// Map the files. Starts at once and shares memory with other processes. The length is checked when the file is
    /// opened; a file truncated *while* mapped ends the process with SIGBUS when the lost part is touched. Where files
    /// may change underneath (network shares, updates in place), use [`Loading::Read`].
    Mmap,
    /// Keep the files open and read each tensor, when it is asked for, into memory that belongs to this process and goes
    /// back to the system with the tensor's last [`SharedBytes`]. What happens to a file after its tensors were read has
    /// no effect; a file that gets shorter before gives an error.
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
    /// Read into memory of this process, tensor by tensor.
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

/// A range of bytes in a mapping or buffer that all its clones own together; `Send + Sync`, cloning counts a
/// reference. A backend may keep a clone and read weights in place for as long as it likes.
#[derive(Clone)]
pub struct SharedBytes {
    owner: Arc<Owner>,
    range: Range<usize>,
}

enum Owner {
    Mapping(memmap2::Mmap),
    /// Pages of no file: they go back to the system with their owner, which a heap's need not.
    Pages(memmap2::MmapMut),
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
            Owner::Pages(_) | Owner::Heap(_) => LoadedAs::Read,
        }
    }

    /// Brings the pages of a mapping that hold these bytes into memory, as far as the operating system keeps them there:
    /// who reads them then waits for no disk. Calls `on_progress` with the length of each part when it is done, which is
    /// at once where the bytes are this process's own.
    pub fn make_resident(&self, on_progress: &mut dyn FnMut(usize)) {
        let Owner::Mapping(mapping) = &*self.owner else { return on_progress(self.range.len()) };
        for start in self.range.clone().step_by(RESIDENT_PART_BYTES) {
            let part = start..self.range.end.min(start + RESIDENT_PART_BYTES);
            mapping::make_resident(mapping, part.clone());
            on_progress(part.len());
        }
    }

    /// Says that the bytes of a mapping will be read once, from front to back, and then let go: reading makes the
    /// operating system keep them no longer than others. Changes nothing for bytes of this process.
    pub fn will_be_read_once(&self) {
        if let Owner::Mapping(mapping) = &*self.owner {
            mapping::will_be_read_once(mapping, self.range.clone());
        }
    }

    /// Lets the pages of a mapping that these bytes touch go out of this process's memory. The operating system may keep
    /// them cached, and who reads the bytes, or others in the same pages, gets them back from the file. Changes nothing
    /// for bytes of this process, which are freed when the last owner lets go.
    pub fn release(&self) {
        if let Owner::Mapping(mapping) = &*self.owner {
            mapping::release(mapping, self.range.clone());
        }
    }

    /// Maps all of `file`. An empty file gives empty bytes.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn map_file(file: &File) -> io::Result<SharedBytes> {
        let mapping = mapping::map_file(file)?;
        let range = 0..mapping.len();
        Ok(SharedBytes { owner: Arc::new(Owner::Mapping(mapping)), range })
    }

    /// Reads `len` bytes of `file` from `offset` on into memory of its own, which starts on a page.
    ///
    /// # Errors
    /// What the operating system says; [`io::ErrorKind::UnexpectedEof`] if the file is shorter;
    /// [`io::ErrorKind::OutOfMemory`] if there is no such memory to be had.
    pub fn read_at(file: &File, offset: u64, len: usize) -> io::Result<SharedBytes> {
        if len == 0 {
            return Ok(SharedBytes::from_vec(Vec::new()));
        }
        let mut pages = mapping::pages(len)?;
        read_exact_at(file, &mut pages, offset)?;
        Ok(SharedBytes { owner: Arc::new(Owner::Pages(pages)), range: 0..len })
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &*self.owner {
            Owner::Mapping(mapping) => mapping,
            Owner::Pages(pages) => pages,
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
