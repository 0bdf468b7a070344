//! Sequences, scheduling, sampling and the step loop: commands in, events out.
//!
//! The engine sees token ids, counts and block numbers; no text, JSON, HTTP or tensor. One owner thread drives an
//! [`Executor`]; everyone else holds an [`EngineHandle`] and talks to it through a bounded inbox.
//!
//! Layers, each usable without the one above it:
//!
//! | Part | Knows | Must not know |
//! |---|---|---|
//! | [`BlockPool`], [`SnapshotPool`] | blocks, references, prefixes | sequences, what blocks hold |
//! | [`Scheduler`], [`StepPlan`], [`StepOutput`] | sequences, blocks, rings, rows | logits, threads, clock |
//! | [`Sampler`] | one row's logits and its parameters | other rows, sequences, time |
//! | [`EngineCore`] | scheduler, executor and sampler: one step at a time | threads, clock, sinks |
//! | [`Engine`], [`EngineHandle`] | the owner thread, sinks, shutdown | what a step does |
//! | [`remote`] | an engine in another process: frames, journal, restart | what a step does |
//!
//! Callers see an [`EngineClient`], which the handle is, and the front of an engine process too.
//!
//! A row never depends on its company: an executor must compute each row alone, and a sampled token is drawn
//! from a generator keyed by (seed, position). So batch size, chunking and order of arrival change no token.
//!
//! Every accepted request ends with exactly one [`Event::Finished`] or [`Event::Failed`].

mod client;
mod core;
mod drain_rate;
mod engine;
mod error;
mod event;
mod executor;
mod inbox;
mod kv;
mod limits;
mod owner;
mod plan;
mod progress;
mod queue;
#[cfg(unix)]
pub mod remote;
mod request;
mod sampler;
mod scheduler;
mod sequence;
mod stats;
pub mod testing;

pub use client::{EngineClient, EngineState};
pub use core::{EngineCore, StepReport};
pub use engine::{Engine, EngineHandle, ShutdownMode};
pub use error::{EngineError, ExecutorError, QueueResource, StartError, SubmitError};
pub use event::{Event, EventSink, FinishReason, RequestEvent, SinkClosed, TokenEvent, Usage};
pub use executor::Executor;
pub use kv::{BlockCounts, BlockId, BlockPool, PrefixHash, SnapshotKind, SnapshotPool};
pub use limits::{
    BLOCK_SLOTS, DECODE_WORK, EngineOptions, ExecutorLimits, MAX_LOGIT_BIAS_ENTRIES, MAX_LOGIT_BIAS_VALUE,
    MAX_PENALTY, MAX_QUEUED_PROMPT_TOKENS, MAX_QUEUED_REQUESTS, MAX_REPETITION_PENALTY, MAX_STOP_TOKENS,
    MAX_TEMPERATURE, MAX_TOP_LOGPROBS, PREFILL_BESIDE_DECODE, PRIORITIES, QUEUE_QUANTUM, RESERVE_TOKENS,
    SNAPSHOT_INTERVAL, SchedulerLimits,
};
pub use plan::{RowOutput, SampleError, SampledToken, ScheduledSequence, StepOutput, StepPlan};
pub use progress::StepObserver;
pub use queue::QueueLoad;
pub use request::{GenerateRequest, RequestId, RequestRules, SamplingParams, ValidRequest};
pub use sampler::{Sampler, SamplerRow, TokenCounts, philox4x32, uniform};
pub use scheduler::{RunningSequence, Scheduler, Totals};
pub use stats::EngineStats;
