//! `sostenuto plan`: what a model takes on a device, how many users fit, and how fast it should be, without any weights.

mod device;
mod rates;
mod report;
pub(crate) mod roofline;

use std::path::{Path, PathBuf};

use clap::Args;
use sostenuto_formats::{Checkpoint, ModelConfig};
use sostenuto_model::{MemoryPlan, ModelError, ModelLimits, PlanRow, Purpose, memory_plan};
use sostenuto_ops::KV_BLOCK_SLOTS;

use self::device::Device;
use self::report::{Capacity, Decode, Prefill, Report};
use self::roofline::Roofline;
use crate::error::CliError;
use crate::load::model_name;
use crate::memory::largest;
use crate::model_args::{
    DEFAULT_CONTEXT, DEFAULT_WINDOW_SNAPSHOTS, KvType, Mode, parse_count, parse_sequences, parse_snapshots,
};

/// Contexts whose capacity is shown, as far as the model has them.
const CONTEXTS: [usize; 3] = [8_192, 32_768, 131_072];
/// Most users that are counted: what `serve --sequences` takes.
const MAX_USERS: usize = 256;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// `20b`, `120b`, or a folder with the config.json of a gpt-oss model; its weights need not be there.
    #[arg(value_name = "MODEL")]
    model: String,
    /// What it would run on.
    #[arg(long, value_parser = device::names(), ignore_case = true, default_value = device::THIS_CPU)]
    device: String,
    /// Memory to plan within, such as 24GB or 24GiB, instead of what the device has.
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    memory: Option<u64>,
    /// Memory bandwidth in GB/s, instead of what is measured or published.
    #[arg(long, value_name = "GB/S", value_parser = parse_positive)]
    bandwidth: Option<f64>,
    /// Speed of matrix products in TFLOP/s, instead of what is measured or published.
    #[arg(long, value_name = "TFLOPS", value_parser = parse_positive)]
    compute: Option<f64>,
    /// Tokens of one user's conversation, prompt and answer; without it 8192, or the model's if shorter.
    #[arg(long, value_name = "TOKENS", value_parser = parse_count)]
    ctx: Option<usize>,
    /// Users at once, each with a conversation of full length.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = parse_sequences)]
    users: usize,
    /// Kept windows of the sliding layers, as for `serve`.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_WINDOW_SNAPSHOTS, value_parser = parse_snapshots)]
    window_snapshots: usize,
    /// Numeric mode.
    #[arg(long, value_enum, default_value = "fast")]
    mode: Mode,
    /// How keys and values are kept; without it, what the mode says.
    #[arg(long, value_enum, value_name = "TYPE")]
    kv_dtype: Option<KvType>,
    /// Worker threads; without it, one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// A model by name or folder.
struct Model {
    name: String,
    /// As `serve --model` takes it.
    folder: Option<PathBuf>,
    config: ModelConfig,
}

/// Plans and reports.
pub(crate) fn run(args: &PlanArgs) -> Result<(), CliError> {
    let model = Model::find(&args.model)?;
    let device = Device::of(args, &model.config)?;
    let longest = model.config.max_position_embeddings;
    let planner = Planner { config: &model.config, device: &device, args };
    let context = args.ctx.unwrap_or(DEFAULT_CONTEXT.min(longest));
    let limits = planner.limits(context, args.users);
    let plan = planner.plan(&limits)?;
    let contexts = CONTEXTS.into_iter().filter(|context| *context <= longest);
    let capacity = |context| Capacity { context_tokens: context, users: planner.most_users(context) };
    let capacities = contexts.map(capacity).collect();
    let roofline = Roofline {
        config: &model.config,
        kv_dtype: limits.kv_dtype,
        dense: device.dense_format(),
        speed: device.speed,
    };
    let decode = batches(args.users).map(|users| Decode::predict(&roofline, users, context)).collect();
    let prefill = Prefill::predict(&roofline, context, limits.max_step_rows);
    let most_users = planner.most_users(context);
    Report { model: &model, device: &device, limits, plan, most_users, capacities, decode, prefill }
        .write(args.json)
}

