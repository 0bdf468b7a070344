//! Reading `tokenizer.json`: the small one and o200k are understood, malformed ones are refused with name, expected, found.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use sostenuto_tokenizer::{Tokenizer, TokenizerError, limits};

use crate::generator::random_string;

const SMALL: &str = include_str!("../golden/small_tokenizer.json");
const SMALL_GOLDEN: &[u8] = include_bytes!("../golden/small_corpus.bin");
const FRAGMENTS: &str = include_str!("../golden/fragments.txt");

fn small() -> Value {
    serde_json::from_str(SMALL).expect("the golden is JSON")
}

fn read(json: &Value) -> Result<std::sync::Arc<Tokenizer>, TokenizerError> {
    Tokenizer::from_tokenizer_json(json.to_string().as_bytes())
}

/// A folder of its own for each test, removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sostenuto-tokenizer-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).expect("makes a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn small_tokenizer_equals_hugging_face_tokenizers() {
    let fragments: Vec<&str> = FRAGMENTS.lines().collect();
    let half = SMALL_GOLDEN.len() / 2;
    for (ignore_merges, golden) in [(true, &SMALL_GOLDEN[..half]), (false, &SMALL_GOLDEN[half..])] {
        let mut json = small();
        json["model"]["ignore_merges"] = json!(ignore_merges);
        let tokenizer = read(&json).expect("the small tokenizer is well-formed");
        assert!(!tokenizer.is_o200k_harmony());
        for (index, expected) in golden.chunks(4).enumerate() {
            let text = random_string(index as u64, &fragments);
            let ids = tokenizer.encode(&text);
            assert_eq!(tokenizer.decode_bytes(&ids), text.as_bytes());
            let expected = u32::from_le_bytes(expected.try_into().expect("four bytes"));
            assert_eq!(crate::corpus::checksum(&ids), expected, "{text:?} encodes as {ids:?}");
        }
    }
}

#[test]
fn merges_in_the_older_form_are_the_same() {
    let mut json = small();
    for merge in json["model"]["merges"].as_array_mut().expect("array") {
        *merge =
            json!(format!("{} {}", merge[0].as_str().expect("a token"), merge[1].as_str().expect("a token")));
    }
    let (older, newer) = (read(&json).expect("well-formed"), read(&small()).expect("well-formed"));
    for fragment in FRAGMENTS.lines() {
        assert_eq!(older.encode(fragment), newer.encode(fragment));
    }
}

#[test]
fn small_tokenizer_keeps_its_own_control_ids() {
    let tokenizer = read(&small()).expect("the small tokenizer is well-formed");
    assert_eq!(tokenizer.special_id("<|startoftext|>"), Some(900));
    assert_eq!(tokenizer.special_id("<|call|>"), Some(908));
    assert_eq!(tokenizer.vocab_size(), 909);
    assert!(tokenizer.encode("<|end|>").iter().all(|&id| !tokenizer.is_special(id)));
}

/// `tokenizer.json` of gpt-oss, written from the embedded vocabulary: all ways to split each token, in its order.
fn o200k_json() -> String {
    let tokenizer = Tokenizer::o200k_harmony();
    let ordinary = || (0..199_998_u32).map(|id| (id, tokenizer.token_bytes(id).expect("ordinary")));
    let ids: HashMap<&[u8], u32> = ordinary().map(|(id, token)| (token, id)).collect();
    let quoted = |token: &[u8]| serde_json::to_string(&byte_level(token)).expect("a string");
    let (mut vocab, mut merges) = (String::new(), String::new());
    for (id, token) in ordinary() {
        write!(vocab, "{}:{id},", quoted(token)).expect("writes to a string");
        for (left, right) in (1..token.len()).map(|at| token.split_at(at)) {
            if ids.contains_key(left) && ids.contains_key(right) {
                write!(merges, "[{},{}],", quoted(left), quoted(right)).expect("writes to a string");
            }
        }
    }
    let mut json = small();
    let specials = tokenizer.specials().filter(|(id, _)| *id <= 200_018);
    json["added_tokens"] =
        specials.map(|(id, name)| json!({"id": id, "content": name, "special": true})).collect();
    json["model"]["vocab"] = json!("VOCAB");
    json["model"]["merges"] = json!("MERGES");
    let text = json.to_string();
    let text = text.replacen("\"VOCAB\"", &format!("{{{}}}", vocab.trim_end_matches(',')), 1);
    text.replacen("\"MERGES\"", &format!("[{}]", merges.trim_end_matches(',')), 1)
}

