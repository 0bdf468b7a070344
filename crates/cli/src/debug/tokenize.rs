//! `debug tokenize` and `debug detokenize`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use serde::{Deserialize, Serialize};
use sostenuto_tokenizer::Tokenizer;

use super::lines::answer_stdin;
use crate::error::CliError;

/// Which tokenizer.
#[derive(Debug, Args)]
pub(crate) struct TokenizerArgs {
    /// Folder whose tokenizer.json is used if there is one; else o200k_harmony, which is part of this program.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

impl TokenizerArgs {
    /// The tokenizer.
    pub(crate) fn open(&self) -> Result<Arc<Tokenizer>, CliError> {
        let Some(folder) = &self.model else { return Ok(Tokenizer::o200k_harmony()) };
        if !folder.is_dir() {
            return Err(CliError::new(format!("{}: expected a folder, found none", folder.display())));
        }
        Ok(Tokenizer::from_folder(folder, None)?)
    }
}

/// A line with text.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TextLine {
    text: String,
}

/// A line with token ids.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IdsLine {
    /// Token ids.
    pub(crate) ids: Vec<u32>,
}

/// Text to ids.
pub(crate) fn tokenize(args: &TokenizerArgs) -> Result<(), CliError> {
    let tokenizer = args.open()?;
    answer_stdin(|line: TextLine| Ok(IdsLine { ids: tokenizer.encode(&line.text) }))
}

/// Ids to text; bytes that are not UTF-8 become U+FFFD.
pub(crate) fn detokenize(args: &TokenizerArgs) -> Result<(), CliError> {
    let tokenizer = args.open()?;
    answer_stdin(|line: IdsLine| {
        check_ids(&tokenizer, &line.ids)?;
        Ok(TextLine { text: tokenizer.decode_lossy(&line.ids) })
    })
}

/// Refuses ids that stand for nothing.
pub(crate) fn check_ids(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(), CliError> {
    match ids.iter().enumerate().find(|(_, id)| !tokenizer.contains(**id)) {
        Some((index, id)) => Err(CliError::new(format!(
            "ids[{index}] is {id}: expected the id of a token, below {}",
            tokenizer.vocab_size()
        ))),
        None => Ok(()),
    }
}
