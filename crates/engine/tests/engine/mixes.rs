//! A row never depends on its company: every request of a random mix gives the events of its solo run.
//!
//! Seen to fail when: a sequence's table names another's block; a block of an ended sequence is lost; the ring is the
//! index within the step; positions start at 0 in each chunk; a chunk exceeds `max_chunk`; a logit row is off; every chunk
//! asks for logits; the sampler's position is not the sequence's; more sequences run than a step has logit rows.

use std::time::Duration;

use sostenuto_engine::testing::HashExecutor;
use sostenuto_engine::{
    BLOCK_SLOTS, EngineCore, EngineOptions, Event, ExecutorLimits, FinishReason, GenerateRequest,
    RequestEvent, RequestId, SamplingParams, Totals, Usage,
};

use crate::support::{Random, enqueue, finish_reason, of, solo};

const VOCAB_SIZE: usize = 24;
const MIXES: u32 = 3_000;
const MAX_CONTEXT: usize = 72;

/// Positions that a sliding layer sees, in all mixes.
const WINDOW: usize = HashExecutor::WINDOW;

fn random_limits(random: &mut Random) -> ExecutorLimits {
    let max_step_rows = random.range(1..=24);
    ExecutorLimits {
        max_step_rows,
        max_logit_rows: random.range(1..=6),
        max_chunk: random.range(1..=max_step_rows),
        max_sequences: random.range(1..=6),
        max_context: MAX_CONTEXT,
        num_blocks: random.range(5..=12),
        num_snapshots: random.range(0..=4),
        window: WINDOW,
        num_sliding_layers: 1,
    }
}

fn roomy_limits() -> ExecutorLimits {
    ExecutorLimits {
        max_step_rows: MAX_CONTEXT,
        max_logit_rows: 1,
        max_chunk: MAX_CONTEXT,
        max_sequences: 1,
        max_context: MAX_CONTEXT,
        num_blocks: 5,
        num_snapshots: 0,
        window: WINDOW,
        num_sliding_layers: 1,
    }
}

fn random_options(random: &mut Random) -> EngineOptions {
    EngineOptions {
        reserve_tokens: random.range(1..=16),
        snapshot_interval: [16, 32, 48][random.below(3)],
        ..EngineOptions::default()
    }
}

/// A prompt of its own, or one that begins like those of others.
fn random_prompt(random: &mut Random) -> Vec<u32> {
    let shared = [0, 16, 24, 33][random.below(4)];
    let own = random.range(1..=40 - shared);
    let family = random.below(2) as u32;
    let start = (0..shared as u32).map(|i| (i * 5 + family) % VOCAB_SIZE as u32);
    start.chain((0..own).map(|_| random.below(VOCAB_SIZE) as u32)).collect()
}

fn random_request(random: &mut Random) -> GenerateRequest {
    let prompt = random_prompt(random);
    let pick = |random: &mut Random, values: &[f32]| values[random.below(values.len())];
    let sampling = SamplingParams {
        temperature: pick(random, &[0.0, 0.7, 1.0, 1.5]),
        top_p: pick(random, &[1.0, 1.0, 0.8]),
        top_k: [0, 0, 5][random.below(3)],
        min_p: pick(random, &[0.0, 0.0, 0.1]),
        presence_penalty: pick(random, &[0.0, 0.0, 0.9]),
        frequency_penalty: pick(random, &[0.0, 0.0, 0.4]),
        repetition_penalty: pick(random, &[1.0, 1.0, 1.3]),
        logit_bias: if random.one_in(4) { vec![(random.below(VOCAB_SIZE) as u32, 1.5)] } else { vec![] },
        seed: random.below(5) as u64,
        min_tokens: 0,
    };
    let stop_token_ids = if random.one_in(3) { vec![random.below(VOCAB_SIZE) as u32] } else { vec![] };
    let logprobs = random.one_in(3).then_some(2);
    GenerateRequest {
        stop_token_ids,
        sampling,
        logprobs,
        key: random.below(2) as u64,
        priority: random.below(2) as i32,
        ..GenerateRequest::greedy(prompt, random.range(1..=32))
    }
}

