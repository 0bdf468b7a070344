//! What a seed decides before its simulation starts: the model, the machine, its faults and its users.

use std::time::Duration;

use sostenuto_engine::{BLOCK_SLOTS, EngineOptions, ExecutorLimits};

use crate::model::Layer::{Full, Sliding};
use crate::model::{Layer, ModelShape};
use crate::rng::Rng;

/// Layer patterns. That of gpt-oss alternates and begins with a sliding layer. All end with a full one, as it does: so a
/// value that is no number shows in every later row.
pub(crate) const PATTERNS: [&[Layer]; 4] =
    [&[Sliding, Full], &[Sliding, Full, Sliding, Full], &[Sliding, Sliding, Full], &[Full, Full]];

/// API keys are below this.
pub(crate) const MAX_KEYS: usize = 4;

/// Priorities are from the negative of this to this.
pub(crate) const MAX_PRIORITY: i32 = 1;

/// How often things go wrong: one in this many steps, 0 is never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultRates {
    /// A step fails and leaves the device usable.
    pub(crate) step: usize,
    /// The device is lost; a new engine takes over.
    pub(crate) device: usize,
    /// The engine process dies without a word; a new one takes over.
    pub(crate) kill: usize,
    /// A value is no number.
    pub(crate) nan: usize,
    /// A request is cancelled.
    pub(crate) cancel: usize,
    /// The engine is shut down; a new one takes over.
    pub(crate) shutdown: usize,
}

/// Who asks, and for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Users {
    /// API keys.
    pub(crate) keys: usize,
    /// Priorities from `-spread` to `spread`.
    pub(crate) priority_spread: i32,
    /// Requests that are open on average while no burst goes on.
    pub(crate) open_requests: usize,
    /// Requests of a burst.
    pub(crate) burst: usize,
    /// Most tokens of a fresh prompt.
    pub(crate) prompt_tokens: usize,
    /// Most tokens that a request asks for.
    pub(crate) max_tokens: usize,
    /// One request in this many has a deadline; 0 is none.
    pub(crate) deadlines: usize,
}

/// Everything that is fixed for a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) shape: ModelShape,
    pub(crate) limits: ExecutorLimits,
    pub(crate) options: EngineOptions,
    pub(crate) faults: FaultRates,
    pub(crate) users: Users,
}

/// Virtual time that a step of so many rows takes.
pub(crate) fn step_time(rows: usize) -> Duration {
    Duration::from_millis(1) + Duration::from_micros(100) * rows as u32
}

impl Scenario {
    pub(crate) fn of_seed(rng: &mut Rng) -> Self {
        let shape =
            ModelShape { layers: rng.pick(&PATTERNS), window: rng.pick(&[2, 3, 4, 6, 8, 12, 16, 24]) };
        let limits = limits(rng, shape);
        let capacity = limits.sequence_capacity();
        let options = EngineOptions {
            max_queued_requests: rng.between(1, 24),
            max_queued_prompt_tokens: capacity + rng.below(8 * capacity),
            reserve_tokens: rng.pick(&[1, 4, 8, 16, 30, 1_024]),
            snapshot_interval: BLOCK_SLOTS * rng.pick(&[1, 1, 2, 4]),
            prefix_cache: !rng.one_in(12),
            max_step_tokens: rng.one_in(4).then(|| rng.between(1, limits.max_step_rows)),
            max_chunk_tokens: rng.one_in(4).then(|| rng.between(1, limits.max_chunk)),
            prefill_beside_decode: rng.pick(&[1, 4, 16, 128]),
        };
        Self { shape, limits, options, faults: faults(rng), users: users(rng, capacity) }
    }
}

fn limits(rng: &mut Rng, shape: ModelShape) -> ExecutorLimits {
    let max_step_rows = rng.pick(&[1, 2, 3, 5, 8, 12, 16, 24, 40]);
    ExecutorLimits {
        max_step_rows,
        max_logit_rows: rng.between(1, 8),
        max_chunk: rng.between(1, max_step_rows),
        max_sequences: rng.between(1, 6),
        max_context: rng.between(20, 160),
        num_blocks: if rng.one_in(2) { rng.between(3, 14) } else { rng.between(3, 40) },
        num_snapshots: rng.pick(&[0, 1, 2, 3, 4, 8]),
        window: shape.window,
        num_sliding_layers: shape.sliding_layers(),
    }
}

fn faults(rng: &mut Rng) -> FaultRates {
    let mut rate = |mean: usize| if rng.one_in(2) { 0 } else { rng.between(mean / 2, 2 * mean) };
    FaultRates {
        step: rate(200),
        device: rate(500),
        kill: rate(500),
        nan: rate(100),
        cancel: rate(20),
        shutdown: rate(700),
    }
}

fn users(rng: &mut Rng, capacity: usize) -> Users {
    Users {
        keys: rng.between(1, MAX_KEYS),
        priority_spread: if rng.one_in(3) { MAX_PRIORITY } else { 0 },
        open_requests: rng.between(1, 12),
        burst: rng.between(1, 12),
        prompt_tokens: rng.between(1, capacity.min(80)),
        max_tokens: rng.pick(&[2, 6, 12, 24, 60, 200]),
        deadlines: rng.pick(&[0, 0, 3, 10]),
    }
}
