//! Who may run: promises of blocks, prefixes found in the cache, preemption.

use std::time::Duration;

use sostenuto_ops::KvCopy;

use super::Scheduler;
use crate::event::{Event, FinishReason, RequestEvent};
use crate::kv::{BlockId, BlockPool, SnapshotPool};
use crate::limits::{BLOCK_SLOTS, ExecutorLimits, SchedulerLimits};
use crate::sequence::{Running, Sequence};

/// How a sequence goes on from what the cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Resume {
    /// The first position to compute.
    start: usize,
    /// Snapshot of the windows at `start`.
    snapshot: Option<u32>,
    /// The first position whose windows are exact.
    exact_from: usize,
}

impl Scheduler {
    /// Ends requests that are past their deadline.
    pub(super) fn expire(&mut self, now: Duration, events: &mut Vec<RequestEvent>) {
        while let Some(sequence) = self.queue.take_expired(now) {
            self.finish(&sequence, FinishReason::Deadline, events);
        }
        let is_past = |sequence: &Sequence| sequence.deadline.is_some_and(|deadline| deadline <= now);
        while let Some(place) = self.preempted.iter().position(is_past) {
            let sequence = self.preempted.remove(place).expect("the position was found");
            self.finish(&sequence, FinishReason::Deadline, events);
        }
        while let Some(&ring) = self.order.iter().find(|&&ring| is_past(&self.running(ring).sequence)) {
            self.end_running(ring, FinishReason::Deadline, events);
        }
    }

    /// Promises more blocks to sequences that outgrew theirs, oldest first.
    pub(super) fn extend_promises(&mut self) {
        let mut place = 0;
        while let Some(&ring) = self.order.get(place) {
            let running = self.running(ring);
            let grows = running.sequence.tokens.len() > running.reserved_tokens;
            if grows && !self.extend_promise(ring) {
                // It gave up its place itself.
                continue;
            }
            place += 1;
        }
    }

    /// Promises another `reserve_tokens`, at the cost of the youngest where it must be; `false` if that was `ring` itself.
    fn extend_promise(&mut self, ring: u32) -> bool {
        let running = self.running(ring);
        let most = running.sequence.most_tokens();
        let reserved = most.min(running.reserved_tokens + self.limits.reserve_tokens);
        let more = reserved.div_ceil(BLOCK_SLOTS) - running.reserved_tokens.div_ceil(BLOCK_SLOTS);
        while !self.pool.promise(more) {
            let can_yield = |other: &&u32| !self.running(**other).sequence.was_preempted;
            let victim = *self.order.iter().rfind(can_yield).expect("whoever outgrows its promise can yield");
            self.preempt(victim);
            if victim == ring {
                return false;
            }
        }
        self.running[ring as usize].as_mut().expect("an ordered ring has a sequence").reserved_tokens =
            reserved;
        true
    }

    /// Takes a sequence's ring and blocks; it waits before all others.
    fn preempt(&mut self, ring: u32) {
        self.save_window_at_end(ring);
        let mut sequence = self.release(ring);
        assert!(!sequence.was_preempted, "request {} is preempted at most once", sequence.id);
        sequence.was_preempted = true;
        self.totals.preemptions += 1;
        // The youngest yields first, so that the order of admission is kept.
        self.preempted.push_front(sequence);
    }

    /// Starts what fits: preempted sequences first, then by the queue's order.
    pub(super) fn admit(&mut self, events: &mut Vec<RequestEvent>) {
        while !self.free_rings.is_empty() {
            let goes_on = !self.preempted.is_empty();
            let next = if goes_on { self.preempted.front_mut() } else { self.queue.front() };
            let Some(sequence) = next else { return };
            let mut table = self.spare_tables.pop().unwrap_or_default();
            let reserved_tokens = reservation(sequence, &self.limits);
            let mut waits = false;
            if self.limits.prefix_cache {
                share_prefix(sequence, &mut self.pool, &mut table);
                waits = is_computed_by_another(sequence, table.len(), self.running.iter().flatten());
            }
            if waits || !promise_rest(reserved_tokens, &mut self.pool, &table) {
                table.drain(..).rev().for_each(|block| self.pool.release(block));
                self.spare_tables.push(table);
                return;
            }
            let resume = Resume::find(sequence, table.len(), &self.snapshots, &self.limits.executor);
            let next = if goes_on { self.preempted.pop_front() } else { self.queue.pop() };
            self.start(next.expect("it was looked at"), table, reserved_tokens, resume, events);
        }
    }

