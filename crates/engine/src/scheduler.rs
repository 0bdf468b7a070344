//! Which rows run in the next step, and what a step's output means for its sequences.
//!
//! Pure: no thread, clock, IO or randomness. The same calls in the same order give the same plans and events.

use std::collections::VecDeque;

use crate::block_pool::{BlockId, BlockPool};
use crate::error::{EngineError, SubmitError};
use crate::event::{Event, FinishReason, RequestEvent, TokenEvent, Usage};
use crate::limits::{BLOCK_SLOTS, ExecutorLimits};
use crate::plan::{RowOutput, SampleError, SampledToken, StepOutput, StepPlan};
use crate::queue::{QueueLoad, RequestQueue};
use crate::request::{RequestId, ValidRequest};
use crate::sampler::SamplerRow;
use crate::sequence::Sequence;

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Steps run.
    pub steps: u64,
    /// Prompt tokens computed.
    pub prefill_tokens: u64,
    /// Completion tokens sampled.
    pub decode_tokens: u64,
    /// Requests that ended with a stop token or their length.
    pub finished: u64,
    /// Requests that were cancelled or cut by shutdown.
    pub cancelled: u64,
    /// Requests that failed.
    pub failed: u64,
}

/// The queue, the running sequences and the KV they hold.
///
/// Policy: first in, first out. The front request starts when a ring is free and the pool holds blocks for its prompt
/// and `max_tokens`; nobody overtakes it. Each step takes one row of every decoding sequence, then prefill chunks
/// in order of admission while rows are left, at most `max_chunk` of one sequence.
#[derive(Debug)]
pub struct Scheduler {
    limits: ExecutorLimits,
    queue: RequestQueue,
    pool: BlockPool,
    /// Running sequences by ring number.
    running: Vec<Option<Sequence>>,
    /// Rings of the running sequences, in order of admission.
    order: Vec<u32>,
    /// Rings nobody has.
    free_rings: VecDeque<u32>,
    /// Emptied block tables, kept for their capacity.
    spare_tables: Vec<Vec<BlockId>>,
    totals: Totals,
}

impl Scheduler {
    /// A scheduler within `limits`, whose queue holds at most `queue_limit`.
    pub fn new(limits: ExecutorLimits, queue_limit: QueueLoad) -> Self {
        let rings = limits.max_running();
        Self {
            limits,
            queue: RequestQueue::new(queue_limit),
            pool: BlockPool::new(limits.num_blocks),
            running: (0..rings).map(|_| None).collect(),
            order: Vec::with_capacity(rings),
            free_rings: (0..rings as u32).collect(),
            spare_tables: Vec::with_capacity(rings),
            totals: Totals::default(),
        }
    }

    /// A plan that [`Scheduler::schedule`] never makes grow.
    pub fn new_plan(&self) -> StepPlan {
        StepPlan::with_capacity(self.limits.max_step_rows, self.running.len(), self.limits.num_blocks)
    }

    /// Puts a request at the end of the queue.
    ///
    /// # Errors
    /// [`SubmitError::QueueFull`], [`SubmitError::DuplicateId`].
    pub fn submit(&mut self, id: RequestId, request: ValidRequest) -> Result<(), SubmitError> {
        if self.ring_of(id).is_some() || self.queue.contains(id) {
            return Err(SubmitError::DuplicateId { id });
        }
        self.queue.push(id, request)
    }

    /// Ends a request, queued or running, and frees what it holds. An unknown id, or one that ended, is no error:
    /// a cancel may cross the end on its way.
    pub fn cancel(&mut self, id: RequestId, reason: FinishReason, events: &mut Vec<RequestEvent>) {
        if let Some(request) = self.queue.remove(id) {
            let usage = Usage { prompt_tokens: request.prompt_tokens(), completion_tokens: 0 };
            self.totals.cancelled += 1;
            events.push(RequestEvent { id, event: Event::Finished { reason, usage } });
        } else if let Some(ring) = self.ring_of(id) {
            let sequence = self.release(ring);
            self.totals.cancelled += 1;
            let event = Event::Finished { reason, usage: sequence.usage() };
            events.push(RequestEvent { id, event });
        }
        self.check();
    }

