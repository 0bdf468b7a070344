//! Whether a plan fits, and if it does not, what would.

use sostenuto_formats::ModelConfig;
use sostenuto_model::{MemoryPlan, ModelError, ModelLimits, PlanRow, Purpose, memory_plan};
use sostenuto_ops::{Backend, KV_BLOCK_SLOTS};

use super::Available;
use crate::error::CliError;
use crate::model_args::MIN_DEFAULT_CONTEXT;
use crate::output;

/// What a server holds beside the model: the program, the tokenizer with its tables, threads and their stacks, buffers.
/// Measured after start, and much the same with either tokenizer, any model, and one process or two, since pages of the
/// program are in memory once for both.
const RUNTIME_BYTES: usize = 18 << 20;

/// What two processes hold twice, for each token id: the tokenizer's tables. Measured likewise.
const SECOND_TOKENIZER_BYTES_PER_ID: usize = 16;

/// The processes that a model is run by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Processes {
    /// One that does everything.
    #[default]
    One,
    /// An engine process and its front.
    Two,
}

impl Processes {
    /// Those of `serve`, unless it is told to keep to one.
    pub(crate) fn of_a_server() -> Self {
        if cfg!(unix) { Self::Two } else { Self::One }
    }

    /// Bytes beside the model, and what they are.
    pub(crate) fn runtime(self, config: &ModelConfig) -> (usize, &'static str) {
        match self {
            Self::One => (RUNTIME_BYTES, "the process, its tokenizer, threads and buffers"),
            Self::Two => (
                RUNTIME_BYTES + SECOND_TOKENIZER_BYTES_PER_ID * config.vocab_size,
                "both processes, their tokenizers, threads and buffers",
            ),
        }
    }
}

/// What may be changed to make a plan smaller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choices {
    /// Whether the KV memory follows from context and sequences, or was asked for.
    pub(crate) kv_follows: bool,
    /// Most sequences of full length that the KV memory holds where it follows.
    pub(crate) full_sequences: usize,
}

/// The plan of processes that run a model on a backend.
///
/// # Errors
/// As for [`memory_plan`].
pub(crate) fn plan(
    config: &ModelConfig,
    limits: &ModelLimits,
    backend: &dyn Backend,
    processes: Processes,
) -> Result<MemoryPlan, ModelError> {
    let mut plan =
        memory_plan(config, limits, |registry, program| backend.planned_memory(registry, program))?;
    let (bytes, detail) = processes.runtime(config);
    plan.rows.push(PlanRow { purpose: Purpose::Runtime, bytes, detail: detail.to_owned() });
    Ok(plan)
}

/// Refuses a plan that needs more than there is.
///
/// # Errors
/// One line with the numbers and what would fit.
pub(crate) fn check(
    name: &str,
    plan: &MemoryPlan,
    limits: &ModelLimits,
    available: Available,
    choices: Choices,
    total_bytes: impl Fn(&ModelLimits) -> Option<u64>,
) -> Result<(), CliError> {
    let needed = plan.total_bytes() as u64;
    if needed <= available.bytes {
        return Ok(());
    }
    let parts: Vec<String> =
        plan.rows.iter().map(|row| format!("{} {}", row.purpose, output::bytes(row.bytes as u64))).collect();
    let fits = |limits: &ModelLimits| total_bytes(limits).is_some_and(|total| total <= available.bytes);
    let options = what_fits(limits, choices, fits);
    let advice = match options.is_empty() {
        true => "no --ctx and no --sequences makes it fit".to_owned(),
        false => format!("it fits with {}", options.join(", or ")),
    };
    Err(CliError::new(format!(
        "{name} needs {} of memory ({}), and {} {} are available: {advice}; --allow-overcommit starts all the same",
        output::bytes(needed),
        parts.join("; "),
        output::bytes(available.bytes),
        available.bound,
    )))
}

