//! The scheduler and the core, step by step.

use std::time::Duration;

use sostenuto_engine::testing::{Fault, HashExecutor};
use sostenuto_engine::{
    EngineCore, EngineError, EngineOptions, Event, ExecutorLimits, FinishReason, GenerateRequest,
    QueueResource, RequestId, SamplingParams, StartError, SubmitError, Usage,
};

use crate::support::{core, enqueue, finish_reason, of, run_to_idle, solo, tokens};

const VOCAB_SIZE: usize = 40;

fn limits() -> ExecutorLimits {
    HashExecutor::small_limits()
}

fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| i * 7 % VOCAB_SIZE as u32).collect()
}

fn greedy(prompt_tokens: usize, max_tokens: usize) -> GenerateRequest {
    GenerateRequest::greedy(prompt(prompt_tokens), max_tokens)
}

fn all_free(core: &EngineCore<HashExecutor>) -> bool {
    core.scheduler().block_counts().held == 0
}

#[test]
fn decoding_sequences_come_first_and_prefill_fills_the_budget_in_chunks() {
    let mut core = core(VOCAB_SIZE, ExecutorLimits { max_step_rows: 10, max_chunk: 6, ..limits() });
    let mut events = Vec::new();
    enqueue(&mut core, 0, greedy(3, 20));
    core.step(Duration::ZERO, &mut events).unwrap();
    enqueue(&mut core, 1, greedy(14, 20));
    enqueue(&mut core, 2, greedy(8, 20));
    let parts = |core: &EngineCore<HashExecutor>| -> Vec<(usize, bool)> {
        let scheduled = &core.plan().scheduled;
        scheduled.iter().map(|part| (part.num_scheduled_tokens, part.gives_token)).collect()
    };
    core.step(Duration::ZERO, &mut events).unwrap();
    assert_eq!(parts(&core), [(1, true), (6, false), (3, false)]);
    core.step(Duration::ZERO, &mut events).unwrap();
    assert_eq!(parts(&core), [(1, true), (6, false), (3, false)]);
    core.step(Duration::ZERO, &mut events).unwrap();
    assert_eq!(parts(&core), [(1, true), (2, true), (2, true)]);
    core.step(Duration::ZERO, &mut events).unwrap();
    assert_eq!(parts(&core), [(1, true), (1, true), (1, true)]);
    assert_eq!(core.plan().positions, [6, 14, 8]);
}

#[test]
fn plan_holds_ascending_rows_with_the_tables_they_need() {
    let mut core = core(VOCAB_SIZE, ExecutorLimits { max_step_rows: 40, max_chunk: 20, ..limits() });
    enqueue(&mut core, 0, greedy(18, 4));
    enqueue(&mut core, 1, greedy(5, 4));
    core.step(Duration::ZERO, &mut Vec::new()).unwrap();
    let plan = core.plan();
    assert_eq!(plan.rows(), 23);
    assert_eq!(plan.token_ids[..18], prompt(18));
    assert_eq!(plan.positions[..18], (0..18).collect::<Vec<u32>>());
    assert_eq!(plan.sequences, [vec![0; 18], vec![1; 5]].concat());
    assert_eq!(plan.block_table_offsets, [0, 2, 3]);
    assert_eq!(plan.logit_rows, [17, 22]);
    assert!(plan.scheduled.iter().all(|part| part.gives_token));
    assert_eq!(plan.inputs().block_table(1), plan.block_table(1));
}

#[test]
fn nobody_overtakes_a_request_that_waits_for_blocks() {
    // 8 blocks: the first takes 5, the second needs 5, the third would fit.
    let mut core = core(VOCAB_SIZE, ExecutorLimits { num_blocks: 8, ..limits() });
    enqueue(&mut core, 0, greedy(4, 70));
    enqueue(&mut core, 1, greedy(4, 70));
    enqueue(&mut core, 2, greedy(4, 2));
    core.step(Duration::ZERO, &mut Vec::new()).unwrap();
    assert_eq!(core.scheduler().running_ids().collect::<Vec<_>>(), [RequestId(0)]);
    assert_eq!(core.scheduler().queue_load().requests, 2);
    let events = run_to_idle(&mut core);
    let ends: Vec<_> = events.iter().filter(|e| e.event.is_terminal()).map(|e| e.id.0).collect();
    assert_eq!(ends, [0, 2, 1]);
}

#[test]
fn sequences_that_run_never_exceed_rings_rows_and_logit_rows() {
    for (max_sequences, max_step_rows, max_logit_rows) in [(2, 9, 9), (9, 2, 9), (9, 9, 2)] {
        let limits =
            ExecutorLimits { max_sequences, max_step_rows, max_logit_rows, max_chunk: 1, ..limits() };
        let mut core = core(VOCAB_SIZE, limits);
        (0..5).for_each(|id| enqueue(&mut core, id, greedy(3, 4)));
        core.step(Duration::ZERO, &mut Vec::new()).unwrap();
        assert_eq!(core.scheduler().num_running(), 2);
        run_to_idle(&mut core);
        assert!(all_free(&core));
    }
}

