//! Every limit of the engine, by name, and the options that set the adjustable ones.

use crate::error::StartError;

/// Slots (token places) of one KV block.
pub const BLOCK_SLOTS: usize = sostenuto_ops::KV_BLOCK_SLOTS;
/// Most requests that wait to run; the next one is refused with [`crate::SubmitError::QueueFull`].
pub const MAX_QUEUED_REQUESTS: usize = 256;
/// Most prompt tokens of all waiting requests together.
pub const MAX_QUEUED_PROMPT_TOKENS: usize = 2_000_000;
/// Rows of prompts in a step that also decodes, by default.
pub const PREFILL_BESIDE_DECODE: usize = 128;
/// Completion tokens that admission, and each extension, promises KV blocks for.
pub const RESERVE_TOKENS: usize = 1_024;
/// Tokens between two window snapshots of a long prompt; a multiple of [`BLOCK_SLOTS`].
pub const SNAPSHOT_INTERVAL: usize = 2_048;
/// Predicted work that a key may start in one turn of the queue, in prefill tokens.
pub const QUEUE_QUANTUM: usize = 2_048;
/// Predicted work of generating one token, in prefill tokens.
pub const DECODE_WORK: usize = 4;
/// Lowest and highest priority of a request.
pub const PRIORITIES: std::ops::RangeInclusive<i32> = -1_000..=1_000;
/// Most stop token ids of one request.
pub const MAX_STOP_TOKENS: usize = 64;
/// Most `logit_bias` entries of one request.
pub const MAX_LOGIT_BIAS_ENTRIES: usize = 1_024;
/// Largest absolute value of a `logit_bias` entry, as in OpenAI's API.
pub const MAX_LOGIT_BIAS_VALUE: f32 = 100.0;
/// Most alternatives reported per token, as in OpenAI's API.
pub const MAX_TOP_LOGPROBS: u8 = 20;
/// Largest temperature, as in OpenAI's API.
pub const MAX_TEMPERATURE: f32 = 2.0;
/// Largest absolute value of the presence and frequency penalties, as in OpenAI's API.
pub const MAX_PENALTY: f32 = 2.0;
/// Largest repetition penalty.
pub const MAX_REPETITION_PENALTY: f32 = 10.0;

/// What an executor can hold and do in one step. Fixed while it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorLimits {
    /// Most rows (tokens) of one step.
    pub max_step_rows: usize,
    /// Most rows of one step whose logits can be read.
    pub max_logit_rows: usize,
    /// Most rows of one sequence in one step: what the sliding layers' rings allow.
    pub max_chunk: usize,
    /// Rings, so the most sequences that run at once.
    pub max_sequences: usize,
    /// Most tokens of one sequence, prompt and completion together.
    pub max_context: usize,
    /// KV blocks of [`BLOCK_SLOTS`] slots in the pool.
    pub num_blocks: usize,
    /// Window snapshots it has room for.
    pub num_snapshots: usize,
    /// Positions that a sliding layer sees, the row's own included.
    pub window: usize,
    /// Sliding layers; 0 where there are no windows to restore.
    pub num_sliding_layers: usize,
}

impl ExecutorLimits {
    /// Most tokens one sequence can ever hold: the context, or the pool where it is smaller.
    pub fn sequence_capacity(&self) -> usize {
        self.max_context.min(self.num_blocks * BLOCK_SLOTS)
    }

    /// Most sequences the scheduler runs at once, so that each has a row and a logit row in every step.
    pub fn max_running(&self) -> usize {
        self.max_sequences.min(self.max_step_rows).min(self.max_logit_rows)
    }

    /// Tokens to run again so that all windows are exact behind them: each sliding layer looks back `window - 1`
    /// positions.
    pub fn rerun_tokens(&self) -> usize {
        self.num_sliding_layers * self.window.saturating_sub(1)
    }

    /// Rows that may follow a position before its window is lost from the ring, which has
    /// `window + max(max_chunk, 16) - 1` slots or more.
    pub fn ring_slack(&self) -> usize {
        self.max_chunk.max(BLOCK_SLOTS)
    }

    fn check(&self) -> Result<(), StartError> {
        let fields = [
            ("max_step_rows", self.max_step_rows),
            ("max_logit_rows", self.max_logit_rows),
            ("max_chunk", self.max_chunk),
            ("max_sequences", self.max_sequences),
            ("num_blocks", self.num_blocks),
        ];
        if let Some(&(field, value)) = fields.iter().find(|(_, value)| *value == 0) {
            return Err(StartError::Limit { field, value, rule: "at least 1" });
        }
        if self.max_context < 2 {
            let rule = "at least 2: one prompt token and one completion token";
            return Err(StartError::Limit { field: "max_context", value: self.max_context, rule });
        }
        Ok(())
    }
}

