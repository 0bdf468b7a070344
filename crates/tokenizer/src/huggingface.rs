//! Reads the `tokenizer.json` of a model folder: byte-level BPE with the o200k pattern, as gpt-oss ships it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

use serde::de::{self, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::error::TokenizerError;
use crate::o200k;
use crate::pretokenize::O200K_PATTERN;
use crate::tokenizer::{ListedMerges, Merges, Specials, TokenId, Tokenizer};
use crate::vocabulary::Vocabulary;

/// The most that a `tokenizer.json` may hold.
pub mod limits {
    /// Size of the file, in bytes.
    pub const FILE_BYTES: usize = 64 << 20;
    /// Entries of `model.vocab`.
    pub const VOCAB_ENTRIES: usize = 1 << 20;
    /// Entries of `model.merges`.
    pub const MERGES: usize = 4 << 20;
    /// Entries of `added_tokens`.
    pub const ADDED_TOKENS: usize = 1 << 16;
    /// Length of one token, in bytes.
    pub const TOKEN_BYTES: usize = 1_024;
    /// Any id is below this.
    pub const TOKEN_ID_END: usize = 1 << 21;
}

/// The file's bytes, or `None` when it does not exist.
pub(crate) fn read_file(path: &Path) -> Result<Option<Vec<u8>>, TokenizerError> {
    let failed = |source| TokenizerError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut json = Vec::new();
    file.take(limits::FILE_BYTES as u64 + 1).read_to_end(&mut json).map_err(failed)?;
    Ok(Some(json))
}

/// Checks and builds. The embedded tokenizer is returned when the file describes it.
pub(crate) fn read_tokenizer(json: &[u8]) -> Result<Arc<Tokenizer>, TokenizerError> {
    at_most("file size in bytes", limits::FILE_BYTES, json.len())?;
    let file: TokenizerFile = serde_json::from_slice(json)?;
    check_pipeline(&file)?;
    check_sizes(&file)?;
    let specials = read_specials(&file)?;
    let vocabulary = read_vocabulary(&file, &specials)?;
    let merges = read_merges(&file, &vocabulary)?;
    if is_o200k_harmony(&file, &vocabulary, &specials, &merges) {
        return Ok(Tokenizer::o200k_harmony());
    }
    let mut byte_ids = [0; 256];
    for (byte, id) in byte_ids.iter_mut().enumerate() {
        *id = vocabulary.id_of(&[byte as u8]).ok_or_else(|| {
            field("model.vocab", "a token for each of the 256 bytes", format!("none for byte {byte:#04x}"))
        })?;
    }
    Ok(Arc::new(Tokenizer {
        vocabulary,
        merges: Merges::Listed(merges),
        whole_piece_first: file.model.ignore_merges,
        byte_ids,
        specials,
        is_embedded: false,
    }))
}

#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: TokenId,
    content: String,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    dropout: Value,
    #[serde(default)]
    continuing_subword_prefix: Option<String>,
    #[serde(default)]
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: HashMap<String, TokenId>,
    merges: Vec<Merge>,
}

/// `["a", "b"]`, or `"a b"` in older files.
struct Merge {
    left: String,
    right: String,
}

impl<'de> Deserialize<'de> for Merge {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MergeVisitor;

        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = Merge;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a merge: two tokens in a list or in a string with a space between")
            }

            fn visit_str<E: de::Error>(self, joined: &str) -> Result<Merge, E> {
                let parts = joined.split_once(' ');
                let (left, right) = parts.ok_or_else(|| E::invalid_value(Unexpected::Str(joined), &self))?;
                Ok(Merge { left: left.to_owned(), right: right.to_owned() })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Merge, A::Error> {
                let mut next = |index| {
                    parts.next_element()?.ok_or_else(|| de::Error::invalid_length(index, &MergeVisitor))
                };
                let merge = Merge { left: next(0)?, right: next(1)? };
                match parts.next_element::<de::IgnoredAny>()? {
                    None => Ok(merge),
                    Some(_) => Err(de::Error::invalid_length(3, &self)),
                }
            }
        }

        deserializer.deserialize_any(MergeVisitor)
    }
}

