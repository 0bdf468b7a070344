//! What a step gave: sequences advance, blocks become findable, windows are saved.

use sostenuto_ops::KvCopy;

use super::Scheduler;
use crate::error::EngineError;
use crate::event::{Event, FinishReason, RequestEvent, TokenEvent};
use crate::kv::SnapshotKind;
use crate::limits::BLOCK_SLOTS;
use crate::plan::{SampleError, SampledToken, ScheduledSequence, StepOutput, StepPlan};
use crate::sequence::Running;

impl Scheduler {
    /// Takes in what a step gave: advances its sequences, emits tokens, ends what is done.
    ///
    /// # Panics
    /// If `output` does not have one row for each sequence of the plan: a bug of the caller.
    pub fn apply(&mut self, plan: &StepPlan, output: &mut StepOutput, events: &mut Vec<RequestEvent>) {
        assert_eq!(output.rows.len(), plan.logit_rows.len(), "one output for each logit row");
        self.totals.steps += 1;
        for (part, row) in plan.scheduled.iter().zip(output.rows.drain(..)) {
            let before = self.advance(part);
            match row {
                Ok(token) => {
                    self.publish(part.ring, before);
                    if let Some(token) = token {
                        self.take_token(part.ring, token, events);
                    }
                }
                // Before its windows are exact a row may see what another sequence left in the ring.
                Err(_) if !self.is_exact(part.ring) => {}
                Err(error) => self.fail_row(part.ring, error, events),
            }
        }
        self.check();
    }

    /// Counts a sequence's rows as computed, and returns how many were before.
    fn advance(&mut self, part: &ScheduledSequence) -> usize {
        let running = self.running[part.ring as usize].as_mut().expect("a scheduled sequence runs");
        let before = running.num_computed_tokens;
        if !running.is_decoding() {
            self.totals.prefill_tokens += part.num_scheduled_tokens as u64;
        }
        running.num_computed_tokens += part.num_scheduled_tokens;
        before
    }

    /// Whether the last computed row of a sequence saw what it sees in a run from the start.
    fn is_exact(&self, ring: u32) -> bool {
        let running = self.running(ring);
        running.num_computed_tokens > running.exact_from
    }

    /// Lets others find the blocks that a sequence completed. Its last logits were finite, so that all keys and values are
    /// numbers.
    fn publish(&mut self, ring: u32, before: usize) {
        if !self.limits.prefix_cache {
            return;
        }
        let running = self.running[ring as usize].as_mut().expect("a scheduled sequence runs");
        for blocks in running.published + 1..=running.num_computed_tokens / BLOCK_SLOTS {
            self.pool.publish(running.blocks[blocks - 1], running.sequence.prefix(blocks));
            running.published = blocks;
        }
        self.save_windows_between(ring, before);
    }

    /// Saves the window at the end of the prefill, or else at the last interval, where the sequence just came past it.
    fn save_windows_between(&mut self, ring: u32, before: usize) {
        let running = self.running(ring);
        let computed = running.num_computed_tokens;
        let turn = running.prefill_end / BLOCK_SLOTS;
        let interval = computed / self.limits.snapshot_interval * self.limits.snapshot_interval / BLOCK_SLOTS;
        let is_passed = |blocks: usize| (before + 1..=computed).contains(&(blocks * BLOCK_SLOTS));
        if is_passed(turn) {
            self.save_window(ring, turn, SnapshotKind::Turn);
        } else if is_passed(interval) {
            self.save_window(ring, interval, SnapshotKind::Interval);
        }
    }

    /// Saves the window at a running sequence's last whole block, for whoever goes on from there.
    pub(super) fn save_window_at_end(&mut self, ring: u32) {
        let blocks = self.running(ring).num_computed_tokens / BLOCK_SLOTS;
        if blocks > 0 {
            self.save_window(ring, blocks, SnapshotKind::Turn);
        }
    }

    /// Saves the window behind a sequence's first `blocks` blocks, unless its ring is not exact there.
    fn save_window(&mut self, ring: u32, blocks: usize, kind: SnapshotKind) {
        let running = self.running[ring as usize].as_mut().expect("an ordered ring has a sequence");
        let position = blocks * BLOCK_SLOTS;
        let is_wanted = self.limits.prefix_cache && self.limits.executor.rerun_tokens() > 0;
        if position < running.exact_from || !is_wanted {
            return;
        }
        let rows_since = running.num_computed_tokens - position;
        assert!(rows_since <= self.limits.executor.ring_slack(), "the ring still holds the window");
        if let Some(snapshot) = self.snapshots.take(running.sequence.prefix(blocks), kind) {
            self.copies.push(KvCopy::SaveWindow { ring, position: position as u32, snapshot });
        }
    }

    fn fail_row(&mut self, ring: u32, error: SampleError, events: &mut Vec<RequestEvent>) {
        let position = self.running(ring).num_computed_tokens;
        let error = match error {
            SampleError::NonFinite { token, value } => {
                EngineError::NonFiniteLogits { position, token, value }
            }
            SampleError::NoCandidate => EngineError::NoCandidate { position },
        };
        self.fail(ring, error, events);
    }

    fn take_token(&mut self, ring: u32, sampled: SampledToken, events: &mut Vec<RequestEvent>) {
        let SampledToken { id: token, logprob, top_logprobs } = sampled;
        let Running { sequence, .. } =
            self.running[ring as usize].as_mut().expect("a scheduled sequence runs");
        let (id, index) = (sequence.id, sequence.completion_tokens());
        sequence.push(token);
        self.totals.decode_tokens += 1;
        let event = Event::Token(TokenEvent { id: token, index, logprob, top_logprobs });
        events.push(RequestEvent { id, event });
        let reason = if sequence.stop_token_ids.contains(&token) {
            FinishReason::StopToken(token)
        } else if sequence.completion_tokens() >= sequence.max_tokens {
            FinishReason::Length
        } else {
            return;
        };
        self.end_running(ring, reason, events);
    }
}
