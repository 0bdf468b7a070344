//! Why a tokenizer could not be made.

use std::path::PathBuf;

/// A `tokenizer.json` that can't be used, with the place, what was expected there and what was found.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file exists and can't be read.
    #[error("{}: cannot read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The folder has no `tokenizer.json` and the model is too small for the embedded vocabulary.
    #[error(
        "{}: not found, and the model's vocabulary has {model_vocab_size} entries, fewer than the {embedded_vocab_size} of the built-in o200k_harmony",
        path.display()
    )]
    Missing {
        /// Where the file was looked for.
        path: PathBuf,
        /// `vocab_size` of the model's config.
        model_vocab_size: u32,
        /// Entries of the embedded tokenizer.
        embedded_vocab_size: u32,
    },
    /// The tokenizer has ids that the model has no embedding for.
    #[error(
        "tokenizer.json: largest id: expected below the model's vocab_size {model_vocab_size}, found {largest_id}"
    )]
    LargerThanModel {
        /// `vocab_size` of the model's config.
        model_vocab_size: u32,
        /// The largest id in use.
        largest_id: u32,
    },
    /// Not JSON, or JSON of another shape.
    #[error("tokenizer.json: {0}")]
    Json(#[from] serde_json::Error),
    /// More of something than the reader accepts.
    #[error("tokenizer.json: {name}: at most {limit}, found {found}")]
    TooMany {
        /// What was counted, with its unit.
        name: &'static str,
        /// The most that is accepted.
        limit: usize,
        /// What the file has.
        found: usize,
    },
    /// A setting or entry that this tokenizer does not implement or that contradicts another.
    #[error("tokenizer.json: {name}: expected {expected}, found {found}")]
    Field {
        /// Path of the field, for example `model.type`.
        name: String,
        /// The accepted value or rule.
        expected: String,
        /// The value in the file, shortened.
        found: String,
    },
}
