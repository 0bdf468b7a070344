//! Answers: how many, how long, how many tokens. vLLM's names, meanings and buckets.

use std::{sync::Arc, time::Instant};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use sostenuto_api::chat::FinishReason;

use crate::error::ApiError;

/// Bounds of `vllm:time_to_first_token_seconds`.
const FIRST_TOKEN_SECONDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0,
    80.0, 160.0, 640.0, 2560.0,
];
/// Bounds of the times between tokens.
const TOKEN_SECONDS: [f64; 19] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
];
/// Bounds of the times of whole requests and their phases.
const REQUEST_SECONDS: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0,
    960.0, 1920.0, 7680.0,
];
/// Bounds of token counts: 1, 2, 5, 10, … to the longest context of the family.
const TOKENS: [f64; 16] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5];
/// Bounds of `vllm:request_params_n`.
const SEQUENCES: [f64; 5] = [1.0, 2.0, 5.0, 10.0, 20.0];

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerEnd {
    /// By itself, by a stop string or by a call.
    Stop,
    /// At the limit of tokens or of the context.
    Length,
    /// Nobody wanted it any more, or the server shut down.
    Abort,
    /// The request's time was over.
    Deadline,
    /// By a failure.
    Error,
}

impl AnswerEnd {
    const ALL: [AnswerEnd; 5] = [Self::Stop, Self::Length, Self::Abort, Self::Deadline, Self::Error];

    /// The end that clients are told.
    pub(crate) fn of(reason: FinishReason) -> AnswerEnd {
        match reason {
            FinishReason::Length => Self::Length,
            FinishReason::Stop | FinishReason::ToolCalls => Self::Stop,
        }
    }

    /// The end by an error.
    pub(crate) fn of_error(error: &ApiError) -> AnswerEnd {
        match error {
            ApiError::ShuttingDown | ApiError::SlowReader => Self::Abort,
            ApiError::DeadlineExceeded => Self::Deadline,
            _ => Self::Error,
        }
    }

    /// The value of the label `finished_reason`: vLLM's, and `deadline`.
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Abort => "abort",
            Self::Deadline => "deadline",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabels {
    finished_reason: &'static str,
}

/// The metrics. Times are in seconds.
#[derive(Debug)]
pub(crate) struct AnswerMetrics {
    success: Family<EndLabels, Counter>,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    first_token: Histogram,
    inter_token: Histogram,
    time_per_output_token: Histogram,
    whole: Histogram,
    queue: Histogram,
    prefill: Histogram,
    decode: Histogram,
    inference: Histogram,
    request_prompt_tokens: Histogram,
    request_generation_tokens: Histogram,
    params_n: Histogram,
    params_max_tokens: Histogram,
}

impl AnswerMetrics {
    /// Makes the metrics and registers them.
    pub(super) fn register(registry: &mut Registry) -> AnswerMetrics {
        let success = Family::<EndLabels, Counter>::default();
        for end in AnswerEnd::ALL {
            // Exists from the start, so that the first one is seen as an increase.
            drop(success.get_or_create(&EndLabels { finished_reason: end.name() }));
        }
        registry.register("vllm:request_success", "Answers by how they ended", success.clone());
        let prompt_tokens = Counter::default();
        let about = "Prompt tokens of answers that have begun, those from the cache included";
        registry.register("vllm:prompt_tokens", about, prompt_tokens.clone());
        let generation_tokens = Counter::default();
        registry.register("vllm:generation_tokens", "Tokens of answers", generation_tokens.clone());
        let mut histogram = |name: &str, about: &str, bounds: &[f64]| {
            let histogram = Histogram::new(bounds.iter().copied());
            registry.register(name, about, histogram.clone());
            histogram
        };
        let mut seconds = |name: &str, about: &str, bounds: &[f64]| {
            histogram(&format!("vllm:{name}_seconds"), about, bounds)
        };
        let first_token = "From the request's arrival to the first token";
        let per_token = "Mean time between the tokens of an answer";
        let whole = "From the request's arrival to the end of the answer";
        let queue = "From the request's arrival to its start";
        AnswerMetrics {
            first_token: seconds("time_to_first_token", first_token, &FIRST_TOKEN_SECONDS),
            inter_token: seconds("inter_token_latency", "From one token to the next", &TOKEN_SECONDS),
            time_per_output_token: seconds("request_time_per_output_token", per_token, &TOKEN_SECONDS),
            whole: seconds("e2e_request_latency", whole, &REQUEST_SECONDS),
            queue: seconds("request_queue_time", queue, &REQUEST_SECONDS),
            prefill: seconds("request_prefill_time", "From the start to the first token", &REQUEST_SECONDS),
            decode: seconds("request_decode_time", "From the first token to the last", &REQUEST_SECONDS),
            inference: seconds(
                "request_inference_time",
                "From the start to the last token",
                &REQUEST_SECONDS,
            ),
            request_prompt_tokens: histogram("vllm:request_prompt_tokens", "Tokens of the prompt", &TOKENS),
            request_generation_tokens: histogram(
                "vllm:request_generation_tokens",
                "Tokens of the answer",
                &TOKENS,
            ),
            params_n: histogram("vllm:request_params_n", "n of accepted requests", &SEQUENCES),
            params_max_tokens: histogram(
                "vllm:request_params_max_tokens",
                "max_completion_tokens of accepted requests that have one",
                &TOKENS,
            ),
            success,
            prompt_tokens,
            generation_tokens,
        }
    }

