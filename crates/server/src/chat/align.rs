//! Log probabilities released together with the text of their tokens.

use std::collections::VecDeque;

use sostenuto_api::chat::TokenLogprob;

/// Holds entries back until the text of their tokens is released, and drops those of text that is cut off.
///
/// Counts bytes of the text of content messages, from 0. A token that only begins a character has no text of its own
/// and goes with the token that completes it.
#[derive(Debug, Default)]
pub(crate) struct Aligner {
    /// Text produced so far, bytes.
    produced: usize,
    /// Text released so far, bytes.
    released: usize,
    /// Start and end of each token's text, and its entry.
    waiting: VecDeque<(usize, usize, TokenLogprob)>,
}

impl Aligner {
    /// Notes a token that completes `text_bytes` more bytes of text.
    pub(crate) fn push_token(&mut self, entry: TokenLogprob, text_bytes: usize) {
        let start = self.produced;
        self.produced += text_bytes;
        self.waiting.push_back((start, self.produced, entry));
    }

    /// Releases `bytes` more bytes of text: the entries whose text is out entirely.
    pub(crate) fn release(&mut self, bytes: usize) -> Vec<TokenLogprob> {
        self.released += bytes;
        if bytes == 0 {
            return Vec::new();
        }
        self.take_while(|_, end, released| end <= released)
    }

    /// Releases the last `bytes` bytes of text: the entries of which at least a part is out. The rest is dropped.
    pub(crate) fn cut(&mut self, bytes: usize) -> Vec<TokenLogprob> {
        self.released += bytes;
        let entries = self.take_while(|start, _, released| start < released);
        self.waiting.clear();
        entries
    }

    /// Releases everything: a message ended.
    pub(crate) fn release_all(&mut self) -> Vec<TokenLogprob> {
        self.released = self.produced;
        self.take_while(|_, _, _| true)
    }

    fn take_while(&mut self, is_out: impl Fn(usize, usize, usize) -> bool) -> Vec<TokenLogprob> {
        let mut entries = Vec::new();
        while let Some((start, end, _)) = self.waiting.front() {
            if !is_out(*start, *end, self.released) {
                break;
            }
            entries.extend(self.waiting.pop_front().map(|(_, _, entry)| entry));
        }
        entries
    }
}
