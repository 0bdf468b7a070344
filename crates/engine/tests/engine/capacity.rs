//! Promises of blocks, preemption, deadlines, priorities and fairness between keys.

use std::time::Duration;

use sostenuto_engine::testing::HashExecutor;
use sostenuto_engine::{
    EngineCore, EngineOptions, Event, ExecutorLimits, FinishReason, GenerateRequest, QUEUE_QUANTUM,
    RequestEvent, RequestId,
};

use crate::support::{core, enqueue, finish_reason, of, run_to_idle, solo, tokens};

const VOCAB_SIZE: usize = 40;

fn limits() -> ExecutorLimits {
    HashExecutor::small_limits()
}

fn greedy(seed: u32, len: usize, max_tokens: usize) -> GenerateRequest {
    let prompt = (0..len as u32).map(|i| (i * 7 + seed) % VOCAB_SIZE as u32).collect();
    GenerateRequest::greedy(prompt, max_tokens)
}

fn with_reserve(limits: ExecutorLimits, reserve_tokens: usize) -> EngineCore<HashExecutor> {
    let options = EngineOptions { reserve_tokens, ..EngineOptions::default() };
    EngineCore::new(HashExecutor::new(VOCAB_SIZE, limits), &options).unwrap()
}

/// Ids in the order in which they started.
fn starts(events: &[RequestEvent]) -> Vec<u64> {
    let started = events.iter().filter(|event| matches!(event.event, Event::Started { .. }));
    started.map(|event| event.id.0).collect()
}

#[test]
fn admission_promises_the_prompt_and_what_is_generated_first() {
    // 8 blocks; each request needs one block now and may come to need five.
    let mut core = with_reserve(ExecutorLimits { num_blocks: 8, ..limits() }, 12);
    (0..3).for_each(|id| enqueue(&mut core, id, greedy(id as u32, 4, 76)));
    core.step(Duration::ZERO, &mut Vec::new()).unwrap();
    assert_eq!(core.scheduler().num_running(), 3);
    let counts = core.scheduler().block_counts();
    assert_eq!((counts.held, counts.promised), (3, 0));
}

#[test]
fn youngest_yields_when_an_older_one_outgrows_its_promise_and_goes_on_later_unchanged() {
    let limits = ExecutorLimits { num_blocks: 8, ..limits() };
    let mut core = with_reserve(limits, 12);
    (0..3).for_each(|id| enqueue(&mut core, id, greedy(id as u32, 4, 76)));
    let events = run_to_idle(&mut core);
    assert!(core.scheduler().totals().preemptions >= 1);
    assert_eq!(starts(&events), [0, 1, 2], "a preempted request does not start twice");
    for id in 0..3 {
        let alone = tokens(&solo(VOCAB_SIZE, limits, greedy(id as u32, 4, 76)));
        assert_eq!(tokens(&of(RequestId(id), &events)), alone, "request {id}");
    }
}

#[test]
fn preempted_request_goes_on_before_any_that_wait() {
    let mut core = with_reserve(ExecutorLimits { num_blocks: 8, max_sequences: 2, ..limits() }, 12);
    (0..4).for_each(|id| enqueue(&mut core, id, greedy(id as u32, 4, 76)));
    let events = run_to_idle(&mut core);
    assert!(core.scheduler().totals().preemptions >= 1);
    let ends: Vec<u64> = events.iter().filter(|event| event.event.is_terminal()).map(|e| e.id.0).collect();
    assert_eq!(ends[..2], [0, 1]);
}

#[test]
fn preempted_request_can_be_cancelled_and_expires() {
    for cancel in [true, false] {
        let mut core = with_reserve(ExecutorLimits { num_blocks: 8, ..limits() }, 12);
        let timeout = (!cancel).then_some(Duration::from_secs(9));
        (0..3).for_each(|id| {
            enqueue(&mut core, id, GenerateRequest { timeout, ..greedy(id as u32, 4, 76) });
        });
        let mut events = Vec::new();
        while core.scheduler().num_preempted() == 0 {
            core.step(Duration::ZERO, &mut events).unwrap();
        }
        let reason = if cancel {
            core.cancel(RequestId(2), &mut events);
            FinishReason::Cancelled
        } else {
            core.step(Duration::from_secs(9), &mut events).unwrap();
            FinishReason::Deadline
        };
        assert_eq!(core.scheduler().num_preempted(), 0);
        let events = of(RequestId(2), &events);
        assert_eq!(finish_reason(&events), Some(reason));
        assert!(!tokens(&events).is_empty());
    }
}

