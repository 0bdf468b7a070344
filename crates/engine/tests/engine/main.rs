//! Tests of the engine through its public interface.

mod support;
mod threads;
