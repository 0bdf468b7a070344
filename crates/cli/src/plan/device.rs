//! Devices that a plan can be made for.

use clap::builder::PossibleValuesParser;
use sostenuto_formats::ModelConfig;
use sostenuto_ops::{Backend, ContractError, DeviceMemory, Program, Registry};

use super::roofline::Speed;
use super::{PlanArgs, rates};
use crate::bench::bandwidth;
use crate::bench::traffic::DenseFormat;
use crate::error::CliError;
use crate::memory::{self, Processes};
use crate::{backend, output};

/// This machine's processor, the only device that runs models.
pub(super) const THIS_CPU: &str = "this-cpu";
/// A card of which memory and speed are given.
const CUSTOM: &str = "custom";

/// A graphics card by its published figures.
struct Card {
    name: &'static str,
    /// As drivers report it, in MiB.
    memory_mib: u64,
    /// GB/s, data sheet.
    bandwidth: f64,
    /// TFLOP/s of bf16 products with f32 sums, without sparsity, data sheet.
    compute: f64,
}

/// # Source
/// NVIDIA's data sheets and architecture white papers (Ampere, Ada, Hopper, RTX Blackwell); the SXM variants of the
/// data-centre cards.
const CARDS: [Card; 9] = [
    Card { name: "rtx-pro-6000-blackwell", memory_mib: 97_247, bandwidth: 1792.0, compute: 503.8 },
    Card { name: "rtx-5090", memory_mib: 32_607, bandwidth: 1792.0, compute: 209.5 },
    Card { name: "rtx-5080", memory_mib: 16_303, bandwidth: 960.0, compute: 112.6 },
    Card { name: "rtx-4090", memory_mib: 24_564, bandwidth: 1008.0, compute: 165.2 },
    Card { name: "rtx-3090", memory_mib: 24_576, bandwidth: 936.0, compute: 71.0 },
    Card { name: "l40s", memory_mib: 46_068, bandwidth: 864.0, compute: 362.0 },
    Card { name: "a100-80gb", memory_mib: 81_920, bandwidth: 2039.0, compute: 312.0 },
    Card { name: "h100-80gb", memory_mib: 81_559, bandwidth: 3350.0, compute: 989.0 },
    Card { name: "h200", memory_mib: 143_771, bandwidth: 4800.0, compute: 989.0 },
];

/// Share of a card's bandwidth that decoding is taken to reach: published single-stream results of gpt-oss lie at 0.4
/// to 0.56 of this roofline.
const CARD_BANDWIDTH_EFFICIENCY: f64 = 0.55;
/// Share of a card's compute that prefill is taken to reach; published results lie around it.
const CARD_COMPUTE_EFFICIENCY: f64 = 0.4;
/// Taken for the driver's context, kernels and graphs of a card.
const CARD_RUNTIME_BYTES: usize = 3 << 29;
/// Rows of a step on a card: larger steps than on a processor, because each reads the experts again.
const CARD_STEP_ROWS: usize = 1024;

/// Share of the measured bandwidth that decoding is taken to reach on a processor.
const CPU_BANDWIDTH_EFFICIENCY: f64 = 0.8;
/// The rates are those of this program's kernels; the rest of a step takes a little.
const CPU_COMPUTE_EFFICIENCY: f64 = 0.9;

/// Memory that measuring this machine may take, with some to spare: a plan must not drive out what runs.
const MEASURING_BYTES: u64 = 1 << 30;

/// A device to plan for.
pub(super) struct Device {
    /// Its name on the command line.
    pub(super) name: String,
    /// Bytes that may be had.
    pub(super) memory_bytes: u64,
    /// Where that is known from.
    pub(super) memory_source: Source,
    pub(super) speed: Speed,
    /// Where the bandwidth is known from.
    pub(super) bandwidth_source: Source,
    /// Where the rates of computing are known from.
    pub(super) compute_source: Source,
    /// The processor's backend; a card has none.
    pub(super) backend: Option<Box<dyn Backend>>,
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    /// Found on this machine in this run.
    Measured,
    /// Published by the maker.
    DataSheet,
    /// An option of the command.
    Given,
}

impl Source {
    pub(super) fn text(self) -> &'static str {
        match self {
            Source::Measured => "measured",
            Source::DataSheet => "data sheet",
            Source::Given => "given",
        }
    }
}

/// The names that `--device` takes.
pub(super) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new([THIS_CPU, CUSTOM].into_iter().chain(CARDS.iter().map(|card| card.name)))
}

impl Device {
    /// The device that the arguments name.
    ///
    /// # Errors
    /// The processor's backend can't be had, or a custom device lacks a number.
    pub(super) fn of(args: &PlanArgs, config: &ModelConfig) -> Result<Device, CliError> {
        match CARDS.iter().find(|card| card.name == args.device) {
            Some(card) => Ok(Device::card(args, card)),
            None if args.device == CUSTOM => Device::custom(args),
            None => Device::this_cpu(args, config),
        }
    }

