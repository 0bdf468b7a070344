//! Tests of the codes, readers and writers of checkpoints. Every checkpoint is written by the test that reads it.

mod codes;
mod config;
mod corpus;
mod malformed;
mod malformed_config;
mod mutations;
mod reading;
#[cfg(target_os = "linux")]
mod resident;
mod support;
mod synth;

#[path = "../../fuzz/src/checks.rs"]
mod checks;
