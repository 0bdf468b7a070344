//! `sostenuto synth`: a checkpoint with random weights, to measure and to test with.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sostenuto_formats::synth::{synthetic_size_bytes, write_synthetic};
use sostenuto_formats::{LayerType, ModelConfig};

use crate::error::CliError;
use crate::output;

/// Shapes to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Like {
    /// openai/gpt-oss-20b: 13.8 GB.
    #[value(name = "20b")]
    B20,
    /// openai/gpt-oss-120b: 65.2 GB.
    #[value(name = "120b")]
    B120,
    /// A few hundred kilobytes, for tests.
    #[value(name = "tiny")]
    Tiny,
}

/// Arguments of `synth`.
#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// New or empty folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Shape to start from; the options below change it.
    #[arg(long, value_enum, default_value = "tiny")]
    like: Like,
    /// Seed: the same shape and seed give the same bytes.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Layers, sliding and full in turn.
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// Width of the residual stream; a multiple of 32.
    #[arg(long, value_name = "N")]
    hidden: Option<usize>,
    /// Width of an expert; a multiple of 32.
    #[arg(long, value_name = "N")]
    intermediate: Option<usize>,
    /// Query heads.
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// KV heads; divides the query heads.
    #[arg(long, value_name = "N")]
    kv_heads: Option<usize>,
    /// Width of a head; even.
    #[arg(long, value_name = "N")]
    head_dim: Option<usize>,
    /// Experts of a layer.
    #[arg(long, value_name = "N")]
    experts: Option<usize>,
    /// Experts that a token is routed to.
    #[arg(long, value_name = "N")]
    active_experts: Option<usize>,
    /// Tokens that a sliding layer sees.
    #[arg(long, value_name = "N")]
    window: Option<usize>,
    /// Rows of the vocabulary.
    #[arg(long, value_name = "N")]
    vocab: Option<usize>,
    /// Longest context, in tokens.
    #[arg(long, value_name = "N")]
    context: Option<usize>,
}

/// Writes the checkpoint.
pub(crate) fn run(args: &SynthArgs) -> Result<(), CliError> {
    let config = args.config();
    config.validate()?;
    let bar = output::byte_progress_bar(0);
    let written = write_synthetic(&args.out, &config, args.seed, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    written?;
    eprintln!(
        "Wrote {} of random weights to {}",
        output::bytes(synthetic_size_bytes(&config)),
        args.out.display()
    );
    Ok(())
}

impl SynthArgs {
    fn config(&self) -> ModelConfig {
        let mut config = match self.like {
            Like::B20 => ModelConfig::gpt_oss_20b(),
            Like::B120 => ModelConfig::gpt_oss_120b(),
            Like::Tiny => tiny(),
        };
        for (field, value) in [
            (&mut config.hidden_size, self.hidden),
            (&mut config.intermediate_size, self.intermediate),
            (&mut config.num_attention_heads, self.heads),
            (&mut config.num_key_value_heads, self.kv_heads),
            (&mut config.head_dim, self.head_dim),
            (&mut config.num_local_experts, self.experts),
            (&mut config.num_experts_per_tok, self.active_experts),
            (&mut config.sliding_window, self.window),
            (&mut config.vocab_size, self.vocab),
            (&mut config.max_position_embeddings, self.context),
        ] {
            *field = value.unwrap_or(*field);
        }
        if let Some(layers) = self.layers {
            set_layers(&mut config, layers);
        }
        keep_token_ids_in_vocabulary(&mut config);
        config
    }
}

/// The shape of the tests. Its vocabulary holds o200k_harmony, so that text and chats can be tried on it.
fn tiny() -> ModelConfig {
    let mut config = ModelConfig::gpt_oss_20b();
    config.hidden_size = 64;
    config.intermediate_size = 64;
    config.head_dim = 16;
    config.num_attention_heads = 4;
    config.num_key_value_heads = 2;
    config.num_local_experts = 8;
    config.num_experts_per_tok = 4;
    config.sliding_window = 16;
    config.max_position_embeddings = 4096;
    config.rope_scaling.original_max_position_embeddings = 128;
    set_layers(&mut config, 4);
    config
}

fn set_layers(config: &mut ModelConfig, layers: usize) {
    let types = [LayerType::SlidingAttention, LayerType::FullAttention];
    config.num_hidden_layers = layers;
    // One more than the bound is enough for `validate` to refuse.
    let bound = sostenuto_formats::config::limits::MAX_HIDDEN_LAYERS + 1;
    config.layer_types = types.into_iter().cycle().take(layers.min(bound)).collect();
}

/// A smaller vocabulary has none of the Harmony control tokens.
fn keep_token_ids_in_vocabulary(config: &mut ModelConfig) {
    let inside = |id: &u32| (*id as usize) < config.vocab_size;
    config.eos_token_id.retain(inside);
    config.bos_token_id = config.bos_token_id.filter(inside);
    config.pad_token_id = config.pad_token_id.filter(inside);
}
