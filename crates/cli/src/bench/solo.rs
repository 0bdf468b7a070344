//! `bench` without a subcommand: prefill and decode of one model, without engine or server.

use std::time::Instant;

use clap::Args;
use sostenuto_formats::ModelConfig;
use sostenuto_model::{Model, ModelLimits};
use sostenuto_ops::KV_BLOCK_SLOTS;

use super::limits::Machine;
use super::report::{DecodeResult, PrefillResult, Report, Results};
use super::streams::{Fill, Streams};
use super::traffic::{DenseFormat, Traffic};
use super::{median, random_ids};
use crate::error::CliError;
use crate::hash::Fnv64;
use crate::load::{Loaded, Source};
use crate::model_args::{Mode, ModelArgs};
use crate::sequence::SoloSequence;

/// Tokens of the prompt whose logits are hashed.
const HASH_PROMPT_TOKENS: usize = 48;
/// Positions, counted from the last, whose logits are hashed.
const HASH_POSITIONS: usize = 16;
/// Seed of the hashed prompt: fixed, so that hashes of one model compare across runs and machines.
const HASH_SEED: u64 = 0;
/// Decoding is repeated from the same context; the rings keep enough for this many steps.
const MAX_DECODE_TOKENS: u16 = 256;
/// Most streams that decode together.
const MAX_BATCH: u16 = 64;

/// Arguments of `bench` without a subcommand.
#[derive(Debug, Args)]
pub(crate) struct SoloArgs {
    /// Lengths of prompts to prefill, in tokens.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "128,512")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    prompt: Vec<u32>,
    /// Tokens to decode per repetition.
    #[arg(long, value_name = "N", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_DECODE_TOKENS as i64))]
    decode: u16,
    /// Lengths of context to decode one stream after, in tokens.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "128")]
    #[arg(value_parser = clap::value_parser!(u32).range(0..=1 << 20))]
    context: Vec<u32>,
    /// Numbers of streams to decode together, after the shortest context.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_BATCH as i64))]
    batch: Vec<u16>,
    /// How the contexts come about: computed, or mostly copied where computing takes too long.
    #[arg(long, value_enum, default_value = "prefill")]
    fill: Fill,
    /// No prefill: what --prompt says is left out.
    #[arg(long)]
    decode_only: bool,
    /// Modes to measure one after another; without it, that of --mode.
    #[arg(long, value_enum, value_name = "MODE,MODE", value_delimiter = ',', conflicts_with = "mode")]
    modes: Vec<Mode>,
    /// Repetitions; medians are reported.
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=100))]
    reps: u8,
    /// Seed of the pseudo-random prompts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object a mode instead of tables.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    model: ModelArgs,
}

/// Measures and reports, mode after mode.
pub(crate) fn run(args: &SoloArgs) -> Result<(), CliError> {
    let given = [args.model.mode];
    let modes = if args.modes.is_empty() { &given[..] } else { &args.modes };
    modes.iter().try_for_each(|mode| run_mode(args, &ModelArgs { mode: *mode, ..args.model.clone() }))
}

fn run_mode(args: &SoloArgs, model_args: &ModelArgs) -> Result<(), CliError> {
    let source = Source::find(model_args)?;
    let limits = args.limits(model_args, source.config())?;
    let load_start = Instant::now();
    let Loaded { checkpoint, mut model, .. } = source.load(model_args, &limits)?;
    let load_seconds = load_start.elapsed().as_secs_f64();
    let info = model.info();
    let logits_hash = logits_hash(&mut model)?;
    let machine = Machine::measure(info.threads, checkpoint.total_bytes());
    let prompts = if args.decode_only { &[][..] } else { &args.prompt };
    let prefill = prompts.iter().map(|len| prefill(&mut model, args, &machine, *len as usize));
    let prefill = prefill.collect::<Result<_, _>>()?;
    let decode = args.decode_points().into_iter();
    let decode = decode.map(|(streams, context)| decode_point(&mut model, args, &machine, streams, context));
    let decode = decode.collect::<Result<_, _>>()?;
    let results = Results { load_seconds, machine, logits_hash, prefill, decode, fill: args.fill };
    Report::new((&source.name, &checkpoint), &info, model_args.mode, results).write(args.json)
}

