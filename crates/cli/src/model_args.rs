//! The arguments that say which model to run and how.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sostenuto_engine::EngineOptions;
use sostenuto_formats::{Loading, ModelConfig};
use sostenuto_model::ModelLimits;
use sostenuto_ops::{KV_BLOCK_SLOTS, KvDtype, Precision};

use crate::backend::{self, BackendKind};
use crate::error::CliError;
use crate::memory::{self, Choices, Processes};

/// Context if `--ctx` does not say and memory suffices, in tokens.
pub(crate) const DEFAULT_CONTEXT: usize = 8192;
/// The context is not made shorter than this to save memory, in tokens.
pub(crate) const MIN_DEFAULT_CONTEXT: usize = 1024;
/// Sequences that run at once if `--sequences` does not say.
const DEFAULT_SEQUENCES: usize = 4;
/// The default KV pool holds this many sequences of full length.
const DEFAULT_FULL_SEQUENCES: usize = 2;
/// Window snapshots if `--window-snapshots` does not say: a few for each of a dozen conversations.
pub(crate) const DEFAULT_WINDOW_SNAPSHOTS: usize = 64;
/// Rows of a step at most, where nothing decodes beside a prompt; see [`sostenuto_engine::EngineOptions`] for where
/// something does.
pub(crate) const MAX_STEP_ROWS: usize = 512;
/// Rows of a step whose logits are wanted, where logits are all that is wanted.
const MAX_LOGIT_ROWS: usize = 32;

/// How to trade accuracy for speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// For use: the fastest kernels, KV in bf16.
    Fast,
    /// For comparisons: f32 activations, KV in f32.
    Exact,
}

/// How keys and values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KvType {
    /// bfloat16.
    Bf16,
    /// 32-bit floats.
    F32,
    /// 8-bit integers with a scale for each head of each token: about half the memory of bf16.
    Int8,
}

impl Mode {
    /// The backend's word.
    pub(crate) fn precision(self) -> Precision {
        match self {
            Mode::Fast => Precision::Fast,
            Mode::Exact => Precision::Exact,
        }
    }

    /// Element type of the KV store: the one asked for, or the mode's.
    pub(crate) fn kv_dtype(self, asked: Option<KvType>) -> KvDtype {
        match (asked, self) {
            (Some(KvType::Bf16), _) | (None, Mode::Fast) => KvDtype::Bf16,
            (Some(KvType::F32), _) | (None, Mode::Exact) => KvDtype::F32,
            (Some(KvType::Int8), _) => KvDtype::Int8,
        }
    }

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Fast => "fast",
            Mode::Exact => "exact",
        }
    }
}

/// How weights come into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Load {
    /// Map the files: starts at once, shares memory.
    Mmap,
    /// Read the files once: later changes of them have no effect.
    Read,
    /// Map where the file system can, read where it cannot.
    Auto,
}

impl From<Load> for Loading {
    fn from(load: Load) -> Loading {
        match load {
            Load::Mmap => Loading::Mmap,
            Load::Read => Loading::Read,
            Load::Auto => Loading::Auto,
        }
    }
}

/// Which model, and how to run it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// Folder with a gpt-oss checkpoint; without it, the demo model.
    #[arg(long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    /// What runs the model.
    #[arg(long, value_enum, default_value = "cpu")]
    pub(crate) backend: BackendKind,
    /// Numeric mode.
    #[arg(long, value_enum, default_value = "fast")]
    pub(crate) mode: Mode,
    /// How keys and values are kept; without it, what the mode says.
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) kv_dtype: Option<KvType>,
    /// How weights come into memory.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) load: Load,
    /// Worker threads; without it, one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Tokens of one sequence at most, prompt and answer; without it 8192, or less if memory is short.
    #[arg(long, value_name = "TOKENS", value_parser = parse_count)]
    pub(crate) ctx: Option<usize>,
    /// Sequences that run at once; further requests wait.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SEQUENCES, value_parser = parse_sequences)]
    pub(crate) sequences: usize,
    /// Tokens that the KV memory holds over all sequences; without it, two sequences of full length.
    #[arg(long, value_name = "TOKENS", value_parser = parse_count)]
    pub(crate) kv_tokens: Option<usize>,
    /// Kept windows of the sliding layers: the places from which a conversation's next turn goes on at once. Without
    /// one, it computes the last 1,524 (20B) or 2,286 (120B) cached tokens again.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_WINDOW_SNAPSHOTS, value_parser = parse_snapshots)]
    pub(crate) window_snapshots: usize,
    /// Compute every prompt from its start, and keep nothing for the next request.
    #[arg(long)]
    pub(crate) no_prefix_cache: bool,
    /// Start although the memory plan needs more than is available: it may be slow, and the operating system may end it.
    #[arg(long)]
    pub(crate) allow_overcommit: bool,
    /// Set by the command.
    #[arg(skip)]
    pub(crate) processes: Processes,
}