    /// How it holds dense weights: a processor's fast mode packs them to 8 bits.
    pub(super) fn dense_format(&self) -> DenseFormat {
        let precision = self.backend.as_ref().map(|backend| backend.info().precision);
        precision.map_or(DenseFormat::Bf16, DenseFormat::of)
    }

    fn card(args: &PlanArgs, card: &Card) -> Device {
        let given = |value: Option<f64>| if value.is_some() { Source::Given } else { Source::DataSheet };
        let flops = 1e12 * args.compute.unwrap_or(card.compute);
        Device {
            name: card.name.to_owned(),
            memory_bytes: args.memory.unwrap_or(card.memory_mib << 20),
            memory_source: if args.memory.is_some() { Source::Given } else { Source::DataSheet },
            speed: Speed {
                bandwidth: 1e9 * args.bandwidth.unwrap_or(card.bandwidth),
                bandwidth_efficiency: CARD_BANDWIDTH_EFFICIENCY,
                dense_flops: flops,
                expert_flops: flops,
                compute_efficiency: CARD_COMPUTE_EFFICIENCY,
            },
            bandwidth_source: given(args.bandwidth),
            compute_source: given(args.compute),
            backend: None,
        }
    }

    fn custom(args: &PlanArgs) -> Result<Device, CliError> {
        let (Some(memory), Some(bandwidth), Some(compute)) = (args.memory, args.bandwidth, args.compute)
        else {
            return Err(CliError::new("--device custom needs --memory, --bandwidth and --compute"));
        };
        let card = Card { name: CUSTOM, memory_mib: memory >> 20, bandwidth, compute };
        Ok(Device::card(args, &card))
    }

    fn this_cpu(args: &PlanArgs, config: &ModelConfig) -> Result<Device, CliError> {
        let mut backend = backend::cpu(args.threads, args.mode)?;
        let available = memory::available_to_this_process().map(|found| found.bytes);
        let measures = args.bandwidth.is_none() || args.compute.is_none();
        if let Some(bytes) = available.filter(|bytes| measures && *bytes < MEASURING_BYTES) {
            return Err(CliError::new(format!(
                "measuring takes up to {} of memory and {} are available: give --bandwidth and --compute",
                output::bytes(MEASURING_BYTES),
                output::bytes(bytes),
            )));
        }
        let (memory_bytes, memory_source) = match args.memory {
            Some(bytes) => (bytes, Source::Given),
            None => (available.unwrap_or(0), Source::Measured),
        };
        let (bandwidth, bandwidth_source) = match args.bandwidth {
            Some(gigabytes) => (1e9 * gigabytes, Source::Given),
            None => (bandwidth::measure(backend.info().threads, bandwidth::PROBE_BYTES), Source::Measured),
        };
        let (rates, compute_source) = match args.compute {
            Some(teraflops) => {
                (rates::Rates { dense: 1e12 * teraflops, experts: 1e12 * teraflops }, Source::Given)
            }
            None => (rates::measure(&mut *backend, config)?, Source::Measured),
        };
        Ok(Device {
            name: THIS_CPU.to_owned(),
            memory_bytes,
            memory_source,
            speed: Speed {
                bandwidth,
                bandwidth_efficiency: CPU_BANDWIDTH_EFFICIENCY,
                dense_flops: rates.dense,
                expert_flops: rates.experts,
                compute_efficiency: CPU_COMPUTE_EFFICIENCY,
            },
            bandwidth_source,
            compute_source,
            backend: Some(backend),
        })
    }

    /// Whether a model can be run on it.
    pub(super) fn is_supported(&self) -> bool {
        self.backend.is_some()
    }

    /// Most rows of a step.
    pub(super) fn step_rows(&self) -> usize {
        if self.is_supported() { crate::model_args::MAX_STEP_ROWS } else { CARD_STEP_ROWS }
    }

    /// Bytes beside the model, and what they are.
    pub(super) fn runtime(&self, config: &ModelConfig) -> (usize, &'static str) {
        match self.is_supported() {
            true => Processes::of_a_server().runtime(config),
            false => (CARD_RUNTIME_BYTES, "driver, kernels and graphs (assumed)"),
        }
    }

    /// What it would hold; of a card, scratch is taken to be as large as the activations.
    pub(super) fn planned_memory(
        &self,
        registry: &Registry,
        program: &Program,
    ) -> Result<DeviceMemory, ContractError> {
        match &self.backend {
            Some(backend) => backend.planned_memory(registry, program),
            None => {
                let memory = registry.memory();
                Ok(DeviceMemory { scratch: memory.buffers, ..memory })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_have_names_of_their_own_and_figures_of_their_kind() {
        let mut names: Vec<&str> = CARDS.iter().map(|card| card.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CARDS.len());
        for card in CARDS {
            assert!((8 << 10..1 << 19).contains(&card.memory_mib), "{}", card.name);
            assert!((100.0..20_000.0).contains(&card.bandwidth), "{}", card.name);
            assert!((20.0..5_000.0).contains(&card.compute), "{}", card.name);
        }
    }
}
