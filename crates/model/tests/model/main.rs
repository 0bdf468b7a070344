//! Tests of the model on real devices.

mod golden;
mod invariance;
mod plan;
mod resume;
mod rope;
mod support;
