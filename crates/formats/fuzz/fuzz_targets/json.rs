//! Any bytes as `config.json`, `generation_config.json` and `model.safetensors.index.json`:
//! `cargo +nightly fuzz run json`.
#![no_main]

#[path = "../src/checks.rs"]
#[allow(dead_code)] // each target uses its own check
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::check_json(bytes);
});
