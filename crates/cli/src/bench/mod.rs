//! `sostenuto bench`: how fast a model runs here, against what this machine's memory allows; and servers under load.

pub(crate) mod bandwidth;
mod report;
pub(crate) mod serve;
mod stress;
mod target;
pub(crate) mod traffic;

use std::time::Instant;

use clap::{Args, Subcommand};
use sostenuto_model::Model;
use sostenuto_ops::KV_BLOCK_SLOTS;

use self::report::{DecodeResult, PrefillResult, Report};
use self::traffic::Traffic;
use crate::error::CliError;
use crate::hash::Fnv64;
use crate::load::{Loaded, Source};
use crate::model_args::ModelArgs;
use crate::sequence::SoloSequence;

/// Tokens of the prompt whose logits are hashed.
const HASH_PROMPT_TOKENS: usize = 48;
/// Positions, counted from the last, whose logits are hashed.
const HASH_POSITIONS: usize = 16;
/// Seed of the hashed prompt: fixed, so that hashes of one model compare across runs and machines.
const HASH_SEED: u64 = 0;
/// Decoding is repeated from the same context; the rings keep enough for this many steps.
const MAX_DECODE_TOKENS: u16 = 256;

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Option<BenchCommand>,
    #[command(flatten)]
    solo: SoloArgs,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Put a load on a server, ours or another that is OpenAI-compatible, and measure its answers.
    Serve(Box<serve::BenchServeArgs>),
    /// Try to break a server of ours, and say whether it held.
    Stress(Box<stress::StressArgs>),
}

/// Arguments of `bench` without a subcommand: one sequence at a time, without a server.
#[derive(Debug, Args)]
struct SoloArgs {
    /// Lengths of prompts to prefill, in tokens.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "128,512")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    prompt: Vec<u32>,
    /// Tokens to decode per repetition.
    #[arg(long, value_name = "N", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_DECODE_TOKENS as i64))]
    decode: u16,
    /// Lengths of context to decode after, in tokens.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "128")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    context: Vec<u32>,
    /// Repetitions; medians are reported.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    reps: u8,
    /// Seed of the pseudo-random prompts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Measures and reports.
pub(crate) fn run(args: &BenchArgs) -> Result<(), CliError> {
    match &args.what {
        Some(BenchCommand::Serve(args)) => serve::run(args),
        Some(BenchCommand::Stress(args)) => stress::run(args),
        None => run_solo(&args.solo),
    }
}

fn run_solo(args: &SoloArgs) -> Result<(), CliError> {
    let source = Source::find(&args.model)?;
    let needed = needed_context(args);
    let longest = source.config().max_position_embeddings;
    if needed > longest {
        return Err(CliError::new(format!(
            "--prompt, --context and --decode need {needed} tokens: the model's context is {longest}"
        )));
    }
    let limits = args.model.solo_limits(needed.next_multiple_of(KV_BLOCK_SLOTS).min(longest));
    let Loaded { checkpoint, mut model, .. } = source.load(&args.model, &limits)?;
    let info = model.info();
    let bandwidth = bandwidth::measure(info.threads);
    let logits_hash = logits_hash(&mut model)?;
    let prefill =
        args.prompt.iter().map(|len| prefill(&mut model, args, *len as usize)).collect::<Result<_, _>>()?;
    let decode = args
        .context
        .iter()
        .map(|context| decode(&mut model, args, *context as usize, bandwidth))
        .collect::<Result<_, _>>()?;
    Report::new((&source.name, &checkpoint), &info, args.model.mode, bandwidth, logits_hash, prefill, decode)
        .write(args.json)
}

fn needed_context(args: &SoloArgs) -> usize {
    let prompt = args.prompt.iter().max().map_or(0, |len| *len as usize);
    let decode = args.context.iter().max().map_or(0, |len| *len as usize + usize::from(args.decode));
    prompt.max(decode).max(HASH_PROMPT_TOKENS)
}

fn logits_hash(model: &mut Model) -> Result<String, CliError> {
    let ids = random_ids(HASH_SEED, HASH_PROMPT_TOKENS, model.config().vocab_size);
    let mut hash = Fnv64::new();
    SoloSequence::new(model).feed(&ids, HASH_POSITIONS, |logits| {
        hash.update_f32(logits);
        Ok(())
    })?;
    Ok(hash.hex())
}

fn prefill(model: &mut Model, args: &SoloArgs, len: usize) -> Result<PrefillResult, CliError> {
    let ids = random_ids(args.seed, len, model.config().vocab_size);
    let mut rates = Vec::with_capacity(usize::from(args.reps));
    for _ in 0..args.reps {
        let start = Instant::now();
        SoloSequence::new(model).feed(&ids, 1, |_| Ok(()))?;
        rates.push(len as f64 / start.elapsed().as_secs_f64());
    }
    Ok(PrefillResult { prompt_tokens: len, tokens_per_second: median(&rates) })
}

fn decode(
    model: &mut Model,
    args: &SoloArgs,
    context: usize,
    bandwidth: f64,
) -> Result<DecodeResult, CliError> {
    let tokens = usize::from(args.decode);
    let ids = random_ids(args.seed, context + tokens, model.config().vocab_size);
    // The mean context of the tokens decoded, each of which also reads itself.
    let traffic = Traffic::of(model.config(), model.limits().kv_dtype, context + tokens.div_ceil(2));
    let mut sequence = SoloSequence::new(model);
    sequence.feed(&ids[..context], 0, |_| Ok(()))?;
    let mut rates = Vec::with_capacity(usize::from(args.reps));
    for _ in 0..args.reps {
        sequence.rewind(context);
        let start = Instant::now();
        for id in &ids[context..] {
            sequence.feed(std::slice::from_ref(id), 1, |_| Ok(()))?;
        }
        rates.push(tokens as f64 / start.elapsed().as_secs_f64());
    }
    let tokens_per_second = median(&rates);
    let bytes_per_second = tokens_per_second * traffic.total_bytes() as f64;
    Ok(DecodeResult {
        context_tokens: context,
        decoded_tokens: tokens,
        tokens_per_second,
        bytes_per_token: traffic.total_bytes(),
        parts: traffic,
        gigabytes_per_second: bytes_per_second / 1e9,
        share_of_bandwidth: bytes_per_second / bandwidth,
    })
}

/// Pseudo-random ids below `vocab_size` (SplitMix64).
fn random_ids(seed: u64, count: usize, vocab_size: usize) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..count).map(|_| (next() % vocab_size as u64) as u32).collect()
}

/// The middle value, or the mean of the middle two. `values` is not empty.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    (lower + upper) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[9.0, 1.0, 5.0, 7.0]), 6.0);
    }

    #[test]
    fn random_ids_are_split_mix_64() {
        // The generator's published first outputs for seed 1234567.
        let expected = [6_457_827_717_110_365_317u64, 3_203_168_211_198_807_973];
        let modulus = 1 << 22;
        assert_eq!(random_ids(1_234_567, 2, modulus), expected.map(|value| (value % modulus as u64) as u32));
    }
}
