//! What several test modules need.

use std::sync::{Arc, LazyLock};

use sostenuto_harmony::{Event, Harmony, Message, Parsed, WarningKind};
use sostenuto_tokenizer::{TokenId, Tokenizer};

const SMALL_TOKENIZER: &[u8] = include_bytes!("../../../tokenizer/tests/golden/small_tokenizer.json");

/// With o200k_harmony.
pub(crate) static HARMONY: LazyLock<Harmony> =
    LazyLock::new(|| Harmony::new(Tokenizer::o200k_harmony()).expect("has the control tokens"));

/// With a small vocabulary and other control ids.
pub(crate) static SMALL: LazyLock<Harmony> = LazyLock::new(|| {
    let tokenizer: Arc<Tokenizer> = Tokenizer::from_tokenizer_json(SMALL_TOKENIZER).expect("well-formed");
    Harmony::new(tokenizer).expect("has the control tokens")
});

/// Ids of `text`, in which names of control tokens stand for the tokens.
pub(crate) fn ids_of(harmony: &Harmony, text: &str) -> Vec<TokenId> {
    let mut ids = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("<|") {
        let end = rest[start..].find("|>").map_or(rest.len(), |len| start + len + 2);
        let (before, after) = rest.split_at(start);
        harmony.tokenizer().encode_into(before, &mut ids);
        match harmony.tokenizer().special_id(&rest[start..end]) {
            Some(id) => ids.push(id),
            None => harmony.tokenizer().encode_into(&rest[start..end], &mut ids),
        }
        rest = &after[end - start..];
    }
    harmony.tokenizer().encode_into(rest, &mut ids);
    ids
}

/// Parses a completion; all its events are in `events`.
pub(crate) fn parse_ids(harmony: &Harmony, ids: &[TokenId]) -> Parsed {
    let mut parser = harmony.parser();
    let mut events: Vec<Event> = ids.iter().flat_map(|&id| parser.push(id)).collect();
    let mut parsed = parser.finish();
    events.append(&mut parsed.events);
    parsed.events = events;
    parsed
}

/// Parses a completion written as text.
pub(crate) fn parse(completion: &str) -> Parsed {
    parse_ids(&HARMONY, &ids_of(&HARMONY, completion))
}

pub(crate) fn kinds(parsed: &Parsed) -> Vec<WarningKind> {
    parsed.warnings.iter().map(|warning| warning.kind).collect()
}

/// A call of `functions.NAME` as openai-harmony parses it.
pub(crate) fn call(name: &str, arguments: &str) -> Message {
    Message::function_call(name, arguments)
}