/// The printable stand-ins of byte-level vocabularies.
fn byte_level(token: &[u8]) -> String {
    let hidden: Vec<u8> =
        (0..=255).filter(|b| !matches!(b, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)).collect();
    let stand_in = |byte: &u8| match hidden.iter().position(|b| b == byte) {
        Some(at) => char::from_u32(0x100 + at as u32).expect("below the surrogates"),
        None => char::from(*byte),
    };
    token.iter().map(stand_in).collect()
}

#[test]
fn o200k_in_a_folder_is_the_embedded_one() {
    let folder = Folder::new("o200k");
    let json = o200k_json();
    fs::write(folder.0.join("tokenizer.json"), &json).expect("writes");
    let tokenizer = Tokenizer::from_folder(&folder.0, Some(201_088)).expect("well-formed");
    assert!(tokenizer.is_o200k_harmony());
    // Two merges in another order, or one left out, are another tokenizer.
    let swapped =
        json.replacen("[\"Ġ\",\"Ġ\"],", "", 1).replacen("[\"i\",\"n\"],", "[\"i\",\"n\"],[\"Ġ\",\"Ġ\"],", 1);
    assert_eq!(swapped.len(), json.len());
    let missing = json.replacen("[\"i\",\"n\"],", "", 1);
    assert!(missing.len() < json.len());
    for changed in [swapped, missing] {
        let tokenizer = Tokenizer::from_tokenizer_json(changed.as_bytes()).expect("well-formed");
        assert!(!tokenizer.is_o200k_harmony());
        assert_eq!(tokenizer.decode_bytes(&tokenizer.encode("Ещё in a row")), "Ещё in a row".as_bytes());
    }
}

#[test]
fn folder_without_tokenizer_json_uses_the_embedded_one_when_the_model_is_large_enough() {
    let folder = Folder::new("empty");
    assert!(Tokenizer::from_folder(&folder.0, Some(201_088)).expect("embedded").is_o200k_harmony());
    assert!(Tokenizer::from_folder(&folder.0, None).expect("embedded").is_o200k_harmony());
    let error = Tokenizer::from_folder(&folder.0, Some(201_087)).expect_err("too small");
    assert!(matches!(error, TokenizerError::Missing { model_vocab_size: 201_087, .. }), "{error}");
}

#[test]
fn tokenizer_larger_than_the_model_is_refused() {
    let folder = Folder::new("small");
    fs::write(folder.0.join("tokenizer.json"), SMALL).expect("writes");
    assert!(Tokenizer::from_folder(&folder.0, Some(909)).is_ok());
    let error = Tokenizer::from_folder(&folder.0, Some(908)).expect_err("too small");
    assert!(
        matches!(error, TokenizerError::LargerThanModel { model_vocab_size: 908, largest_id: 908 }),
        "{error}"
    );
}

#[test]
fn unreadable_file_is_refused() {
    let folder = Folder::new("directory");
    fs::create_dir_all(folder.0.join("tokenizer.json")).expect("makes a folder");
    let error = Tokenizer::from_folder(&folder.0, None).expect_err("a folder is no file");
    assert!(matches!(error, TokenizerError::Read { .. }), "{error}");
}

#[test]
fn contradicting_or_unknown_settings_are_refused_by_name() {
    let split = |key: &str, value: Value| (format!("/pre_tokenizer/pretokenizers/0{key}"), value);
    let bytes = |key: &str, value: Value| (format!("/pre_tokenizer/pretokenizers/1{key}"), value);
    let at = |path: &str, value: Value| (path.to_owned(), value);
    let cases = [
        (at("/model/type", json!("Unigram")), "model.type"),
        (at("/model/type", json!(null)), "model.type"),
        (at("/model/dropout", json!(0.1)), "model.dropout"),
        (at("/model/byte_fallback", json!(true)), "model.byte_fallback"),
        (at("/model/continuing_subword_prefix", json!("##")), "model.continuing_subword_prefix"),
        (at("/model/end_of_word_suffix", json!("</w>")), "model.end_of_word_suffix"),
        (at("/normalizer", json!({"type": "NFC"})), "normalizer"),
        (at("/decoder", json!({"type": "WordPiece"})), "decoder.type"),
        (at("/decoder", json!(null)), "decoder.type"),
        (at("/pre_tokenizer", json!(null)), "pre_tokenizer"),
        (at("/pre_tokenizer/type", json!("Whitespace")), "pre_tokenizer"),
        (at("/pre_tokenizer/pretokenizers", json!([])), "pre_tokenizer"),
        (split("/type", json!("Digits")), "pretokenizers[0].type"),
        (split("/pattern", json!({"Regex": "\\s+"})), "pretokenizers[0].pattern.Regex"),
        (split("/pattern", json!({"String": " "})), "pretokenizers[0].pattern.Regex"),
        (split("/behavior", json!("Removed")), "pretokenizers[0].behavior"),
        (split("/invert", json!(true)), "pretokenizers[0].invert"),
        (bytes("/type", json!("Metaspace")), "pretokenizers[1].type"),
        (bytes("/add_prefix_space", json!(true)), "pretokenizers[1].add_prefix_space"),
        (bytes("/use_regex", json!(true)), "pretokenizers[1].use_regex"),
        (at("/model/merges/0", json!(["Ġ", "日"])), "model.merges[0]"),
        (at("/model/merges/1", small()["model"]["merges"][0].clone()), "model.merges[1]"),
        (at("/added_tokens/1/id", json!(900)), "added_tokens.id"),
        (at("/added_tokens/1/content", json!("<|startoftext|>")), "added_tokens.content"),
        (at("/added_tokens/1/content", json!("")), "added_tokens.content"),
        (at("/added_tokens/1/id", json!(5)), "model.vocab"),
        (at("/model/vocab/a", json!(66)), "model.vocab"),
    ];
    for ((path, value), expected_name) in cases {
        let mut json = small();
        *json.pointer_mut(&path).unwrap_or_else(|| panic!("{path} exists")) = value;
        match read(&json) {
            Err(TokenizerError::Field { name, expected, found }) => {
                assert!(name.contains(expected_name), "{path}: {name}, expected {expected}, found {found}");
                assert!(!expected.is_empty() && found.len() < 600, "{path}: {found}");
            }
            other => panic!("{path}: {other:?}"),
        }
    }
}

