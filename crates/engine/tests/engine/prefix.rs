//! Prefix reuse: what is computed again, what is shared, and that no token changes by it.

use std::time::Duration;

use sostenuto_engine::testing::HashExecutor;
use sostenuto_engine::{
    BLOCK_SLOTS, EngineCore, EngineOptions, Event, ExecutorLimits, GenerateRequest, RequestId,
};

use crate::support::{core, enqueue, finish_reason, of, run_to_idle, solo, tokens};

const VOCAB_SIZE: usize = 40;

fn limits() -> ExecutorLimits {
    ExecutorLimits { max_context: 256, num_blocks: 64, ..HashExecutor::small_limits() }
}

fn prompt(len: usize) -> Vec<u32> {
    (0..len as u32).map(|i| (i * i + 3 * i) % VOCAB_SIZE as u32).collect()
}

fn greedy(len: usize, max_tokens: usize) -> GenerateRequest {
    GenerateRequest::greedy(prompt(len), max_tokens)
}

/// Runs a request to its end and returns its tokens and how many of its prompt the cache spared.
fn run(core: &mut EngineCore<HashExecutor>, id: u64, request: GenerateRequest) -> (Vec<u32>, usize) {
    enqueue(core, id, request);
    let events = of(RequestId(id), &run_to_idle(core));
    let Event::Started { cached_tokens, .. } = events[0] else { panic!("{events:?}") };
    (tokens(&events), cached_tokens)
}

#[test]
fn prompt_that_was_seen_resumes_at_the_snapshot_of_its_last_whole_block() {
    let mut core = core(VOCAB_SIZE, limits());
    let (first, cached) = run(&mut core, 0, greedy(100, 5));
    assert_eq!(cached, 0);
    let (second, cached) = run(&mut core, 1, greedy(100, 5));
    assert_eq!((second, cached), (first, 96));
    // A whole number of blocks leaves one token to compute, for its logits: from the snapshot one block before.
    let (_, cached) = run(&mut core, 2, greedy(96, 5));
    assert_eq!(cached, 96 - 1 - (HashExecutor::WINDOW - 1));
}

#[test]
fn next_turn_resumes_where_the_answer_ended_or_where_it_was_cut() {
    let mut core = core(VOCAB_SIZE, limits());
    let (answer, _) = run(&mut core, 0, greedy(60, 30));
    // The whole turn stays: 60 + 29 computed tokens.
    let whole = [prompt(60), answer.clone(), vec![7; 20]].concat();
    let (_, cached) = run(&mut core, 1, GenerateRequest::greedy(whole.clone(), 3));
    assert_eq!(cached, 80);
    // The answer is replaced: the prompt stays.
    let other = [prompt(60), vec![9; 50]].concat();
    let (continued, cached) = run(&mut core, 2, GenerateRequest::greedy(other.clone(), 3));
    assert_eq!(cached, 48);
    assert_eq!(continued, tokens(&solo(VOCAB_SIZE, limits(), GenerateRequest::greedy(other, 3))));
}

#[test]
fn without_a_snapshot_the_last_tokens_run_again_and_only_read_the_shared_blocks() {
    let limits = ExecutorLimits { num_snapshots: 0, ..limits() };
    let mut core = core(VOCAB_SIZE, limits);
    let (first, _) = run(&mut core, 0, greedy(100, 4));
    enqueue(&mut core, 1, greedy(100, 4));
    let mut events = Vec::new();
    core.step(Duration::ZERO, &mut events).unwrap();
    // 96 tokens are shared; 7 of them run again so that the window of 8 is exact behind them.
    assert_eq!(core.plan().positions[0], 96 - 7);
    assert_eq!(core.plan().kv_write_from, [96]);
    events.extend(run_to_idle(&mut core));
    assert_eq!(tokens(&of(RequestId(1), &events)), first);
}

#[test]
fn without_sliding_layers_nothing_runs_again() {
    let limits = ExecutorLimits { num_sliding_layers: 0, ..limits() };
    let mut core = core(VOCAB_SIZE, limits);
    run(&mut core, 0, greedy(100, 4));
    enqueue(&mut core, 1, greedy(100, 4));
    core.step(Duration::ZERO, &mut Vec::new()).unwrap();
    assert_eq!(core.plan().positions[0], 96);
    assert!(core.plan().copies.is_empty());
}

