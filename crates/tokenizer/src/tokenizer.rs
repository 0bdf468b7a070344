//! The tokenizer: ordinary tokens by byte-pair encoding, control tokens by name.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use crate::bpe::{MergeRule, Merger, Rank};
use crate::error::TokenizerError;
use crate::pretokenize::Pieces;
use crate::vocabulary::Vocabulary;
use crate::{huggingface, o200k};

/// Index of a token in a vocabulary.
pub type TokenId = u32;

/// Text to token ids and back. Immutable; share it by [`Arc`].
#[derive(Debug)]
pub struct Tokenizer {
    pub(crate) vocabulary: Vocabulary,
    pub(crate) merges: Merges,
    /// A piece that is a token as a whole is that token, whatever its merges would give.
    pub(crate) whole_piece_first: bool,
    pub(crate) byte_ids: [TokenId; 256],
    pub(crate) specials: Specials,
    pub(crate) is_embedded: bool,
}

impl Tokenizer {
    /// The tokenizer of gpt-oss, embedded in the binary: 199,998 ordinary tokens and 1,090 control tokens.
    pub fn o200k_harmony() -> Arc<Self> {
        static EMBEDDED: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
            let vocabulary = o200k::vocabulary();
            let byte_ids = std::array::from_fn(|byte| {
                vocabulary.id_of(&[byte as u8]).expect("every byte is a token of o200k")
            });
            Arc::new(Tokenizer {
                vocabulary,
                merges: Merges::ByVocabulary,
                whole_piece_first: true,
                byte_ids,
                specials: Specials::new(o200k::specials().collect()),
                is_embedded: true,
            })
        });
        EMBEDDED.clone()
    }

    /// The tokenizer of the model in `folder`.
    ///
    /// `folder/tokenizer.json` when it exists, and [`o200k_harmony`](Self::o200k_harmony) when it says the same or does not
    /// exist. `model_vocab_size` is `vocab_size` of the model's `config.json`; pass `None` to leave the size unchecked.
    ///
    /// # Errors
    /// The file can't be read, is not a byte-level BPE with the o200k pattern, contradicts itself or exceeds
    /// [`limits`](crate::limits); or an id is not below `model_vocab_size`.
    pub fn from_folder(folder: &Path, model_vocab_size: Option<u32>) -> Result<Arc<Self>, TokenizerError> {
        let path = folder.join("tokenizer.json");
        let Some(json) = huggingface::read_file(&path)? else {
            return match model_vocab_size {
                Some(model_vocab_size) if model_vocab_size < o200k::VOCAB_SIZE => {
                    Err(TokenizerError::Missing {
                        path,
                        model_vocab_size,
                        embedded_vocab_size: o200k::VOCAB_SIZE,
                    })
                }
                _ => Ok(Self::o200k_harmony()),
            };
        };
        let tokenizer = Self::from_tokenizer_json(&json)?;
        let largest_id = tokenizer.largest_named_id();
        match model_vocab_size {
            // The embedded tokenizer names reserved ids that a model need not have; only its used ids count.
            Some(size) if largest_id >= size => {
                Err(TokenizerError::LargerThanModel { model_vocab_size: size, largest_id })
            }
            _ => Ok(tokenizer),
        }
    }

    /// Reads the contents of a `tokenizer.json`. Returns [`o200k_harmony`](Self::o200k_harmony) when it says the same.
    ///
    /// # Errors
    /// As [`from_folder`](Self::from_folder).
    pub fn from_tokenizer_json(json: &[u8]) -> Result<Arc<Self>, TokenizerError> {
        huggingface::read_tokenizer(json)
    }

    /// True for the embedded o200k_harmony.
    pub fn is_o200k_harmony(&self) -> bool {
        self.is_embedded
    }

    /// Ids of `text`. Never a control token: text that spells one is encoded as the ordinary characters it is.
    ///
    /// # Cost
    /// Linear in the text, O(n log n) in its longest word; 4 bytes per token plus about 40 bytes per byte of that word.
    pub fn encode(&self, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        self.encode_into(text, &mut ids);
        ids
    }

    /// Appends the ids of `text`, as [`encode`](Self::encode), to `into`.
    pub fn encode_into(&self, text: &str, into: &mut Vec<TokenId>) {
        let mut merger = Merger::default();
        for piece in Pieces::new(text) {
            let piece = piece.as_bytes();
            if self.whole_piece_first
                && let Some(id) = self.vocabulary.id_of(piece)
            {
                into.push(id);
                continue;
            }
            match &self.merges {
                Merges::ByVocabulary => {
                    merger.encode(piece, &self.byte_ids, &ByVocabulary(&self.vocabulary), into)
                }
                Merges::Listed(listed) => merger.encode(piece, &self.byte_ids, listed, into),
            }
        }
    }

    /// The bytes that `ids` stand for: ordinary tokens' bytes and control tokens' names (`<|end|>`). Ids outside the
    /// vocabulary stand for nothing; [`contains`](Self::contains) finds them.
    ///
    /// Use it to show a prompt. To turn model output into text use the parser of the Harmony crate, which keeps control
    /// tokens and text apart.
    pub fn decode_bytes(&self, ids: &[TokenId]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for &id in ids {
            let token = self.token_bytes(id).or_else(|| self.special_name(id).map(str::as_bytes));
            bytes.extend_from_slice(token.unwrap_or_default());
        }
        bytes
    }

    /// [`decode_bytes`](Self::decode_bytes) as text; bytes that are not UTF-8 become U+FFFD.
    pub fn decode_lossy(&self, ids: &[TokenId]) -> String {
        match String::from_utf8(self.decode_bytes(ids)) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }

    /// The bytes of an ordinary token; `None` for a control token and for an id outside the vocabulary.
    pub fn token_bytes(&self, id: TokenId) -> Option<&[u8]> {
        self.vocabulary.token_bytes(id)
    }

    /// One more than the largest id (201,088 for o200k_harmony).
    pub fn vocab_size(&self) -> u32 {
        self.vocabulary.id_end().max(self.specials.id_end())
    }

    /// True when `id` is an ordinary or a control token.
    pub fn contains(&self, id: TokenId) -> bool {
        self.token_bytes(id).is_some() || self.is_special(id)
    }

    /// The control token of this name, for example `<|start|>`.
    pub fn special_id(&self, name: &str) -> Option<TokenId> {
        self.specials.by_name.get(name).copied()
    }

    /// The name of a control token.
    pub fn special_name(&self, id: TokenId) -> Option<&str> {
        self.specials.name(id)
    }

    /// True for a control token.
    pub fn is_special(&self, id: TokenId) -> bool {
        self.specials.name(id).is_some()
    }

    /// Every control token in the order of ids.
    pub fn specials(&self) -> impl Iterator<Item = (TokenId, &str)> {
        self.specials.by_id.iter().map(|(id, name)| (*id, name.as_str()))
    }

    fn largest_named_id(&self) -> TokenId {
        let reserved = |name: &str| self.is_embedded && name.starts_with("<|reserved_");
        let special = self.specials().filter(|(_, name)| !reserved(name)).map(|(id, _)| id).max();
        special.unwrap_or(0).max(self.vocabulary.id_end().saturating_sub(1))
    }
}

