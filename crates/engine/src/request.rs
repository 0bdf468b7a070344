//! A request and the rules it is checked against.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::SubmitError;
use crate::limits::{
    ExecutorLimits, MAX_LOGIT_BIAS_ENTRIES, MAX_LOGIT_BIAS_VALUE, MAX_PENALTY, MAX_REPETITION_PENALTY,
    MAX_STOP_TOKENS, MAX_TEMPERATURE, MAX_TOP_LOGPROBS, PRIORITIES,
};

/// Names a request for as long as its engine lives; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl std::fmt::Display for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How the next token is chosen. [`crate::Sampler`] states the order in which these act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// 0 to [`MAX_TEMPERATURE`]; 0 takes the most probable token, the lowest id on ties.
    pub temperature: f32,
    /// Above 0, at most 1: keep the fewest most probable tokens whose probabilities sum to at least this; 1 is off.
    pub top_p: f32,
    /// Keep this many most probable tokens, lower ids first on ties; 0 is off.
    pub top_k: u32,
    /// 0 to 1: keep tokens at least this probable relative to the most probable one; 0 is off.
    pub min_p: f32,
    /// −2 to 2: subtracted from the logit of every token that the completion holds.
    pub presence_penalty: f32,
    /// −2 to 2: subtracted for each time the completion holds the token.
    pub frequency_penalty: f32,
    /// Above 0, at most [`MAX_REPETITION_PENALTY`]: divides positive and multiplies negative logits of tokens that
    /// prompt or completion hold; 1 is off.
    pub repetition_penalty: f32,
    /// Added to the logits of these tokens; each token at most once.
    pub logit_bias: Vec<(u32, f32)>,
    /// Key of the random numbers: the same request with the same seed gives the same tokens.
    pub seed: u64,
    /// Stop tokens can't be sampled before this many completion tokens; at most the request's `max_tokens`.
    pub min_tokens: usize,
}

impl Default for SamplingParams {
    /// The model's plain distribution: temperature 1, everything else off, seed 0.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
            min_tokens: 0,
        }
    }
}

impl SamplingParams {
    /// The most probable token each time.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether tokens must be counted.
    pub fn uses_penalties(&self) -> bool {
        self.presence_penalty != 0.0 || self.frequency_penalty != 0.0 || self.repetition_penalty != 1.0
    }
}

/// One token timeline to generate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GenerateRequest {
    /// Token ids; not empty, and room for at least one more token in the context.
    pub prompt: Vec<u32>,
    /// Completion tokens that exist already, of a sequence that goes on elsewhere: not emitted again, but counted in
    /// `max_tokens`, in the usage, in penalties and in the index of tokens. Fewer than `max_tokens`.
    pub generated: Vec<u32>,
    /// Most completion tokens, at least 1. More than the context holds is allowed and ends with
    /// [`crate::FinishReason::Length`] at the context's end.
    pub max_tokens: usize,
    /// Sampling one of these ends the request; at most [`MAX_STOP_TOKENS`].
    pub stop_token_ids: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// `Some(n)` reports each token's logprob and the `n` most probable tokens; at most [`MAX_TOP_LOGPROBS`].
    pub logprobs: Option<u8>,
    /// Who asks. Keys share the engine fairly, and only requests of one key share prefixes.
    pub key: u64,
    /// Higher ones run first; within [`PRIORITIES`], normally 0.
    pub priority: i32,
    /// Time from submission after which the request ends with [`crate::FinishReason::Deadline`].
    pub timeout: Option<Duration>,
}

impl GenerateRequest {
    /// A greedy request without stop tokens.
    pub fn greedy(prompt: Vec<u32>, max_tokens: usize) -> Self {
        Self {
            prompt,
            generated: Vec::new(),
            max_tokens,
            stop_token_ids: Vec::new(),
            sampling: SamplingParams::greedy(),
            logprobs: None,
            key: 0,
            priority: 0,
            timeout: None,
        }
    }
}

/// The facts requests are checked against: constant while an engine lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRules {
    /// Token ids are below this.
    pub vocab_size: usize,
    /// Most tokens of one sequence, prompt and completion together.
    pub sequence_capacity: usize,
}

