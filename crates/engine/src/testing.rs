//! An executor for tests of everything above the model: its next token is a function of every token of its sequence, read
//! back through block table and ring, so that any mix-up of rows, blocks, rings or positions changes the text.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};

use sostenuto_ops::KvCopy;

use crate::error::ExecutorError;
use crate::executor::Executor;
use crate::limits::{BLOCK_SLOTS, ExecutorLimits};
use crate::plan::StepPlan;

/// What the executor does at a chosen step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Reports an error and stays usable.
    Recoverable,
    /// Reports an error that is not recoverable.
    Fatal,
    /// Panics.
    Panic,
}

/// The error of a [`Fault`], or of a plan that breaks the executor's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashExecutorError {
    /// Asked for by [`HashExecutor::with_fault`].
    #[error("fault at step {step}")]
    Fault {
        /// Steps before it.
        step: u64,
    },
    /// The plan is larger than the limits allow.
    #[error("the plan has {value} {what}; the limit is {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        value: usize,
        /// How many at most.
        limit: usize,
    },
}

/// One token's place in the executor's memory.
type Slot = Option<(u32, u32)>;

/// See the module. Its sliding window is [`HashExecutor::WINDOW`] tokens.
#[derive(Debug)]
pub struct HashExecutor {
    vocab_size: usize,
    limits: ExecutorLimits,
    /// Position and token by block and slot.
    blocks: Vec<Slot>,
    /// Position and token by ring and slot.
    rings: Vec<Slot>,
    /// Position and token by window snapshot and slot.
    snapshots: Vec<Slot>,
    /// Hash of each logit row's sequence, none if the row's logits are to be NaN.
    rows: Vec<Option<u64>>,
    steps: u64,
    fault: Option<(u64, Fault)>,
    nan_token: Option<u32>,
    gate: Option<Receiver<()>>,
    started: Option<SyncSender<u64>>,
}

impl HashExecutor {
    /// Tokens that the ring's hash covers.
    pub const WINDOW: usize = 8;

    /// An executor with empty memory.
    pub fn new(vocab_size: usize, limits: ExecutorLimits) -> Self {
        let ring_slots = Self::ring_slots(&limits);
        Self {
            vocab_size,
            limits,
            blocks: vec![None; limits.num_blocks * BLOCK_SLOTS],
            rings: vec![None; limits.max_sequences * ring_slots],
            snapshots: vec![None; limits.num_snapshots * Self::WINDOW],
            rows: Vec::new(),
            steps: 0,
            fault: None,
            nan_token: None,
            gate: None,
            started: None,
        }
    }

    /// Small limits that a test may change field by field.
    pub fn small_limits() -> ExecutorLimits {
        ExecutorLimits {
            max_step_rows: 16,
            max_logit_rows: 4,
            max_chunk: 8,
            max_sequences: 4,
            max_context: 128,
            num_blocks: 32,
            num_snapshots: 4,
            window: Self::WINDOW,
            num_sliding_layers: 1,
        }
    }

    fn ring_slots(limits: &ExecutorLimits) -> usize {
        Self::WINDOW + limits.ring_slack() - 1
    }

    /// Does this at the step after `steps` others.
    pub fn with_fault(mut self, steps: u64, fault: Fault) -> Self {
        self.fault = Some((steps, fault));
        self
    }

    /// Gives NaN to every row whose sequence holds this token.
    pub fn with_nan_token(mut self, token: u32) -> Self {
        self.nan_token = Some(token);
        self
    }

    /// Sends the number of each step to `started` as it begins, then waits for a message from `gate`. Goes on without
    /// once the other end of `gate` is dropped.
    pub fn with_gate(mut self, started: SyncSender<u64>, gate: Receiver<()>) -> Self {
        (self.started, self.gate) = (Some(started), Some(gate));
        self
    }

    fn check(&self, plan: &StepPlan) -> Result<(), HashExecutorError> {
        let longest = plan.scheduled.iter().map(|part| part.num_scheduled_tokens).max().unwrap_or(0);
        let facts = [
            ("rows", plan.rows(), self.limits.max_step_rows),
            ("logit rows", plan.logit_rows.len(), self.limits.max_logit_rows),
            ("rows of one sequence", longest, self.limits.max_chunk),
            ("sequences", plan.rings.len(), self.limits.max_sequences),
        ];
        match facts.into_iter().find(|(_, value, limit)| value > limit) {
            Some((what, value, limit)) => Err(HashExecutorError::Limit { what, value, limit }),
            None => Ok(()),
        }
    }

    fn block_slot(plan: &StepPlan, sequence: usize, position: usize) -> usize {
        let block = plan.block_table(sequence)[position / BLOCK_SLOTS];
        block as usize * BLOCK_SLOTS + position % BLOCK_SLOTS
    }

