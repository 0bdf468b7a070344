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
    /// Notes a token whose text is the next `text_bytes` bytes to be produced.
    pub(crate) fn push_token(&mut self, entry: TokenLogprob, text_bytes: usize) {
        self.waiting.push_back((self.produced, self.produced + text_bytes, entry));
    }

    /// Notes `bytes` more bytes of text, of a token or not.
    pub(crate) fn produce(&mut self, bytes: usize) {
        self.produced += bytes;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(token: &str) -> TokenLogprob {
        TokenLogprob { token: token.into(), logprob: 0.0, bytes: None, top_logprobs: vec![] }
    }

    fn names(entries: Vec<TokenLogprob>) -> Vec<String> {
        entries.into_iter().map(|entry| entry.token).collect()
    }

    /// Tokens of 3, 0 and 2 bytes: the second begins a character that the third completes.
    fn three() -> Aligner {
        let mut aligner = Aligner::default();
        for (name, bytes) in [("a", 3), ("b", 0), ("c", 2)] {
            aligner.push_token(entry(name), bytes);
            aligner.produce(bytes);
        }
        aligner
    }

    #[test]
    fn entries_leave_when_their_text_is_out_entirely() {
        let mut aligner = three();
        assert!(names(aligner.release(2)).is_empty());
        assert_eq!(names(aligner.release(1)), ["a", "b"]);
        assert!(names(aligner.release(1)).is_empty());
        assert_eq!(names(aligner.release(1)), ["c"]);
    }

    #[test]
    fn cut_text_keeps_the_entries_that_are_partly_out_and_drops_the_rest() {
        let mut aligner = three();
        assert_eq!(names(aligner.cut(1)), ["a"]);
        assert!(names(aligner.release_all()).is_empty());
        assert!(names(three().cut(0)).is_empty());
        assert_eq!(names(three().cut(4)), ["a", "b", "c"]);
    }

    #[test]
    fn text_without_a_token_shifts_the_entries_behind_it() {
        let mut aligner = Aligner::default();
        aligner.produce(5);
        aligner.push_token(entry("a"), 1);
        aligner.produce(1);
        assert!(names(aligner.release(5)).is_empty());
        assert_eq!(names(aligner.release(1)), ["a"]);
    }
}