/// Where merges come from.
#[derive(Debug)]
pub(crate) enum Merges {
    /// Two neighbours merge when their joined bytes are a token; its id is the rank (tiktoken).
    ByVocabulary,
    /// A list of pairs; the position is the rank (Hugging Face).
    Listed(ListedMerges),
}

struct ByVocabulary<'a>(&'a Vocabulary);

impl MergeRule for ByVocabulary<'_> {
    fn merge(&self, _left: TokenId, _right: TokenId, joined: &[u8]) -> Option<(Rank, TokenId)> {
        self.0.id_of(joined).map(|id| (id, id))
    }
}

/// Pair of neighbours → rank and merged token.
#[derive(Debug, Default)]
pub(crate) struct ListedMerges {
    pub(crate) by_pair: HashMap<(TokenId, TokenId), (Rank, TokenId)>,
}

impl MergeRule for ListedMerges {
    fn merge(&self, left: TokenId, right: TokenId, _joined: &[u8]) -> Option<(Rank, TokenId)> {
        self.by_pair.get(&(left, right)).copied()
    }
}

/// Control tokens. Ids and names are distinct.
#[derive(Debug)]
pub(crate) struct Specials {
    /// Sorted by id.
    by_id: Vec<(TokenId, String)>,
    by_name: HashMap<String, TokenId>,
}

impl Specials {
    pub(crate) fn new(mut by_id: Vec<(TokenId, String)>) -> Self {
        by_id.sort();
        let by_name = by_id.iter().map(|(id, name)| (name.clone(), *id)).collect();
        Self { by_id, by_name }
    }

    pub(crate) fn name(&self, id: TokenId) -> Option<&str> {
        let at = self.by_id.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.by_id[at].1)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = TokenId> {
        self.by_id.iter().map(|(id, _)| *id)
    }

    fn id_end(&self) -> u32 {
        self.by_id.last().map_or(0, |(id, _)| id + 1)
    }
}