    fn ring_slot(&self, ring: u32, position: usize) -> usize {
        let ring_slots = Self::ring_slots(&self.limits);
        ring as usize * ring_slots + position % ring_slots
    }

    fn copy(&mut self, copies: &[KvCopy]) {
        for &copy in copies {
            match copy {
                KvCopy::Block { from, to } => {
                    let start = from as usize * BLOCK_SLOTS;
                    self.blocks.copy_within(start..start + BLOCK_SLOTS, to as usize * BLOCK_SLOTS);
                }
                KvCopy::SaveWindow { ring, position, snapshot } => {
                    self.window_places(ring, position, snapshot).for_each(|(ring_slot, place)| {
                        self.snapshots[place] = self.rings[ring_slot];
                    });
                }
                KvCopy::RestoreWindow { snapshot, position, ring } => {
                    self.window_places(ring, position, snapshot).for_each(|(ring_slot, place)| {
                        self.rings[ring_slot] = self.snapshots[place];
                    });
                }
            }
        }
    }

    /// Ring slots of the window before `position`, and their places in a snapshot.
    fn window_places(
        &self,
        ring: u32,
        position: u32,
        snapshot: u32,
    ) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (position, start) = (position as usize, snapshot as usize * Self::WINDOW);
        let first = position.saturating_sub(Self::WINDOW - 1);
        let slots: Vec<usize> = (first..position).map(|position| self.ring_slot(ring, position)).collect();
        slots.into_iter().zip(start..)
    }

    fn write(&mut self, plan: &StepPlan) {
        for row in 0..plan.rows() {
            let (sequence, position) = (plan.sequences[row] as usize, plan.positions[row] as usize);
            let value = Some((plan.positions[row], plan.token_ids[row]));
            if plan.positions[row] >= plan.kv_write_from[sequence] {
                self.blocks[Self::block_slot(plan, sequence, position)] = value;
            }
            let ring_slot = self.ring_slot(plan.rings[sequence], position);
            self.rings[ring_slot] = value;
        }
    }

    /// Hash over all tokens through the block table, and the last ones again through the ring.
    fn read(&self, plan: &StepPlan, row: usize) -> Option<u64> {
        let (sequence, last) = (plan.sequences[row] as usize, plan.positions[row] as usize);
        let mut hash = 0;
        for position in 0..=last {
            let slot = self.blocks[Self::block_slot(plan, sequence, position)];
            if slot.is_some_and(|(_, token)| Some(token) == self.nan_token) {
                return None;
            }
            hash = absorb(hash, slot);
        }
        for position in last.saturating_sub(Self::WINDOW - 1)..=last {
            hash = absorb(hash, self.rings[self.ring_slot(plan.rings[sequence], position)]);
        }
        Some(hash)
    }
}

impl Executor for HashExecutor {
    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn limits(&self) -> ExecutorLimits {
        self.limits
    }

    fn execute(&mut self, plan: &StepPlan) -> Result<(), ExecutorError> {
        let step = self.steps;
        self.steps += 1;
        if let Some(started) = &self.started {
            // Whoever listened may be gone.
            let _ = started.send(step);
        }
        if let Some(gate) = &self.gate {
            let _ = gate.recv();
        }
        let source = || Arc::new(HashExecutorError::Fault { step });
        match self.fault {
            Some((at, Fault::Recoverable)) if at == step => {
                return Err(ExecutorError::Step { source: source() });
            }
            Some((at, Fault::Fatal)) if at == step => return Err(ExecutorError::Device { source: source() }),
            Some((at, Fault::Panic)) if at == step => panic!("fault at step {step}"),
            _ => {}
        }
        self.check(plan).map_err(|error| ExecutorError::Device { source: Arc::new(error) })?;
        self.copy(&plan.copies);
        self.write(plan);
        self.rows.clear();
        for &row in &plan.logit_rows {
            let hash = self.read(plan, row as usize);
            self.rows.push(hash);
        }
        Ok(())
    }

    fn logits(&mut self, logit_row: usize, out: &mut [f32]) -> Result<(), ExecutorError> {
        let Some(hash) = self.rows[logit_row] else {
            out.fill(f32::NAN);
            return Ok(());
        };
        for (token, logit) in (0_u64..).zip(out) {
            let bits = mix(hash ^ mix(token)) >> 40;
            *logit = bits as f32 / (1 << 21) as f32 - 4.0;
        }
        Ok(())
    }
}

fn absorb(hash: u64, slot: Slot) -> u64 {
    let value = slot.map_or(u64::MAX, |(position, token)| u64::from(position) << 32 | u64::from(token));
    mix(hash ^ mix(value))
}

/// The finaliser of SplitMix64: every bit of the input changes about half of the output.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