/// A block that serves two sequences of a step is written by neither.
fn assert_shared_blocks_are_only_read(core: &EngineCore<HashExecutor>) {
    let plan = core.plan();
    for (sequence, &write_from) in plan.kv_write_from.iter().enumerate() {
        for (block, id) in
            plan.block_table(sequence).iter().enumerate().skip(write_from as usize / BLOCK_SLOTS)
        {
            let last = (block + 1) * BLOCK_SLOTS - 1;
            let first_row = plan.sequences.iter().position(|&other| other as usize == sequence).unwrap();
            let is_written = plan.positions[first_row] as usize <= last;
            let holders = plan.block_tables.iter().filter(|other| *other == id).count();
            assert!(!is_written || holders == 1, "block {id} is written while others hold it");
        }
    }
}

/// What a mix did.
#[derive(Default)]
struct Outcome {
    events: Vec<RequestEvent>,
    /// Whom a cancel was asked for.
    cancelled: Vec<RequestId>,
    totals: Totals,
}

/// Runs requests that arrive, and are cancelled, at random moments.
fn run_mix(random: &mut Random, requests: &[GenerateRequest]) -> Outcome {
    let executor = HashExecutor::new(VOCAB_SIZE, random_limits(random));
    let mut core = EngineCore::new(executor, &random_options(random)).unwrap();
    let (mut events, mut cancelled, mut arrived) = (Vec::new(), Vec::new(), 0);
    for _ in 0..20_000 {
        while arrived < requests.len() && random.one_in(3) {
            enqueue(&mut core, arrived as u64, requests[arrived].clone());
            arrived += 1;
        }
        if arrived > 0 && random.one_in(40) {
            let id = RequestId(random.below(arrived) as u64);
            core.cancel(id, &mut events);
            cancelled.push(id);
        }
        core.step(Duration::ZERO, &mut events).unwrap();
        assert_shared_blocks_are_only_read(&core);
        if arrived == requests.len() && core.scheduler().is_idle() {
            assert_eq!(core.scheduler().block_counts().held, 0);
            return Outcome { events, cancelled, totals: core.scheduler().totals() };
        }
    }
    panic!("a request does not end");
}

/// Events in a form that can be compared bit for bit, but for what the cache spared.
fn describe(events: &[Event]) -> Vec<String> {
    let describe = |event: &Event| match event.clone() {
        Event::Started { prompt_tokens, max_tokens, .. } => {
            format!("{:?}", Event::Started { prompt_tokens, max_tokens, cached_tokens: 0 })
        }
        Event::Finished { reason, usage } => {
            let usage = Usage { cached_prompt_tokens: 0, ..usage };
            format!("{:?}", Event::Finished { reason, usage })
        }
        event => format!("{event:?}"),
    };
    events.iter().map(describe).collect()
}

fn check_mix(seed: u32) -> (usize, usize, Totals) {
    let mut random = Random::new(seed);
    let requests: Vec<_> = (0..random.range(1..=9)).map(|_| random_request(&mut random)).collect();
    let Outcome { events, cancelled, totals } = run_mix(&mut random, &requests);
    let mut cut = 0;
    for (number, request) in requests.iter().enumerate() {
        let id = RequestId(number as u64);
        let mixed = of(id, &events);
        let alone = describe(&solo(VOCAB_SIZE, roomy_limits(), request.clone()));
        let ends = mixed.iter().filter(|event| event.is_terminal()).count();
        assert_eq!(ends, 1, "seed {seed}: request {id} has {ends} ends");
        let mut described = describe(&mixed);
        if finish_reason(&mixed) == Some(FinishReason::Cancelled) {
            assert!(cancelled.contains(&id), "seed {seed}: request {id} was cancelled by nobody");
            described.pop();
            cut += 1;
            assert_eq!(described, alone[..described.len()], "seed {seed}: request {id} before its cancel");
        } else {
            assert_eq!(described, alone, "seed {seed}: request {id}");
        }
    }
    (requests.len(), cut, totals)
}

#[test]
fn every_request_of_a_random_mix_gives_the_events_of_its_solo_run() {
    let (mut requests, mut cut, mut preempted, mut spared) = (0, 0, 0, 0);
    for seed in 0..MIXES {
        let (these, those, totals) = check_mix(seed);
        requests += these;
        cut += those;
        preempted += totals.preemptions;
        spared += totals.prefix_hit_tokens;
    }
    let mixes = u64::from(MIXES);
    assert!(requests as u64 > 4 * mixes && cut as u64 > mixes / 10, "{cut} of {requests} are cancelled");
    assert!(preempted > mixes / 10, "{preempted} preemptions");
    assert!(spared > 5 * mixes, "{spared} tokens spared by the cache");
}
