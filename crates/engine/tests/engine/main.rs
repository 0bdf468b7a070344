//! Tests of the engine through its public interface.

mod capacity;
#[cfg(unix)]
mod frames;
mod micro_model;
mod mixes;
mod penalties;
mod prefix;
#[cfg(target_os = "linux")]
mod remote;
mod requests;
mod sampling;
mod scheduling;
mod support;
mod threads;