impl ModelArgs {
    /// Element type of the KV store.
    pub(crate) fn kv_dtype(&self) -> KvDtype {
        self.mode.kv_dtype(self.kv_dtype)
    }

    /// Limits for an engine: a logits row for each sequence. Where `--ctx` does not say, the context is the longest of
    /// 8192, 4096, 2048 and 1024 tokens whose plan fits into memory.
    ///
    /// # Errors
    /// The backend can't be had.
    pub(crate) fn serving_limits(&self, config: &ModelConfig) -> Result<ModelLimits, CliError> {
        if let Some(context) = self.ctx {
            return Ok(self.limits_of(context));
        }
        let backend = backend::choose(self)?;
        let available = memory::available_to_this_process().map(|available| available.bytes);
        let fits = |context| {
            let plan = memory::plan(config, &self.limits_of(context), &*backend, self.processes);
            plan.is_ok_and(|plan| available.is_none_or(|available| plan.total_bytes() as u64 <= available))
        };
        Ok(self.limits_of(default_context(config.max_position_embeddings, fits)))
    }

    /// Limits for an engine whose sequences have at most `context` tokens.
    fn limits_of(&self, context: usize) -> ModelLimits {
        let full_sequences = self.sequences.min(DEFAULT_FULL_SEQUENCES);
        let kv_tokens = context.next_multiple_of(KV_BLOCK_SLOTS) * full_sequences;
        ModelLimits {
            max_step_rows: MAX_STEP_ROWS.max(self.sequences),
            max_logit_rows: self.sequences,
            max_sequences: self.sequences,
            max_context: context,
            kv_tokens: self.kv_tokens.unwrap_or(kv_tokens),
            window_snapshots: if self.no_prefix_cache { 0 } else { self.window_snapshots },
            kv_dtype: self.kv_dtype(),
        }
    }

    /// How an engine is to schedule.
    pub(crate) fn engine_options(&self) -> EngineOptions {
        EngineOptions { prefix_cache: !self.no_prefix_cache, ..EngineOptions::default() }
    }

    /// What may be changed about the limits.
    pub(crate) fn choices(&self) -> Choices {
        Choices { kv_follows: self.kv_tokens.is_none(), full_sequences: DEFAULT_FULL_SEQUENCES }
    }

    /// Limits for one sequence of at most `context` tokens, alone.
    pub(crate) fn solo_limits(&self, context: usize) -> ModelLimits {
        ModelLimits {
            max_step_rows: MAX_STEP_ROWS,
            max_logit_rows: MAX_LOGIT_ROWS,
            max_sequences: 1,
            max_context: context,
            kv_tokens: context.next_multiple_of(KV_BLOCK_SLOTS),
            window_snapshots: 0,
            kv_dtype: self.kv_dtype(),
        }
    }
}

/// The default context, halved until it fits.
fn default_context(longest: usize, fits: impl Fn(usize) -> bool) -> usize {
    let mut context = DEFAULT_CONTEXT.min(longest);
    while context / 2 >= MIN_DEFAULT_CONTEXT && !fits(context) {
        context /= 2;
    }
    context
}

/// A number of tokens, also with the suffix `k` for 1024.
pub(crate) fn parse_count(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.strip_suffix(['k', 'K']) {
        Some(digits) => (digits, 1024),
        None => (text, 1),
    };
    let count = digits.parse::<u32>().map_err(|error| error.to_string())? as usize * factor;
    if count == 0 || count > sostenuto_formats::config::limits::MAX_POSITIONS {
        return Err(format!("expected 1 to {}", sostenuto_formats::config::limits::MAX_POSITIONS));
    }
    Ok(count)
}

pub(crate) fn parse_snapshots(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count @ 0..=4096) => Ok(count),
        Ok(_) => Err("expected 0 to 4096".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

pub(crate) fn parse_sequences(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count @ 1..=256) => Ok(count),
        Ok(_) => Err("expected 1 to 256".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_may_be_written_with_k() {
        assert_eq!(parse_count("8k"), Ok(8192));
        assert_eq!(parse_count("131072"), Ok(131_072));
        for wrong in ["0", "-1", "k", "8kk", "99999999", "4294967295k", "1.5k"] {
            assert!(parse_count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn default_context_is_halved_until_it_fits() {
        assert_eq!(default_context(131_072, |_| true), 8192);
        assert_eq!(default_context(131_072, |context| context <= 5000), 4096);
        assert_eq!(default_context(131_072, |_| false), 1024);
        assert_eq!(default_context(3000, |_| false), 1500);
        assert_eq!(default_context(512, |_| false), 512);
    }
}
