//! A row never depends on its company: every request of a random mix gives the events of its solo run.
//!
//! Seen to fail when: a sequence's table names another's block; a block of an ended sequence is lost; the ring is the
//! index within the step; positions start at 0 in each chunk; a chunk exceeds `max_chunk`; a logit row is off; every chunk
//! asks for logits; the sampler's position is not the sequence's; more sequences run than a step has logit rows.

use sostenuto_engine::testing::HashExecutor;
use sostenuto_engine::{
    EngineCore, Event, ExecutorLimits, FinishReason, GenerateRequest, RequestEvent, RequestId, SamplingParams,
};

use crate::support::{Random, core, enqueue, finish_reason, of, solo};

const VOCAB_SIZE: usize = 24;
const MIXES: u32 = 3_000;
const MAX_CONTEXT: usize = 72;

fn random_limits(random: &mut Random) -> ExecutorLimits {
    let max_step_rows = random.range(1..=24);
    ExecutorLimits {
        max_step_rows,
        max_logit_rows: random.range(1..=6),
        max_chunk: random.range(1..=max_step_rows),
        max_sequences: random.range(1..=6),
        max_context: MAX_CONTEXT,
        num_blocks: random.range(5..=16),
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
    }
}

fn random_request(random: &mut Random) -> GenerateRequest {
    let prompt = (0..random.range(1..=40)).map(|_| random.below(VOCAB_SIZE) as u32).collect();
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
    GenerateRequest { prompt, max_tokens: random.range(1..=32), stop_token_ids, sampling, logprobs }
}

/// No block serves two sequences of a step.
fn assert_blocks_are_not_shared(core: &EngineCore<HashExecutor>) {
    let mut blocks = core.plan().block_tables.clone();
    blocks.sort_unstable();
    let all = blocks.len();
    blocks.dedup();
    assert_eq!(blocks.len(), all, "a block lies in two tables");
}

/// Runs requests that arrive, and are cancelled, at random moments. Returns all events and whom a cancel was asked for.
fn run_mix(random: &mut Random, requests: &[GenerateRequest]) -> (Vec<RequestEvent>, Vec<RequestId>) {
    let mut core = core(VOCAB_SIZE, random_limits(random));
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
        core.step(&mut events).unwrap();
        assert_blocks_are_not_shared(&core);
        if arrived == requests.len() && core.scheduler().is_idle() {
            assert_eq!(core.scheduler().free_blocks(), core.scheduler().total_blocks());
            return (events, cancelled);
        }
    }
    panic!("a request does not end");
}

/// Events in a form that can be compared bit for bit.
fn describe(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| format!("{event:?}")).collect()
}

fn check_mix(seed: u32) -> (usize, usize) {
    let mut random = Random::new(seed);
    let requests: Vec<_> = (0..random.range(1..=9)).map(|_| random_request(&mut random)).collect();
    let (events, cancelled) = run_mix(&mut random, &requests);
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
    (requests.len(), cut)
}

#[test]
fn every_request_of_a_random_mix_gives_the_events_of_its_solo_run() {
    let (mut requests, mut cut) = (0, 0);
    for seed in 0..MIXES {
        let (these, those) = check_mix(seed);
        requests += these;
        cut += those;
    }
    assert!(
        requests > 4 * MIXES as usize && cut > MIXES as usize / 10,
        "the mixes cover cancels: {cut} of {requests}"
    );
}
