//! Which rows run in the next step, and what a step's output means for its sequences.
//!
//! Pure: no thread, clock, IO or randomness. The same calls in the same order give the same plans and events.

mod admission;
mod ending;
mod progress;

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sostenuto_ops::KvCopy;

use crate::error::SubmitError;
use crate::event::RequestEvent;
use crate::kv::{BlockCounts, BlockId, BlockPool, SnapshotPool};
use crate::limits::{BLOCK_SLOTS, SchedulerLimits};
use crate::plan::StepPlan;
use crate::queue::{QueueLoad, RequestQueue};
use crate::request::{RequestId, ValidRequest};
use crate::sampler::SamplerRow;
use crate::sequence::{Running, Sequence};

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Steps run.
    pub steps: u64,
    /// Rows computed that gave no new token: prompts, and what had to be computed again.
    pub prefill_tokens: u64,
    /// Completion tokens sampled.
    pub decode_tokens: u64,
    /// Requests that started to run.
    pub started: u64,
    /// Requests that ended with a stop token or their length.
    pub finished: u64,
    /// Requests that were cancelled or cut by shutdown.
    pub cancelled: u64,
    /// Requests that ended at their deadline.
    pub expired: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Sequences that gave up their place to others.
    pub preemptions: u64,
    /// Tokens that sequences had when they were admitted.
    pub prefix_queried_tokens: u64,
    /// Of these, tokens that need not be computed because the cache held them.
    pub prefix_hit_tokens: u64,
}

impl Totals {
    /// Both counts together.
    pub(crate) fn plus(self, other: Totals) -> Totals {
        Totals {
            steps: self.steps + other.steps,
            prefill_tokens: self.prefill_tokens + other.prefill_tokens,
            decode_tokens: self.decode_tokens + other.decode_tokens,
            started: self.started + other.started,
            finished: self.finished + other.finished,
            cancelled: self.cancelled + other.cancelled,
            expired: self.expired + other.expired,
            failed: self.failed + other.failed,
            preemptions: self.preemptions + other.preemptions,
            prefix_queried_tokens: self.prefix_queried_tokens + other.prefix_queried_tokens,
            prefix_hit_tokens: self.prefix_hit_tokens + other.prefix_hit_tokens,
        }
    }
}

/// A running sequence, for whoever checks the scheduler.
#[derive(Clone, Copy, Debug)]
pub struct RunningSequence<'a> {
    /// Its request.
    pub id: RequestId,
    /// Its ring.
    pub ring: u32,
    /// Its blocks so far.
    pub block_table: &'a [BlockId],
    /// Whether it gave up its place before.
    pub was_preempted: bool,
}

/// The queue, the running sequences and the KV they hold.
///
/// Policy:
/// - A request starts when a ring is free and the pool can promise blocks for its tokens and the first
///   [`crate::RESERVE_TOKENS`] it may generate. The queue says whose turn it is; nobody overtakes the one whose turn
///   it is.
/// - A sequence that outgrows its promise gets another [`crate::RESERVE_TOKENS`]. If the pool can't promise them, the
///   sequence admitted last that was never preempted gives up its place and waits, before all others, until the pool can
///   promise all it may ever need. So each request is preempted at most once, and always ends.
/// - Each step takes one row of every decoding sequence, then prefill chunks while rows are left, at most
///   `max_chunk` of one sequence: higher priority first, then the one whose last chunk is longest ago.
/// - Blocks that are complete can be found by the prefix they end; a new sequence shares them. Windows of sliding
///   layers resume from a snapshot, or by running the last `(window − 1) · sliding layers` tokens again, which writes
///   the ring and only reads the shared blocks. A request whose next block another one is computing waits for it.
#[derive(Debug)]
pub struct Scheduler {
    limits: SchedulerLimits,
    queue: RequestQueue,
    /// Sequences that gave up their place, in order of admission.
    preempted: VecDeque<Sequence>,
    pool: BlockPool,
    snapshots: SnapshotPool,
    /// What the next step has to copy before its rows.
    copies: Vec<KvCopy>,
    /// Running sequences by ring number.
    running: Vec<Option<Running>>,
    /// Rings of the running sequences, in order of admission.
    order: Vec<u32>,
    /// Rings nobody has.
    free_rings: VecDeque<u32>,
    /// Rings of the sequences with prefill left, in the order of the step at hand.
    prefilling: Vec<u32>,
    /// Emptied block tables, kept for their capacity.
    spare_tables: Vec<Vec<BlockId>>,
    totals: Totals,
}

