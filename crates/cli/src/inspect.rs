//! `sostenuto inspect`: what is in a checkpoint, and whether it is whole.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use sostenuto_formats::summary::{ModelSummary, Summary};
use sostenuto_formats::{LayerType, Loading, ModelConfig};
use sostenuto_tokenizer::TokenizerError;

use crate::error::CliError;
use crate::load::tokenizer_of;
use crate::output::{self, Style};

/// Arguments of `inspect`.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A checkpoint's folder (Hugging Face's layout or OpenAI's), or one safetensors file.
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// Opens, checks and describes. What is wrong with a checkpoint is an error.
pub(crate) fn run(args: &InspectArgs) -> Result<(), CliError> {
    let summary = Summary::open(&args.path, Loading::Auto)?;
    let tokenizer = match &summary.model {
        Some(model) => Some(TokenizerSummary::of(&args.path, &model.config)?),
        None => None,
    };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &to_json(&summary, tokenizer.as_ref())).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        write_text(&mut out, &summary, tokenizer.as_ref(), Style::of_stdout())?;
    }
    out.flush()?;
    Ok(())
}

enum TokenizerSummary {
    /// The checkpoint has none and its vocabulary is not o200k_harmony's: it can be run with ids only.
    None,
    Found {
        is_embedded: bool,
        vocab_size: u32,
        control_tokens: usize,
    },
}

impl TokenizerSummary {
    fn of(folder: &Path, config: &ModelConfig) -> Result<TokenizerSummary, CliError> {
        let tokenizer = match tokenizer_of(folder, config) {
            Ok(tokenizer) => tokenizer,
            Err(TokenizerError::Missing { .. }) => return Ok(TokenizerSummary::None),
            Err(error) => return Err(error.into()),
        };
        Ok(TokenizerSummary::Found {
            is_embedded: tokenizer.is_o200k_harmony(),
            vocab_size: tokenizer.vocab_size(),
            control_tokens: tokenizer.specials().count(),
        })
    }

    fn to_text(&self) -> String {
        match self {
            TokenizerSummary::None => {
                "none: without tokenizer.json it can be run with token ids only".to_owned()
            }
            TokenizerSummary::Found { is_embedded, vocab_size, control_tokens } => {
                let origin =
                    if *is_embedded { "o200k_harmony, part of this program" } else { "the folder's own" };
                let size = output::grouped((*vocab_size).into());
                format!("{origin}: {size} ids, {control_tokens} of them control tokens")
            }
        }
    }

    fn to_json(&self) -> Value {
        match self {
            TokenizerSummary::None => Value::Null,
            TokenizerSummary::Found { is_embedded, vocab_size, control_tokens } => json!({
                "embedded": is_embedded,
                "vocab_size": vocab_size,
                "control_tokens": control_tokens,
            }),
        }
    }
}

fn write_text(
    out: &mut impl Write,
    summary: &Summary,
    tokenizer: Option<&TokenizerSummary>,
    style: Style,
) -> io::Result<()> {
    let (bold, reset) = (style.bold(), style.reset());
    writeln!(out, "{bold}{}{reset}", summary.path.display())?;
    if let Some(model) = &summary.model {
        write_model(out, model)?;
    }
    if let Some(tokenizer) = tokenizer {
        writeln!(out, "tokenizer     {}", tokenizer.to_text())?;
    }
    writeln!(out, "\n{bold}files{reset}")?;
    for file in &summary.files {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        writeln!(out, "  {:>9}  {:>5} tensors  {name}", output::bytes(file.size_bytes), file.tensors)?;
    }
    writeln!(out, "\n{bold}tensors{reset}")?;
    let width = summary.groups.iter().map(|group| group.name.len()).max().unwrap_or(0);
    for group in &summary.groups {
        let (count, size) = (format!("{}×", group.count), output::bytes(group.size_bytes));
        writeln!(
            out,
            "  {size:>9}  {count:>5} {:5} {:width$}  {:?}",
            group.dtype.name(),
            group.name,
            group.shape
        )?;
    }
    writeln!(out, "\n{bold}bytes by type{reset}")?;
    for (dtype, (count, bytes)) in &summary.dtypes {
        writeln!(out, "  {:>9}  {count:>5}  {dtype}", output::bytes(*bytes))?;
    }
    let (total, count) = (summary.total_bytes(), summary.num_tensors());
    writeln!(out, "  {:>9}  {count:>5}  in all, {} bytes", output::bytes(total), output::grouped(total))
}

