//! The embedded o200k_harmony: ranks and control tokens.

use std::borrow::Cow;

use crate::tokenizer::TokenId;
use crate::vocabulary::Vocabulary;

/// Length byte and bytes of each ordinary token in rank order; see `assets/README.md`.
static PACKED: &[u8] = include_bytes!("../assets/o200k_base.bin");

/// Ordinary tokens: ids `0..ORDINARY_COUNT`.
pub(crate) const ORDINARY_COUNT: u32 = 199_998;

/// Ids including reserved ones, the `vocab_size` of gpt-oss-20b and -120b.
pub(crate) const VOCAB_SIZE: u32 = 201_088;

/// Ways to split one ordinary token into two: the merges of the `tokenizer.json` of gpt-oss.
pub(crate) const MERGE_COUNT: usize = 446_189;

/// Control tokens that have a purpose; the other ids from `ORDINARY_COUNT` up are `<|reserved_ID|>`.
const NAMED: [(TokenId, &str); 10] = [
    (199_998, "<|startoftext|>"),
    (199_999, "<|endoftext|>"),
    (200_002, "<|return|>"),
    (200_003, "<|constrain|>"),
    (200_005, "<|channel|>"),
    (200_006, "<|start|>"),
    (200_007, "<|end|>"),
    (200_008, "<|message|>"),
    (200_012, "<|call|>"),
    (200_018, "<|endofprompt|>"),
];

/// The ordinary tokens, in place.
pub(crate) fn vocabulary() -> Vocabulary {
    let mut spans = Vec::with_capacity(ORDINARY_COUNT as usize);
    let mut at = 0;
    while at < PACKED.len() {
        let len = u32::from(PACKED[at]);
        spans.push((at as u32 + 1, len));
        at += 1 + len as usize;
    }
    assert_eq!(spans.len(), ORDINARY_COUNT as usize, "the embedded vocabulary is whole");
    Vocabulary::new(Cow::Borrowed(PACKED), spans).expect("embedded tokens are distinct")
}

/// Id and name of every control token.
pub(crate) fn specials() -> impl Iterator<Item = (TokenId, String)> {
    (ORDINARY_COUNT..VOCAB_SIZE).map(|id| {
        let named = NAMED.iter().find(|&&(named_id, _)| named_id == id);
        (id, named.map_or_else(|| format!("<|reserved_{id}|>"), |&(_, name)| name.to_owned()))
    })
}
