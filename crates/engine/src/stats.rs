//! Counts that anyone may read at any time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::scheduler::{Scheduler, Totals};

/// A reading of the engine's counts. The owner thread publishes after each step, so fields of one reading may be one
/// step apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Requests that wait.
    pub queued: usize,
    /// Their prompt tokens.
    pub queued_prompt_tokens: usize,
    /// Sequences that run.
    pub running: usize,
    /// KV blocks nobody holds.
    pub free_blocks: usize,
    /// KV blocks in all.
    pub total_blocks: usize,
    /// Requests accepted since the start.
    pub accepted: u64,
    /// Requests refused because the queue was full.
    pub refused: u64,
    /// Counts of the step loop since the start.
    pub totals: Totals,
}

/// Where the owner thread publishes. The queue's load lives in the inbox, whose lock guards its bound.
#[derive(Debug, Default)]
pub(crate) struct StatCounters {
    running: AtomicUsize,
    free_blocks: AtomicUsize,
    total_blocks: AtomicUsize,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    steps: AtomicU64,
    prefill_tokens: AtomicU64,
    decode_tokens: AtomicU64,
    finished: AtomicU64,
    cancelled: AtomicU64,
    failed: AtomicU64,
}

impl StatCounters {
    pub(crate) fn publish(&self, scheduler: &Scheduler) {
        let totals = scheduler.totals();
        self.running.store(scheduler.num_running(), Relaxed);
        self.free_blocks.store(scheduler.free_blocks(), Relaxed);
        self.total_blocks.store(scheduler.total_blocks(), Relaxed);
        self.steps.store(totals.steps, Relaxed);
        self.prefill_tokens.store(totals.prefill_tokens, Relaxed);
        self.decode_tokens.store(totals.decode_tokens, Relaxed);
        self.finished.store(totals.finished, Relaxed);
        self.cancelled.store(totals.cancelled, Relaxed);
        self.failed.store(totals.failed, Relaxed);
    }

    pub(crate) fn read(&self) -> EngineStats {
        EngineStats {
            queued: 0,
            queued_prompt_tokens: 0,
            running: self.running.load(Relaxed),
            free_blocks: self.free_blocks.load(Relaxed),
            total_blocks: self.total_blocks.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            totals: Totals {
                steps: self.steps.load(Relaxed),
                prefill_tokens: self.prefill_tokens.load(Relaxed),
                decode_tokens: self.decode_tokens.load(Relaxed),
                finished: self.finished.load(Relaxed),
                cancelled: self.cancelled.load(Relaxed),
                failed: self.failed.load(Relaxed),
            },
        }
    }
}
