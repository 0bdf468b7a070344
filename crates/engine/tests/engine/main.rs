//! Tests of the engine through its public interface.

mod mixes;
mod penalties;
mod requests;
mod sampling;
mod scheduling;
mod support;
mod threads;
