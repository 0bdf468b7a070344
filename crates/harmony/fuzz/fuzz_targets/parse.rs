//! Run with `cargo +nightly fuzz run parse` in crates/harmony.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| sostenuto_harmony::fuzz_parse(data));