    /// Ends every request, the running ones first.
    pub fn cancel_all(&mut self, reason: FinishReason, events: &mut Vec<RequestEvent>) {
        while let Some(&ring) = self.order.first() {
            let id = self.sequence(ring).id;
            self.cancel(id, reason, events);
        }
        while let Some((id, request)) = self.queue.pop() {
            let usage = Usage { prompt_tokens: request.prompt_tokens(), completion_tokens: 0 };
            self.totals.cancelled += 1;
            events.push(RequestEvent { id, event: Event::Finished { reason, usage } });
        }
    }

    /// Fails every running sequence: the step's results are lost.
    pub fn fail_running(&mut self, error: &EngineError, events: &mut Vec<RequestEvent>) {
        while let Some(&ring) = self.order.first() {
            self.fail(ring, error.clone(), events);
        }
        self.check();
    }

    /// Fails every request, queued and running.
    pub fn fail_all(&mut self, error: &EngineError, events: &mut Vec<RequestEvent>) {
        self.fail_running(error, events);
        while let Some((id, _)) = self.queue.pop() {
            self.totals.failed += 1;
            events.push(RequestEvent { id, event: Event::Failed(error.clone()) });
        }
    }

    /// Admits what fits and writes the next step's rows into `plan`. An empty plan means that nothing runs.
    pub fn schedule(&mut self, plan: &mut StepPlan, events: &mut Vec<RequestEvent>) {
        plan.clear();
        self.admit(events);
        let mut rows_left = self.limits.max_step_rows;
        for decoding in [true, false] {
            for &ring in &self.order {
                let sequence = self.sequence(ring);
                if sequence.is_decoding() != decoding {
                    continue;
                }
                let rows = sequence.pending_tokens().min(self.limits.max_chunk).min(rows_left);
                if rows > 0 {
                    push_rows(plan, sequence, rows);
                    rows_left -= rows;
                }
            }
        }
        assert!(plan.rows() <= self.limits.max_step_rows, "a step has at most max_step_rows rows");
        assert!(plan.logit_rows.len() <= self.limits.max_logit_rows, "a step has at most max_logit_rows");
        assert!(self.order.is_empty() || plan.rows() > 0, "running sequences make progress");
    }

    /// Takes in what a step gave: advances its sequences, emits tokens, ends what is done.
    ///
    /// # Panics
    /// If `output` does not have one row for each of the plan's logit rows: a bug of the caller.
    pub fn apply(&mut self, plan: &StepPlan, output: &mut StepOutput, events: &mut Vec<RequestEvent>) {
        assert_eq!(output.rows.len(), plan.logit_rows.len(), "one output for each logit row");
        self.totals.steps += 1;
        let mut outputs = output.rows.drain(..);
        for part in &plan.scheduled {
            let sequence = self.running[part.ring as usize].as_mut().expect("a scheduled sequence runs");
            if !sequence.is_decoding() {
                self.totals.prefill_tokens += part.num_scheduled_tokens as u64;
            }
            sequence.num_computed_tokens += part.num_scheduled_tokens;
            if part.logit_row.is_some() {
                let row = outputs.next().expect("one output for each logit row");
                self.take_row(part.ring, row, events);
            }
        }
        self.check();
    }

