//! `cargo xtask bench`: this program beside another one on the same machine.

mod machine;
mod ours;
mod peer;
mod plot;
mod points;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use self::machine::Machine;
use self::ours::Ours;
use self::peer::Peer;
use self::points::Points;
use self::table::Table;
use crate::steps::{cargo, repository_root};

/// What to compare.
#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// The CPU backend beside a build of llama.cpp, prefill and decode, with what the machine allows.
    Cpu(Cpu),
}

/// The comparison on processors.
#[derive(clap::Args)]
pub(crate) struct Cpu {
    /// Folder with llama-bench and llama-batched-bench, or the build folder above it; without it, no comparison.
    #[arg(long, value_name = "DIR", requires = "peer_model")]
    peer: Option<PathBuf>,
    /// The same shape as --model, as GGUF.
    #[arg(long, value_name = "GGUF")]
    peer_model: Option<PathBuf>,
    /// Checkpoint to measure; without it, the demo model, which says little.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The program to measure; without it, a release build of this tree.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Threads of both; without it, one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// Rounds: in each, both run all points. Medians are reported.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=100))]
    reps: u8,
    /// A few short points.
    #[arg(long)]
    quick: bool,
    /// Lengths of prompts to prefill.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    prompt: Option<Vec<usize>>,
    /// Contexts to decode one stream after.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    context: Option<Vec<usize>>,
    /// Numbers of streams to decode together, without context.
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    batch: Option<Vec<usize>>,
    /// Longest prompt that the peer computes, and longest context: llama-bench has no other way to get one. Longer ones are
    /// left out on its side.
    #[arg(long, value_name = "TOKENS", default_value_t = 8192)]
    peer_tokens: usize,
    /// Program built from tools/peer/depth_bench.cpp, for the peer's longer contexts.
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_depth_bench: Option<PathBuf>,
    /// Points of more tokens than this run in the first round only.
    #[arg(long, value_name = "TOKENS", default_value_t = 2048)]
    long_tokens: usize,
    /// Folder for results.csv, results.md and results.svg.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs a comparison.
///
/// # Errors
/// A program that can't be run or says something else than expected, or results that can't be written.
pub(crate) fn run_bench(bench: &Bench) -> Result<(), String> {
    let Bench::Cpu(args) = bench;
    let threads = args.threads.unwrap_or_else(machine::cores);
    let ours = Ours::new(args.program()?, args.model.clone(), threads);
    let peer = args.peer(threads)?;
    let points = args.points();
    let mut table = Table::new(Machine::describe(threads), peer.as_ref().map(Peer::describe));
    for mode in ["fast", "exact"] {
        table.add_mode(ours.short_run(mode)?);
    }
    for round in 0..args.reps {
        eprintln!("round {} of {}", round + 1, args.reps);
        let points = if round == 0 { points.clone() } else { points.up_to(args.long_tokens) };
        // Whoever ran first in one round runs second in the next: neither always finds the cooler machine.
        for ours_now in [round % 2 == 0, round % 2 == 1] {
            match (&peer, ours_now) {
                (_, true) => table.add_ours(ours.measure(&points)?),
                (Some(peer), false) => {
                    table.add_peer(peer.measure(&points.up_to(args.peer_tokens))?);
                    table.add_peer(peer.measure_deep(&points.contexts_beyond(args.peer_tokens))?);
                }
                (None, false) => {}
            }
        }
        // What is measured stays, should a later round fail.
        args.out.as_deref().map_or(Ok(()), |folder| write(&table, folder))?;
    }
    print!("{}", table.markdown());
    Ok(())
}

impl Cpu {
    fn program(&self) -> Result<PathBuf, String> {
        if let Some(program) = &self.program {
            return Ok(program.clone());
        }
        cargo(&["build", "--release"])?;
        Ok(repository_root().join("target/release/sostenuto"))
    }

    fn peer(&self, threads: usize) -> Result<Option<Peer>, String> {
        let Some((folder, model)) = self.peer.as_ref().zip(self.peer_model.clone()) else { return Ok(None) };
        if !model.is_file() {
            return Err(format!("--peer-model {}: no such file", model.display()));
        }
        Peer::new(folder, self.peer_depth_bench.clone(), model, threads).map(Some)
    }

    fn points(&self) -> Points {
        let mut points = if self.quick { Points::quick() } else { Points::full() };
        for (field, given) in [
            (&mut points.prompts, &self.prompt),
            (&mut points.contexts, &self.context),
            (&mut points.batches, &self.batch),
        ] {
            if let Some(given) = given {
                *field = given.clone();
            }
        }
        points
    }
}

fn write(table: &Table, folder: &Path) -> Result<(), String> {
    let failed = |what: &Path, error: std::io::Error| format!("cannot write {}: {error}", what.display());
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    for (name, text) in [("results.csv", table.csv()), ("results.md", table.markdown())] {
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    plot::write(table, &folder.join("results.svg"))
}

/// Runs a program and returns its standard output; its standard error is shown if it fails.
fn output(mut command: Command) -> Result<String, String> {
    let shown = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{shown} could not be started: {error}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{shown} ended with {}: {stderr}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{shown}: {error}"))
}

/// Numbers as an option takes them: `1,2,3`.
fn list(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}
