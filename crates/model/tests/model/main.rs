//! Tests of the model on real devices.

mod golden;
mod invariance;
mod plan;
mod rope;
mod support;
