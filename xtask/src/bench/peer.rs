//! Runs llama.cpp's own benches, with its defaults.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::points::{DECODE_TOKENS, Point, Points};
use super::{list, output};

/// A build of llama.cpp and the model it runs.
pub(super) struct Peer {
    bench: PathBuf,
    batched_bench: PathBuf,
    /// Built from `tools/peer/depth_bench.cpp`.
    depth_bench: Option<PathBuf>,
    model: PathBuf,
    threads: usize,
}

/// A line of `llama-bench --output jsonl`, as far as needed.
#[derive(Deserialize)]
struct BenchLine {
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    avg_ts: f64,
}

/// A line of `llama-batched-bench --output-format jsonl`, as far as needed.
#[derive(Deserialize)]
struct BatchLine {
    /// Streams.
    pl: usize,
    /// Tokens per second of all together.
    speed_tg: f64,
}

impl Peer {
    /// Finds the programs.
    ///
    /// # Errors
    /// One of them is missing.
    pub(super) fn new(
        folder: &Path,
        depth_bench: Option<PathBuf>,
        model: PathBuf,
        threads: usize,
    ) -> Result<Peer, String> {
        let find = |name: &str| {
            let places =
                [folder.join(name), folder.join("bin").join(name), folder.join("build/bin").join(name)];
            let found = places.into_iter().find(|place| place.is_file());
            found.ok_or_else(|| format!("--peer {}: there is no {name} in it or in bin", folder.display()))
        };
        let (bench, batched_bench) = (find("llama-bench")?, find("llama-batched-bench")?);
        Ok(Peer { bench, batched_bench, depth_bench, model, threads })
    }

    /// One line.
    pub(super) fn describe(&self) -> String {
        let name = self.model.file_name().unwrap_or_default().to_string_lossy();
        format!("llama.cpp, {name}, {} threads, its defaults otherwise", self.threads)
    }

    /// One repetition of every point. Contexts are computed, which takes as long as it takes.
    ///
    /// # Errors
    /// A program fails, or a point is missing from what it says.
    pub(super) fn measure(&self, points: &Points) -> Result<Vec<(Point, f64)>, String> {
        let decode = DECODE_TOKENS.to_string();
        let mut measured = Vec::new();
        if !points.prompts.is_empty() {
            let prompts = list(&points.prompts);
            measured.extend(self.bench(&["-p", &prompts, "-n", "0"])?);
        }
        if !points.contexts.is_empty() {
            let contexts = list(&points.contexts);
            measured.extend(self.bench(&["-p", "0", "-n", &decode, "-d", &contexts])?);
        }
        let batches: Vec<usize> = points.batches.iter().copied().filter(|streams| *streams > 1).collect();
        if !batches.is_empty() {
            measured.extend(self.batched_bench(&batches)?);
        }
        Ok(measured)
    }

    /// Decoding after contexts whose keys and values come from a smaller model; nothing without the program for it.
    ///
    /// # Errors
    /// The program fails, or says something else.
    pub(super) fn measure_deep(&self, contexts: &[usize]) -> Result<Vec<(Point, f64)>, String> {
        let Some(program) = self.depth_bench.as_ref().filter(|_| !contexts.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut command = Command::new(program);
        command.arg(&self.model).args([self.threads, DECODE_TOKENS, 1].map(|number| number.to_string()));
        command.args(contexts.iter().map(usize::to_string));
        parse_bench(&output(command)?)
    }

    fn bench(&self, arguments: &[&str]) -> Result<Vec<(Point, f64)>, String> {
        let mut command = self.command(&self.bench);
        command.args(["-r", "1", "-o", "jsonl"]).args(arguments);
        parse_bench(&output(command)?)
    }

    fn batched_bench(&self, batches: &[usize]) -> Result<Vec<(Point, f64)>, String> {
        let most = batches.iter().max().expect("some batch");
        // It wants a token of prompt for each stream.
        let context = most * (DECODE_TOKENS + 1).next_multiple_of(256);
        let mut command = self.command(&self.batched_bench);
        command.args(["-tb", &self.threads.to_string(), "-c", &context.to_string(), "-npp", "1"]);
        command.args(["-ntg", &DECODE_TOKENS.to_string(), "-npl", &list(batches)]);
        command.args(["--output-format", "jsonl"]);
        let measured = parse_batched_bench(&output(command)?)?;
        if measured.len() != batches.len() {
            return Err(format!("llama-batched-bench measured {} of {batches:?} streams", measured.len()));
        }
        Ok(measured)
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("-m").arg(&self.model).args(["-t", &self.threads.to_string()]);
        command
    }
}

/// Lines that are JSON objects; programs say other things between them.
fn objects(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| line.starts_with('{'))
}

fn parse_bench(text: &str) -> Result<Vec<(Point, f64)>, String> {
    objects(text)
        .map(|line| {
            let row: BenchLine =
                serde_json::from_str(line).map_err(|error| format!("llama-bench said {line:?}: {error}"))?;
            let point = match (row.n_prompt, row.n_gen, row.n_depth) {
                (prompt, 0, 0) => Point::Prefill(prompt),
                (0, _, depth) => Point::Decode(depth),
                _ => return Err(format!("llama-bench measured something else: {line:?}")),
            };
            Ok((point, row.avg_ts))
        })
        .collect()
}

fn parse_batched_bench(text: &str) -> Result<Vec<(Point, f64)>, String> {
    objects(text)
        .map(|line| {
            let row: BatchLine = serde_json::from_str(line)
                .map_err(|error| format!("llama-batched-bench said {line:?}: {error}"))?;
            Ok((Point::Batch(row.pl), row.speed_tg))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llama_bench_lines_become_points() {
        let text = concat!(
            r#"{"build_commit": "unknown", "n_prompt": 512, "n_gen": 0, "n_depth": 0, "avg_ts": 10.8, "samples_ts": [ 10.8 ]}"#,
            "\n\n",
            r#"{"n_prompt": 0, "n_gen": 32, "n_depth": 1024, "avg_ts": 4.5}"#
        );
        assert_eq!(parse_bench(text), Ok(vec![(Point::Prefill(512), 10.8), (Point::Decode(1024), 4.5)]));
        assert!(parse_bench(r#"{"n_prompt": 5, "n_gen": 5, "n_depth": 0, "avg_ts": 1}"#).is_err());
        assert!(parse_bench(r#"{"n_prompt": 5}"#).is_err());
    }

    #[test]
    fn batched_lines_become_points_and_other_lines_are_skipped() {
        let text = concat!(
            "main: n_kv_max = 8192\n",
            r#"{"n_kv_max": 8192, "pp": 1, "tg": 32, "pl": 8, "t_tg": 40.0, "speed_tg": 6.4}"#,
            "\nllama_perf_context_print: load time\n"
        );
        assert_eq!(parse_batched_bench(text), Ok(vec![(Point::Batch(8), 6.4)]));
        assert_eq!(parse_batched_bench(""), Ok(vec![]));
    }

    #[test]
    fn missing_programs_are_named() {
        let error = Peer::new(Path::new("nowhere"), None, PathBuf::new(), 2).err().expect("nothing is there");
        assert!(error.contains("nowhere") && error.contains("llama-bench"), "{error}");
    }
}
