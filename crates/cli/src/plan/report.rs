//! What `plan` prints.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;
use sostenuto_formats::LayerType;
use sostenuto_formats::summary::Parameters;
use sostenuto_model::{MemoryPlan, ModelLimits, PlanRow};

use super::Model;
use super::device::{Device, Source};
use super::roofline::Roofline;
use crate::error::CliError;
use crate::output::{self, Style, grouped};

/// Users that fit.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Capacity {
    /// Length of each user's conversation.
    pub(super) context_tokens: usize,
    /// How many, up to 256.
    pub(super) users: usize,
}

/// Predicted speed of answers.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Decode {
    users: usize,
    /// Of all users together.
    tokens_per_second: f64,
    tokens_per_second_per_user: f64,
    bytes_per_step: u64,
}

/// Predicted speed of a prompt.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Prefill {
    prompt_tokens: usize,
    tokens_per_second: f64,
    /// Until the first token of the answer.
    seconds: f64,
}

/// Everything that `plan` found.
pub(super) struct Report<'a> {
    pub(super) model: &'a Model,
    pub(super) device: &'a Device,
    pub(super) limits: ModelLimits,
    pub(super) plan: MemoryPlan,
    /// At the context asked for.
    pub(super) most_users: usize,
    pub(super) capacities: Vec<Capacity>,
    pub(super) decode: Vec<Decode>,
    pub(super) prefill: Prefill,
}

impl Decode {
    pub(super) fn predict(roofline: &Roofline<'_>, users: usize, context: usize) -> Decode {
        let tokens_per_second = roofline.decode(users, context);
        Decode {
            users,
            tokens_per_second,
            tokens_per_second_per_user: tokens_per_second / users as f64,
            bytes_per_step: roofline.decode_step_bytes(users, context) as u64,
        }
    }
}

impl Prefill {
    pub(super) fn predict(roofline: &Roofline<'_>, tokens: usize, step_rows: usize) -> Prefill {
        let tokens_per_second = roofline.prefill(tokens, step_rows);
        Prefill { prompt_tokens: tokens, tokens_per_second, seconds: tokens as f64 / tokens_per_second }
    }
}

