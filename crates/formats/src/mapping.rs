//! Memory by the page: files that are mapped instead of read, and pages of no file. On systems other than Unix the
//! advice about pages changes nothing.
#![allow(unsafe_code)] // a mapping is only as immutable as the file under it; see `map_file`

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::{Mmap, MmapMut};

/// No page of an operating system is smaller.
const PAGE_BYTES: usize = 4096;

/// Maps all of `file` read-only.
pub(crate) fn map_file(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is private to reading and never written through. What remains is that another process may
    // change or truncate the file while it is mapped: the bytes are plain `u8` whose every value is valid and which are
    // only ever decoded as numbers, so a change gives other numbers and no invalid value; a truncation makes the kernel
    // end this process (SIGBUS), which `Loading::Mmap` documents and `Loading::Read` avoids.
    unsafe { Mmap::map(file) }
}

/// `len` zero bytes on pages of their own, large ones where the system has them.
///
/// # Errors
/// What the system says.
pub fn pages(len: usize) -> io::Result<MmapMut> {
    let pages = MmapMut::map_anon(len)?;
    #[cfg(target_os = "linux")]
    let _ = pages.advise(memmap2::Advice::HugePage);
    Ok(pages)
}

/// Brings the pages of `range` into memory.
pub(crate) fn make_resident(mapping: &Mmap, range: Range<usize>) {
    #[cfg(target_os = "linux")]
    match mapping.advise_range(memmap2::Advice::PopulateRead, range.start, range.len()) {
        // Before Linux 5.14.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
        _ => return,
    }
    let touched = mapping[range].iter().step_by(PAGE_BYTES).fold(0, |sum, byte| sum ^ byte);
    std::hint::black_box(touched);
}

/// Advises that the pages of `range` will be read in sequence.
pub(crate) fn will_be_read_once(mapping: &Mmap, range: Range<usize>) {
    // Advice: where it is refused, the pages are read all the same.
    #[cfg(unix)]
    let _ = mapping.advise_range(memmap2::Advice::Sequential, range.start, range.len());
    #[cfg(not(unix))]
    let _ = (mapping, range);
}

/// Lets go of every page that `range` touches.
pub(crate) fn release(mapping: &Mmap, range: Range<usize>) {
    // SAFETY: this advice is unsafe because pages of no file, and private copies of a file's, lose what was written to
    // them. A read-only mapping of a file has neither: the next access maps the same page of the file again, also where
    // the first or last page holds bytes beyond the range.
    #[cfg(unix)]
    let _ = unsafe {
        mapping.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
    };
    #[cfg(not(unix))]
    let _ = (mapping, range);
}