#[test]
fn cancel_frees_all_blocks_at_once_while_queued_prefilling_or_decoding() {
    // Steps before the cancel: none (queued), one (prefilling 20 tokens by 8), four (decoding).
    for (steps, completion_tokens, has_started) in [(0, 0, false), (1, 0, true), (4, 2, true)] {
        let mut core = core(VOCAB_SIZE, limits());
        let mut events = Vec::new();
        enqueue(&mut core, 0, greedy(20, 50));
        for _ in 0..steps {
            core.step(Duration::ZERO, &mut events).unwrap();
        }
        assert_eq!(all_free(&core), !has_started);
        core.cancel(RequestId(0), &mut events);
        assert!(all_free(&core) && core.scheduler().is_idle());
        let events = of(RequestId(0), &events);
        assert_eq!(matches!(events[0], Event::Started { .. }), has_started);
        let usage = Usage { prompt_tokens: 20, completion_tokens, cached_prompt_tokens: 0 };
        assert!(
            matches!(events.last(), Some(Event::Finished { reason: FinishReason::Cancelled, usage: u }) if *u == usage)
        );
    }
}

#[test]
fn cancel_of_an_unknown_or_ended_request_does_nothing() {
    let mut core = core(VOCAB_SIZE, limits());
    enqueue(&mut core, 0, greedy(2, 2));
    run_to_idle(&mut core);
    let mut events = Vec::new();
    core.cancel(RequestId(0), &mut events);
    core.cancel(RequestId(77), &mut events);
    assert!(events.is_empty());
}

#[test]
fn queue_refuses_the_request_beyond_its_bound_and_names_the_bound() {
    let options = EngineOptions { max_queued_requests: 3, ..EngineOptions::default() };
    let mut core = EngineCore::new(HashExecutor::new(VOCAB_SIZE, limits()), &options).unwrap();
    (0..3).for_each(|id| enqueue(&mut core, id, greedy(2, 2)));
    let request = core.rules().check(greedy(2, 2)).unwrap();
    let error = core.submit(RequestId(3), request, Duration::ZERO).unwrap_err();
    assert!(matches!(
        error,
        SubmitError::QueueFull { resource: QueueResource::Requests, queued: 3, requested: 1, limit: 3, .. }
    ));
    core.cancel(RequestId(1), &mut Vec::new());
    enqueue(&mut core, 4, greedy(2, 2));
}

#[test]
fn queue_bounds_its_prompt_tokens_exactly() {
    for (last, fits) in [(27, true), (28, true), (29, false), (127, false)] {
        let options = EngineOptions { max_queued_prompt_tokens: 128, ..EngineOptions::default() };
        let mut core = EngineCore::new(HashExecutor::new(VOCAB_SIZE, limits()), &options).unwrap();
        enqueue(&mut core, 0, greedy(100, 1));
        let request = core.rules().check(greedy(last, 1)).unwrap();
        let result = core.submit(RequestId(1), request, Duration::ZERO);
        assert_eq!(result.is_ok(), fits, "{last} tokens beside 100 of 128");
        if let Err(error) = result {
            assert!(matches!(
                error,
                SubmitError::QueueFull { resource: QueueResource::PromptTokens, queued: 100, limit: 128, .. }
            ));
        }
    }
}

#[test]
fn stop_token_is_delivered_and_ends_the_request() {
    let free = tokens(&solo(VOCAB_SIZE, limits(), greedy(5, 12)));
    let stop = free[7];
    let first = free.iter().position(|&token| token == stop).unwrap();
    let request = GenerateRequest { stop_token_ids: vec![stop], ..greedy(5, 12) };
    let events = solo(VOCAB_SIZE, limits(), request);
    assert_eq!(tokens(&events), free[..=first]);
    assert_eq!(finish_reason(&events), Some(FinishReason::StopToken(stop)));
}

#[test]
fn stop_token_as_the_last_allowed_token_counts_as_a_stop() {
    let free = tokens(&solo(VOCAB_SIZE, limits(), greedy(5, 1)));
    let request = GenerateRequest { stop_token_ids: free.clone(), ..greedy(5, 1) };
    assert_eq!(finish_reason(&solo(VOCAB_SIZE, limits(), request)), Some(FinishReason::StopToken(free[0])));
}