impl Scheduler {
    /// A scheduler within `limits`, whose queue holds at most `queue_limit`.
    pub fn new(limits: SchedulerLimits, queue_limit: QueueLoad) -> Self {
        let rings = limits.executor.max_running();
        Self {
            limits,
            queue: RequestQueue::new(queue_limit),
            preempted: VecDeque::with_capacity(rings),
            pool: BlockPool::new(limits.executor.num_blocks),
            snapshots: SnapshotPool::new(limits.executor.num_snapshots),
            copies: Vec::with_capacity(limits.copies_per_step()),
            running: (0..rings).map(|_| None).collect(),
            order: Vec::with_capacity(rings),
            free_rings: (0..rings as u32).collect(),
            prefilling: Vec::with_capacity(rings),
            spare_tables: Vec::with_capacity(rings),
            totals: Totals::default(),
        }
    }

    /// A plan that [`Scheduler::schedule`] never makes grow.
    pub fn new_plan(&self) -> StepPlan {
        let limits = &self.limits.executor;
        let tables = self.running.len() * limits.sequence_capacity().div_ceil(BLOCK_SLOTS);
        StepPlan::with_capacity(
            limits.max_step_rows,
            self.running.len(),
            tables,
            self.limits.copies_per_step(),
        )
    }

    /// Puts a request into the queue at time `now`.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`], [`SubmitError::DuplicateId`].
    pub fn submit(&mut self, id: RequestId, request: ValidRequest, now: Duration) -> Result<(), SubmitError> {
        let is_preempted = self.preempted.iter().any(|sequence| sequence.id == id);
        if self.ring_of(id).is_some() || is_preempted || self.queue.contains(id) {
            return Err(SubmitError::DuplicateId { id });
        }
        let pushed = self.queue.push(Sequence::new(id, request, now));
        pushed.map_err(|full| full.into_error(Duration::ZERO))
    }

    /// Ends what is past its deadline, grows promises, admits what fits, and writes the next step's rows into `plan`.
    /// An empty plan means that nothing runs.
    pub fn schedule(&mut self, now: Duration, plan: &mut StepPlan, events: &mut Vec<RequestEvent>) {
        plan.clear();
        self.expire(now, events);
        self.extend_promises();
        self.admit(events);
        let mut rows_left = self.limits.executor.max_step_rows;
        for place in 0..self.order.len() {
            let ring = self.order[place];
            if self.running(ring).is_decoding() {
                self.plan_rows(ring, 1, plan);
                rows_left -= 1;
            }
        }
        if plan.rows() > 0 {
            rows_left = rows_left.min(self.limits.prefill_beside_decode);
        }
        self.order_prefills();
        for place in 0..self.prefilling.len() {
            let ring = self.prefilling[place];
            let rows = self.running(ring).pending_tokens().min(self.limits.executor.max_chunk).min(rows_left);
            if rows > 0 {
                self.plan_rows(ring, rows, plan);
                rows_left -= rows;
            }
        }
        if plan.rows() > 0 {
            std::mem::swap(&mut self.copies, &mut plan.copies);
        }
        assert!(plan.logit_rows.len() <= self.limits.executor.max_logit_rows, "a step has max_logit_rows");
        assert!(self.order.is_empty() || plan.rows() > 0, "running sequences make progress");
        self.check();
    }

