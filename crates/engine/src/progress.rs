//! Signs of life of the owner thread.

use std::time::Duration;

use crate::stats::EngineStats;

/// Watches the owner thread, which calls it and waits meanwhile: it must return at once. An idle owner thread comes
/// by twice a second with steps of no rows.
pub trait StepObserver: Send + 'static {
    /// A step of `rows` rows begins.
    fn step_begun(&mut self, rows: usize);

    /// It ended, well or not, after `took`. `stats` has no count of the queue, which the inbox keeps.
    fn step_ended(&mut self, took: Duration, stats: &EngineStats);
}

/// Nobody watches.
#[derive(Debug)]
pub(crate) struct Unobserved;

impl StepObserver for Unobserved {
    fn step_begun(&mut self, _rows: usize) {}

    fn step_ended(&mut self, _took: Duration, _stats: &EngineStats) {}
}