#[test]
fn min_tokens_keeps_stop_tokens_out_until_then() {
    let every_second: Vec<u32> = (0..VOCAB_SIZE as u32).step_by(2).collect();
    let sampling = SamplingParams { min_tokens: 9, ..SamplingParams::greedy() };
    let request = GenerateRequest { stop_token_ids: every_second, sampling, ..greedy(5, 60) };
    let events = solo(VOCAB_SIZE, limits(), request);
    let tokens = tokens(&events);
    assert!(tokens[..9].iter().all(|token| token % 2 == 1));
    assert!(matches!(finish_reason(&events), Some(FinishReason::StopToken(_))));
}

#[test]
fn sequence_whose_every_token_is_excluded_fails_typed() {
    let limits = limits();
    let sampling = SamplingParams { min_tokens: 1, ..SamplingParams::greedy() };
    let request =
        GenerateRequest { stop_token_ids: (0..8).collect(), sampling, ..GenerateRequest::greedy(vec![1], 2) };
    let events = solo(8, limits, request);
    assert!(matches!(events.last(), Some(Event::Failed(EngineError::NoCandidate { position: 1 }))));
}

#[test]
fn max_tokens_and_context_bound_the_completion() {
    for (prompt_tokens, max_tokens, expected) in
        [(5, 1, 1), (5, 3, 3), (100, 28, 28), (100, 29, 28), (127, 9, 1)]
    {
        let events = solo(VOCAB_SIZE, limits(), greedy(prompt_tokens, max_tokens));
        assert!(matches!(events[0], Event::Started { max_tokens, .. } if max_tokens == expected));
        assert_eq!(tokens(&events).len(), expected);
        assert_eq!(finish_reason(&events), Some(FinishReason::Length));
    }
}

#[test]
fn pool_smaller_than_the_context_bounds_the_completion_instead_of_hanging() {
    let events = solo(VOCAB_SIZE, ExecutorLimits { num_blocks: 2, ..limits() }, greedy(30, 100));
    assert_eq!(tokens(&events).len(), 2);
    assert_eq!(finish_reason(&events), Some(FinishReason::Length));
}

#[test]
fn token_events_count_without_gaps_and_usage_agrees() {
    let events = solo(VOCAB_SIZE, limits(), greedy(19, 6));
    let indices: Vec<usize> = events
        .iter()
        .filter_map(|event| if let Event::Token(token) = event { Some(token.index) } else { None })
        .collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
    let usage = Usage { prompt_tokens: 19, completion_tokens: 6, cached_prompt_tokens: 0 };
    assert!(matches!(events.last(), Some(Event::Finished { usage: u, .. }) if *u == usage));
}

#[test]
fn nan_in_one_sequence_fails_that_sequence_alone() {
    let executor = HashExecutor::new(VOCAB_SIZE, limits()).with_nan_token(39);
    let mut core = EngineCore::new(executor, &EngineOptions::default()).unwrap();
    let bias = SamplingParams { logit_bias: vec![(39, -100.0)], ..SamplingParams::greedy() };
    let healthy = GenerateRequest { sampling: bias, ..greedy(9, 10) };
    let mut events = Vec::new();
    enqueue(&mut core, 0, healthy.clone());
    core.step(Duration::ZERO, &mut events).unwrap();
    core.step(Duration::ZERO, &mut events).unwrap();
    enqueue(&mut core, 1, GenerateRequest::greedy(vec![1, 39, 2], 10));
    events.extend(run_to_idle(&mut core));
    let failed = of(RequestId(1), &events);
    assert!(
        matches!(failed[..], [Event::Started { .. }, Event::Failed(EngineError::NonFiniteLogits { position: 3, token: 0, value })] if value.is_nan())
    );
    assert_eq!(tokens(&of(RequestId(0), &events)), tokens(&solo(VOCAB_SIZE, limits(), healthy)));
    assert!(all_free(&core));
    assert_eq!(core.scheduler().totals().failed, 1);
}

#[test]
fn recoverable_error_fails_those_that_run_and_spares_those_that_wait() {
    let executor = HashExecutor::new(VOCAB_SIZE, ExecutorLimits { max_sequences: 2, ..limits() })
        .with_fault(2, Fault::Recoverable);
    let mut core = EngineCore::new(executor, &EngineOptions::default()).unwrap();
    (0..3).for_each(|id| enqueue(&mut core, id, greedy(4, 6)));
    let mut events = Vec::new();
    core.step(Duration::ZERO, &mut events).unwrap();
    core.step(Duration::ZERO, &mut events).unwrap();
    assert!(core.step(Duration::ZERO, &mut events).unwrap_err().recoverable());
    assert!(all_free(&core));
    for id in [0, 1] {
        let failed =
            matches!(of(RequestId(id), &events).last(), Some(Event::Failed(EngineError::Executor(_))));
        assert!(failed, "request {id} ran and fails");
    }
    events.extend(run_to_idle(&mut core));
    assert_eq!(tokens(&of(RequestId(2), &events)), tokens(&solo(VOCAB_SIZE, limits(), greedy(4, 6))));
}

