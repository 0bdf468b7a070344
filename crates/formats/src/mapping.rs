//! The one place where a file becomes memory without being read.
#![allow(unsafe_code)] // a mapping is only as immutable as the file under it; see `map_file`

use std::fs::File;
use std::io;

/// Maps all of `file` read-only.
pub(crate) fn map_file(file: &File) -> io::Result<memmap2::Mmap> {
    // SAFETY: the mapping is private to reading and never written through. What remains is that another process may
    // change or truncate the file while it is mapped: the bytes are plain `u8` whose every value is valid and which are
    // only ever decoded as numbers, so a change gives other numbers and no invalid value; a truncation makes the kernel
    // end this process (SIGBUS), which `Loading::Mmap` documents and `Loading::Read` avoids.
    unsafe { memmap2::Mmap::map(file) }
}
