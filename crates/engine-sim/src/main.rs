//! Runs simulated seeds; `cargo xtask sim` calls this.

use std::process::ExitCode;

use clap::Parser;
use sostenuto_engine_sim::{Coverage, run_seed, run_seeds};

#[derive(Parser)]
#[command(about = "Simulates engines: seeded users and faults, every invariant checked after every step")]
struct Cli {
    /// Run this seed only.
    #[arg(long)]
    seed: Option<u64>,
    /// Run this many seeds.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads; 0 is one for each core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> ExitCode {
    let Cli { seed, seeds, from, threads } = Cli::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if threads == 0 { cores } else { threads };
    let result = match seed {
        Some(seed) => run_seed(seed),
        None => run_seeds(from..from.saturating_add(seeds), threads, progress),
    };
    match result {
        Ok(coverage) => {
            coverage.counts().iter().for_each(|(name, count)| println!("{name:>18} {count}"));
            ExitCode::SUCCESS
        }
        Err(violation) => {
            println!("{violation}");
            ExitCode::FAILURE
        }
    }
}

fn progress(coverage: &Coverage) {
    eprintln!("{} seeds, {} steps", coverage.seeds, coverage.steps);
}
