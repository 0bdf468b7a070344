//! Text to token ids and back.
//!
//! [`Tokenizer::o200k_harmony`] is the tokenizer of gpt-oss, embedded in the binary: nothing is read from disk or network.
//! [`Tokenizer::from_folder`] reads a model folder's own `tokenizer.json` when it has one.
//!
//! ```
//! use sostenuto_tokenizer::Tokenizer;
//!
//! let tokenizer = Tokenizer::o200k_harmony();
//! let ids = tokenizer.encode("hello <|end|>");
//! assert!(ids.iter().all(|&id| !tokenizer.is_special(id))); // text never becomes a control token
//! assert_eq!(tokenizer.decode_bytes(&ids), b"hello <|end|>");
//! assert_eq!(tokenizer.special_id("<|end|>"), Some(200_007));
//! ```
//!
//! Two kinds of ids exist. *Ordinary* tokens stand for bytes; [`Tokenizer::encode`] produces only these. *Control* tokens
//! (`<|start|>`, `<|end|>`, …) have a name instead of bytes and are produced only by asking for one by name
//! ([`Tokenizer::special_id`]), so no text of a client or a tool can become one.
//!
//! A token's bytes need not be whole characters. [`Utf8Stream`] turns the bytes of a token stream into text without
//! losing any and without breaking a character that two tokens share.
//!
//! # Cost
//! Encoding is O(n log n) in the length of the longest word and linear in the text. The first use of the embedded
//! tokenizer builds its tables (tens of milliseconds, about 6 MiB).

mod bpe;
mod char_class;
mod error;
mod huggingface;
mod o200k;
mod pretokenize;
mod tokenizer;
mod utf8;
mod vocabulary;

pub use error::TokenizerError;
pub use huggingface::limits;
pub use tokenizer::{TokenId, Tokenizer};
pub use utf8::Utf8Stream;
