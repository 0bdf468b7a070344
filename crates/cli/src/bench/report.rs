//! What `bench` prints.

use std::io::{self, Write};

use serde::Serialize;
use sostenuto_formats::Checkpoint;
use sostenuto_ops::BackendInfo;

use super::limits::Machine;
use super::peak::Peaks;
use super::streams::Fill;
use super::traffic::Traffic;
use crate::error::CliError;
use crate::model_args::Mode;
use crate::output::{self, Style};

/// Speed of computing a prompt.
#[derive(Debug, Serialize)]
pub(crate) struct PrefillResult {
    /// Its length.
    pub(crate) prompt_tokens: usize,
    /// Median.
    pub(crate) tokens_per_second: f64,
    /// From the first token to the logits after the last.
    pub(crate) seconds: f64,
    /// What the machine allows.
    pub(crate) limit_tokens_per_second: f64,
    /// The speed by the limit.
    pub(crate) share_of_limit: f64,
}

/// Speed of writing answers.
#[derive(Debug, Serialize)]
pub(crate) struct DecodeResult {
    /// Streams that decode together.
    pub(crate) batch: usize,
    /// Tokens of each before the first one decoded.
    pub(crate) context_tokens: usize,
    /// Tokens decoded in each repetition, of all streams.
    pub(crate) decoded_tokens: usize,
    /// Median, of all streams together.
    pub(crate) tokens_per_second: f64,
    /// What a step must read with the weights as in the checkpoint.
    pub(crate) bytes_per_step: u64,
    /// Of what it consists.
    pub(crate) parts: Traffic,
    /// Bytes read per second.
    pub(crate) gigabytes_per_second: f64,
    /// The same by the bandwidth measured in this run.
    pub(crate) share_of_bandwidth: f64,
    /// What the machine allows with dense weights in 8 bits.
    pub(crate) limit_tokens_per_second: f64,
    /// The speed by the limit.
    pub(crate) share_of_limit: f64,
}

/// What was measured of one model in one mode.
pub(crate) struct Results {
    /// From the files to a model that can run.
    pub(crate) load_seconds: f64,
    /// What this machine allows.
    pub(crate) machine: Machine,
    /// Of the fixed prompt.
    pub(crate) logits_hash: String,
    /// One for each length.
    pub(crate) prefill: Vec<PrefillResult>,
    /// One for each context and batch.
    pub(crate) decode: Vec<DecodeResult>,
    /// How the contexts came about.
    pub(crate) fill: Fill,
}

/// One run of `bench`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    version: &'static str,
    /// Whether the program was built with optimisation.
    optimised: bool,
    model: String,
    layers: usize,
    weight_bytes: u64,
    loaded: String,
    backend: &'static str,
    device: String,
    threads: usize,
    mode: &'static str,
    load_seconds: f64,
    memory_gigabytes_per_second: f64,
    #[serde(flatten)]
    peaks: Peaks,
    logits_hash: String,
    fill: &'static str,
    prefill: Vec<PrefillResult>,
    decode: Vec<DecodeResult>,
}

impl Report {
    /// Puts the results together.
    pub(crate) fn new(
        (name, checkpoint): (&str, &Checkpoint),
        info: &BackendInfo,
        mode: Mode,
        results: Results,
    ) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            model: name.to_owned(),
            layers: checkpoint.config().num_hidden_layers,
            weight_bytes: checkpoint.total_bytes(),
            loaded: checkpoint.loaded_as().to_string(),
            backend: info.name,
            device: info.device.clone(),
            threads: info.threads,
            mode: mode.name(),
            load_seconds: results.load_seconds,
            memory_gigabytes_per_second: results.machine.bandwidth / 1e9,
            peaks: results.machine.peaks,
            logits_hash: results.logits_hash,
            fill: results.fill.name(),
            prefill: results.prefill,
            decode: results.decode,
        }
    }

    /// Prints to standard output, as a table or as one line of JSON.
    pub(crate) fn write(&self, as_json: bool) -> Result<(), CliError> {
        let mut out = io::stdout().lock();
        if as_json {
            serde_json::to_writer(&mut out, self).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            self.write_table(&mut out, Style::of_stdout())?;
        }
        out.flush()?;
        Ok(())
    }

    fn write_table(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        if !self.optimised {
            writeln!(out, "This program was built without full optimisation: these numbers say little.\n")?;
        }
        let weight_bytes = output::bytes(self.weight_bytes);
        writeln!(out, "model      {}, {} layers, {weight_bytes}, {}", self.model, self.layers, self.loaded)?;
        writeln!(
            out,
            "backend    {} ({}), {} threads, mode {}",
            self.backend, self.device, self.threads, self.mode
        )?;
        writeln!(
            out,
            "limits     {:.1} GB/s read by {} threads; {} on int8, {} on f32",
            self.memory_gigabytes_per_second,
            self.threads,
            operations(self.peaks.int8_operations_per_second),
            operations(self.peaks.f32_operations_per_second),
        )?;
        writeln!(out, "logits     {} (FNV-1a of the f32 bits, fixed prompt)\n", self.logits_hash)?;
        self.write_prefill(out, style)?;
        self.write_decode(out, style)
    }

    fn write_prefill(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let (bold, reset) = (style.bold(), style.reset());
        writeln!(out, "{bold}prefill    tokens               tokens/s  seconds         of limit{reset}")?;
        for row in &self.prefill {
            writeln!(
                out,
                "           {:<20} {:<9.2} {:<15.2} {:.0} %",
                row.prompt_tokens,
                row.tokens_per_second,
                row.seconds,
                100.0 * row.share_of_limit
            )?;
        }
        writeln!(out)
    }

    fn write_decode(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let (bold, reset) = (style.bold(), style.reset());
        writeln!(
            out,
            "{bold}decode     batch  after          tokens/s  GB/s  of memory  of limit{reset}   contexts by {}",
            self.fill
        )?;
        for row in &self.decode {
            writeln!(
                out,
                "           {:<6} {:<14} {:<9.2} {:<5.2} {:<10} {:.0} %",
                row.batch,
                row.context_tokens,
                row.tokens_per_second,
                row.gigabytes_per_second,
                format!("{:.0} %", 100.0 * row.share_of_bandwidth),
                100.0 * row.share_of_limit,
            )?;
        }
        writeln!(out)?;
        for row in &self.decode {
            let [total, dense, unembedding, experts, kv] = [
                row.bytes_per_step,
                row.parts.dense_bytes,
                row.parts.unembedding_bytes,
                row.parts.expert_bytes,
                row.parts.kv_bytes,
            ]
            .map(output::bytes);
            let what = match row.batch {
                1 => "A token".to_owned(),
                streams => format!("A step of {streams}"),
            };
            writeln!(
                out,
                "{what} after {} reads {total} = dense {dense} + unembedding {unembedding} + experts {experts} + KV {kv}",
                row.context_tokens
            )?;
        }
        Ok(())
    }
}

/// Operations per second, or that there is no such instruction.
fn operations(per_second: Option<f64>) -> String {
    per_second.map_or_else(|| "no instruction".to_owned(), |rate| format!("{:.0} GOP/s", rate / 1e9))
}
