//! `cargo xtask sim`: simulated seeds, one seed again, and the mutants that the simulator must catch.

use crate::mutants;
use crate::steps::cargo;

/// What to simulate.
#[derive(clap::Args)]
pub(crate) struct Sim {
    /// Run this seed only.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Run this many seeds.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first of the seeds.
    #[arg(long)]
    from: Option<u64>,
    /// Threads; one for each core if not given.
    #[arg(long)]
    threads: Option<u64>,
    /// Plant public bugs one by one into a copy of the engine, and show that each is caught within the seeds.
    #[arg(long, conflicts_with = "seed")]
    mutants: bool,
    /// Of the mutants, only those whose names contain one of these.
    #[arg(long, requires = "mutants")]
    only: Vec<String>,
}

/// The package of the simulator, and its binary.
pub(crate) const PACKAGE: &str = "sostenuto-engine-sim";

/// Simulates.
///
/// # Errors
/// A seed that broke an invariant, or a mutant that none caught.
pub(crate) fn run(sim: &Sim) -> Result<(), String> {
    let options =
        [("--seed", sim.seed), ("--seeds", sim.seeds), ("--from", sim.from), ("--threads", sim.threads)];
    let given = options.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let arguments: Vec<String> =
        given.flat_map(|(name, value)| [name.to_string(), value.to_string()]).collect();
    if sim.mutants {
        return mutants::run_all(&sim.only, &arguments);
    }
    let mut all = vec!["run", "--quiet", "--package", PACKAGE, "--"];
    all.extend(arguments.iter().map(String::as_str));
    cargo(&all)
}