/// What the caller may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Most requests that wait; at least 1. Default [`MAX_QUEUED_REQUESTS`].
    pub max_queued_requests: usize,
    /// Most prompt tokens that wait; at least one full prompt. Default [`MAX_QUEUED_PROMPT_TOKENS`].
    pub max_queued_prompt_tokens: usize,
    /// Rows of one step over all sequences (the token budget); capped by the executor's. Default: the executor's.
    pub max_step_tokens: Option<usize>,
    /// Rows of one sequence in one step; capped by the executor's. Default: the executor's.
    pub max_chunk_tokens: Option<usize>,
    /// Rows of prompts in a step that also decodes, so that running answers wait less for their next token; at least 1.
    /// Default [`PREFILL_BESIDE_DECODE`].
    pub prefill_beside_decode: usize,
    /// Completion tokens that are promised at a time; at least 1. Default [`RESERVE_TOKENS`].
    pub reserve_tokens: usize,
    /// Tokens between window snapshots of a prompt; a multiple of [`BLOCK_SLOTS`], at least one. Default
    /// [`SNAPSHOT_INTERVAL`].
    pub snapshot_interval: usize,
    /// Whether what was computed is kept for requests that begin alike. Default: yes.
    pub prefix_cache: bool,
}

/// What a scheduler works within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerLimits {
    /// The executor's limits, narrowed by the options.
    pub executor: ExecutorLimits,
    /// As in [`EngineOptions`].
    pub prefill_beside_decode: usize,
    /// As in [`EngineOptions`].
    pub reserve_tokens: usize,
    /// As in [`EngineOptions`].
    pub snapshot_interval: usize,
    /// As in [`EngineOptions`].
    pub prefix_cache: bool,
}

impl SchedulerLimits {
    /// Copies of one step at most: of each ring, a window saved in a prompt, one at its end, and one restored; twice,
    /// where a ring changes hands.
    pub(crate) fn copies_per_step(&self) -> usize {
        6 * self.executor.max_running()
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            max_queued_requests: MAX_QUEUED_REQUESTS,
            max_queued_prompt_tokens: MAX_QUEUED_PROMPT_TOKENS,
            max_step_tokens: None,
            max_chunk_tokens: None,
            prefill_beside_decode: PREFILL_BESIDE_DECODE,
            reserve_tokens: RESERVE_TOKENS,
            snapshot_interval: SNAPSHOT_INTERVAL,
            prefix_cache: true,
        }
    }
}

impl EngineOptions {
    /// Checks the options against an executor's limits and returns the limits to schedule within.
    ///
    /// # Errors
    /// [`StartError::Limit`] names the first field under which no request, or not every legal one, could run.
    pub fn resolve(&self, executor: ExecutorLimits) -> Result<SchedulerLimits, StartError> {
        executor.check()?;
        let mut limits = executor;
        for (field, value) in
            [("max_step_tokens", self.max_step_tokens), ("max_chunk_tokens", self.max_chunk_tokens)]
        {
            if value == Some(0) {
                return Err(StartError::Limit { field, value: 0, rule: "at least 1" });
            }
        }
        if self.max_queued_requests == 0 {
            return Err(StartError::Limit { field: "max_queued_requests", value: 0, rule: "at least 1" });
        }
        if self.max_queued_prompt_tokens < limits.sequence_capacity() {
            return Err(StartError::Limit {
                field: "max_queued_prompt_tokens",
                value: self.max_queued_prompt_tokens,
                rule: "at least the most tokens of one sequence, or its prompt could never wait",
            });
        }
        if self.prefill_beside_decode == 0 {
            return Err(StartError::Limit { field: "prefill_beside_decode", value: 0, rule: "at least 1" });
        }
        if self.reserve_tokens == 0 {
            return Err(StartError::Limit { field: "reserve_tokens", value: 0, rule: "at least 1" });
        }
        if self.snapshot_interval == 0 || !self.snapshot_interval.is_multiple_of(BLOCK_SLOTS) {
            return Err(StartError::Limit {
                field: "snapshot_interval",
                value: self.snapshot_interval,
                rule: "a multiple of 16, at least 16",
            });
        }
        limits.max_step_rows = limits.max_step_rows.min(self.max_step_tokens.unwrap_or(usize::MAX));
        limits.max_chunk = limits.max_chunk.min(self.max_chunk_tokens.unwrap_or(usize::MAX));
        Ok(SchedulerLimits {
            executor: limits,
            prefill_beside_decode: self.prefill_beside_decode,
            reserve_tokens: self.reserve_tokens,
            snapshot_interval: self.snapshot_interval,
            prefix_cache: self.prefix_cache,
        })
    }
}
