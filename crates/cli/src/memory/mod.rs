//! Memory: what may be had, what a model will take, what processes hold.

mod available;
mod fit;
mod resident;

pub(crate) use available::{Available, available_to_this_process, lies_in_memory};
pub(crate) use fit::{Choices, Processes, check, largest, plan};
pub(crate) use resident::{huge_page_bytes, own_bytes, resident_bytes};

/// A field of a file of `Name:   123 kB` lines, such as those under `/proc`, in bytes.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}
