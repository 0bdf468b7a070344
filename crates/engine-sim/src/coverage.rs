//! How often what a simulation is there for came about.

use sostenuto_engine::{FinishReason, Scheduler, StepPlan};
use sostenuto_ops::KvCopy;

use crate::journal::Ended;

/// Counts over seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Seeds run to their end.
    pub seeds: u64,
    /// Steps with rows.
    pub steps: u64,
    /// Rows of these steps.
    pub rows: u64,
    /// Requests that engines accepted, replays included.
    pub accepted: u64,
    /// Requests that found the queue full.
    pub refused: u64,
    /// Requests that got all their tokens, each equal to the solo run's.
    pub finished: u64,
    /// Their tokens.
    pub finished_tokens: u64,
    /// Requests cancelled.
    pub cancelled: u64,
    /// Requests that ended at their deadline.
    pub expired: u64,
    /// Requests ended by a shutdown.
    pub shut_down: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Steps that failed.
    pub failed_steps: u64,
    /// Engines that died without a word.
    pub kills: u64,
    /// Engines that were shut down.
    pub shutdowns: u64,
    /// Requests given again to an engine, with the tokens so far.
    pub replays: u64,
    /// Sequences that gave up their place.
    pub preemptions: u64,
    /// Tokens that were found in the cache at admission.
    pub prefix_hit_tokens: u64,
    /// Cached blocks taken for other use.
    pub evicted_blocks: u64,
    /// Windows saved.
    pub windows_saved: u64,
    /// Windows restored.
    pub windows_restored: u64,
    /// Rows run again to rebuild windows.
    pub rows_again: u64,
}

impl Coverage {
    /// Adds the counts of other seeds.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts_mut().into_iter().zip((*other).counts()) {
            *count.1 += more.1;
        }
    }

    /// The counts by name.
    pub fn counts(mut self) -> [(&'static str, u64); 21] {
        self.counts_mut().map(|(name, count)| (name, *count))
    }

    fn counts_mut(&mut self) -> [(&'static str, &mut u64); 21] {
        [
            ("seeds", &mut self.seeds),
            ("steps", &mut self.steps),
            ("rows", &mut self.rows),
            ("accepted", &mut self.accepted),
            ("refused", &mut self.refused),
            ("finished", &mut self.finished),
            ("finished tokens", &mut self.finished_tokens),
            ("cancelled", &mut self.cancelled),
            ("expired", &mut self.expired),
            ("shut down", &mut self.shut_down),
            ("failed", &mut self.failed),
            ("failed steps", &mut self.failed_steps),
            ("kills", &mut self.kills),
            ("shutdowns", &mut self.shutdowns),
            ("replays", &mut self.replays),
            ("preemptions", &mut self.preemptions),
            ("prefix hit tokens", &mut self.prefix_hit_tokens),
            ("evicted blocks", &mut self.evicted_blocks),
            ("windows saved", &mut self.windows_saved),
            ("windows restored", &mut self.windows_restored),
            ("rows run again", &mut self.rows_again),
        ]
    }

    /// Counts a planned step.
    pub(crate) fn note_plan(&mut self, plan: &StepPlan) {
        self.steps += 1;
        self.rows += plan.rows() as u64;
        for copy in &plan.copies {
            match copy {
                KvCopy::SaveWindow { .. } => self.windows_saved += 1,
                KvCopy::RestoreWindow { .. } => self.windows_restored += 1,
                KvCopy::Block { .. } => {}
            }
        }
        let write_from = plan.sequences.iter().map(|&sequence| plan.kv_write_from[sequence as usize]);
        let again = plan.positions.iter().zip(write_from).filter(|(position, from)| *position < from);
        self.rows_again += again.count() as u64;
    }

    /// Counts a request's end.
    pub(crate) fn note_end(&mut self, ended: &Ended) {
        match ended.reason {
            Some(FinishReason::StopToken(_) | FinishReason::Length) => {
                self.finished += 1;
                self.finished_tokens += ended.record.completion_tokens() as u64;
            }
            Some(FinishReason::Cancelled) => self.cancelled += 1,
            Some(FinishReason::Deadline) => self.expired += 1,
            Some(FinishReason::ShuttingDown) => self.shut_down += 1,
            None => self.failed += 1,
        }
    }

    /// Counts what an engine did in its life.
    pub(crate) fn note_life(&mut self, scheduler: &Scheduler) {
        self.preemptions += scheduler.totals().preemptions;
        self.prefix_hit_tokens += scheduler.totals().prefix_hit_tokens;
        self.evicted_blocks += scheduler.evicted_blocks();
    }
}
