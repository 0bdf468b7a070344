//! How requests end, and what becomes of what they held.

use super::Scheduler;
use crate::error::EngineError;
use crate::event::{Event, FinishReason, RequestEvent};
use crate::limits::BLOCK_SLOTS;
use crate::request::RequestId;
use crate::sequence::Sequence;

impl Scheduler {
    /// Ends a request, queued or running, and frees what it holds. An unknown id, or one that ended, is no error:
    /// a cancel may cross the end on its way.
    pub fn cancel(&mut self, id: RequestId, reason: FinishReason, events: &mut Vec<RequestEvent>) {
        if let Some(sequence) = self.queue.remove(id) {
            self.finish(&sequence, reason, events);
        } else if let Some(place) = self.preempted.iter().position(|sequence| sequence.id == id) {
            let sequence = self.preempted.remove(place).expect("the position was found");
            self.finish(&sequence, reason, events);
        } else if let Some(ring) = self.ring_of(id) {
            self.end_running(ring, reason, events);
        }
        self.check();
    }

    /// Ends every request, the running ones first.
    pub fn cancel_all(&mut self, reason: FinishReason, events: &mut Vec<RequestEvent>) {
        while let Some(&ring) = self.order.first() {
            self.end_running(ring, reason, events);
        }
        while let Some(sequence) = self.preempted.pop_front().or_else(|| self.queue.pop()) {
            self.finish(&sequence, reason, events);
        }
        self.check();
    }

    /// Fails every running sequence: the step's results are lost. What the cache holds is forgotten too, since copies
    /// that the step was to make may not have been made.
    pub fn fail_running(&mut self, error: &EngineError, events: &mut Vec<RequestEvent>) {
        while let Some(&ring) = self.order.first() {
            self.fail(ring, error.clone(), events);
        }
        self.copies.clear();
        self.pool.clear_cache();
        self.snapshots.clear();
        self.check();
    }

    /// Fails every request, waiting and running.
    pub fn fail_all(&mut self, error: &EngineError, events: &mut Vec<RequestEvent>) {
        self.fail_running(error, events);
        while let Some(sequence) = self.preempted.pop_front().or_else(|| self.queue.pop()) {
            self.totals.failed += 1;
            events.push(RequestEvent { id: sequence.id, event: Event::Failed(error.clone()) });
        }
    }

    /// Fails one running sequence. Nobody shall find what it computed.
    pub(super) fn fail(&mut self, ring: u32, error: EngineError, events: &mut Vec<RequestEvent>) {
        let running = self.running[ring as usize].as_mut().expect("a failed sequence runs");
        let own = running.kv_write_from / BLOCK_SLOTS;
        for blocks in own + 1..=running.published {
            self.pool.unpublish(running.blocks[blocks - 1]);
            self.snapshots.forget(running.sequence.prefix(blocks));
        }
        let sequence = self.release(ring);
        self.totals.failed += 1;
        events.push(RequestEvent { id: sequence.id, event: Event::Failed(error) });
    }

    /// Ends a running sequence in order. What it computed stays in the cache.
    pub(super) fn end_running(&mut self, ring: u32, reason: FinishReason, events: &mut Vec<RequestEvent>) {
        self.save_window_at_end(ring);
        let sequence = self.release(ring);
        self.finish(&sequence, reason, events);
    }

    /// Takes a sequence's ring, blocks and promise.
    pub(super) fn release(&mut self, ring: u32) -> Sequence {
        let mut running = self.running[ring as usize].take().expect("a released sequence runs");
        self.order.retain(|&other| other != ring);
        self.free_rings.push_back(ring);
        self.pool.forgo(running.promised_blocks());
        // The last block goes first, so that it is evicted before those that more prefixes need.
        running.blocks.drain(..).rev().for_each(|block| self.pool.release(block));
        self.spare_tables.push(running.blocks);
        running.sequence
    }

    /// Reports the end of a sequence that holds nothing.
    pub(super) fn finish(
        &mut self,
        sequence: &Sequence,
        reason: FinishReason,
        events: &mut Vec<RequestEvent>,
    ) {
        match reason {
            FinishReason::StopToken(_) | FinishReason::Length => self.totals.finished += 1,
            FinishReason::Cancelled | FinishReason::ShuttingDown => self.totals.cancelled += 1,
            FinishReason::Deadline => self.totals.expired += 1,
        }
        let event = Event::Finished { reason, usage: sequence.usage() };
        events.push(RequestEvent { id: sequence.id, event });
    }
}
