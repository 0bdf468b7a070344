//! What `bench` prints.

use std::io::{self, Write};

use serde::Serialize;
use sostenuto_formats::Checkpoint;
use sostenuto_ops::BackendInfo;

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
}

/// Speed of writing an answer, one sequence.
#[derive(Debug, Serialize)]
pub(crate) struct DecodeResult {
    /// Tokens before the first one decoded.
    pub(crate) context_tokens: usize,
    /// Tokens decoded in each repetition.
    pub(crate) decoded_tokens: usize,
    /// Median.
    pub(crate) tokens_per_second: f64,
    /// What a token must read.
    pub(crate) bytes_per_token: u64,
    /// Of what it consists.
    pub(crate) parts: Traffic,
    /// Bytes read per second.
    pub(crate) gigabytes_per_second: f64,
    /// The same by the bandwidth measured in this run.
    pub(crate) share_of_bandwidth: f64,
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
    memory_gigabytes_per_second: f64,
    logits_hash: String,
    prefill: Vec<PrefillResult>,
    decode: Vec<DecodeResult>,
}

impl Report {
    /// Puts the results together.
    pub(crate) fn new(
        (name, checkpoint): (&str, &Checkpoint),
        info: &BackendInfo,
        mode: Mode,
        bandwidth: f64,
        logits_hash: String,
        prefill: Vec<PrefillResult>,
        decode: Vec<DecodeResult>,
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
            memory_gigabytes_per_second: bandwidth / 1e9,
            logits_hash,
            prefill,
            decode,
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
            "memory     {:.1} GB/s read by {} threads",
            self.memory_gigabytes_per_second, self.threads
        )?;
        writeln!(out, "logits     {} (FNV-1a of the f32 bits, fixed prompt)\n", self.logits_hash)?;
        let (bold, reset) = (style.bold(), style.reset());
        writeln!(out, "{bold}prefill    tokens               tokens/s{reset}")?;
        for row in &self.prefill {
            writeln!(out, "           {:<20} {:.2}", row.prompt_tokens, row.tokens_per_second)?;
        }
        writeln!(out, "\n{bold}decode     tokens  after         tokens/s  GB/s    of memory{reset}")?;
        for row in &self.decode {
            writeln!(
                out,
                "           {:<7} {:<13} {:<9.2} {:<7.2} {:.0} %",
                row.decoded_tokens,
                row.context_tokens,
                row.tokens_per_second,
                row.gigabytes_per_second,
                100.0 * row.share_of_bandwidth,
            )?;
        }
        writeln!(out)?;
        for row in &self.decode {
            let [total, dense, unembedding, experts, kv] = [
                row.bytes_per_token,
                row.parts.dense_bytes,
                row.parts.unembedding_bytes,
                row.parts.expert_bytes,
                row.parts.kv_bytes,
            ]
            .map(output::bytes);
            writeln!(
                out,
                "A token after {} reads {total} = dense {dense} + unembedding {unembedding} + experts {experts} + KV {kv}",
                row.context_tokens
            )?;
        }
        Ok(())
    }
}