fn write_model(out: &mut impl Write, model: &ModelSummary) -> io::Result<()> {
    let ModelSummary { layout, config, parameters } = model;
    let (sliding, full) = layer_counts(config);
    let rope = &config.rope_scaling;
    writeln!(out, "architecture  gpt_oss, {layout} layout")?;
    writeln!(
        out,
        "parameters    {} ({}), {} ({}) active",
        output::parameters(parameters.total),
        output::grouped(parameters.total),
        output::parameters(parameters.active),
        output::grouped(parameters.active)
    )?;
    writeln!(
        out,
        "layers        {}: {sliding} sliding (window {}), {full} full",
        config.num_hidden_layers, config.sliding_window
    )?;
    writeln!(out, "hidden        {}", config.hidden_size)?;
    writeln!(
        out,
        "attention     {} query heads, {} KV heads of {}",
        config.num_attention_heads, config.num_key_value_heads, config.head_dim
    )?;
    writeln!(
        out,
        "experts       {} of {} active, intermediate {}, SwiGLU limit {}",
        config.num_experts_per_tok, config.num_local_experts, config.intermediate_size, config.swiglu_limit
    )?;
    writeln!(
        out,
        "context       {} (YaRN ×{} from {}, theta {})",
        config.max_position_embeddings, rope.factor, rope.original_max_position_embeddings, config.rope_theta
    )?;
    writeln!(
        out,
        "vocabulary    {}, stop tokens {:?}",
        output::grouped(config.vocab_size as u64),
        config.eos_token_id
    )
}

/// Sliding and full layers.
fn layer_counts(config: &ModelConfig) -> (usize, usize) {
    let sliding = config.layer_types.iter().filter(|kind| **kind == LayerType::SlidingAttention).count();
    (sliding, config.layer_types.len() - sliding)
}

fn to_json(summary: &Summary, tokenizer: Option<&TokenizerSummary>) -> Value {
    let files: Vec<Value> = summary
        .files
        .iter()
        .map(|file| {
            json!({
                "path": file.path.to_string_lossy(),
                "size_bytes": file.size_bytes,
                "tensors": file.tensors,
                "metadata": file.metadata,
            })
        })
        .collect();
    let groups: Vec<Value> = summary
        .groups
        .iter()
        .map(|group| {
            json!({
                "name": group.name,
                "dtype": group.dtype.name(),
                "shape": group.shape,
                "count": group.count,
                "size_bytes": group.size_bytes,
            })
        })
        .collect();
    let dtypes: serde_json::Map<String, Value> = summary
        .dtypes
        .iter()
        .map(|(dtype, (count, bytes))| (dtype.to_string(), json!({"tensors": count, "size_bytes": bytes})))
        .collect();
    json!({
        "path": summary.path.to_string_lossy(),
        "files": files,
        "groups": groups,
        "dtypes": dtypes,
        "total_bytes": summary.total_bytes(),
        "model": summary.model.as_ref().map(model_to_json),
        "tokenizer": tokenizer.map(TokenizerSummary::to_json),
    })
}

fn model_to_json(model: &ModelSummary) -> Value {
    let config: Value = serde_json::from_str(&model.config.to_json()).unwrap_or(Value::Null);
    json!({
        "layout": model.layout.to_string(),
        "parameters": {"total": model.parameters.total, "active": model.parameters.active},
        "config": config,
    })
}