impl Model {
    fn find(name: &str) -> Result<Model, CliError> {
        let published = |name: &str, config| Model { name: name.to_owned(), folder: None, config };
        match name.to_ascii_lowercase().as_str() {
            "20b" | "gpt-oss-20b" if !Path::new(name).exists() => {
                Ok(published("gpt-oss-20b", ModelConfig::gpt_oss_20b()))
            }
            "120b" | "gpt-oss-120b" if !Path::new(name).exists() => {
                Ok(published("gpt-oss-120b", ModelConfig::gpt_oss_120b()))
            }
            _ => {
                let folder = Path::new(name);
                let config = Checkpoint::read_config(folder).map_err(|error| {
                    CliError::from(error).context("MODEL is 20b, 120b or a model's folder")
                })?;
                Ok(Model { name: model_name(folder), folder: Some(folder.to_owned()), config })
            }
        }
    }
}

/// Plans for a model on a device.
struct Planner<'a> {
    config: &'a ModelConfig,
    device: &'a Device,
    args: &'a PlanArgs,
}

impl Planner<'_> {
    /// Limits for `users` sequences that all are `context` tokens long.
    fn limits(&self, context: usize, users: usize) -> ModelLimits {
        ModelLimits {
            max_step_rows: self.device.step_rows().max(users),
            max_logit_rows: users,
            max_sequences: users,
            max_context: context,
            kv_tokens: context.next_multiple_of(KV_BLOCK_SLOTS) * users,
            window_snapshots: self.args.window_snapshots,
            kv_dtype: self.args.mode.kv_dtype(self.args.kv_dtype),
        }
    }

    fn plan(&self, limits: &ModelLimits) -> Result<MemoryPlan, ModelError> {
        let device = self.device;
        let on_device = |registry: &_, program: &_| device.planned_memory(registry, program);
        let mut plan = memory_plan(self.config, limits, on_device)?;
        let (bytes, detail) = device.runtime(self.config);
        plan.rows.push(PlanRow { purpose: Purpose::Runtime, bytes, detail: detail.to_owned() });
        Ok(plan)
    }

    /// Most users with conversations of `context` tokens that fit, up to [`MAX_USERS`].
    fn most_users(&self, context: usize) -> usize {
        let fits = |users| {
            let plan = self.plan(&self.limits(context, users));
            plan.is_ok_and(|plan| plan.total_bytes() as u64 <= self.device.memory_bytes)
        };
        largest(1..MAX_USERS + 1, fits).unwrap_or(0)
    }
}

/// Numbers of users to predict for: powers of two, and `users`.
fn batches(users: usize) -> impl Iterator<Item = usize> {
    let powers = (0..usize::BITS).map(|power| 1usize << power).take_while(move |batch| *batch < users);
    powers.chain([users])
}

/// Bytes with an optional unit, decimal or binary.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = (text[..unit_at].trim(), text[unit_at..].to_ascii_lowercase());
    let factor: u64 = match unit.as_str() {
        "" | "b" => 1,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return Err("expected a unit of B, MB, GB, TB, MiB, GiB or TiB".to_owned()),
    };
    let bytes = parse_positive(number)? * factor as f64;
    if bytes > 1e15 { Err("expected at most 1000 TB".to_owned()) } else { Ok(bytes as u64) }
}

fn parse_positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value > 0.0 && value <= 1e15 => Ok(value),
        Ok(_) => Err("expected a number above 0".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_may_have_units() {
        assert_eq!(parse_bytes("24GB"), Ok(24_000_000_000));
        assert_eq!(parse_bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(parse_bytes("1024"), Ok(1024));
        for wrong in ["", "GB", "-1GB", "0", "24G", "NaN", "inf", "9999TB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn batches_are_powers_of_two_and_the_last() {
        assert_eq!(batches(1).collect::<Vec<_>>(), [1]);
        assert_eq!(batches(4).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(batches(25).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 25]);
    }
}
