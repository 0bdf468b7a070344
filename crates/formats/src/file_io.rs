//! Reading parts of a file that others may read at the same time.

use std::fs::File;
use std::io;
use std::ops::Range;

/// Bytes that one call asks the system to read ahead: it may cut longer requests short, to as little as this.
#[cfg(target_os = "linux")]
const READ_AHEAD_BYTES: u64 = 128 << 10;

/// Fills `buffer` with what `file` holds from `offset` on.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` with what `file` holds from `offset` on.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => (buffer, offset) = (&mut buffer[read..], offset + read as u64),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Asks the system to bring what is not there of a part of a file into its cache and does not wait until it is there,
/// except where the disk has more requests than it takes. Of each 128 KiB the page in the middle is looked at.
#[cfg(target_os = "linux")]
pub(crate) fn read_ahead(file: &File, range: Range<u64>) {
    use rustix::fs::{Advice, fadvise};
    for start in range.clone().step_by(READ_AHEAD_BYTES as usize) {
        let len = READ_AHEAD_BYTES.min(range.end - start);
        // The first and the last page may be a neighbour's too, who has just asked for them.
        let is_there = is_cached(file, start + len / 2);
        if !is_there && fadvise(file, start, std::num::NonZeroU64::new(len), Advice::WillNeed).is_err() {
            return;
        }
    }
}

/// Whether a byte of a file is in the system's cache; no, where it does not say. To ask costs a fraction of a request to
/// read ahead, which looks for every page.
#[cfg(target_os = "linux")]
fn is_cached(file: &File, offset: u64) -> bool {
    use rustix::io::{IoSliceMut, ReadWriteFlags, preadv2};
    preadv2(file, &mut [IoSliceMut::new(&mut [0])], offset, ReadWriteFlags::NOWAIT) == Ok(1)
}

/// Asks the system to keep the whole pages of a part of a file no longer in its cache. Pages that a process has mapped
/// stay.
#[cfg(target_os = "linux")]
pub(crate) fn drop_cached(file: &File, range: Range<u64>) {
    use rustix::fs::{Advice, fadvise};
    if let Some(len) = std::num::NonZeroU64::new(range.end - range.start) {
        // Advice: where it is refused, the pages stay cached.
        let _ = fadvise(file, range.start, Some(len), Advice::DontNeed);
    }
}

/// Asks for nothing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn drop_cached(_file: &File, _range: Range<u64>) {}

/// Asks for nothing.
#[cfg(not(target_os = "linux"))]
pub(crate) fn read_ahead(_file: &File, _range: Range<u64>) {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn what_was_written_is_cached_and_what_is_not_there_is_not() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 10_000]).unwrap();
        if !is_cached(&file, 0) {
            println!("skipped: the file system does not say");
            return;
        }
        assert!(is_cached(&file, 9_999));
        assert!(!is_cached(&file, 10_000));
    }
}
