//! One sequence: its tokens, and while it runs, what it holds.

use std::time::Duration;

use crate::event::Usage;
use crate::kv::{BlockId, PrefixHash};
use crate::limits::BLOCK_SLOTS;
use crate::request::{GenerateRequest, RequestId, SamplingParams, ValidRequest};
use crate::sampler::{SamplerRow, TokenCounts};

/// A token timeline, waiting or running.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    pub(crate) key: u64,
    pub(crate) priority: i32,
    /// On the engine's clock.
    pub(crate) deadline: Option<Duration>,
    /// Prompt, then completion.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_tokens: usize,
    pub(crate) max_tokens: usize,
    /// Prompt tokens that its first start found in the cache.
    pub(crate) cached_prompt_tokens: usize,
    /// Names of its whole blocks, as far as they are known.
    prefixes: Vec<PrefixHash>,
    pub(crate) stop_token_ids: Vec<u32>,
    pub(crate) sampling: SamplingParams,
    pub(crate) logprobs: Option<u8>,
    pub(crate) counts: TokenCounts,
    /// It ran before.
    pub(crate) has_started: bool,
    /// It gave up its place once, and will not again.
    pub(crate) was_preempted: bool,
}

impl Sequence {
    pub(crate) fn new(id: RequestId, request: ValidRequest, now: Duration) -> Self {
        let GenerateRequest {
            prompt,
            generated,
            max_tokens,
            stop_token_ids,
            sampling,
            logprobs,
            key,
            priority,
            timeout,
        } = request.into_inner();
        let mut counts = TokenCounts::default();
        if sampling.uses_penalties() {
            counts.count_prompt(&prompt);
            generated.iter().for_each(|&token| counts.count_output(token));
        }
        let prompt_tokens = prompt.len();
        let mut tokens = prompt;
        tokens.extend(generated);
        let prefixes = Vec::with_capacity(tokens.len() / BLOCK_SLOTS);
        Self {
            id,
            key,
            priority,
            deadline: timeout.map(|timeout| now.saturating_add(timeout)),
            tokens,
            prompt_tokens,
            max_tokens,
            cached_prompt_tokens: 0,
            prefixes,
            stop_token_ids,
            sampling,
            logprobs,
            counts,
            has_started: false,
            was_preempted: false,
        }
    }

    /// Makes room for every token to come, so that steps allocate nothing.
    pub(crate) fn reserve(&mut self) {
        let remaining = self.remaining_tokens();
        self.tokens.reserve_exact(remaining);
        if self.sampling.uses_penalties() {
            self.counts.reserve(remaining);
        }
        let prefixes = self.most_tokens() / BLOCK_SLOTS - self.prefixes.len();
        self.prefixes.reserve_exact(prefixes);
    }

    pub(crate) fn completion_tokens(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    /// Completion tokens it may still get.
    pub(crate) fn remaining_tokens(&self) -> usize {
        self.max_tokens - self.completion_tokens()
    }

    /// Tokens it can have at its end.
    pub(crate) fn most_tokens(&self) -> usize {
        self.prompt_tokens + self.max_tokens
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens,
            completion_tokens: self.completion_tokens(),
            cached_prompt_tokens: self.cached_prompt_tokens,
        }
    }

    /// Whole blocks of its tokens.
    pub(crate) fn whole_blocks(&self) -> usize {
        self.tokens.len() / BLOCK_SLOTS
    }

    /// Name of its first `blocks` blocks, at least 1 and at most [`Sequence::whole_blocks`].
    pub(crate) fn prefix(&mut self, blocks: usize) -> PrefixHash {
        while self.prefixes.len() < blocks {
            let start = self.prefixes.len() * BLOCK_SLOTS;
            let before = self.prefixes.last().copied().unwrap_or_else(|| PrefixHash::root(self.key));
            self.prefixes.push(before.extend(&self.tokens[start..start + BLOCK_SLOTS]));
        }
        self.prefixes[blocks - 1]
    }

    /// Names all whole blocks.
    pub(crate) fn name_blocks(&mut self) {
        let blocks = self.whole_blocks();
        if blocks > 0 {
            self.prefix(blocks);
        }
    }

    /// Appends a sampled token.
    pub(crate) fn push(&mut self, token: u32) {
        if self.sampling.uses_penalties() {
            self.counts.count_output(token);
        }
        self.tokens.push(token);
    }

    /// What the sampler needs to choose this sequence's next token.
    pub(crate) fn sampler_row(&self) -> SamplerRow<'_> {
        SamplerRow {
            params: &self.sampling,
            stop_token_ids: &self.stop_token_ids,
            counts: &self.counts,
            position: self.tokens.len(),
            completion_tokens: self.completion_tokens(),
            logprobs: self.logprobs,
        }
    }
}

/// A sequence that holds a ring and blocks.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) sequence: Sequence,
    /// Block table so far; grows as rows are planned.
    pub(crate) blocks: Vec<BlockId>,
    /// Tokens for which blocks are held or promised.
    pub(crate) reserved_tokens: usize,
    /// Tokens whose keys and values are in place: the next step starts here.
    pub(crate) num_computed_tokens: usize,
    /// Positions below are in shared blocks, which are only read.
    pub(crate) kv_write_from: usize,
    /// From here on the ring holds what a run from the start would have written.
    pub(crate) exact_from: usize,
    /// Blocks at the front of the table that are shared or published.
    pub(crate) published: usize,
    /// Tokens there were when it was admitted: where its prefill ends.
    pub(crate) prefill_end: usize,
    /// Step of its last prefill rows.
    pub(crate) last_prefill: u64,
}

impl Running {
    /// Tokens not yet computed: what is left of the prefill, or the one token sampled last.
    pub(crate) fn pending_tokens(&self) -> usize {
        self.sequence.tokens.len() - self.num_computed_tokens
    }

    /// Whether its next step is one row that gives the next token.
    pub(crate) fn is_decoding(&self) -> bool {
        self.num_computed_tokens >= self.prefill_end
    }

    /// Whether its prefill will complete this prefix of `blocks` blocks.
    pub(crate) fn will_publish(&self, blocks: usize, prefix: PrefixHash) -> bool {
        let is_ahead = self.published < blocks && blocks * BLOCK_SLOTS <= self.prefill_end;
        is_ahead && self.sequence.prefixes.get(blocks - 1) == Some(&prefix)
    }

    /// Blocks it may still take.
    pub(crate) fn promised_blocks(&self) -> usize {
        self.reserved_tokens.div_ceil(BLOCK_SLOTS) - self.blocks.len()
    }
}
