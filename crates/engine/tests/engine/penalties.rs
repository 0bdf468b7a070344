//! Penalties through the whole core, on logits that never change: what comes out follows by hand.

use std::time::Duration;

use sostenuto_engine::{
    EngineCore, EngineOptions, Event, Executor, ExecutorError, ExecutorLimits, GenerateRequest, RequestId,
    SamplingParams, StepPlan,
};

use crate::support::tokens;

/// Gives every row the same logits.
struct ConstantExecutor;

const LOGITS: [f32; 4] = [2.0, 1.5, 1.4, -1.0];

impl Executor for ConstantExecutor {
    fn vocab_size(&self) -> usize {
        LOGITS.len()
    }

    fn limits(&self) -> ExecutorLimits {
        ExecutorLimits {
            max_step_rows: 8,
            max_logit_rows: 2,
            max_chunk: 8,
            max_sequences: 2,
            max_context: 32,
            num_blocks: 4,
            num_snapshots: 0,
            window: 1,
            num_sliding_layers: 0,
        }
    }

    fn execute(&mut self, _plan: &StepPlan) -> Result<(), ExecutorError> {
        Ok(())
    }

    fn logits(&mut self, _logit_row: usize, out: &mut [f32]) -> Result<(), ExecutorError> {
        out.copy_from_slice(&LOGITS);
        Ok(())
    }
}

/// Greedy completion of the prompt `[0]`, beside a request whose tokens must not count.
fn complete(sampling: SamplingParams, max_tokens: usize) -> Vec<u32> {
    let mut core = EngineCore::new(ConstantExecutor, &EngineOptions::default()).unwrap();
    let request = GenerateRequest { sampling, ..GenerateRequest::greedy(vec![0], max_tokens) };
    let beside = GenerateRequest { prompt: vec![1, 2, 3], ..request.clone() };
    for (id, request) in [(0, beside), (1, request)] {
        core.submit(RequestId(id), core.rules().check(request).unwrap(), Duration::ZERO).unwrap();
    }
    let mut events = Vec::new();
    while !core.scheduler().is_idle() {
        core.step(Duration::ZERO, &mut events).unwrap();
    }
    let own: Vec<Event> = events.into_iter().filter(|e| e.id == RequestId(1)).map(|e| e.event).collect();
    tokens(&own)
}

#[test]
fn repetition_penalty_counts_prompt_and_completion_once() {
    // Token 0 starts at 1.0; 1 falls to 0.75 and 2 to 0.7; then 0 stays the largest.
    let sampling = SamplingParams { repetition_penalty: 2.0, ..SamplingParams::greedy() };
    assert_eq!(complete(sampling, 6), [1, 2, 0, 0, 0, 0]);
}

#[test]
fn presence_penalty_counts_the_completion_once() {
    // 0 falls to 1.3, 1 to 0.8, 2 to 0.7; the prompt's 0 does not count.
    let sampling = SamplingParams { presence_penalty: 0.7, ..SamplingParams::greedy() };
    assert_eq!(complete(sampling, 6), [0, 1, 2, 0, 0, 0]);
}

#[test]
fn frequency_penalty_counts_each_time_in_the_completion() {
    // 0: 2.0, 1.3, 0.6; 1: 1.5, 0.8, 0.1; 2: 1.4, 0.7, 0.0.
    let sampling = SamplingParams { frequency_penalty: 0.7, ..SamplingParams::greedy() };
    assert_eq!(complete(sampling, 8), [0, 1, 2, 0, 1, 2, 0, 1]);
}
