//! Runs `sostenuto bench`.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use super::points::{DECODE_TOKENS, Point, Points};
use super::{list, output};

/// Prompt and decoded tokens of the run that shows a mode.
const SHORT_PROMPT: usize = 128;
const SHORT_DECODE: usize = 8;

/// How to run it.
pub(super) struct Ours {
    program: PathBuf,
    model: Option<PathBuf>,
    threads: usize,
}

/// What one run says.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    /// Numeric mode.
    pub(super) mode: String,
    /// Backend's device.
    pub(super) device: String,
    /// Of a fixed prompt: equal for equal bits.
    pub(super) logits_hash: String,
    /// Memory bandwidth.
    pub(super) memory_gigabytes_per_second: f64,
    /// Peak of 8-bit products, where the processor has them.
    pub(super) int8_operations_per_second: Option<f64>,
    /// Peak of f32 products.
    pub(super) f32_operations_per_second: Option<f64>,
    prefill: Vec<Prefill>,
    decode: Vec<Decode>,
}

#[derive(Debug, Deserialize)]
struct Prefill {
    prompt_tokens: usize,
    tokens_per_second: f64,
    limit_tokens_per_second: f64,
}

#[derive(Debug, Deserialize)]
struct Decode {
    batch: usize,
    context_tokens: usize,
    tokens_per_second: f64,
    limit_tokens_per_second: f64,
}

/// Speed at a point and what the machine allows there, in tokens per second.
pub(super) struct Measured {
    /// Which.
    pub(super) point: Point,
    /// The speed.
    pub(super) speed: f64,
    /// The limit.
    pub(super) limit: f64,
}

impl Report {
    /// Speeds at points, in the order of the report.
    pub(super) fn measured(&self) -> Vec<Measured> {
        let prefill = self.prefill.iter().map(|row| Measured {
            point: Point::Prefill(row.prompt_tokens),
            speed: row.tokens_per_second,
            limit: row.limit_tokens_per_second,
        });
        let decode = self.decode.iter().map(|row| Measured {
            point: if row.batch == 1 { Point::Decode(row.context_tokens) } else { Point::Batch(row.batch) },
            speed: row.tokens_per_second,
            limit: row.limit_tokens_per_second,
        });
        prefill.chain(decode).collect()
    }
}

impl Ours {
    /// Nothing is run yet.
    pub(super) fn new(program: PathBuf, model: Option<PathBuf>, threads: usize) -> Ours {
        Ours { program, model, threads }
    }

    /// One repetition of every point, in the fast mode.
    ///
    /// # Errors
    /// The program fails.
    pub(super) fn measure(&self, points: &Points) -> Result<Vec<Report>, String> {
        let mut reports = Vec::new();
        let decode = DECODE_TOKENS.to_string();
        let common = ["--fill", "copy", "--decode", &decode];
        if !points.prompts.is_empty() || !points.contexts.is_empty() {
            let (prompt, context) = (list(&points.prompts), list(&points.contexts));
            let prompt =
                if points.prompts.is_empty() { vec!["--decode-only"] } else { vec!["--prompt", &prompt] };
            let context = if points.contexts.is_empty() { vec![] } else { vec!["--context", &context] };
            reports.push(self.run(&[&common[..], &prompt, &context].concat())?);
        }
        let batches: Vec<usize> = points.batches.iter().copied().filter(|streams| *streams > 1).collect();
        if !batches.is_empty() {
            let batches = list(&batches);
            reports.push(
                self.run(&[&common[..], &["--decode-only", "--context", "0", "--batch", &batches]].concat())?,
            );
        }
        Ok(reports)
    }

    /// One short point of prefill and of decode in a mode, and the hash of its logits.
    ///
    /// # Errors
    /// The program fails.
    pub(super) fn short_run(&self, mode: &str) -> Result<Report, String> {
        let (prompt, decode) = (SHORT_PROMPT.to_string(), SHORT_DECODE.to_string());
        self.run(&["--mode", mode, "--prompt", &prompt, "--context", "0", "--decode", &decode])
    }

    fn run(&self, arguments: &[&str]) -> Result<Report, String> {
        let mut command = Command::new(&self.program);
        command.args(["bench", "--json", "--reps", "1", "--threads", &self.threads.to_string()]);
        command.args(arguments);
        if let Some(model) = &self.model {
            command.arg("--model").arg(model);
        }
        let text = output(command)?;
        serde_json::from_str(&text).map_err(|error| format!("sostenuto bench said {text:?}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_become_points() {
        let text = r#"{"mode":"fast","device":"avx512","logits_hash":"0","memory_gigabytes_per_second":20.5,
            "int8_operations_per_second":1e12,"f32_operations_per_second":null,
            "prefill":[{"prompt_tokens":128,"tokens_per_second":40.0,"limit_tokens_per_second":200.0}],
            "decode":[{"batch":1,"context_tokens":1024,"tokens_per_second":6.0,"limit_tokens_per_second":8.0},
                      {"batch":8,"context_tokens":0,"tokens_per_second":12.0,"limit_tokens_per_second":25.0}]}"#;
        let report: Report = serde_json::from_str(text).expect("the fields of a report");
        let points: Vec<_> = report.measured().iter().map(|m| (m.point, m.speed, m.limit)).collect();
        assert_eq!(
            points,
            [
                (Point::Prefill(128), 40.0, 200.0),
                (Point::Decode(1024), 6.0, 8.0),
                (Point::Batch(8), 12.0, 25.0)
            ]
        );
        assert_eq!(report.f32_operations_per_second, None);
    }
}