    /// What the sampler needs for a running sequence's next token.
    ///
    /// # Panics
    /// If no sequence has this ring.
    pub fn sampler_row(&self, ring: u32) -> SamplerRow<'_> {
        self.running(ring).sequence.sampler_row()
    }

    /// What waits. Preempted sequences were admitted and do not count.
    pub fn queue_load(&self) -> QueueLoad {
        self.queue.load()
    }

    /// Running sequences.
    pub fn num_running(&self) -> usize {
        self.order.len()
    }

    /// Preempted sequences that wait to go on.
    pub fn num_preempted(&self) -> usize {
        self.preempted.len()
    }

    /// Blocks by state.
    pub fn block_counts(&self) -> BlockCounts {
        self.pool.counts()
    }

    /// Blocks in all.
    pub fn total_blocks(&self) -> usize {
        self.pool.total()
    }

    /// Cached blocks that were taken for other use.
    pub fn evicted_blocks(&self) -> u64 {
        self.pool.evicted()
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.order.is_empty() && self.preempted.is_empty() && self.queue.load().requests == 0
    }

    /// Counts since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Ids of the running sequences, in order of admission.
    pub fn running_ids(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.order.iter().map(|&ring| self.running(ring).sequence.id)
    }

    /// Block tables of the running sequences, in order of admission.
    pub fn block_tables(&self) -> impl Iterator<Item = &[BlockId]> + '_ {
        self.order.iter().map(|&ring| self.running(ring).blocks.as_slice())
    }

    /// The running sequences, in order of admission.
    pub fn running_sequences(&self) -> impl Iterator<Item = RunningSequence<'_>> {
        self.order.iter().map(|&ring| {
            let Running { sequence, blocks, .. } = self.running(ring);
            let was_preempted = sequence.was_preempted;
            RunningSequence { id: sequence.id, ring, block_table: blocks, was_preempted }
        })
    }

    /// The pool of blocks.
    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// The window snapshots.
    pub fn snapshots(&self) -> &SnapshotPool {
        &self.snapshots
    }

    /// Plans the next `rows` rows of a sequence, and takes the blocks they need.
    fn plan_rows(&mut self, ring: u32, rows: usize, plan: &mut StepPlan) {
        let running = self.running[ring as usize].as_mut().expect("an ordered ring has a sequence");
        let (start, end) = (running.num_computed_tokens, running.num_computed_tokens + rows);
        assert!(end <= running.reserved_tokens, "rows stay within what is promised");
        while running.blocks.len() * BLOCK_SLOTS < end {
            running.blocks.push(self.pool.take());
        }
        if !running.is_decoding() {
            running.last_prefill = self.totals.steps + 1;
        }
        plan.push_sequence(
            ring,
            &running.sequence.tokens[start..end],
            start,
            &running.blocks[..end.div_ceil(BLOCK_SLOTS)],
            running.kv_write_from,
            end == running.sequence.tokens.len(),
        );
    }

    /// Lists the sequences with prefill left in the order in which they get rows.
    fn order_prefills(&mut self) {
        self.prefilling.clear();
        let running = &self.running;
        let state = |ring: u32| running[ring as usize].as_ref().expect("an ordered ring has a sequence");
        self.prefilling.extend(self.order.iter().copied().filter(|&ring| !state(ring).is_decoding()));
        // Stable and in place for the few that there are: no allocation, and ties keep the order of admission.
        for end in 1..self.prefilling.len() {
            let rank = |ring: u32| (-i64::from(state(ring).sequence.priority), state(ring).last_prefill);
            let ring = self.prefilling[end];
            let place = self.prefilling[..end].partition_point(|&other| rank(other) <= rank(ring));
            self.prefilling[place..=end].rotate_right(1);
        }
    }

    /// The conservation equations of blocks, promises and rings.
    fn check(&self) {
        let (mut references, mut promised) = (0, 0);
        for &ring in &self.order {
            let running = self.running(ring);
            references += running.blocks.len();
            promised += running.promised_blocks();
        }
        self.pool.check(references, promised);
        let (free, used, total) = (self.free_rings.len(), self.order.len(), self.running.len());
        assert_eq!(free + used, total, "free {free} + used {used} rings = total {total}");
    }

    fn running(&self, ring: u32) -> &Running {
        self.running[ring as usize].as_ref().expect("an ordered ring has a sequence")
    }

    fn ring_of(&self, id: RequestId) -> Option<u32> {
        self.order.iter().copied().find(|&ring| self.running(ring).sequence.id == id)
    }
}
