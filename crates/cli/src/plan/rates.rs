//! How fast this machine's kernels multiply, at a model's shapes.

use std::time::Instant;

use sostenuto_formats::{ModelConfig, SharedBytes};
use sostenuto_ops::{
    Backend, BufferId, BufferKind, BufferSpec, DeviceError, Op, ProgramId, Rows, StepInputs, WeightData,
    WeightFormat, WeightId, WeightSpec,
};

/// Rows of the dense product.
const ROWS: usize = 256;
/// Experts at most: fewer than a model's, so that little memory is taken. Each gets as many rows as it would in a step
/// of [`ROWS`] rows of the model.
const MAX_EXPERTS: usize = 8;
/// The fastest of these counts.
const REPETITIONS: usize = 3;

/// Operations per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    /// Of dense products.
    pub(super) dense: f64,
    /// Of expert products.
    pub(super) experts: f64,
}

/// Measures both on a device that holds nothing yet.
///
/// # Errors
/// The device has no room for the weights: at the shapes of gpt-oss some 120 MB.
pub(super) fn measure(backend: &mut dyn Backend, config: &ModelConfig) -> Result<Rates, DeviceError> {
    Ok(Rates { dense: dense(backend, config)?, experts: experts(backend, config)? })
}

fn dense(backend: &mut dyn Backend, config: &ModelConfig) -> Result<f64, DeviceError> {
    let (columns, features) = (config.hidden_size, config.query_size());
    let input = input(backend, ROWS, columns)?;
    let out = f32_buffer(backend, ROWS, features)?;
    let weight = weight(backend, WeightFormat::Bf16, 1, features, columns)?;
    let op = Op::Linear { rows: Rows::Step, input, weight, bias: None, out, accumulate: false };
    let program = backend.compile(vec![op])?;
    let seconds = fastest(backend, program, ROWS)?;
    Ok(2.0 * (ROWS * columns * features) as f64 / seconds)
}

fn experts(backend: &mut dyn Backend, config: &ModelConfig) -> Result<f64, DeviceError> {
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let count = config.num_local_experts.min(MAX_EXPERTS.max(config.num_experts_per_tok));
    let active = config.num_experts_per_tok;
    let rows = (ROWS * count / config.num_local_experts).max(1);
    let input = input(backend, rows, hidden)?;
    let [inner_out, shares, out] =
        [active * inner, active, hidden].map(|width| f32_buffer(backend, rows, width));
    let (inner_out, shares, out) = (inner_out?, shares?, out?);
    let spec = BufferSpec { name: "experts", kind: BufferKind::U32, rows, width: active };
    let chosen = backend.create_buffer(spec)?;
    // Consecutive ones, so that a row's are different and all are chosen equally often.
    let ids: Vec<u32> = (0..rows * active).map(|choice| (choice % count) as u32).collect();
    backend.write_u32(chosen, 0, &ids)?;
    let gate_up = weight(backend, WeightFormat::Mxfp4, count, 2 * inner, hidden)?;
    let gate_up_bias = weight(backend, WeightFormat::Bf16, count, 1, 2 * inner)?;
    let down = weight(backend, WeightFormat::Mxfp4, count, hidden, inner)?;
    let down_bias = weight(backend, WeightFormat::Bf16, count, 1, hidden)?;
    let program = backend.compile(vec![
        Op::MoeGateUp {
            input,
            experts: chosen,
            weight: gate_up,
            bias: gate_up_bias,
            limit: config.swiglu_limit as f32,
            alpha: 1.0,
            out: inner_out,
        },
        Op::MoeDown {
            input: inner_out,
            experts: chosen,
            weights: shares,
            weight: down,
            bias: down_bias,
            out,
        },
    ])?;
    let seconds = fastest(backend, program, rows)?;
    Ok(2.0 * (rows * active * 3 * hidden * inner) as f64 / seconds)
}

/// Seconds of the fastest repetition of a step, after one that counts for nothing.
fn fastest(backend: &mut dyn Backend, program: ProgramId, rows: usize) -> Result<f64, DeviceError> {
    let zeros = vec![0; rows];
    let each: Vec<u32> = (0..rows as u32).collect();
    let offsets = vec![0; rows + 1];
    let step = StepInputs {
        token_ids: &zeros,
        positions: &zeros,
        sequences: &each,
        rings: &each,
        block_tables: &[],
        block_table_offsets: &offsets,
        kv_write_from: &zeros,
        logit_rows: &[],
    };
    let mut best = f64::INFINITY;
    for _ in 0..=REPETITIONS {
        let start = Instant::now();
        backend.submit(program, &step)?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(best)
}

/// Rows of small numbers, none of them zero.
fn input(backend: &mut dyn Backend, rows: usize, width: usize) -> Result<BufferId, DeviceError> {
    let id = f32_buffer(backend, rows, width)?;
    let values: Vec<f32> = (0..rows * width).map(|i| (i % 7) as f32 - 3.5).collect();
    backend.write(id, 0, &values)?;
    Ok(id)
}

fn f32_buffer(backend: &mut dyn Backend, rows: usize, width: usize) -> Result<BufferId, DeviceError> {
    backend.create_buffer(BufferSpec { name: "rate", kind: BufferKind::F32, rows, width })
}

/// A weight of one value: 2⁻⁷ as the bf16 `0x3c00`, and as E2M1 codes of 0.5 with the scale 2⁻⁶.
fn weight(
    backend: &mut dyn Backend,
    format: WeightFormat,
    experts: usize,
    out_features: usize,
    in_features: usize,
) -> Result<WeightId, DeviceError> {
    let spec = WeightSpec {
        name: "rate".to_owned(),
        format,
        experts,
        out_features,
        in_features,
        may_round: format == WeightFormat::Bf16 && out_features > 1,
    };
    let data = match format {
        WeightFormat::Bf16 => {
            let values = [0x00, 0x3c].repeat(spec.value_bytes() / 2);
            WeightData { values: vec![SharedBytes::from_vec(values)], scales: Vec::new() }
        }
        WeightFormat::Mxfp4 => WeightData {
            values: vec![SharedBytes::from_vec(vec![0x11; spec.value_bytes()])],
            scales: vec![SharedBytes::from_vec(vec![121; spec.scale_bytes()])],
        },
    };
    backend.load_weight(spec, data)
}