/// Options of which each alone makes it fit, with the largest value that does.
fn what_fits(limits: &ModelLimits, choices: Choices, fits: impl Fn(&ModelLimits) -> bool) -> Vec<String> {
    let per_context = limits.kv_tokens.div_ceil(limits.max_context);
    let context = |blocks: usize| {
        let max_context = blocks * KV_BLOCK_SLOTS;
        let kv_tokens = if choices.kv_follows { max_context * per_context } else { limits.kv_tokens };
        ModelLimits { max_context, kv_tokens, ..*limits }
    };
    let kv_tokens = |blocks: usize| ModelLimits { kv_tokens: blocks * KV_BLOCK_SLOTS, ..*limits };
    let sequences = |count: usize| {
        let full = limits.max_context.next_multiple_of(KV_BLOCK_SLOTS) * count.min(choices.full_sequences);
        let kv_tokens = if choices.kv_follows { full } else { limits.kv_tokens };
        ModelLimits { max_sequences: count, max_logit_rows: count, kv_tokens, ..*limits }
    };
    let blocks = |tokens: usize| tokens / KV_BLOCK_SLOTS;
    let largest = [
        ("--ctx", KV_BLOCK_SLOTS, {
            let range = blocks(MIN_DEFAULT_CONTEXT)..blocks(limits.max_context);
            largest(range, |value| fits(&context(value)))
        }),
        ("--kv-tokens", KV_BLOCK_SLOTS, {
            let range = limits.max_context.div_ceil(KV_BLOCK_SLOTS)..blocks(limits.kv_tokens);
            largest(range, |value| fits(&kv_tokens(value)))
        }),
        ("--sequences", 1, largest(1..limits.max_sequences, |value| fits(&sequences(value)))),
    ];
    let option =
        |(name, unit, value): (&str, usize, Option<usize>)| Some(format!("{name} {}", value? * unit));
    largest.into_iter().filter_map(option).collect()
}

/// The largest value of the range that holds, where smaller ones hold if a larger one does.
pub(crate) fn largest(range: std::ops::Range<usize>, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    (low > range.start).then(|| low - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::available::Bound;
    use sostenuto_ops::KvDtype;
    use sostenuto_ops::scalar::ScalarBackend;

    fn limits() -> ModelLimits {
        ModelLimits {
            max_step_rows: 256,
            max_logit_rows: 4,
            max_sequences: 4,
            max_context: 131_072,
            kv_tokens: 262_144,
            window_snapshots: 0,
            kv_dtype: KvDtype::Bf16,
        }
    }

    fn total(limits: &ModelLimits) -> Option<u64> {
        let plan = plan(&ModelConfig::gpt_oss_20b(), limits, &ScalarBackend::new(), Processes::Two);
        plan.ok().map(|plan| plan.total_bytes() as u64)
    }

    fn refusal(available_bytes: u64, choices: Choices) -> Option<String> {
        let config = ModelConfig::gpt_oss_20b();
        let plan = plan(&config, &limits(), &ScalarBackend::new(), Processes::Two).unwrap();
        let available = Available { bytes: available_bytes, bound: Bound::Machine };
        match check("gpt-oss-20b", &plan, &limits(), available, choices, total) {
            Ok(()) => None,
            Err(CliError::Message(message)) => Some(message),
            Err(other) => panic!("{other:?}"),
        }
    }

    const FOLLOWS: Choices = Choices { kv_follows: true, full_sequences: 2 };

    #[test]
    fn plan_that_fits_to_the_byte_is_not_refused() {
        let needed = total(&limits()).unwrap();
        assert_eq!(refusal(needed, FOLLOWS), None);
        assert!(refusal(needed - 1, FOLLOWS).is_some());
    }

    #[test]
    fn refusal_says_what_would_fit() {
        // Weights 13.76 GB and KV 6.44 GB; with 18 GB there is room for a good half of that KV.
        let message = refusal(18_000_000_000, FOLLOWS).unwrap();
        for part in
            ["needs 20.", "18.0 GB", "weights 13.8 GB", "KV, full layers 6.44 GB", "--allow-overcommit"]
        {
            assert!(message.contains(part), "{part}: {message}");
        }
        let value = |option: &str| -> usize {
            let rest = message.split_once(option).unwrap_or_else(|| panic!("{option}: {message}")).1;
            rest.trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
        };
        let fits = |limits: ModelLimits| total(&limits).unwrap() <= 18_000_000_000;
        let context = value("--ctx");
        let with_context = |context| ModelLimits { max_context: context, kv_tokens: 2 * context, ..limits() };
        assert!(fits(with_context(context)) && !fits(with_context(context + 16)));
        let kv_tokens = value("--kv-tokens");
        let with_kv = |kv_tokens| ModelLimits { kv_tokens, ..limits() };
        assert!(fits(with_kv(kv_tokens)) && !fits(with_kv(kv_tokens + 16)));
        assert_eq!(value("--sequences"), 1);
    }

    #[test]
    fn where_nothing_fits_the_refusal_says_so() {
        let message = refusal(1_000_000_000, FOLLOWS).unwrap();
        assert!(message.contains("no --ctx and no --sequences makes it fit"), "{message}");
    }

    #[test]
    fn largest_is_the_last_that_holds() {
        assert_eq!(largest(3..10, |value| value < 7), Some(6));
        assert_eq!(largest(3..10, |_| true), Some(9));
        assert_eq!(largest(3..10, |_| false), None);
        assert_eq!(largest(3..3, |_| true), None);
        assert_eq!(largest(5..5, |_| true), None);
    }
}
