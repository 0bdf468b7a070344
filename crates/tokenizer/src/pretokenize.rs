//! Splits text into the pieces that byte-pair encoding works on: the o200k pattern, matched by hand in linear time.

use crate::char_class::{CharClass, CharClasses};

/// The pattern whose leftmost-first matches [`Pieces`] yields, as written in `tokenizer.json`.
pub(crate) const O200K_PATTERN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*",
    r"|\s*[\r\n]+",
    r"|\s+(?!\S)",
    r"|\s+",
);

/// Iterator over the pieces of a text; their concatenation is the text.
pub(crate) struct Pieces<'a> {
    rest: &'a str,
    classes: &'static CharClasses,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { rest: text, classes: CharClasses::get() }
    }

    /// Length in bytes of the first piece of `self.rest`, which is not empty. Alternatives in the pattern's order.
    fn piece_len(&self, first: char) -> usize {
        let class = self.classes.of(first);
        self.word_len(first, class)
            .or_else(|| self.number_len(class))
            .or_else(|| self.symbols_len(first, class))
            .unwrap_or_else(|| self.whitespace_len())
    }

    /// The two word alternatives: an optional prefix character, letters, an optional English contraction.
    fn word_len(&self, first: char, class: CharClass) -> Option<usize> {
        let prefix_len = if class.fits_word_prefix() { first.len_utf8() } else { 0 };
        let with_prefix = (prefix_len > 0).then_some(prefix_len);
        // A prefix is tried before none; a mark can be either a prefix or part of the word.
        let starts = || with_prefix.into_iter().chain([0]);
        starts()
            .find_map(|start| self.lower_word_end(start))
            .or_else(|| starts().find_map(|start| self.upper_word_end(start)))
            .map(|end| end + contraction_len(&self.rest[end..]))
    }

    /// End of `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` at `start`.
    fn lower_word_end(&self, start: usize) -> Option<usize> {
        let mut last_shared_end = None;
        let mut upper_end = start;
        for c in self.rest[start..].chars() {
            let class = self.classes.of(c);
            if class.fits_upper_run() {
                upper_end += c.len_utf8();
                if class.fits_lower_run() {
                    last_shared_end = Some(upper_end);
                }
            } else if class == CharClass::Lower {
                return Some(self.lower_run_end(upper_end));
            } else {
                break;
            }
        }
        // No lower-case letter follows: the regex gives characters of the first run back until one fits the second.
        last_shared_end
    }

    /// End of `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*` at `start`.
    fn upper_word_end(&self, start: usize) -> Option<usize> {
        let upper_len: usize = self.run_len(start, CharClass::fits_upper_run);
        (upper_len > 0).then(|| self.lower_run_end(start + upper_len))
    }

    fn lower_run_end(&self, start: usize) -> usize {
        start + self.run_len(start, CharClass::fits_lower_run)
    }

    /// `\p{N}{1,3}`
    fn number_len(&self, first: CharClass) -> Option<usize> {
        (first == CharClass::Number).then(|| {
            let digits = self.rest.chars().take(3).take_while(|&c| self.classes.of(c) == CharClass::Number);
            digits.map(char::len_utf8).sum()
        })
    }

    /// ` ?[^\s\p{L}\p{N}]+[\r\n/]*`
    fn symbols_len(&self, first: char, class: CharClass) -> Option<usize> {
        let start = usize::from(first == ' ');
        if start == 0 && !class.fits_symbol_run() {
            return None;
        }
        let symbols = self.run_len(start, CharClass::fits_symbol_run);
        (symbols > 0).then(|| {
            let end = start + symbols;
            let tail = self.rest.as_bytes()[end..].iter().take_while(|b| matches!(b, b'\r' | b'\n' | b'/'));
            end + tail.count()
        })
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`: up to the run's last newline; else all of it at the end of the text; else all but its last
    /// character, which the next piece takes as its prefix; else its only character.
    fn whitespace_len(&self) -> usize {
        let (mut len, mut newline_end, mut before_last) = (0, None, 0);
        for c in self.rest.chars() {
            let class = self.classes.of(c);
            if !class.is_whitespace() {
                break;
            }
            before_last = len;
            len += c.len_utf8();
            if class == CharClass::Newline {
                newline_end = Some(len);
            }
        }
        assert!(len > 0, "a character that starts no other alternative is whitespace");
        match newline_end {
            Some(end) => end,
            None if len == self.rest.len() || before_last == 0 => len,
            None => before_last,
        }
    }

    fn run_len(&self, start: usize, fits: impl Fn(CharClass) -> bool) -> usize {
        let run = self.rest[start..].chars().take_while(|&c| fits(self.classes.of(c)));
        run.map(char::len_utf8).sum()
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let first = self.rest.chars().next()?;
        let (piece, rest) = self.rest.split_at(self.piece_len(first));
        self.rest = rest;
        Some(piece)
    }
}

/// Length of `(?i:'s|'t|'re|'ve|'m|'ll|'d)?` at the start of `text`. Case folding makes U+017F an s.
fn contraction_len(text: &str) -> usize {
    let Some(after) = text.strip_prefix('\'') else { return 0 };
    let mut chars = after.chars();
    let first = chars.next().map(|c| c.to_ascii_lowercase());
    let second = chars.next().map(|c| c.to_ascii_lowercase());
    match (first, second) {
        (Some('s' | 't' | 'm' | 'd'), _) => 2,
        (Some('\u{17f}'), _) => 1 + '\u{17f}'.len_utf8(),
        (Some('r' | 'v'), Some('e')) | (Some('l'), Some('l')) => 3,
        _ => 0,
    }
}
