//! The whole engine over a small trained-shape model: whatever the company, chunking, cache, preemption or restart, a
//! request's tokens and logprobs are those of a run alone and from scratch, bit for bit.

use std::path::Path;
use std::time::Duration;

use sostenuto_engine::{
    EngineCore, EngineOptions, Event, GenerateRequest, RequestEvent, RequestId, SamplingParams, TokenEvent,
};
use sostenuto_formats::{Checkpoint, Loading};
use sostenuto_kernels_cpu::{CpuBackend, CpuOptions};
use sostenuto_model::{Model, ModelLimits};
use sostenuto_ops::{KvDtype, Precision};

use crate::support::Random;

/// Mixes on each of these; threads that wait for each other are slow where other tests keep the cores busy.
const MODELS: [ModelRuns; 8] = [
    ModelRuns { precision: Precision::Fast, threads: 3, mixes: 8 },
    ModelRuns { precision: Precision::Exact, threads: 2, mixes: 8 },
    ModelRuns { precision: Precision::Fast, threads: 1, mixes: 164 },
    ModelRuns { precision: Precision::Exact, threads: 1, mixes: 163 },
    ModelRuns { precision: Precision::Fast, threads: 1, mixes: 164 },
    ModelRuns { precision: Precision::Exact, threads: 1, mixes: 163 },
    ModelRuns { precision: Precision::Fast, threads: 1, mixes: 163 },
    ModelRuns { precision: Precision::Exact, threads: 1, mixes: 163 },
];
const VOCAB_SIZE: usize = 128;
const MAX_CONTEXT: usize = 144;
/// Steps, on average, after which an engine ends and another goes on.
const STEPS_TO_A_RESTART: usize = 150;

struct ModelRuns {
    precision: Precision,
    threads: usize,
    mixes: usize,
}

/// Three sliding layers with a window of 8 between three full ones: a re-run takes 21 tokens.
fn model(precision: Precision, threads: usize, limits: ModelLimits) -> Model {
    let folder =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tools/golden/logits/checkpoints/experts16");
    let checkpoint = Checkpoint::open(&folder, Loading::Read).unwrap();
    let backend = CpuBackend::new(CpuOptions { threads, precision, isa: None }).unwrap();
    Model::load(&checkpoint, Box::new(backend), &limits).unwrap()
}

fn limits(
    max_step_rows: usize,
    max_sequences: usize,
    kv_tokens: usize,
    window_snapshots: usize,
) -> ModelLimits {
    ModelLimits {
        max_step_rows,
        max_logit_rows: max_sequences,
        max_sequences,
        max_context: MAX_CONTEXT,
        kv_tokens,
        window_snapshots,
        kv_dtype: KvDtype::Bf16,
    }
}

/// A core for mixes, which is replaced now and then, and what those before it did.
struct Mixer<'a> {
    runs: &'a ModelRuns,
    limits: ModelLimits,
    options: EngineOptions,
    core: EngineCore<Model>,
    preemptions: u64,
    hits: u64,
    /// Requests that a new core got in the midst of their answers.
    moved: u64,
}

impl<'a> Mixer<'a> {
    fn new(runs: &'a ModelRuns, limits: ModelLimits, options: EngineOptions) -> Self {
        let core = EngineCore::new(model(runs.precision, runs.threads, limits), &options).unwrap();
        Self { runs, limits, options, core, preemptions: 0, hits: 0, moved: 0 }
    }

    fn submit(&mut self, number: u64, request: GenerateRequest) {
        let request = self.core.rules().check(request).unwrap();
        self.core.submit(RequestId(number), request, Duration::ZERO).unwrap();
    }

    /// Replaces the core by one with empty memory and gives it what has not ended, with the tokens so far.
    fn restart(&mut self, first: u64, requests: &[GenerateRequest], events: &[RequestEvent]) {
        self.count();
        let model = model(self.runs.precision, self.runs.threads, self.limits);
        self.core = EngineCore::new(model, &self.options).unwrap();
        for (number, request) in (first..).zip(requests) {
            let id = RequestId(number);
            if events.iter().any(|event| event.id == id && event.event.is_terminal()) {
                continue;
            }
            let more = token_events(id, events);
            self.moved += u64::from(!more.is_empty());
            let generated = request.generated.iter().copied().chain(more.iter().map(|token| token.id));
            self.submit(number, GenerateRequest { generated: generated.collect(), ..request.clone() });
        }
    }

    /// Adds what the core did.
    fn count(&mut self) {
        let totals = self.core.scheduler().totals();
        self.preemptions += totals.preemptions;
        self.hits += totals.prefix_hit_tokens;
    }
}

