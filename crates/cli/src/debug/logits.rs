//! `debug logits`.

use clap::Args;
use serde::Serialize;

use super::lines::answer_stdin;
use super::tokenize::IdsLine;
use crate::error::CliError;
use crate::load::Source;
use crate::model_args::ModelArgs;
use crate::sequence::SoloSequence;

/// Arguments of `debug logits`.
#[derive(Debug, Args)]
pub(crate) struct LogitsArgs {
    /// How many of the last positions to give logits of.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    last: u32,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Serialize)]
struct LogitsLine {
    /// One row per position, in order; each number is the shortest that reads back to the same f32.
    logits: Vec<Vec<f32>>,
}

/// Logits of every line's ids, each line a sequence of its own.
pub(crate) fn run(args: &LogitsArgs) -> Result<(), CliError> {
    let source = Source::find(&args.model)?;
    let context = args.model.ctx.unwrap_or(DEFAULT_CONTEXT).min(source.config().max_position_embeddings);
    let mut model = source.load(&args.model, &args.model.solo_limits(context))?.model;
    let last = args.last as usize;
    answer_stdin(|line: IdsLine| {
        if line.ids.is_empty() {
            return Err(CliError::new("ids is empty: expected at least one"));
        }
        let mut logits = Vec::with_capacity(last.min(line.ids.len()));
        SoloSequence::new(&mut model).feed(&line.ids, last, |row| {
            check_finite(row)?;
            logits.push(row.to_vec());
            Ok(())
        })?;
        Ok(LogitsLine { logits })
    })
}

/// Longest line of ids if `--ctx` does not say.
pub(super) const DEFAULT_CONTEXT: usize = 8192;

/// JSON has no infinity and no NaN.
pub(super) fn check_finite(row: &[f32]) -> Result<(), CliError> {
    match row.iter().position(|value| !value.is_finite()) {
        Some(id) => {
            Err(CliError::new(format!("the logit of token {id} is {}: expected a finite number", row[id])))
        }
        None => Ok(()),
    }
}
