//! Any bytes as a safetensors file: `cargo +nightly fuzz run safetensors`.
#![no_main]

#[path = "../src/checks.rs"]
#[allow(dead_code)] // each target uses its own check
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::check_safetensors(bytes);
});
