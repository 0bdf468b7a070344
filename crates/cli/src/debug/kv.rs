//! `debug kv`: what the type of keys and values costs in quality.

use clap::Args;
use serde::Serialize;
use sostenuto_model::{Model, ModelLimits};

use super::lines::answer_stdin;
use super::logits::{DEFAULT_CONTEXT, check_finite};
use super::tokenize::IdsLine;
use crate::error::CliError;
use crate::load::Source;
use crate::model_args::{KvType, ModelArgs};
use crate::sequence::SoloSequence;

/// Arguments of `debug kv`. `--kv-dtype` is the type that is compared with the reference.
#[derive(Debug, Args)]
pub(crate) struct KvArgs {
    /// The type whose probabilities are taken as right.
    #[arg(long, value_enum, value_name = "TYPE", default_value = "bf16")]
    reference: KvType,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Serialize)]
struct DivergenceLine {
    reference: &'static str,
    kv_dtype: &'static str,
    /// Tokens after which the next one's probabilities are compared: all of the line.
    positions: usize,
    /// Kullback-Leibler divergence of the type's probabilities from the reference's, in nats; mean and largest over the
    /// positions.
    mean_kl: f64,
    max_kl: f64,
    /// Share of positions at which both find the same token the likeliest.
    same_top_token: f64,
}

/// Compares probabilities after each of every line's ids, each line a sequence of its own.
pub(crate) fn run(args: &KvArgs) -> Result<(), CliError> {
    let source = Source::find(&args.model)?;
    let context = args.model.ctx.unwrap_or(DEFAULT_CONTEXT).min(source.config().max_position_embeddings);
    let limits = args.model.solo_limits(context);
    let reference = ModelLimits { kv_dtype: args.model.mode.kv_dtype(Some(args.reference)), ..limits };
    let mut models = [source.load(&args.model, &reference)?.model, source.load(&args.model, &limits)?.model];
    answer_stdin(|line: IdsLine| {
        if line.ids.is_empty() {
            return Err(CliError::new("ids is empty: expected at least one"));
        }
        compare(&mut models, &line.ids)
    })
}

/// Both models see the same ids, in pieces of as many as they give logits for at once.
fn compare([reference, other]: &mut [Model; 2], ids: &[u32]) -> Result<DivergenceLine, CliError> {
    let names = [reference.limits().kv_dtype.name(), other.limits().kv_dtype.name()];
    let piece = reference.limits().max_logit_rows;
    let (mut right, mut compared) = (SoloSequence::new(reference), SoloSequence::new(other));
    let (mut sum, mut max, mut same) = (0.0, 0.0_f64, 0);
    for ids in ids.chunks(piece) {
        let (right, compared) = (logits(&mut right, ids)?, logits(&mut compared, ids)?);
        for (right, compared) in right.iter().zip(&compared) {
            let divergence = divergence(right, compared);
            sum += divergence;
            max = max.max(divergence);
            same += usize::from(top(right) == top(compared));
        }
    }
    Ok(DivergenceLine {
        reference: names[0],
        kv_dtype: names[1],
        positions: ids.len(),
        mean_kl: sum / ids.len() as f64,
        max_kl: max,
        same_top_token: same as f64 / ids.len() as f64,
    })
}

fn logits(sequence: &mut SoloSequence<'_>, ids: &[u32]) -> Result<Vec<Vec<f32>>, CliError> {
    let mut rows = Vec::with_capacity(ids.len());
    sequence.feed(ids, ids.len(), |row| {
        check_finite(row)?;
        rows.push(row.to_vec());
        Ok(())
    })?;
    Ok(rows)
}

/// `Σ p·(ln p − ln q)` of the softmaxes p and q of two rows of logits.
fn divergence(right: &[f32], other: &[f32]) -> f64 {
    let (right_sum, other_sum) = (log_sum_exp(right), log_sum_exp(other));
    let terms = right.iter().zip(other).map(|(&p, &q)| {
        let (p, q) = (f64::from(p) - right_sum, f64::from(q) - other_sum);
        p.exp() * (p - q)
    });
    terms.sum()
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + logits.iter().map(|&logit| (f64::from(logit) - max).exp()).sum::<f64>().ln()
}

/// Index of the largest logit, the lowest where equal.
fn top(logits: &[f32]) -> usize {
    logits.iter().enumerate().fold(0, |best, (i, &logit)| if logit > logits[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn divergence_is_that_of_the_softmaxes() {
        // p = (1/4, 3/4), q = (1/2, 1/2), each up to a shift of the logits.
        let (p, q) = ([5.0, 5.0 + 3f32.ln()], [-700.0, -700.0]);
        let want = 0.25 * 0.5_f64.ln() + 0.75 * 1.5_f64.ln();
        assert!((divergence(&p, &q) - want).abs() < 1e-7);
        assert!(divergence(&p, &p).abs() < 1e-12);
    }
}
