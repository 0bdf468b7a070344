//! Tests of the model on real devices.

mod golden;
mod invariance;
mod loading;
mod long;
mod plan;
mod resume;
mod rope;
mod support;
