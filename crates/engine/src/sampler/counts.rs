//! Which tokens a sequence holds, for penalties.

use std::collections::HashMap;

/// How often a token occurs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Whether the prompt holds it.
    pub(crate) in_prompt: bool,
    /// Times in the completion.
    pub(crate) output: u32,
}

/// Counts of the distinct tokens of one sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenCounts {
    counts: HashMap<u32, Count>,
}

impl TokenCounts {
    /// Notes the tokens of the prompt.
    pub fn count_prompt(&mut self, tokens: &[u32]) {
        for &token in tokens {
            self.counts.entry(token).or_default().in_prompt = true;
        }
    }

    /// Makes room for `tokens` more tokens of the completion.
    pub fn reserve(&mut self, tokens: usize) {
        self.counts.reserve(tokens);
    }

    /// Notes one token of the completion.
    pub fn count_output(&mut self, token: u32) {
        self.counts.entry(token).or_default().output += 1;
    }

    /// The distinct tokens, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Count)> + '_ {
        self.counts.iter().map(|(&token, &count)| (token, count))
    }
}