    /// Gives a sequence a ring; `table` holds its shared blocks, and the others are promised.
    fn start(
        &mut self,
        mut sequence: Sequence,
        mut blocks: Vec<BlockId>,
        reserved_tokens: usize,
        resume: Resume,
        events: &mut Vec<RequestEvent>,
    ) {
        let ring = self.free_rings.pop_front().expect("a ring is free");
        sequence.reserve();
        blocks.reserve_exact(sequence.most_tokens().div_ceil(BLOCK_SLOTS) - blocks.len());
        if let Some(snapshot) = resume.snapshot {
            self.snapshots.touch(snapshot);
            self.copies.push(KvCopy::RestoreWindow { snapshot, position: resume.start as u32, ring });
        }
        self.totals.prefix_queried_tokens += sequence.tokens.len() as u64;
        self.totals.prefix_hit_tokens += resume.start as u64;
        if !sequence.has_started {
            sequence.has_started = true;
            sequence.cached_prompt_tokens = resume.start.min(sequence.prompt_tokens);
            self.totals.started += 1;
            let event = Event::Started {
                prompt_tokens: sequence.prompt_tokens,
                max_tokens: sequence.max_tokens,
                cached_tokens: sequence.cached_prompt_tokens,
            };
            events.push(RequestEvent { id: sequence.id, event });
        }
        let published = blocks.len();
        if self.limits.prefix_cache {
            sequence.name_blocks();
        }
        self.running[ring as usize] = Some(Running {
            reserved_tokens,
            num_computed_tokens: resume.start,
            kv_write_from: published * BLOCK_SLOTS,
            exact_from: resume.exact_from,
            published,
            prefill_end: sequence.tokens.len(),
            last_prefill: 0,
            blocks,
            sequence,
        });
        self.order.push(ring);
    }
}

/// Tokens to promise blocks for at admission: what it may generate at first; all of it for one that was preempted.
fn reservation(sequence: &Sequence, limits: &SchedulerLimits) -> usize {
    match sequence.was_preempted {
        true => sequence.most_tokens(),
        false => sequence.tokens.len() + sequence.remaining_tokens().min(limits.reserve_tokens),
    }
}

/// Shares the blocks of the longest prefix that the pool holds, in `table`.
fn share_prefix(sequence: &mut Sequence, pool: &mut BlockPool, table: &mut Vec<BlockId>) {
    for blocks in 1..=sequence.whole_blocks() {
        let Some(block) = pool.find(sequence.prefix(blocks)) else { break };
        pool.share(block);
        table.push(block);
    }
}

/// Whether the block behind the shared ones is being computed: several requests that begin alike compute that once.
fn is_computed_by_another<'a>(
    sequence: &mut Sequence,
    shared_blocks: usize,
    mut running: impl Iterator<Item = &'a Running>,
) -> bool {
    let blocks = shared_blocks + 1;
    if blocks > sequence.whole_blocks() {
        return false;
    }
    let prefix = sequence.prefix(blocks);
    running.any(|other| other.will_publish(blocks, prefix))
}

/// Promises the blocks of a reservation that are not in `table`; nothing and `false` if the pool can't, also where
/// `table` took blocks out of the cache that were promised to others.
fn promise_rest(reserved_tokens: usize, pool: &mut BlockPool, table: &[BlockId]) -> bool {
    pool.promise(reserved_tokens.div_ceil(BLOCK_SLOTS) - table.len())
}

impl Resume {
    /// The cheapest exact way on from `shared_blocks` blocks.
    ///
    /// At least one token is computed, so that there are logits. A window is exact behind a snapshot; after
    /// `(window - 1) · sliding layers` tokens that start from any ring, since each sliding layer looks back
    /// `window - 1` positions and full layers read what the shared blocks hold; and from position 0.
    fn find(
        sequence: &mut Sequence,
        shared_blocks: usize,
        snapshots: &SnapshotPool,
        limits: &ExecutorLimits,
    ) -> Self {
        let target = (shared_blocks * BLOCK_SLOTS).min(sequence.tokens.len() - 1);
        let rerun_from = target.saturating_sub(limits.rerun_tokens());
        let first_block = rerun_from / BLOCK_SLOTS + 1;
        for blocks in (first_block..=target / BLOCK_SLOTS).rev() {
            if let Some(snapshot) = snapshots.find(sequence.prefix(blocks)) {
                let start = blocks * BLOCK_SLOTS;
                return Self { start, snapshot: Some(snapshot), exact_from: start };
            }
        }
        let exact_from = if rerun_from == 0 { 0 } else { target };
        Self { start: rerun_from, snapshot: None, exact_from }
    }
}
