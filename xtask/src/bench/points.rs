//! What is measured.

use std::fmt;

/// Tokens that each stream decodes at a point.
pub(super) const DECODE_TOKENS: usize = 32;

/// One thing that is measured, in tokens per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Point {
    /// A prompt of this many tokens.
    Prefill(usize),
    /// One stream after this many tokens.
    Decode(usize),
    /// This many streams without context, all together.
    Batch(usize),
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Point::Prefill(tokens) => write!(f, "prefill {tokens}"),
            Point::Decode(context) => write!(f, "decode after {context}"),
            Point::Batch(streams) => write!(f, "decode, {streams} streams"),
        }
    }
}

/// What a run measures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Points {
    /// Lengths of prompts.
    pub(super) prompts: Vec<usize>,
    /// Contexts of one stream.
    pub(super) contexts: Vec<usize>,
    /// Numbers of streams.
    pub(super) batches: Vec<usize>,
}

impl Points {
    /// The scaling that is recorded.
    pub(super) fn full() -> Points {
        Points {
            prompts: vec![128, 512, 2048, 8192],
            contexts: vec![0, 1024, 8192, 32768],
            batches: vec![1, 2, 4, 8, 16, 32],
        }
    }

    /// Some minutes.
    pub(super) fn quick() -> Points {
        Points { prompts: vec![128, 512], contexts: vec![0, 1024], batches: vec![1, 8] }
    }

    /// Those of at most `tokens` tokens of prompt or context.
    pub(super) fn up_to(&self, tokens: usize) -> Points {
        let short = |lengths: &[usize]| lengths.iter().copied().filter(|length| *length <= tokens).collect();
        Points {
            prompts: short(&self.prompts),
            contexts: short(&self.contexts),
            batches: self.batches.clone(),
        }
    }

    /// Contexts of more than `tokens` tokens.
    pub(super) fn contexts_beyond(&self, tokens: usize) -> Vec<usize> {
        self.contexts.iter().copied().filter(|context| *context > tokens).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_points_are_left_out_and_batches_stay() {
        let points = Points::full().up_to(2048);
        assert_eq!(points.prompts, [128, 512, 2048]);
        assert_eq!(points.contexts, [0, 1024]);
        assert_eq!(points.batches, Points::full().batches);
        assert_eq!(Points::full().contexts_beyond(2048), [8192, 32768]);
    }
}
