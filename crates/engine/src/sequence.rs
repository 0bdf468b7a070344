//! One running sequence.

use crate::block_pool::BlockId;
use crate::event::Usage;
use crate::limits::BLOCK_SLOTS;
use crate::request::{GenerateRequest, RequestId, SamplingParams};
use crate::sampler::{SamplerRow, TokenCounts};

/// A sequence that holds a ring and blocks.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    pub(crate) ring: u32,
    pub(crate) blocks: Vec<BlockId>,
    /// Prompt, then completion.
    pub(crate) tokens: Vec<u32>,
    pub(crate) prompt_tokens: usize,
    pub(crate) max_tokens: usize,
    /// Tokens whose keys and values are written: the next step starts here.
    pub(crate) num_computed_tokens: usize,
    pub(crate) stop_token_ids: Vec<u32>,
    pub(crate) sampling: SamplingParams,
    pub(crate) logprobs: Option<u8>,
    pub(crate) counts: TokenCounts,
}

impl Sequence {
    /// A sequence at its start; `blocks` hold its whole reservation.
    pub(crate) fn new(id: RequestId, ring: u32, blocks: Vec<BlockId>, request: GenerateRequest) -> Self {
        let GenerateRequest { prompt, max_tokens, stop_token_ids, sampling, logprobs } = request;
        let prompt_tokens = prompt.len();
        let mut counts = TokenCounts::default();
        if sampling.uses_penalties() {
            counts.count_prompt(&prompt);
        }
        let mut tokens = prompt;
        tokens.reserve_exact(max_tokens);
        Self {
            id,
            ring,
            blocks,
            tokens,
            prompt_tokens,
            max_tokens,
            num_computed_tokens: 0,
            stop_token_ids,
            sampling,
            logprobs,
            counts,
        }
    }

    pub(crate) fn completion_tokens(&self) -> usize {
        self.tokens.len() - self.prompt_tokens
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage { prompt_tokens: self.prompt_tokens, completion_tokens: self.completion_tokens() }
    }

    /// Tokens not yet computed: what is left of the prompt, or the one token sampled last.
    pub(crate) fn pending_tokens(&self) -> usize {
        self.tokens.len() - self.num_computed_tokens
    }

    /// Whether its next step is one row that gives the next token.
    pub(crate) fn is_decoding(&self) -> bool {
        self.completion_tokens() > 0
    }

    /// The blocks that the first `tokens` positions need.
    pub(crate) fn block_table(&self, tokens: usize) -> impl Iterator<Item = u32> + '_ {
        self.blocks[..tokens.div_ceil(BLOCK_SLOTS)].iter().map(|block| block.0)
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