impl SoloArgs {
    /// Streams and context of what is decoded: one stream after each context, then each batch after the shortest.
    fn decode_points(&self) -> Vec<(usize, usize)> {
        let shortest = self.context.iter().min().map_or(0, |len| *len as usize);
        let contexts = self.context.iter().map(|len| (1, *len as usize));
        contexts.chain(self.batch.iter().map(|streams| (usize::from(*streams), shortest))).collect()
    }

    fn limits(&self, model_args: &ModelArgs, config: &ModelConfig) -> Result<ModelLimits, CliError> {
        let longest = config.max_position_embeddings;
        let decode = |context: usize| context + usize::from(self.decode);
        let points = self.decode_points();
        let prompt =
            if self.decode_only { 0 } else { self.prompt.iter().max().map_or(0, |len| *len as usize) };
        let deepest = points.iter().map(|(_, context)| decode(*context)).max().unwrap_or(0);
        let needed = prompt.max(deepest).max(HASH_PROMPT_TOKENS);
        if needed > longest {
            return Err(CliError::new(format!(
                "--prompt, --context and --decode need {needed} tokens: the model's context is {longest}"
            )));
        }
        let mut limits = model_args.solo_limits(needed.next_multiple_of(KV_BLOCK_SLOTS).min(longest));
        for (streams, context) in points {
            limits.max_sequences = limits.max_sequences.max(streams);
            limits.max_logit_rows = limits.max_logit_rows.max(streams);
            limits.kv_tokens =
                limits.kv_tokens.max(streams * decode(context).next_multiple_of(KV_BLOCK_SLOTS));
        }
        Ok(limits)
    }
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

fn prefill(
    model: &mut Model,
    args: &SoloArgs,
    machine: &Machine,
    len: usize,
) -> Result<PrefillResult, CliError> {
    let ids = random_ids(args.seed, len, model.config().vocab_size);
    let mut rates = Vec::with_capacity(usize::from(args.reps));
    for _ in 0..args.reps {
        let start = Instant::now();
        SoloSequence::new(model).feed(&ids, 1, |_| Ok(()))?;
        rates.push(len as f64 / start.elapsed().as_secs_f64());
    }
    let tokens_per_second = median(&rates);
    let limit = machine.limits(model.config(), model.limits().kv_dtype).prefill(len, len);
    Ok(PrefillResult {
        prompt_tokens: len,
        tokens_per_second,
        seconds: len as f64 / tokens_per_second,
        limit_tokens_per_second: limit,
        share_of_limit: tokens_per_second / limit,
    })
}

fn decode_point(
    model: &mut Model,
    args: &SoloArgs,
    machine: &Machine,
    streams: usize,
    context: usize,
) -> Result<DecodeResult, CliError> {
    let steps = usize::from(args.decode);
    let (config, kv_dtype) = (model.config().clone(), model.limits().kv_dtype);
    let dense = DenseFormat::of(model.info().precision);
    let ids = random_ids(args.seed, context + streams * steps, config.vocab_size);
    let mut running = Streams::new(model, streams);
    running.fill(args.fill, &ids[..context])?;
    let mut rates = Vec::with_capacity(usize::from(args.reps));
    for _ in 0..args.reps {
        let start = Instant::now();
        for (step, ids) in ids[context..].chunks(streams).enumerate() {
            running.decode(context + step, ids)?;
        }
        rates.push((streams * steps) as f64 / start.elapsed().as_secs_f64());
    }
    let tokens_per_second = median(&rates);
    // The mean context of the tokens decoded, each of which also reads itself.
    let context_read = context + steps.div_ceil(2);
    let parts = Traffic::of_step(&config, kv_dtype, streams, context_read).dense_as(dense);
    let bytes_per_second = tokens_per_second / streams as f64 * parts.total_bytes() as f64;
    let limit = machine.limits(&config, kv_dtype).decode(streams, context_read);
    Ok(DecodeResult {
        batch: streams,
        context_tokens: context,
        decoded_tokens: streams * steps,
        tokens_per_second,
        bytes_per_step: parts.total_bytes(),
        parts,
        gigabytes_per_second: bytes_per_second / 1e9,
        share_of_bandwidth: bytes_per_second / machine.bandwidth,
        limit_tokens_per_second: limit,
        share_of_limit: tokens_per_second / limit,
    })
}
