//! Ids equal OpenAI's own on the generated corpus.

use sostenuto_tokenizer::Tokenizer;

use crate::generator::{RANDOM_STRINGS, code_point_strings, long_words, random_string};

const FRAGMENTS: &str = include_str!("../golden/fragments.txt");
const GOLDEN: &[u8] = include_bytes!("../golden/o200k_corpus.bin");

fn corpus() -> Vec<String> {
    let fragments: Vec<&str> = FRAGMENTS.lines().collect();
    let random = (0..RANDOM_STRINGS).map(|index| random_string(index, &fragments));
    random.chain(code_point_strings()).chain(long_words()).collect()
}

/// FNV-1a, 32 bits, over the ids as little-endian words.
pub(crate) fn checksum(ids: &[u32]) -> u32 {
    let bytes = ids.iter().flat_map(|id| id.to_le_bytes());
    bytes.fold(0x811C_9DC5, |value, byte| (value ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[test]
fn ids_equal_openai_on_the_corpus() {
    let tokenizer = Tokenizer::o200k_harmony();
    let corpus = corpus();
    assert!(corpus.len() >= 10_000);
    assert_eq!(corpus.len() * 4, GOLDEN.len(), "the golden has one checksum per string");
    for (text, expected) in corpus.iter().zip(GOLDEN.chunks(4)) {
        let ids = tokenizer.encode(text);
        let shown: String = text.chars().take(60).collect();
        let expected = u32::from_le_bytes(expected.try_into().expect("four bytes"));
        assert_eq!(checksum(&ids), expected, "{shown:?} encodes as {:?}", &ids[..ids.len().min(40)]);
    }
}

#[test]
fn decoding_gives_the_corpus_back() {
    let tokenizer = Tokenizer::o200k_harmony();
    for text in corpus() {
        assert_eq!(tokenizer.decode_bytes(&tokenizer.encode(&text)), text.as_bytes());
    }
}

#[test]
fn words_of_openai_issue_threads_encode_as_there() {
    let tokenizer = Tokenizer::o200k_harmony();
    assert_eq!(tokenizer.encode("tiktoken is great!"), [83, 8251, 2488, 382, 2212, 0]);
    assert_eq!(tokenizer.encode("assistant"), [173_781]);
    assert!(tokenizer.encode("").is_empty());
}
