//! Counts that anyone may read at any time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::kv::BlockCounts;
use crate::scheduler::{Scheduler, Totals};

/// A reading of the engine's counts. The owner thread publishes them before and after each step; the counts of the queue,
/// of accepted and of refused requests are of the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineStats {
    /// Requests that wait.
    pub queued: usize,
    /// Their prompt tokens.
    pub queued_prompt_tokens: usize,
    /// Sequences that run.
    pub running: usize,
    /// Sequences that gave up their place and wait to go on.
    pub preempted: usize,
    /// KV blocks by state.
    pub blocks: BlockCounts,
    /// Cached KV blocks that were taken for other use since the start.
    pub evicted_blocks: u64,
    /// KV blocks in all.
    pub total_blocks: usize,
    /// Requests accepted since the start.
    pub accepted: u64,
    /// Requests refused because the queue was full.
    pub refused: u64,
    /// Engine processes that replaced one that failed; 0 for an engine in this process.
    pub restarts: u64,
    /// Counts of the step loop since the start.
    pub totals: Totals,
}

impl EngineStats {
    /// These counts of an engine process, with what those before it counted.
    pub(crate) fn after(self, earlier: &EngineStats) -> EngineStats {
        EngineStats {
            evicted_blocks: earlier.evicted_blocks + self.evicted_blocks,
            totals: earlier.totals.plus(self.totals),
            ..self
        }
    }
}

/// Where the owner thread publishes. The queue's load lives in the inbox, whose lock guards its bound.
#[derive(Debug, Default)]
pub(crate) struct StatCounters {
    /// All but the inbox's counts and the two below.
    published: Mutex<EngineStats>,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl StatCounters {
    pub(crate) fn publish(&self, scheduler: &Scheduler) {
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = EngineStats {
            running: scheduler.num_running(),
            preempted: scheduler.num_preempted(),
            blocks: scheduler.block_counts(),
            evicted_blocks: scheduler.evicted_blocks(),
            total_blocks: scheduler.total_blocks(),
            totals: scheduler.totals(),
            ..EngineStats::default()
        };
    }

    pub(crate) fn read(&self) -> EngineStats {
        EngineStats {
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            ..*self.published.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
