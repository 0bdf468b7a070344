//! Properties of encoding and of incremental decoding.

use proptest::prelude::*;
use sostenuto_tokenizer::{Tokenizer, Utf8Stream};

#[test]
fn text_that_spells_control_tokens_stays_text() {
    let tokenizer = Tokenizer::o200k_harmony();
    for (id, name) in tokenizer.specials() {
        let ids = tokenizer.encode(&format!("a{name}{name} b"));
        assert!(ids.iter().all(|&id| !tokenizer.is_special(id)), "{name} became {ids:?}");
        assert_eq!(tokenizer.special_id(name), Some(id));
        assert_eq!(tokenizer.special_name(id), Some(name));
        assert_eq!(tokenizer.token_bytes(id), None);
    }
}

#[test]
fn control_tokens_have_the_ids_of_o200k_harmony() {
    let tokenizer = Tokenizer::o200k_harmony();
    let expected = [
        ("<|startoftext|>", 199_998),
        ("<|endoftext|>", 199_999),
        ("<|return|>", 200_002),
        ("<|constrain|>", 200_003),
        ("<|channel|>", 200_005),
        ("<|start|>", 200_006),
        ("<|end|>", 200_007),
        ("<|message|>", 200_008),
        ("<|call|>", 200_012),
        ("<|reserved_201087|>", 201_087),
    ];
    for (name, id) in expected {
        assert_eq!(tokenizer.special_id(name), Some(id), "{name}");
    }
    assert_eq!(tokenizer.vocab_size(), 201_088);
    assert!(!tokenizer.contains(201_088));
    assert!((0..201_088).all(|id| tokenizer.contains(id)));
}

#[test]
fn decoding_shows_control_tokens_by_name_and_skips_unknown_ids() {
    let tokenizer = Tokenizer::o200k_harmony();
    assert_eq!(
        tokenizer.decode_bytes(&[200_006, 173_781, u32::MAX, 200_008]),
        b"<|start|>assistant<|message|>"
    );
    // 0xD0 alone is half a Cyrillic letter.
    let half =
        (0..199_998).find(|&id| tokenizer.token_bytes(id) == Some(&[0xD0])).expect("every byte is a token");
    assert_eq!(tokenizer.decode_lossy(&[half]), "\u{fffd}");
}

proptest! {
    #[test]
    fn encoding_loses_nothing(text in any::<String>()) {
        let tokenizer = Tokenizer::o200k_harmony();
        prop_assert_eq!(tokenizer.decode_bytes(&tokenizer.encode(&text)), text.into_bytes());
    }

    #[test]
    fn utf8_stream_equals_lossy_decoding_for_any_chunks(
        chunks in prop::collection::vec(prop::collection::vec(chunk_byte(), 0..6), 0..20),
    ) {
        let mut stream = Utf8Stream::new();
        let mut text: String = chunks.iter().map(|chunk| stream.push(chunk)).collect();
        text += &stream.finish();
        prop_assert!(!stream.has_pending());
        let bytes = chunks.concat();
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn utf8_stream_never_breaks_a_character(text in "\\PC{0,20}", cuts in prop::collection::vec(1_usize..5, 1..40)) {
        let mut stream = Utf8Stream::new();
        let (mut rest, mut cuts, mut out) = (text.as_bytes(), cuts.iter().cycle(), String::new());
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(*cuts.next().expect("cycles")));
            out += &stream.push(chunk);
            prop_assert!(text.starts_with(&out));
            rest = after;
        }
        prop_assert_eq!(stream.finish(), "");
        prop_assert_eq!(out, text);
    }
}

/// Bytes that often begin or continue characters.
fn chunk_byte() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), 0x80..=0xBF_u8, Just(0xF0), Just(0xE2), Just(0xD0), Just(b'a')]
}
