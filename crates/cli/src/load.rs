//! From a folder to what runs it: checkpoint, tokenizer, model.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use sostenuto_formats::{Checkpoint, CheckpointError, Loading, ModelConfig};
use sostenuto_model::{MemoryPlan, Model, ModelLimits, WeightLoading, kept_weight_bytes};
use sostenuto_ops::Backend;
use sostenuto_tokenizer::{Tokenizer, TokenizerError};
use tempfile::TempDir;

use crate::error::CliError;
use crate::model_args::ModelArgs;
use crate::{backend, demo, memory, output};

/// A model that was found: its configuration is read and its files agree with it; its weights are not in memory.
pub(crate) struct Source {
    /// The name it is served under.
    pub(crate) name: String,
    /// Whether it is the model that is part of this program.
    pub(crate) is_demo: bool,
    config: ModelConfig,
    folder: PathBuf,
    loading: Loading,
    /// As soon as somebody asked for it.
    tokenizer: OnceLock<Arc<Tokenizer>>,
    /// Where the demo model was unpacked to; goes away with this value.
    _demo_folder: Option<TempDir>,
}

/// A model that is in memory, as far as it was planned.
pub(crate) struct Loaded {
    /// Where the weights came from; of them it holds none but those that the device uses where a mapping has them.
    pub(crate) checkpoint: Checkpoint,
    /// The model on its device.
    pub(crate) model: Model,
    /// What was planned.
    pub(crate) plan: MemoryPlan,
    /// From opening the weights to a model with everything in memory.
    pub(crate) load_time: Duration,
}

impl Source {
    /// Finds the model that the arguments name, or the demo model.
    pub(crate) fn find(args: &ModelArgs) -> Result<Source, CliError> {
        let Some(folder) = &args.model else { return Source::find_demo() };
        Ok(Source {
            name: model_name(folder),
            is_demo: false,
            config: Checkpoint::check(folder)?,
            folder: folder.clone(),
            loading: args.load.into(),
            tokenizer: OnceLock::new(),
            _demo_folder: None,
        })
    }

    /// The weights will be read, so that the folder they were unpacked to need not stay once they are.
    fn find_demo() -> Result<Source, CliError> {
        let folder = demo::unpack()?;
        Ok(Source {
            name: demo::NAME.to_owned(),
            is_demo: true,
            config: Checkpoint::check(folder.path()).map_err(broken_demo)?,
            folder: folder.path().to_owned(),
            loading: Loading::Read,
            tokenizer: OnceLock::new(),
            _demo_folder: Some(folder),
        })
    }

    /// Its shape.
    pub(crate) fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The folder's own tokenizer, or the embedded one.
    pub(crate) fn tokenizer(&self) -> Result<Arc<Tokenizer>, CliError> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(Arc::clone(tokenizer));
        }
        let tokenizer = tokenizer_of(&self.folder, &self.config)?;
        Ok(Arc::clone(self.tokenizer.get_or_init(|| tokenizer)))
    }

    /// Plans, refuses what does not fit into memory, opens the weights and puts the model on the chosen backend. When it
    /// returns, everything that was planned is in memory. The tokenizer is read meanwhile.
    pub(crate) fn load(&self, args: &ModelArgs, limits: &ModelLimits) -> Result<Loaded, CliError> {
        let backend = backend::choose(args)?;
        let plan = memory::plan(&self.config, limits, &*backend, args.processes)?;
        if !args.allow_overcommit {
            self.check_fit(args, limits, &*backend, &plan)?;
        }
        let started = Instant::now();
        let checkpoint = self.open_weights(self.loading)?;
        let let_go = checkpoint.total_bytes() - kept_weight_bytes(&self.config, &*backend) as u64;
        let bar = output::byte_progress_bar(checkpoint.total_bytes());
        let mut loading = WeightLoading {
            make_resident: !args.allow_overcommit,
            drop_cached: memory::available_to_this_process()
                .is_some_and(|available| available.bytes < plan.total_bytes() as u64 + let_go),
            on_progress: &mut |done| bar.set_position(done),
        };
        let model = thread::scope(|scope| {
            // Who asks for the tokenizer later reads it, where there is no thread for it, or is told what is wrong with it.
            let _ = thread::Builder::new().spawn_scoped(scope, || self.tokenizer().is_ok());
            Model::load_with(&checkpoint, backend, limits, &mut loading)
        });
        bar.finish_and_clear();
        Ok(Loaded { checkpoint, model: model?, plan, load_time: started.elapsed() })
    }

    /// Opens the weights and checks their headers against the configuration.
    pub(crate) fn open_weights(&self, loading: Loading) -> Result<Checkpoint, CliError> {
        let opened = Checkpoint::open_unread(&self.folder, loading);
        opened.map_err(|error| if self.is_demo { broken_demo(error) } else { error.into() })
    }

    fn check_fit(
        &self,
        args: &ModelArgs,
        limits: &ModelLimits,
        backend: &dyn Backend,
        plan: &MemoryPlan,
    ) -> Result<(), CliError> {
        let Some(mut available) = memory::available_to_this_process() else { return Ok(()) };
        // Weights in a memory file system are in memory, and the plan counts those that are used where they lie.
        if self.loading != Loading::Read && memory::lies_in_memory(&self.folder) {
            available.bytes += kept_weight_bytes(&self.config, backend) as u64;
        }
        let total = |limits: &ModelLimits| {
            let plan = memory::plan(&self.config, limits, backend, args.processes);
            plan.ok().map(|plan| plan.total_bytes() as u64)
        };
        memory::check(&self.name, plan, limits, available, args.choices(), total)
    }
}

fn broken_demo(error: CheckpointError) -> CliError {
    CliError::from(error).context("the demo model inside this program is broken")
}

/// The tokenizer of the model in `folder`.
pub(crate) fn tokenizer_of(folder: &Path, config: &ModelConfig) -> Result<Arc<Tokenizer>, TokenizerError> {
    Tokenizer::from_folder(folder, u32::try_from(config.vocab_size).ok())
}

/// The folder's name; that of the folder above where it is called `original`.
pub(crate) fn model_name(folder: &Path) -> String {
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
