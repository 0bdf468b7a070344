//! One request as the simulation sees it from the outside.

use std::time::Duration;

use sostenuto_engine::{GenerateRequest, SampleError, SampledToken, Sampler, SamplerRow, TokenCounts, Usage};

use crate::model::{SoloRun, VOCAB_SIZE, logits};
use crate::rng::mix;

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// In the queue, or preempted.
    Waiting,
    /// It has a ring.
    Running(Progress),
}

/// How far a request is since it was admitted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The position that its next row must have; none before its first rows.
    pub(crate) next: Option<usize>,
    /// Positions below are in blocks that it only reads.
    pub(crate) write_from: usize,
    /// Blocks at the front of its table that others wrote, or that it let others find.
    pub(crate) published: usize,
    /// It has had logits since its admission: its next row is one token.
    pub(crate) is_decoding: bool,
    /// Number of the last step in which it had rows; 0 before.
    pub(crate) last_prefill: u64,
    /// Rows from this position on see exact windows: those before only rebuild them.
    pub(crate) exact_from: usize,
    /// Tokens for which blocks are held or promised.
    pub(crate) reserved_tokens: usize,
}

/// A request that has not ended.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) request: GenerateRequest,
    pub(crate) deadline: Option<Duration>,
    /// Most completion tokens: those asked for, less what the context does not hold.
    pub(crate) max_tokens: usize,
    /// Prompt, then completion.
    pub(crate) tokens: Vec<u32>,
    /// For each token a name of the key and all tokens up to it.
    pub(crate) chain: Vec<u64>,
    pub(crate) state: State,
    /// What [`sostenuto_engine::Event::Started`] said about the cache; none before it.
    pub(crate) cached_tokens: Option<usize>,
    pub(crate) was_preempted: bool,
    /// A value of one of its rows was made to be no number.
    pub(crate) is_poisoned: bool,
    /// The tokens so far, computed alone.
    solo: SoloRun,
    counts: TokenCounts,
}

impl Record {
    /// A request that was accepted at `now`, by an engine whose sequences hold at most `capacity` tokens. `solo` has
    /// seen all of its tokens, or none.
    pub(crate) fn new(request: GenerateRequest, capacity: usize, mut solo: SoloRun, now: Duration) -> Self {
        let mut counts = TokenCounts::default();
        if request.sampling.uses_penalties() {
            counts.count_prompt(&request.prompt);
            request.generated.iter().for_each(|&token| counts.count_output(token));
        }
        let tokens = [request.prompt.as_slice(), &request.generated].concat();
        if solo.len() == 0 {
            tokens.iter().for_each(|&token| solo.push(token));
        }
        assert_eq!(solo.len(), tokens.len(), "the solo run is at the same token");
        let mut chain = Vec::with_capacity(tokens.len() + request.max_tokens);
        tokens.iter().for_each(|&token| extend_chain(&mut chain, request.key, token));
        Self {
            deadline: request.timeout.map(|timeout| now + timeout),
            max_tokens: request.max_tokens.min(capacity - request.prompt.len()),
            request,
            tokens,
            chain,
            state: State::Waiting,
            cached_tokens: None,
            was_preempted: false,
            is_poisoned: false,
            solo,
            counts,
        }
    }

    /// Completion tokens so far.
    pub(crate) fn completion_tokens(&self) -> usize {
        self.tokens.len() - self.request.prompt.len()
    }

    /// Completion tokens that may follow.
    pub(crate) fn remaining_tokens(&self) -> usize {
        self.max_tokens - self.completion_tokens()
    }

    /// Whether its last rows end before this position.
    pub(crate) fn is_at(&self, position: usize) -> bool {
        matches!(self.state, State::Running(progress) if progress.next == Some(position))
    }

    /// What it must have been told to have used.
    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.request.prompt.len(),
            completion_tokens: self.completion_tokens(),
            cached_prompt_tokens: self.cached_tokens.unwrap_or(0),
        }
    }

    /// The same request with what it got so far, for another engine.
    pub(crate) fn into_replay(self, now: Duration) -> (GenerateRequest, SoloRun) {
        let generated = self.tokens[self.request.prompt.len()..].to_vec();
        let timeout = self.deadline.map(|deadline| deadline.saturating_sub(now));
        (GenerateRequest { generated, timeout, ..self.request }, self.solo)
    }

    /// Last layer's output at a position, of the solo run.
    pub(crate) fn solo_output(&self, position: usize) -> u64 {
        self.solo.output(position)
    }

    /// What the sampler chooses after the tokens so far, of the solo run.
    pub(crate) fn solo_token(&self, sampler: &mut Sampler) -> Result<SampledToken, SampleError> {
        let mut row = [0.0; VOCAB_SIZE];
        logits(self.solo.output(self.tokens.len() - 1), &mut row);
        let sampler_row = SamplerRow {
            params: &self.request.sampling,
            stop_token_ids: &self.request.stop_token_ids,
            counts: &self.counts,
            position: self.tokens.len(),
            completion_tokens: self.completion_tokens(),
            logprobs: self.request.logprobs,
        };
        sampler.sample(&mut row, &sampler_row)
    }

    /// Appends a token that it got.
    pub(crate) fn push(&mut self, token: u32) {
        self.tokens.push(token);
        self.solo.push(token);
        extend_chain(&mut self.chain, self.request.key, token);
        if self.request.sampling.uses_penalties() {
            self.counts.count_output(token);
        }
    }
}

fn extend_chain(chain: &mut Vec<u64>, key: u64, token: u32) {
    let before = chain.last().copied().unwrap_or_else(|| mix(key + 1));
    chain.push(mix(before.wrapping_add(1) ^ mix(u64::from(token) + (1 << 40))));
}