/// A mixer whose sizes and options are drawn, and a core for runs alone.
fn cores<'a>(random: &mut Random, runs: &'a ModelRuns) -> (Mixer<'a>, EngineCore<Model>) {
    let kv_tokens = MAX_CONTEXT + random.below(60);
    let drawn = limits(random.range(8..=70), random.range(1..=6), kv_tokens, random.range(0..=6));
    let options = EngineOptions {
        max_chunk_tokens: random.one_in(2).then(|| random.range(1..=40)),
        reserve_tokens: random.range(1..=8),
        snapshot_interval: [16, 64][random.below(2)],
        ..EngineOptions::default()
    };
    let roomy = model(runs.precision, 1, limits(MAX_CONTEXT, 1, MAX_CONTEXT, 0));
    let alone = EngineCore::new(roomy, &EngineOptions::default()).unwrap();
    (Mixer::new(runs, drawn, options), alone)
}

fn random_request(random: &mut Random) -> GenerateRequest {
    let shared = [0, 20, 48, 90][random.below(4)];
    let family = random.below(3) as u32;
    let mut prompt: Vec<u32> =
        (0..shared as u32).map(|i| (i * i + 11 * family) % VOCAB_SIZE as u32).collect();
    prompt.extend((0..random.range(1..=20)).map(|_| random.below(VOCAB_SIZE) as u32));
    let temperature = [0.0, 0.8, 1.2][random.below(3)];
    let sampling = SamplingParams { temperature, seed: random.below(9) as u64, ..SamplingParams::default() };
    GenerateRequest {
        sampling,
        logprobs: Some(3),
        key: u64::from(random.one_in(4)),
        ..GenerateRequest::greedy(prompt, random.range(1..=24))
    }
}

/// The tokens of a run alone that shares nothing: its key is its own.
fn run_alone(core: &mut EngineCore<Model>, number: u64, request: &GenerateRequest) -> Vec<TokenEvent> {
    let alone = core.rules().check(GenerateRequest { key: number, ..request.clone() }).unwrap();
    core.submit(RequestId(number), alone, Duration::ZERO).unwrap();
    let mut events = Vec::new();
    while !core.scheduler().is_idle() {
        core.step(Duration::ZERO, &mut events).unwrap();
    }
    token_events(RequestId(number), &events)
}

fn token_events(id: RequestId, events: &[RequestEvent]) -> Vec<TokenEvent> {
    let of_id = events.iter().filter(|event| event.id == id);
    let tokens = of_id.filter_map(|event| match &event.event {
        Event::Token(token) => Some(token.clone()),
        _ => None,
    });
    tokens.collect()
}

/// Runs requests that arrive at random moments, on engines of which one may end at any moment.
fn run_mix(
    random: &mut Random,
    mixer: &mut Mixer<'_>,
    first: u64,
    requests: &[GenerateRequest],
) -> Vec<RequestEvent> {
    let (mut events, mut arrived) = (Vec::new(), 0);
    while arrived < requests.len() || !mixer.core.scheduler().is_idle() {
        while arrived < requests.len() && random.one_in(3) {
            mixer.submit(first + arrived as u64, requests[arrived].clone());
            arrived += 1;
        }
        mixer.core.step(Duration::ZERO, &mut events).unwrap();
        if random.one_in(STEPS_TO_A_RESTART) {
            mixer.restart(first, &requests[..arrived], &events);
        }
    }
    events
}

fn check_mixes(model_number: usize, runs: &ModelRuns) -> [u64; 3] {
    let mut random = Random::new(model_number as u32);
    let (mut mixer, mut alone) = cores(&mut random, runs);
    let mut next = 0;
    for mix in 0..runs.mixes {
        let requests: Vec<_> = (0..random.range(1..=5)).map(|_| random_request(&mut random)).collect();
        let expected: Vec<_> =
            (next..).zip(&requests).map(|(number, request)| run_alone(&mut alone, number, request)).collect();
        // Some were begun elsewhere.
        let resumed: Vec<_> = requests
            .iter()
            .zip(&expected)
            .map(|(request, tokens)| {
                let done = if random.one_in(4) { random.below(tokens.len()) } else { 0 };
                let generated = tokens[..done].iter().map(|token| token.id).collect();
                GenerateRequest { generated, ..request.clone() }
            })
            .collect();
        let events = run_mix(&mut random, &mut mixer, next, &resumed);
        for (place, (request, tokens)) in resumed.iter().zip(&expected).enumerate() {
            let got = token_events(RequestId(next + place as u64), &events);
            let what = format!("model {model_number}, mix {mix}, request {place}");
            assert_eq!(got, tokens[request.generated.len()..], "{what}");
        }
        next += requests.len() as u64;
    }
    mixer.count();
    [mixer.preemptions, mixer.hits, mixer.moved]
}

#[test]
fn tokens_and_logprobs_of_a_thousand_mixes_equal_those_of_runs_alone() {
    let counts = MODELS.iter().enumerate().map(|(number, runs)| check_mixes(number, runs));
    let [preemptions, hits, moved] = counts.fold([0; 3], |sum, these| [0, 1, 2].map(|i| sum[i] + these[i]));
    let did = format!("{preemptions} preemptions, {hits} tokens from the cache, {moved} moved");
    println!("{did}");
    assert!(preemptions > 30 && hits > 15_000 && moved > 100, "{did}");
}