#[test]
fn window_is_not_saved_where_the_ring_is_not_exact_yet() {
    // No room for the first request's windows: the second has to run tokens again, whose windows are not exact.
    let limits = ExecutorLimits { num_snapshots: 1, max_chunk: 4, ..limits() };
    let options = EngineOptions { snapshot_interval: BLOCK_SLOTS, ..EngineOptions::default() };
    let mut core = EngineCore::new(HashExecutor::new(VOCAB_SIZE, limits), &options).unwrap();
    run(&mut core, 0, greedy(200, 4));
    // Takes the only snapshot for itself.
    run(&mut core, 1, GenerateRequest::greedy(vec![1; 20], 4));
    let (after_rerun, cached) = run(&mut core, 2, greedy(90, 4));
    assert_eq!(cached, 80 - 7);
    assert_eq!(after_rerun, tokens(&solo(VOCAB_SIZE, limits, greedy(90, 4))));
    let (again, _) = run(&mut core, 3, greedy(90, 4));
    assert_eq!(again, after_rerun);
}

#[test]
fn keys_do_not_share_prefixes() {
    let mut core = core(VOCAB_SIZE, limits());
    run(&mut core, 0, greedy(100, 4));
    let (_, cached) = run(&mut core, 1, GenerateRequest { key: 1, ..greedy(100, 4) });
    assert_eq!(cached, 0);
}

#[test]
fn two_that_run_at_once_share_the_blocks_of_their_common_prompt() {
    let mut core = core(VOCAB_SIZE, limits());
    run(&mut core, 0, greedy(100, 4));
    let free_before = core.scheduler().block_counts().free;
    enqueue(&mut core, 1, greedy(100, 10));
    enqueue(&mut core, 2, greedy(100, 10));
    core.step(Duration::ZERO, &mut Vec::new()).unwrap();
    // Six blocks are shared, and each has one more of its own.
    assert_eq!(core.scheduler().block_counts().held, 8);
    assert_eq!(core.scheduler().block_counts().free, free_before - 2);
    let tables: Vec<_> = core.scheduler().block_tables().collect();
    assert_eq!(tables[0][..6], tables[1][..6]);
    assert_ne!(tables[0][6], tables[1][6]);
}

#[test]
fn common_prompt_of_requests_that_arrive_together_is_computed_once() {
    let mut core = core(VOCAB_SIZE, limits());
    for id in 0..4 {
        let own = [prompt(100), vec![id as u32; 5]].concat();
        enqueue(&mut core, id, GenerateRequest::greedy(own, 6));
    }
    let events = run_to_idle(&mut core);
    // 105 rows of the first; of the others, what follows the 96 tokens that are shared.
    assert_eq!(core.scheduler().totals().prefill_tokens, 105 + 3 * 9);
    for id in 0..4 {
        let own = GenerateRequest::greedy([prompt(100), vec![id as u32; 5]].concat(), 6);
        assert_eq!(tokens(&of(RequestId(id), &events)), tokens(&solo(VOCAB_SIZE, limits(), own)));
    }
}

#[test]
fn who_waits_for_a_common_prompt_goes_on_when_its_owner_is_gone() {
    let mut core = core(VOCAB_SIZE, limits());
    (0..2).for_each(|id| enqueue(&mut core, id, greedy(100, 6)));
    let mut events = Vec::new();
    for _ in 0..3 {
        core.step(Duration::ZERO, &mut events).unwrap();
    }
    assert_eq!(core.scheduler().num_running(), 1);
    core.cancel(RequestId(0), &mut events);
    events.extend(run_to_idle(&mut core));
    assert_eq!(tokens(&of(RequestId(1), &events)), tokens(&solo(VOCAB_SIZE, limits(), greedy(100, 6))));
}

#[test]
fn cache_that_is_needed_is_evicted_from_the_end_of_the_oldest_prompt() {
    let limits = ExecutorLimits { num_blocks: 16, ..limits() };
    let mut core = core(VOCAB_SIZE, limits);
    run(&mut core, 0, greedy(100, 4));
    run(&mut core, 1, GenerateRequest::greedy(vec![5; 150], 20));
    assert!(core.scheduler().evicted_blocks() > 0);
    let (_, cached) = run(&mut core, 2, greedy(100, 4));
    assert!((1..90).contains(&cached), "the front of the prompt is still cached: {cached}");
}

#[test]
fn failed_sequence_leaves_nothing_in_the_cache() {
    let executor = HashExecutor::new(VOCAB_SIZE, limits()).with_nan_token(39);
    let mut core = EngineCore::new(executor, &EngineOptions::default()).unwrap();
    let poisoned = GenerateRequest::greedy([vec![39], vec![1; 60]].concat(), 4);
    enqueue(&mut core, 0, poisoned);
    let events = run_to_idle(&mut core);
    assert!(matches!(events.last().map(|e| &e.event), Some(Event::Failed(_))));
    assert_eq!(core.scheduler().block_counts().free, 64);
    assert!(core.scheduler().snapshots().is_empty());
}