    /// Counts an accepted request's parameters.
    pub(crate) fn accepted(&self, n: usize, max_tokens: Option<usize>) {
        self.params_n.observe(n as f64);
        if let Some(max_tokens) = max_tokens {
            self.params_max_tokens.observe(max_tokens as f64);
        }
    }
}

/// What is measured of one answer. One that is dropped before its end counts as aborted.
#[derive(Debug)]
pub(crate) struct Timeline {
    metrics: Arc<AnswerMetrics>,
    prompt_tokens: usize,
    tokens: usize,
    arrived: Instant,
    started: Option<Instant>,
    first_token: Option<Instant>,
    last_token: Option<Instant>,
    is_over: bool,
}

impl Timeline {
    /// An answer to a request that arrived at `arrived` with this many prompt tokens.
    pub(crate) fn new(metrics: Arc<AnswerMetrics>, arrived: Instant, prompt_tokens: usize) -> Timeline {
        Timeline {
            metrics,
            prompt_tokens,
            tokens: 0,
            arrived,
            started: None,
            first_token: None,
            last_token: None,
            is_over: false,
        }
    }

    /// It left the queue.
    pub(crate) fn start(&mut self, at: Instant) {
        self.started = Some(at);
    }

    /// It got a token.
    pub(crate) fn token(&mut self, at: Instant) {
        match self.last_token.replace(at) {
            None => {
                self.first_token = Some(at);
                self.metrics.prompt_tokens.inc_by(self.prompt_tokens as u64);
                self.metrics.first_token.observe(seconds(self.arrived, at));
            }
            Some(before) => self.metrics.inter_token.observe(seconds(before, at)),
        }
        self.metrics.generation_tokens.inc();
        self.tokens += 1;
    }

    /// It is over. Times and token counts of answers that were cut off or failed are not kept.
    pub(crate) fn end(&mut self, at: Instant, end: AnswerEnd) {
        self.is_over = true;
        let metrics = &self.metrics;
        metrics.success.get_or_create(&EndLabels { finished_reason: end.name() }).inc();
        if !matches!(end, AnswerEnd::Stop | AnswerEnd::Length) {
            return;
        }
        metrics.whole.observe(seconds(self.arrived, at));
        metrics.request_prompt_tokens.observe(self.prompt_tokens as f64);
        metrics.request_generation_tokens.observe(self.tokens as f64);
        let (Some(started), Some(first), Some(last)) = (self.started, self.first_token, self.last_token)
        else {
            return;
        };
        metrics.queue.observe(seconds(self.arrived, started));
        metrics.prefill.observe(seconds(started, first));
        metrics.decode.observe(seconds(first, last));
        metrics.inference.observe(seconds(started, last));
        if self.tokens > 1 {
            metrics.time_per_output_token.observe(seconds(first, last) / (self.tokens - 1) as f64);
        }
    }

    /// It was never accepted: nothing is counted.
    pub(crate) fn discard(&mut self) {
        self.is_over = true;
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        if !self.is_over {
            let labels = EndLabels { finished_reason: AnswerEnd::Abort.name() };
            self.metrics.success.get_or_create(&labels).inc();
        }
    }
}

fn seconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
}
