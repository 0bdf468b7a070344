//! What this process and another hold in physical memory (Linux).

use std::fs;

use super::field_bytes;

/// Bytes of this process that are in physical memory, pages of mapped files included; `None` where the operating
/// system does not say. `smaps_rollup` counts pages; `VmRSS` lags by some per thread, and is the fallback.
pub(crate) fn resident_bytes() -> Option<u64> {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").ok();
    rollup.and_then(|text| field_bytes(&text, "Rss")).or_else(|| status_bytes("VmRSS"))
}

/// Bytes of another process that are in physical memory for it alone.
pub(crate) fn own_bytes(process_id: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{process_id}/smaps_rollup")).ok()?;
    Some(field_bytes(&rollup, "Private_Clean")? + field_bytes(&rollup, "Private_Dirty")?)
}

/// Of this process's resident bytes, what belongs to no file.
pub(crate) fn anonymous_bytes() -> Option<u64> {
    status_bytes("RssAnon")
}

/// Of this process's resident bytes, what lies in huge pages.
pub(crate) fn huge_page_bytes() -> Option<u64> {
    field_bytes(&fs::read_to_string("/proc/self/smaps_rollup").ok()?, "AnonHugePages")
}

fn status_bytes(name: &str) -> Option<u64> {
    field_bytes(&fs::read_to_string("/proc/self/status").ok()?, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_is_resident() {
        const BYTES: u64 = 256 << 20;
        let (Some(before), Some(anonymous)) = (resident_bytes(), anonymous_bytes()) else {
            println!("skipped: no /proc");
            return;
        };
        let memory = vec![1u8; BYTES as usize];
        let grown = resident_bytes().unwrap() - before;
        assert!(own_bytes(std::process::id()).is_none_or(|own| own > BYTES / 2));
        assert!((BYTES * 9 / 10..=BYTES * 12 / 10).contains(&grown), "{grown}");
        assert!(anonymous_bytes().unwrap() > anonymous + BYTES / 2);
        assert_eq!(std::hint::black_box(&memory)[1], 1);
    }

    #[test]
    fn fields_of_proc_files_are_read_whole() {
        let text = "VmRSSx:\t 1 kB\nRss:\t  2048 kB\nVmRSS:\t 4 kB\n";
        assert_eq!(field_bytes(text, "Rss"), Some(2048 * 1024));
        assert_eq!(field_bytes(text, "VmRSS"), Some(4096));
        for wrong in ["", "Rss: 12", "Rss: -1 kB", "Rss: 99999999999999999999 kB"] {
            assert_eq!(field_bytes(wrong, "Rss"), None, "{wrong}");
        }
    }
}