fn check_pipeline(file: &TokenizerFile) -> Result<(), TokenizerError> {
    let model = &file.model;
    let kind = model.kind.as_deref().unwrap_or("none");
    ensure(kind == "BPE", "model.type", "BPE", kind)?;
    ensure(model.dropout.is_null() || model.dropout == 0.0, "model.dropout", "null", &model.dropout)?;
    ensure(!model.byte_fallback, "model.byte_fallback", "false", "true")?;
    for (name, affix) in [
        ("model.continuing_subword_prefix", &model.continuing_subword_prefix),
        ("model.end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        let affix = affix.as_deref().unwrap_or_default();
        ensure(affix.is_empty(), name, "null", affix)?;
    }
    ensure(file.normalizer.is_null(), "normalizer", "null", &file.normalizer)?;
    ensure(file.decoder["type"] == "ByteLevel", "decoder.type", "ByteLevel", &file.decoder["type"])?;
    check_pre_tokenizer(&file.pre_tokenizer)
}

fn check_pre_tokenizer(pre: &Value) -> Result<(), TokenizerError> {
    let steps = match pre["pretokenizers"].as_array().map(Vec::as_slice) {
        Some([split, bytes]) if pre["type"] == "Sequence" => (split, bytes),
        _ => return Err(field("pre_tokenizer", "a Sequence of Split and ByteLevel", pre)),
    };
    let (split, bytes) = steps;
    let rules: [(&'static str, &Value, Value); 7] = [
        ("pre_tokenizer.pretokenizers[0].type", &split["type"], "Split".into()),
        ("pre_tokenizer.pretokenizers[0].pattern.Regex", &split["pattern"]["Regex"], O200K_PATTERN.into()),
        ("pre_tokenizer.pretokenizers[0].behavior", &split["behavior"], "Isolated".into()),
        ("pre_tokenizer.pretokenizers[0].invert", &split["invert"], false.into()),
        ("pre_tokenizer.pretokenizers[1].type", &bytes["type"], "ByteLevel".into()),
        ("pre_tokenizer.pretokenizers[1].add_prefix_space", &bytes["add_prefix_space"], false.into()),
        ("pre_tokenizer.pretokenizers[1].use_regex", &bytes["use_regex"], false.into()),
    ];
    rules.into_iter().try_for_each(|(name, found, expected)| {
        ensure(*found == expected, name, &expected.to_string(), found)
    })
}

fn check_sizes(file: &TokenizerFile) -> Result<(), TokenizerError> {
    at_most("model.vocab entries", limits::VOCAB_ENTRIES, file.model.vocab.len())?;
    at_most("model.merges entries", limits::MERGES, file.model.merges.len())?;
    at_most("added_tokens entries", limits::ADDED_TOKENS, file.added_tokens.len())?;
    let names = file.model.vocab.keys().chain(file.added_tokens.iter().map(|token| &token.content));
    // A byte-level character takes at most two bytes of UTF-8.
    at_most("token length in bytes", 2 * limits::TOKEN_BYTES, names.map(String::len).max().unwrap_or(0))?;
    let added_ids = file.added_tokens.iter().map(|token| token.id);
    let largest_id = file.model.vocab.values().copied().chain(added_ids).max().unwrap_or(0);
    at_most("largest token id", limits::TOKEN_ID_END - 1, largest_id as usize)
}

fn read_specials(file: &TokenizerFile) -> Result<Specials, TokenizerError> {
    let mut names = HashSet::new();
    let mut ids = HashSet::new();
    let mut specials = Vec::new();
    for token in &file.added_tokens {
        ensure(!token.content.is_empty(), "added_tokens.content", "a name", "an empty string")?;
        ensure(ids.insert(token.id), "added_tokens.id", "distinct ids", token.id)?;
        ensure(names.insert(&token.content), "added_tokens.content", "distinct names", &token.content)?;
        if token.special {
            specials.push((token.id, token.content.clone()));
        }
    }
    Ok(Specials::new(specials))
}

/// Ordinary tokens: `model.vocab` and the added tokens that are not special, without the control tokens.
fn read_vocabulary(file: &TokenizerFile, specials: &Specials) -> Result<Vocabulary, TokenizerError> {
    let byte_of_char = byte_level_alphabet();
    let mut tokens: Vec<(TokenId, Vec<u8>)> = Vec::with_capacity(file.model.vocab.len());
    for (name, &id) in &file.model.vocab {
        if let Some(special) = specials.name(id) {
            ensure(special == name, "model.vocab", &format!("{special} as token {id}"), name)?;
            continue;
        }
        let bytes = name.chars().map(|c| byte_of_char.get(&c).copied()).collect::<Option<Vec<u8>>>();
        let bytes = bytes.filter(|bytes| !bytes.is_empty());
        tokens.push((id, bytes.ok_or_else(|| field("model.vocab", "byte-level characters", name))?));
    }
    for token in file.added_tokens.iter().filter(|token| !token.special) {
        if file.model.vocab.get(&token.content) != Some(&token.id) {
            tokens.push((token.id, token.content.clone().into_bytes()));
        }
    }
    tokens.sort_unstable();
    let id_end = tokens.last().map_or(0, |(id, _)| *id as usize + 1);
    let (mut bytes, mut spans) = (Vec::new(), vec![(0, 0); id_end]);
    for (id, token) in tokens {
        let span: &mut (u32, u32) = &mut spans[id as usize];
        ensure(span.1 == 0, "model.vocab", "distinct ids", id)?;
        *span = (bytes.len() as u32, token.len() as u32);
        bytes.extend_from_slice(&token);
    }
    Vocabulary::new(Cow::Owned(bytes), spans)
        .map_err(|(a, b)| field("model.vocab", "distinct tokens", format!("{a} and {b} with the same bytes")))
}

fn read_merges(file: &TokenizerFile, vocabulary: &Vocabulary) -> Result<ListedMerges, TokenizerError> {
    let id_of =
        |name: &str| file.model.vocab.get(name).copied().filter(|&id| vocabulary.token_bytes(id).is_some());
    let mut merges = ListedMerges::default();
    merges.by_pair.reserve(file.model.merges.len());
    let mut joined = String::new();
    for (index, merge) in file.model.merges.iter().enumerate() {
        let name = || format!("model.merges[{index}]");
        let Merge { left, right } = merge;
        joined.clear();
        joined.push_str(left);
        joined.push_str(right);
        let ids = (id_of(left), id_of(right), id_of(&joined));
        let (Some(left_id), Some(right_id), Some(merged)) = ids else {
            return Err(field_at(
                name(),
                "both parts and their join in model.vocab",
                format!("{left} {right}"),
            ));
        };
        if merges.by_pair.insert((left_id, right_id), (index as u32, merged)).is_some() {
            return Err(field_at(name(), "each pair once", format!("{left} {right}")));
        }
    }
    Ok(merges)
}

/// Same tokens, same named control tokens and the same merges in the order of their results.
fn is_o200k_harmony(
    file: &TokenizerFile,
    vocabulary: &Vocabulary,
    specials: &Specials,
    merges: &ListedMerges,
) -> bool {
    // Every listed merge is valid and none repeats, so the count says that the list is complete.
    if vocabulary.id_end() != o200k::ORDINARY_COUNT
        || merges.by_pair.len() != o200k::MERGE_COUNT
        || !file.model.ignore_merges
    {
        return false;
    }
    let embedded = Tokenizer::o200k_harmony();
    let same_tokens =
        (0..o200k::ORDINARY_COUNT).all(|id| vocabulary.token_bytes(id) == embedded.token_bytes(id));
    let named = |name: &str| !name.starts_with("<|reserved_");
    let same_specials = embedded.specials().all(|(id, name)| match specials.name(id) {
        Some(found) => found == name,
        None => !named(name),
    });
    let no_others = specials.ids().all(|id| embedded.is_special(id));
    let mut by_rank: Vec<(u32, TokenId)> = merges.by_pair.values().copied().collect();
    by_rank.sort_unstable();
    same_tokens && same_specials && no_others && by_rank.is_sorted_by_key(|&(_, merged)| merged)
}

/// The printable stand-in of each byte in byte-level vocabularies: itself where printable in Latin-1, else U+0100 onwards.
fn byte_level_alphabet() -> HashMap<char, u8> {
    let mut stand_ins = (0x100..).filter_map(char::from_u32);
    let is_printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let stand_in = |byte: u8| match is_printable(byte) {
        true => char::from(byte),
        false => stand_ins.next().expect("more than 256 characters"),
    };
    let chars: Vec<char> = (0..=255).map(stand_in).collect();
    chars.into_iter().zip(0..=255).collect()
}

fn at_most(name: &'static str, limit: usize, found: usize) -> Result<(), TokenizerError> {
    if found > limit { Err(TokenizerError::TooMany { name, limit, found }) } else { Ok(()) }
}

fn ensure(
    holds: bool,
    name: &'static str,
    expected: &str,
    found: impl std::fmt::Display,
) -> Result<(), TokenizerError> {
    if holds { Ok(()) } else { Err(field(name, expected, found)) }
}

fn field(name: &'static str, expected: &str, found: impl std::fmt::Display) -> TokenizerError {
    field_at(name.to_owned(), expected, found)
}

fn field_at(name: String, expected: &str, found: impl std::fmt::Display) -> TokenizerError {
    const SHOWN_CHARS: usize = 120;
    let mut found = found.to_string();
    if let Some((cut, _)) = found.char_indices().nth(SHOWN_CHARS) {
        found.truncate(cut);
        found.push('…');
    }
    TokenizerError::Field { name, expected: expected.to_owned(), found }
}
