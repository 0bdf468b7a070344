//! Tests of the engine through its public interface.

mod capacity;
mod micro_model;
mod mixes;
mod penalties;
mod prefix;
mod requests;
mod sampling;
mod scheduling;
mod support;
mod threads;
