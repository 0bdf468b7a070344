//! From a folder to what runs it: checkpoint, tokenizer, model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sostenuto_formats::{Checkpoint, Loading, ModelConfig};
use sostenuto_model::{Model, ModelLimits};
use sostenuto_tokenizer::{Tokenizer, TokenizerError};
use tempfile::TempDir;

use crate::error::CliError;
use crate::model_args::ModelArgs;
use crate::{backend, demo};

/// A checkpoint, opened and checked, and where it came from.
pub(crate) struct Source {
    /// The weights.
    pub(crate) checkpoint: Checkpoint,
    /// The name it is served under.
    pub(crate) name: String,
    /// Whether it is the model that is part of this program.
    pub(crate) is_demo: bool,
    folder: PathBuf,
    /// Where the demo model was unpacked to; goes away with this value.
    _demo_folder: Option<TempDir>,
}

impl Source {
    /// Opens the model that the arguments name, or the demo model.
    pub(crate) fn open(args: &ModelArgs) -> Result<Source, CliError> {
        match &args.model {
            Some(folder) => Ok(Source {
                checkpoint: Checkpoint::open(folder, args.load.into())?,
                name: model_name(folder),
                is_demo: false,
                folder: folder.clone(),
                _demo_folder: None,
            }),
            None => Source::open_demo(),
        }
    }

    /// The weights are read, so that the folder they were unpacked to need not stay.
    fn open_demo() -> Result<Source, CliError> {
        let folder = demo::unpack()?;
        let checkpoint = Checkpoint::open(folder.path(), Loading::Read)
            .map_err(|error| CliError::from(error).context("the demo model inside this program is broken"))?;
        Ok(Source {
            checkpoint,
            name: demo::NAME.to_owned(),
            is_demo: true,
            folder: folder.path().to_owned(),
            _demo_folder: Some(folder),
        })
    }

    /// The folder's own tokenizer, or the embedded one.
    pub(crate) fn tokenizer(&self) -> Result<Arc<Tokenizer>, CliError> {
        Ok(tokenizer_of(&self.folder, self.checkpoint.config())?)
    }

    /// Puts the model on the chosen backend.
    pub(crate) fn load_model(&self, args: &ModelArgs, limits: &ModelLimits) -> Result<Model, CliError> {
        Ok(Model::load(&self.checkpoint, backend::choose(args)?, limits)?)
    }
}

/// The tokenizer of the model in `folder`.
pub(crate) fn tokenizer_of(folder: &Path, config: &ModelConfig) -> Result<Arc<Tokenizer>, TokenizerError> {
    Tokenizer::from_folder(folder, u32::try_from(config.vocab_size).ok())
}

/// The folder's name; that of the folder above where it is called `original`.
fn model_name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let named = if folder.ends_with("original") { folder.parent().unwrap_or(&folder) } else { &folder };
    named.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_is_named_after_its_folder() {
        assert_eq!(model_name(Path::new("/nowhere/gpt-oss-20b")), "gpt-oss-20b");
        assert_eq!(model_name(Path::new("/nowhere/gpt-oss-20b/original")), "gpt-oss-20b");
        assert_eq!(model_name(Path::new("/")), "model");
    }
}