#[test]
fn broken_vocabularies_are_refused_by_name() {
    let mut without_byte = small();
    without_byte["model"]["vocab"].as_object_mut().expect("object").remove("!");
    let mut not_byte_level = small();
    not_byte_level["model"]["vocab"]["漢"] = json!(950);
    let mut empty_token = small();
    empty_token["model"]["vocab"][""] = json!(950);
    for json in [without_byte, not_byte_level, empty_token] {
        let error = read(&json).expect_err("malformed");
        assert!(
            matches!(&error, TokenizerError::Field { name, .. } if name.starts_with("model.")),
            "{error}"
        );
    }
}

#[test]
fn other_json_is_refused() {
    let texts = [
        "",
        "null",
        "[]",
        "{}",
        "{\"model\":{}}",
        "{\"model\":{\"vocab\":[],\"merges\":[]}}",
        &SMALL[..SMALL.len() - 1],
    ];
    for text in texts {
        let error = Tokenizer::from_tokenizer_json(text.as_bytes()).expect_err("malformed");
        assert!(matches!(error, TokenizerError::Json(_)), "{text:?}: {error}");
    }
    for merge in [json!("one"), json!(["a"]), json!(["a", "b", "ab"]), json!(7)] {
        let mut json = small();
        json["model"]["merges"][7] = merge;
        assert!(matches!(read(&json), Err(TokenizerError::Json(_))), "{}", json["model"]["merges"][7]);
    }
    let mut huge_id = small();
    huge_id["model"]["vocab"]["a"] = json!(1_u64 << 40);
    assert!(matches!(read(&huge_id), Err(TokenizerError::Json(_))));
}

#[test]
fn sizes_over_the_limits_are_refused() {
    let too_many = |result: Result<_, TokenizerError>| match result {
        Err(TokenizerError::TooMany { name, limit, found }) => (name, limit, found),
        other => panic!("{other:?}"),
    };
    let mut json = small();
    json["model"]["vocab"]["zz"] = json!(limits::TOKEN_ID_END);
    let found = too_many(read(&json));
    assert_eq!(found, ("largest token id", limits::TOKEN_ID_END - 1, limits::TOKEN_ID_END));

    let mut json = small();
    json["model"]["vocab"]["z".repeat(2 * limits::TOKEN_BYTES + 1)] = json!(950);
    assert_eq!(too_many(read(&json)).0, "token length in bytes");

    let mut json = small();
    json["added_tokens"] = (0..=limits::ADDED_TOKENS).map(|id| json!({"id": id, "content": "x"})).collect();
    assert_eq!(too_many(read(&json)).0, "added_tokens entries");

    let blank = vec![b' '; limits::FILE_BYTES + 1];
    let (name, limit, found) = too_many(Tokenizer::from_tokenizer_json(&blank));
    assert_eq!((name, limit, found), ("file size in bytes", limits::FILE_BYTES, limits::FILE_BYTES + 1));
}

#[test]
fn added_tokens_that_are_not_special_stand_for_their_text() {
    let mut json = small();
    json["added_tokens"]
        .as_array_mut()
        .expect("array")
        .push(json!({"id": 909, "content": "<think>", "special": false}));
    let tokenizer = read(&json).expect("well-formed");
    assert_eq!(tokenizer.token_bytes(909), Some(b"<think>".as_slice()));
    assert!(!tokenizer.is_special(909));
}