#[test]
fn request_ends_at_its_deadline_while_queued_prefilling_or_decoding() {
    let deadline = Duration::from_secs(5);
    for (steps, has_started) in [(0, false), (1, true), (4, true)] {
        let mut core = core(VOCAB_SIZE, limits());
        let mut events = Vec::new();
        enqueue(&mut core, 0, GenerateRequest { timeout: Some(deadline), ..greedy(0, 20, 50) });
        for _ in 0..steps {
            core.step(deadline - Duration::from_nanos(1), &mut events).unwrap();
        }
        assert!(!events.iter().any(|event| event.event.is_terminal()));
        core.step(deadline, &mut events).unwrap();
        assert!(core.scheduler().is_idle());
        assert_eq!(core.scheduler().block_counts().held, 0);
        let events = of(RequestId(0), &events);
        assert_eq!(finish_reason(&events), Some(FinishReason::Deadline));
        assert_eq!(matches!(events[0], Event::Started { .. }), has_started);
        assert_eq!(core.scheduler().totals().expired, 1);
    }
}

#[test]
fn higher_priority_starts_first_and_is_prefilled_first() {
    let mut core = core(VOCAB_SIZE, ExecutorLimits { max_sequences: 2, max_step_rows: 8, ..limits() });
    for (id, priority) in [(0, 0), (1, -1), (2, 5), (3, 1)] {
        enqueue(&mut core, id, GenerateRequest { priority, ..greedy(id as u32, 20, 2) });
    }
    let events = run_to_idle(&mut core);
    assert_eq!(starts(&events), [2, 3, 0, 1]);
    let ends: Vec<u64> = events.iter().filter(|event| event.event.is_terminal()).map(|e| e.id.0).collect();
    assert_eq!(ends[0], 2);
}

#[test]
fn long_prompt_does_not_keep_a_short_one_from_its_first_token() {
    let mut core = core(VOCAB_SIZE, ExecutorLimits { max_step_rows: 8, max_chunk: 8, ..limits() });
    enqueue(&mut core, 0, greedy(0, 100, 2));
    let mut events = Vec::new();
    core.step(Duration::ZERO, &mut events).unwrap();
    enqueue(&mut core, 1, greedy(1, 6, 2));
    core.step(Duration::ZERO, &mut events).unwrap();
    assert_eq!(tokens(&of(RequestId(1), &events)).len(), 1, "it gets the next step's chunk");
}

#[test]
fn key_keeps_its_turn_when_the_one_before_it_has_nothing_left() {
    let mut core = core(VOCAB_SIZE, ExecutorLimits { max_sequences: 1, ..limits() });
    for (id, key) in [(0, 5), (1, 3), (2, 4), (3, 4)] {
        enqueue(&mut core, id, GenerateRequest { key, ..greedy(id as u32, 20, 4) });
    }
    assert_eq!(starts(&run_to_idle(&mut core)), [0, 1, 2, 3]);
}

#[test]
fn keys_share_by_work_and_not_by_number_of_requests() {
    // Key 1 floods first with many requests; key 2's few come next in turn, and not behind them all.
    let limits = ExecutorLimits { max_sequences: 1, ..limits() };
    let mut core = core(VOCAB_SIZE, limits);
    for id in 0..40 {
        enqueue(&mut core, id, GenerateRequest { key: 1, ..greedy(id as u32, 60, 60) });
    }
    for id in 40..44 {
        enqueue(&mut core, id, GenerateRequest { key: 2, ..greedy(id as u32, 60, 60) });
    }
    let order = starts(&run_to_idle(&mut core));
    let last_of_two = order.iter().position(|&id| id == 43).unwrap();
    assert!(last_of_two < 16, "key 2's four requests start among the first 16: {order:?}");
    let firsts: Vec<u64> = order.iter().copied().filter(|id| *id < 40).collect();
    assert!(firsts.is_sorted(), "each key is served in order");
}

#[test]
fn large_requests_of_one_key_do_not_starve_small_ones_of_another_nor_the_reverse() {
    let limits = ExecutorLimits { max_sequences: 1, max_context: 4_096, num_blocks: 256, ..limits() };
    let mut core = core(VOCAB_SIZE, limits);
    for id in 0..10 {
        enqueue(&mut core, id, GenerateRequest { key: 1, ..greedy(id as u32, 3_000, 2) });
    }
    for id in 10..240 {
        enqueue(&mut core, id, GenerateRequest { key: 2, ..greedy(id as u32, 30, 2) });
    }
    let order = starts(&run_to_idle(&mut core));
    let work = |ids: &[u64]| ids.iter().map(|&id| if id < 10 { 3_008 } else { 38 }).sum::<usize>();
    let until_small_are_done = order.iter().rposition(|&id| id >= 10).unwrap();
    let large: Vec<u64> = order[..until_small_are_done].iter().copied().filter(|&id| id < 10).collect();
    // As much work is given to the other key meanwhile, within a request and a turn.
    let small = work(&order) - work(&[0; 10]);
    assert!(work(&large).abs_diff(small) <= 3_008 + QUEUE_QUANTUM, "{} of work beside {small}", work(&large));
}
