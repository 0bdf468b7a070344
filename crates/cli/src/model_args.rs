//! The arguments that say which model to run and how.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sostenuto_formats::{Loading, ModelConfig};
use sostenuto_model::ModelLimits;
use sostenuto_ops::{KV_BLOCK_SLOTS, KvDtype, Precision};

use crate::backend::BackendKind;

/// Context if `--ctx` does not say and memory suffices, in tokens.
const DEFAULT_CONTEXT: usize = 8192;
/// The context is not made shorter than this to save memory, in tokens.
const MIN_DEFAULT_CONTEXT: usize = 1024;
/// Sequences that run at once if `--sequences` does not say.
const DEFAULT_SEQUENCES: usize = 4;
/// The default KV pool holds this many sequences of full length.
const DEFAULT_FULL_SEQUENCES: usize = 2;
/// Rows of a step at most: how much of a prompt is computed between two tokens of other sequences.
const MAX_STEP_ROWS: usize = 256;
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

impl Mode {
    /// The backend's word.
    pub(crate) fn precision(self) -> Precision {
        match self {
            Mode::Fast => Precision::Fast,
            Mode::Exact => Precision::Exact,
        }
    }

    /// Element type of the KV store.
    pub(crate) fn kv_dtype(self) -> KvDtype {
        match self {
            Mode::Fast => KvDtype::Bf16,
            Mode::Exact => KvDtype::F32,
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
}

impl ModelArgs {
    /// Limits for an engine: a logits row for each sequence.
    pub(crate) fn serving_limits(&self, config: &ModelConfig) -> ModelLimits {
        let mut limits = ModelLimits {
            max_step_rows: MAX_STEP_ROWS.max(self.sequences),
            max_logit_rows: self.sequences,
            max_sequences: self.sequences,
            max_context: 0,
            kv_tokens: 0,
            window_snapshots: 0,
            kv_dtype: self.mode.kv_dtype(),
        };
        let full_sequences = self.sequences.min(DEFAULT_FULL_SEQUENCES);
        let context = self
            .ctx
            .unwrap_or_else(|| default_context(config, &limits, full_sequences, available_memory_bytes()));
        limits.max_context = context;
        limits.kv_tokens =
            self.kv_tokens.unwrap_or(context.next_multiple_of(KV_BLOCK_SLOTS) * full_sequences);
        limits
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
            kv_dtype: self.mode.kv_dtype(),
        }
    }
}

/// The default context, halved until the KV store takes at most half of the memory that is free now.
fn default_context(
    config: &ModelConfig,
    limits: &ModelLimits,
    full_sequences: usize,
    available_bytes: Option<u64>,
) -> usize {
    let mut context = DEFAULT_CONTEXT.min(config.max_position_embeddings);
    let Some(available_bytes) = available_bytes else { return context };
    let kv_bytes = |context: usize| {
        let kv_tokens = context * full_sequences;
        ModelLimits { max_context: context, kv_tokens, ..*limits }.kv_spec(config).bytes() as u64
    };
    while context / 2 >= MIN_DEFAULT_CONTEXT && kv_bytes(context) > available_bytes / 2 {
        context /= 2;
    }
    context
}

/// Memory that can be had without swapping, in bytes, where the operating system says.
pub(crate) fn available_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// A number of tokens, also with the suffix `k` for 1024.
fn parse_count(text: &str) -> Result<usize, String> {
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

fn parse_sequences(text: &str) -> Result<usize, String> {
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
    fn long_context_is_halved_until_memory_suffices() {
        let config = ModelConfig::gpt_oss_20b();
        let limits = ModelLimits {
            max_step_rows: 256,
            max_logit_rows: 4,
            max_sequences: 4,
            max_context: 0,
            kv_tokens: 0,
            window_snapshots: 0,
            kv_dtype: KvDtype::Bf16,
        };
        // Two sequences of 8192 tokens in 12 full layers take 402,653,184 bytes; four rings in 12 sliding ones 37,650,432.
        let context = |available_bytes| default_context(&config, &limits, 2, available_bytes);
        assert_eq!(context(None), 8192);
        assert_eq!(context(Some(2 * 440_303_616)), 8192);
        assert_eq!(context(Some(2 * 440_303_616 - 2)), 4096);
        assert_eq!(context(Some(0)), 1024);
    }
}
