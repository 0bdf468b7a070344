//! Run with `cargo +nightly fuzz run frames` in crates/engine.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| sostenuto_engine::remote::fuzz_frames(data));