    /// What the sampler needs for a running sequence's next token.
    ///
    /// # Panics
    /// If no sequence has this ring.
    pub fn sampler_row(&self, ring: u32) -> SamplerRow<'_> {
        self.sequence(ring).sampler_row()
    }

    /// What waits.
    pub fn queue_load(&self) -> QueueLoad {
        self.queue.load()
    }

    /// Running sequences.
    pub fn num_running(&self) -> usize {
        self.order.len()
    }

    /// Blocks nobody holds.
    pub fn free_blocks(&self) -> usize {
        self.pool.num_free()
    }

    /// Blocks in all.
    pub fn total_blocks(&self) -> usize {
        self.pool.total()
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.order.is_empty() && self.queue.load().requests == 0
    }

    /// Counts since the start.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Ids of the running sequences, in order of admission.
    pub fn running_ids(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.order.iter().map(|&ring| self.sequence(ring).id)
    }

    fn admit(&mut self, events: &mut Vec<RequestEvent>) {
        while let (Some(request), Some(&ring)) = (self.queue.front(), self.free_rings.front()) {
            let blocks = request.max_sequence_tokens().div_ceil(BLOCK_SLOTS);
            let mut table = self.spare_tables.pop().unwrap_or_default();
            if !self.pool.take(ring, blocks, &mut table) {
                self.spare_tables.push(table);
                break;
            }
            self.free_rings.pop_front();
            let (id, request) = self.queue.pop().expect("the queue has a front");
            let sequence = Sequence::new(id, ring, table, request.into_inner());
            let event =
                Event::Started { prompt_tokens: sequence.prompt_tokens, max_tokens: sequence.max_tokens };
            events.push(RequestEvent { id, event });
            self.running[ring as usize] = Some(sequence);
            self.order.push(ring);
        }
        self.check();
    }

    fn take_row(&mut self, ring: u32, row: RowOutput, events: &mut Vec<RequestEvent>) {
        let sequence = self.running[ring as usize].as_mut().expect("a scheduled sequence runs");
        let position = sequence.tokens.len();
        let SampledToken { id: token, logprob, top_logprobs } = match row {
            Ok(sampled) => sampled,
            Err(SampleError::NonFinite { token, value }) => {
                return self.fail(ring, EngineError::NonFiniteLogits { position, token, value }, events);
            }
            Err(SampleError::NoCandidate) => {
                return self.fail(ring, EngineError::NoCandidate { position }, events);
            }
        };
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
        let usage = self.release(ring).usage();
        self.totals.finished += 1;
        events.push(RequestEvent { id, event: Event::Finished { reason, usage } });
    }

    fn fail(&mut self, ring: u32, error: EngineError, events: &mut Vec<RequestEvent>) {
        let sequence = self.release(ring);
        self.totals.failed += 1;
        events.push(RequestEvent { id: sequence.id, event: Event::Failed(error) });
    }

    /// Takes a sequence out and frees its ring and blocks.
    fn release(&mut self, ring: u32) -> Sequence {
        let mut sequence = self.running[ring as usize].take().expect("a released sequence runs");
        self.order.retain(|&other| other != ring);
        self.free_rings.push_back(ring);
        let mut table = std::mem::take(&mut sequence.blocks);
        self.pool.give_back(ring, &mut table);
        self.spare_tables.push(table);
        sequence
    }

    /// The conservation equations of blocks and rings.
    fn check(&self) {
        let held = self.order.iter().map(|&ring| self.sequence(ring).blocks.len()).sum();
        self.pool.check(held);
        let (free, used, total) = (self.free_rings.len(), self.order.len(), self.running.len());
        assert_eq!(free + used, total, "free {free} + used {used} rings = total {total}");
    }

    fn sequence(&self, ring: u32) -> &Sequence {
        self.running[ring as usize].as_ref().expect("an ordered ring has a sequence")
    }

    fn ring_of(&self, id: RequestId) -> Option<u32> {
        self.order.iter().copied().find(|&ring| self.sequence(ring).id == id)
    }
}

fn push_rows(plan: &mut StepPlan, sequence: &Sequence, rows: usize) {
    let start = sequence.num_computed_tokens;
    let end = start + rows;
    let tokens = &sequence.tokens[start..end];
    let wants_logits = end == sequence.tokens.len();
    plan.push_sequence(sequence.ring, tokens, start, sequence.block_table(end), wants_logits);
}
