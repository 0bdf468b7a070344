//! Unicode general categories, as coarse as the o200k pre-tokenizer needs them.

use std::sync::OnceLock;

use regex_syntax::hir::{Class, HirKind};

/// What the o200k pre-tokenizer distinguishes. Every character has exactly one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum CharClass {
    /// None of the below: punctuation, symbols, controls, unassigned.
    Other = 0,
    /// `Lu` or `Lt`.
    Upper,
    /// `Ll`.
    Lower,
    /// `Lm` or `Lo`: a letter without case.
    Caseless,
    /// `M`.
    Mark,
    /// `N`.
    Number,
    /// `\s` except carriage return and line feed.
    Space,
    /// `\r` or `\n`.
    Newline,
}

impl CharClass {
    /// In `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`.
    pub(crate) fn fits_upper_run(self) -> bool {
        matches!(self, Self::Upper | Self::Caseless | Self::Mark)
    }

    /// In `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`.
    pub(crate) fn fits_lower_run(self) -> bool {
        matches!(self, Self::Lower | Self::Caseless | Self::Mark)
    }

    /// In `[^\r\n\p{L}\p{N}]`.
    pub(crate) fn fits_word_prefix(self) -> bool {
        matches!(self, Self::Other | Self::Mark | Self::Space)
    }

    /// In `[^\s\p{L}\p{N}]`.
    pub(crate) fn fits_symbol_run(self) -> bool {
        matches!(self, Self::Other | Self::Mark)
    }

    /// In `\s`.
    pub(crate) fn is_whitespace(self) -> bool {
        matches!(self, Self::Space | Self::Newline)
    }
}

/// The class of every code point, from the Unicode tables that OpenAI's own tokenizer uses (the `regex` family, Unicode 16).
pub(crate) struct CharClasses {
    by_code_point: Box<[CharClass]>,
}

impl CharClasses {
    /// The table, built on first use (1.1 MiB).
    pub(crate) fn get() -> &'static Self {
        static CLASSES: OnceLock<CharClasses> = OnceLock::new();
        CLASSES.get_or_init(Self::build)
    }

    /// Class of `c`.
    pub(crate) fn of(&self, c: char) -> CharClass {
        self.by_code_point[c as usize]
    }

    fn build() -> Self {
        let mut by_code_point = vec![CharClass::Other; char::MAX as usize + 1].into_boxed_slice();
        let patterns = [
            (r"[\p{Lu}\p{Lt}]", CharClass::Upper),
            (r"\p{Ll}", CharClass::Lower),
            (r"[\p{Lm}\p{Lo}]", CharClass::Caseless),
            (r"\p{M}", CharClass::Mark),
            (r"\p{N}", CharClass::Number),
            (r"\s", CharClass::Space),
            (r"[\r\n]", CharClass::Newline),
        ];
        for (pattern, class) in patterns {
            let hir = regex_syntax::parse(pattern).expect("a constant pattern parses");
            let HirKind::Class(Class::Unicode(ranges)) = hir.kind() else {
                unreachable!("{pattern} is a character class")
            };
            for range in ranges.ranges() {
                by_code_point[range.start() as usize..=range.end() as usize].fill(class);
            }
        }
        Self { by_code_point }
    }
}