/// The value shows in the logits of the chunk that holds it, before anyone can find its blocks.
#[test]
fn prefix_that_is_no_number_is_shared_with_nobody() {
    let executor = HashExecutor::new(VOCAB_SIZE, limits()).with_nan_token(39);
    let mut core = EngineCore::new(executor, &EngineOptions::default()).unwrap();
    let healthy: Vec<u32> = prompt(100).into_iter().map(|token| token % 39).collect();
    let poisoned = [&healthy[..50], &[39; 50][..]].concat();
    enqueue(&mut core, 0, GenerateRequest::greedy(poisoned, 4));
    enqueue(&mut core, 1, GenerateRequest::greedy(healthy.clone(), 4));
    let events = run_to_idle(&mut core);
    assert!(matches!(of(RequestId(0), &events).last(), Some(Event::Failed(_))));
    let alone = solo(VOCAB_SIZE, limits(), GenerateRequest::greedy(healthy, 4));
    assert_eq!(tokens(&of(RequestId(1), &events)), tokens(&alone));
    assert_eq!(core.scheduler().totals().failed, 1);
}

#[test]
fn prefill_that_is_cut_leaves_what_it_computed_to_the_next() {
    let mut core = core(VOCAB_SIZE, limits());
    enqueue(&mut core, 0, greedy(100, 4));
    let mut events = Vec::new();
    for _ in 0..6 {
        core.step(Duration::ZERO, &mut events).unwrap();
    }
    core.cancel(RequestId(0), &mut events);
    let (_, cached) = run(&mut core, 1, greedy(100, 4));
    assert_eq!(cached, 48);
}

#[test]
fn resumed_request_goes_on_as_if_it_had_never_stopped() {
    let whole = solo(VOCAB_SIZE, limits(), greedy(30, 40));
    let all = tokens(&whole);
    for done in [1, 2, 17, 39] {
        let request = GenerateRequest { generated: all[..done].to_vec(), ..greedy(30, 40) };
        let events = solo(VOCAB_SIZE, limits(), request);
        assert_eq!(tokens(&events), all[done..], "after {done} tokens");
        let first = events.iter().find_map(|event| match event {
            Event::Token(token) => Some(token.index),
            _ => None,
        });
        assert_eq!(first, Some(done));
        assert_eq!(finish_reason(&events), finish_reason(&whole));
        assert!(
            matches!(events.last(), Some(Event::Finished { usage, .. }) if usage.completion_tokens == 40)
        );
    }
}

#[test]
fn round_robin_of_long_conversations_is_served_from_the_cache() {
    let (conversations, turns, start) = (16, 4, 20_000);
    let limits = ExecutorLimits {
        max_step_rows: 256,
        max_chunk: 256,
        max_context: 21_000,
        num_blocks: conversations * 21_008 / BLOCK_SLOTS,
        num_snapshots: 64,
        ..limits()
    };
    let mut core = core(VOCAB_SIZE, limits);
    let mut histories: Vec<Vec<u32>> = (0..conversations as u32)
        .map(|c| (0..start).map(|i| (i * i + c) % VOCAB_SIZE as u32).collect())
        .collect();
    let (mut prompts, mut spared) = (0, 0);
    for turn in 0..turns {
        for (conversation, history) in histories.iter_mut().enumerate() {
            let id = (turn * conversations + conversation) as u64;
            let (answer, cached) = run(&mut core, id, GenerateRequest::greedy(history.clone(), 20));
            if turn > 0 {
                prompts += history.len();
                spared += cached;
            }
            history.extend(answer);
            history.extend([id as u32 % 7; 10]);
        }
    }
    assert!(spared * 100 >= prompts * 95, "{spared} of {prompts} prompt tokens come from the cache");
}

#[test]
fn without_the_cache_every_prompt_is_computed() {
    let options = EngineOptions { prefix_cache: false, ..EngineOptions::default() };
    let mut core = EngineCore::new(HashExecutor::new(VOCAB_SIZE, limits()), &options).unwrap();
    let (first, _) = run(&mut core, 0, greedy(100, 4));
    let (second, cached) = run(&mut core, 1, greedy(100, 4));
    assert_eq!((second, cached), (first, 0));
    assert_eq!(core.scheduler().block_counts().free, 64);
    assert!(core.scheduler().snapshots().is_empty());
}