impl Report<'_> {
    /// Prints to standard output, as text or as one line of JSON.
    pub(super) fn write(&self, as_json: bool) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        if as_json {
            serde_json::to_writer(&mut out, &self.to_json()).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            self.write_text(&mut out, Style::of_stdout())?;
        }
        out.flush()?;
        Ok(())
    }

    fn fits(&self) -> bool {
        self.plan.total_bytes() as u64 <= self.device.memory_bytes
    }

    /// Of full layers: those whose KV grows with the context.
    fn kv_bytes_per_token(&self) -> usize {
        let config = &self.model.config;
        let full = config.layer_types.iter().filter(|kind| **kind == LayerType::FullAttention).count();
        full * 2 * config.num_key_value_heads * self.limits.kv_dtype.head_bytes(config.head_dim)
    }

    fn to_json(&self) -> serde_json::Value {
        let (config, speed) = (&self.model.config, self.device.speed);
        let parameters = Parameters::of(config);
        let row =
            |row: &PlanRow| json!({"purpose": row.purpose.key(), "bytes": row.bytes, "detail": row.detail});
        json!({
            "model": {
                "name": self.model.name,
                "layers": config.num_hidden_layers,
                "parameters": parameters.total,
                "active_parameters": parameters.active,
                "kv_bytes_per_token": self.kv_bytes_per_token(),
            },
            "device": {
                "name": self.device.name,
                "supported": self.device.is_supported(),
                "memory_bytes": self.device.memory_bytes,
                "memory_source": self.device.memory_source,
                "bandwidth_bytes_per_second": speed.bandwidth,
                "bandwidth_source": self.device.bandwidth_source,
                "dense_operations_per_second": speed.dense_flops,
                "expert_operations_per_second": speed.expert_flops,
                "compute_source": self.device.compute_source,
            },
            "limits": {
                "context_tokens": self.limits.max_context,
                "users": self.limits.max_sequences,
                "kv_tokens": self.limits.kv_tokens,
                "window_snapshots": self.limits.window_snapshots,
                "step_rows": self.limits.max_step_rows,
            },
            "plan": self.plan.rows.iter().map(row).collect::<Vec<_>>(),
            "plan_bytes": self.plan.total_bytes(),
            "fits": self.fits(),
            "most_users": self.most_users,
            "capacity": self.capacities,
            "prediction": {
                "bandwidth_efficiency": speed.bandwidth_efficiency,
                "compute_efficiency": speed.compute_efficiency,
                "decode": self.decode,
                "prefill": self.prefill,
            },
        })
    }

    fn write_text(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let (bold, reset) = (style.bold(), style.reset());
        self.write_head(out)?;
        writeln!(out, "\n{bold}memory plan{reset}")?;
        output::write_memory_plan(out, &self.plan)?;
        self.write_fit(out)?;
        writeln!(out, "\n{bold}users that fit{reset}")?;
        for capacity in &self.capacities {
            let context = grouped(capacity.context_tokens as u64);
            writeln!(out, "  {context:>8} tokens each  {:>4}", capacity.users)?;
        }
        self.write_prediction(out, style)?;
        self.write_advice(out)
    }

    fn write_head(&self, out: &mut impl Write) -> io::Result<()> {
        let (config, speed, device) = (&self.model.config, self.device.speed, self.device);
        let parameters = Parameters::of(config);
        writeln!(
            out,
            "model      {}: {} layers, {} parameters ({} active), {} B of KV per token in full layers",
            self.model.name,
            config.num_hidden_layers,
            output::parameters(parameters.total),
            output::parameters(parameters.active),
            grouped(self.kv_bytes_per_token() as u64),
        )?;
        writeln!(
            out,
            "device     {}: {} of memory ({}), {:.1} GB/s ({}), {} TFLOP/s in dense and {} in expert products ({})",
            device.name,
            output::bytes(device.memory_bytes),
            device.memory_source.text(),
            speed.bandwidth / 1e9,
            device.bandwidth_source.text(),
            teraflops(speed.dense_flops),
            teraflops(speed.expert_flops),
            device.compute_source.text(),
        )?;
        writeln!(
            out,
            "limits     {} users at once (--users), {} tokens each (--ctx)",
            self.limits.max_sequences,
            grouped(self.limits.max_context as u64),
        )?;
        if cfg!(debug_assertions) && device.compute_source == Source::Measured {
            writeln!(
                out,
                "\nThis program was built without full optimisation: what it measures says little."
            )?;
        }
        if !device.is_supported() {
            writeln!(
                out,
                "\nSostenuto runs on processors only so far: for this device the plan is arithmetic."
            )?;
        }
        Ok(())
    }

    fn write_fit(&self, out: &mut impl Write) -> io::Result<()> {
        let (total, memory) = (self.plan.total_bytes() as u64, self.device.memory_bytes);
        match memory.checked_sub(total) {
            Some(left) => writeln!(out, "  It fits; {} are left.", output::bytes(left)),
            None => writeln!(
                out,
                "  It does not fit: {} are missing; {} users with {} tokens each would fit.",
                output::bytes(total - memory),
                self.most_users,
                grouped(self.limits.max_context as u64),
            ),
        }
    }

    fn write_prediction(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let (bold, reset, speed) = (style.bold(), style.reset(), self.device.speed);
        writeln!(
            out,
            "\n{bold}predicted speed{reset} (not measured: a roofline at {:.0} % of the bandwidth and {:.0} % of the products)",
            100.0 * speed.bandwidth_efficiency,
            100.0 * speed.compute_efficiency,
        )?;
        let context = grouped(self.limits.max_context as u64);
        writeln!(out, "  answers after {context} tokens  users  tokens/s  each    GB per step")?;
        let indent = " ".repeat("answers after  tokens".len() + context.len());
        for row in &self.decode {
            writeln!(
                out,
                "  {indent}  {:<5}  {:<8.1}  {:<6.1}  {:.2}",
                row.users,
                row.tokens_per_second,
                row.tokens_per_second_per_user,
                row.bytes_per_step as f64 / 1e9,
            )?;
        }
        writeln!(
            out,
            "  a prompt of {} tokens, alone: {:.1} tokens/s, {:.1} s",
            grouped(self.prefill.prompt_tokens as u64),
            self.prefill.tokens_per_second,
            self.prefill.seconds,
        )
    }

    /// The command that serves what was planned.
    fn write_advice(&self, out: &mut impl Write) -> io::Result<()> {
        if !self.device.is_supported() || !self.fits() {
            return Ok(());
        }
        let ModelLimits { max_context, max_sequences, kv_tokens, window_snapshots, .. } = self.limits;
        let folder =
            self.model.folder.as_ref().map_or_else(|| self.model.name.clone(), |f| f.display().to_string());
        writeln!(
            out,
            "\nsostenuto serve --model {folder} --ctx {max_context} --sequences {max_sequences} --kv-tokens {kv_tokens} \
             --window-snapshots {window_snapshots}"
        )
    }
}

/// Three figures.
fn teraflops(flops: f64) -> String {
    let value = flops / 1e12;
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