#[test]
fn fatal_error_fails_everyone() {
    let executor = HashExecutor::new(VOCAB_SIZE, ExecutorLimits { max_sequences: 1, ..limits() })
        .with_fault(0, Fault::Fatal);
    let mut core = EngineCore::new(executor, &EngineOptions::default()).unwrap();
    (0..2).for_each(|id| enqueue(&mut core, id, greedy(4, 6)));
    let mut events = Vec::new();
    assert!(!core.step(Duration::ZERO, &mut events).unwrap_err().recoverable());
    assert!(core.scheduler().is_idle() && all_free(&core));
    assert_eq!(events.iter().filter(|e| matches!(e.event, Event::Failed(_))).count(), 2);
}

#[test]
fn steps_allocate_no_plan_memory_after_the_first_plan() {
    let mut core = core(VOCAB_SIZE, limits());
    (0..9).for_each(|id| enqueue(&mut core, id, greedy(30, 60)));
    let sizes = |core: &EngineCore<HashExecutor>| {
        let plan = core.plan();
        [
            plan.token_ids.capacity(),
            plan.positions.capacity(),
            plan.sequences.capacity(),
            plan.rings.capacity(),
            plan.block_tables.capacity(),
            plan.block_table_offsets.capacity(),
            plan.logit_rows.capacity(),
            plan.scheduled.capacity(),
        ]
    };
    let before = sizes(&core);
    run_to_idle(&mut core);
    assert_eq!(sizes(&core), before);
}

#[test]
fn totals_count_steps_tokens_and_ends() {
    let mut core = core(VOCAB_SIZE, limits());
    enqueue(&mut core, 0, greedy(20, 5));
    run_to_idle(&mut core);
    enqueue(&mut core, 1, greedy(2, 5));
    core.cancel(RequestId(1), &mut Vec::new());
    let totals = core.scheduler().totals();
    // 20 prompt tokens by 8 are 3 steps, the last of which samples; 4 more tokens are 4 more steps.
    assert_eq!((totals.steps, totals.prefill_tokens, totals.decode_tokens), (7, 20, 5));
    assert_eq!((totals.finished, totals.cancelled, totals.failed), (1, 1, 0));
}

#[test]
fn limits_under_which_nothing_could_run_are_refused_by_name() {
    let refused = |limits: ExecutorLimits, options: EngineOptions, name: &str| {
        let result = EngineCore::new(HashExecutor::new(VOCAB_SIZE, limits), &options);
        assert!(matches!(result, Err(StartError::Limit { field, .. }) if field == name), "{name}");
    };
    let options = EngineOptions::default();
    refused(ExecutorLimits { max_step_rows: 0, ..limits() }, options, "max_step_rows");
    refused(ExecutorLimits { max_logit_rows: 0, ..limits() }, options, "max_logit_rows");
    refused(ExecutorLimits { max_sequences: 0, ..limits() }, options, "max_sequences");
    refused(ExecutorLimits { num_blocks: 0, ..limits() }, options, "num_blocks");
    refused(ExecutorLimits { max_context: 1, ..limits() }, options, "max_context");
    refused(limits(), EngineOptions { max_queued_requests: 0, ..options }, "max_queued_requests");
    refused(limits(), EngineOptions { max_queued_prompt_tokens: 127, ..options }, "max_queued_prompt_tokens");
    refused(limits(), EngineOptions { max_step_tokens: Some(0), ..options }, "max_step_tokens");
    refused(limits(), EngineOptions { max_chunk_tokens: Some(0), ..options }, "max_chunk_tokens");
}

#[test]
fn options_narrow_steps_and_chunks_without_changing_tokens() {
    let options =
        EngineOptions { max_step_tokens: Some(5), max_chunk_tokens: Some(3), ..EngineOptions::default() };
    let mut core = EngineCore::new(HashExecutor::new(VOCAB_SIZE, limits()), &options).unwrap();
    enqueue(&mut core, 0, greedy(20, 5));
    let other = GenerateRequest::greedy(prompt(40).split_off(20), 5);
    enqueue(&mut core, 1, other.clone());
    let mut events = Vec::new();
    core.step(Duration::ZERO, &mut events).unwrap();
    let parts: Vec<_> = core.plan().scheduled.iter().map(|part| part.num_scheduled_tokens).collect();
    assert_eq!(parts, [3, 2]);
    events.extend(run_to_idle(&mut core));
    assert_eq!(tokens(&of(RequestId(1), &events)), tokens(&solo(VOCAB_SIZE, limits(), other)));
}