impl RequestRules {
    /// The rules of an executor.
    pub fn new(vocab_size: usize, limits: &ExecutorLimits) -> Self {
        Self { vocab_size, sequence_capacity: limits.sequence_capacity() }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// [`SubmitError`] names the first field that breaks a rule, its value and the rule.
    pub fn check(&self, request: GenerateRequest) -> Result<ValidRequest, SubmitError> {
        if request.prompt.is_empty() {
            return Err(SubmitError::EmptyPrompt);
        }
        let (prompt_tokens, max_prompt_tokens) = (request.prompt.len(), self.sequence_capacity - 1);
        if prompt_tokens > max_prompt_tokens {
            return Err(SubmitError::PromptTooLong { prompt_tokens, max_prompt_tokens });
        }
        self.check_tokens("prompt", request.prompt.iter().copied())?;
        rule(request.max_tokens >= 1, "max_tokens", request.max_tokens, "at least 1")?;
        let min_tokens = request.sampling.min_tokens;
        rule(min_tokens <= request.max_tokens, "min_tokens", min_tokens, "at most max_tokens")?;
        let stops = request.stop_token_ids.len();
        at_most(stops, MAX_STOP_TOKENS, "stop_token_ids", "ids")?;
        self.check_tokens("stop_token_ids", request.stop_token_ids.iter().copied())?;
        if let Some(n) = request.logprobs {
            at_most(n as usize, MAX_TOP_LOGPROBS as usize, "top_logprobs", "alternatives")?;
        }
        self.check_sampling(&request.sampling)?;
        let priority_rule = format!("{} to {}", PRIORITIES.start(), PRIORITIES.end());
        rule(PRIORITIES.contains(&request.priority), "priority", request.priority, priority_rule)?;
        let max_tokens = request.max_tokens.min(self.sequence_capacity - prompt_tokens);
        self.check_tokens("generated", request.generated.iter().copied())?;
        let generated = request.generated.len();
        rule(generated < max_tokens, "generated", format!("{generated} tokens"), "fewer than max_tokens")?;
        Ok(ValidRequest { request: GenerateRequest { max_tokens, ..request } })
    }

    fn check_tokens(
        &self,
        field: &'static str,
        tokens: impl Iterator<Item = u32>,
    ) -> Result<(), SubmitError> {
        let vocab_size = self.vocab_size;
        match tokens.into_iter().find(|&token| token as usize >= vocab_size) {
            Some(token) => Err(SubmitError::TokenOutOfRange { field, token, vocab_size }),
            None => Ok(()),
        }
    }

    fn check_sampling(&self, p: &SamplingParams) -> Result<(), SubmitError> {
        let t = p.temperature;
        rule((0.0..=MAX_TEMPERATURE).contains(&t), "temperature", t, format!("0 to {MAX_TEMPERATURE}"))?;
        rule(p.top_p > 0.0 && p.top_p <= 1.0, "top_p", p.top_p, "above 0 and at most 1")?;
        rule((0.0..=1.0).contains(&p.min_p), "min_p", p.min_p, "0 to 1")?;
        for (field, value) in
            [("presence_penalty", p.presence_penalty), ("frequency_penalty", p.frequency_penalty)]
        {
            rule(value.abs() <= MAX_PENALTY, field, value, format!("-{MAX_PENALTY} to {MAX_PENALTY}"))?;
        }
        let r = p.repetition_penalty;
        let repetition_rule = format!("above 0 and at most {MAX_REPETITION_PENALTY}");
        rule(r > 0.0 && r <= MAX_REPETITION_PENALTY, "repetition_penalty", r, repetition_rule)?;
        self.check_bias(&p.logit_bias)
    }

    fn check_bias(&self, bias: &[(u32, f32)]) -> Result<(), SubmitError> {
        at_most(bias.len(), MAX_LOGIT_BIAS_ENTRIES, "logit_bias", "entries")?;
        self.check_tokens("logit_bias", bias.iter().map(|&(token, _)| token))?;
        for &(_, value) in bias {
            let bias_rule = format!("-{MAX_LOGIT_BIAS_VALUE} to {MAX_LOGIT_BIAS_VALUE}");
            rule(value.abs() <= MAX_LOGIT_BIAS_VALUE, "logit_bias", value, bias_rule)?;
        }
        let mut tokens: Vec<u32> = bias.iter().map(|&(token, _)| token).collect();
        tokens.sort_unstable();
        match tokens.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => {
                rule(false, "logit_bias", format!("token {} twice", pair[0]), "one entry for each token")
            }
            None => Ok(()),
        }
    }
}

fn rule(
    holds: bool,
    field: &'static str,
    value: impl ToString,
    rule: impl Into<String>,
) -> Result<(), SubmitError> {
    if holds {
        return Ok(());
    }
    Err(SubmitError::InvalidSampling { field, value: value.to_string(), rule: rule.into() })
}

fn at_most(count: usize, limit: usize, field: &'static str, what: &str) -> Result<(), SubmitError> {
    rule(count <= limit, field, format!("{count} {what}"), format!("at most {limit} {what}"))
}

/// A request that passed [`RequestRules::check`]; its `max_tokens` is cut to what the context holds.
#[derive(Clone, Debug)]
pub struct ValidRequest {
    request: GenerateRequest,
}

impl ValidRequest {
    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.request.prompt.len()
    }

    /// Most tokens of the whole sequence.
    pub fn max_sequence_tokens(&self) -> usize {
        self.request.prompt.len() + self.request.max_tokens
    }

    /// The request.
    pub fn into_inner(self) -> GenerateRequest {
        self.request
    }
}
