//! Build and test tasks of the project. `cargo xtask help` lists them.

mod arm;
mod bench;
mod clients;
mod instructions;
mod layers;
mod mutants;
mod sim;
mod steps;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build and test tasks of Sostenuto")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what the tests need and runs everything; what the continuous integration runs.
    Test {
        /// Run only the steps whose name contains this.
        #[arg(long)]
        only: Option<String>,
    },
    /// Checks the tree: crate layers, file lengths, machine paths.
    Tidy,
    /// Measures this program beside another one, and both against what the machine allows.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Prints the layer table of ARCHITECTURE.md.
    Layers,
    /// Counts the instructions of the main CPU kernels under valgrind and compares them with a table.
    Instructions(instructions::Instructions),
    /// Runs simulated engines: seeded users and faults, every invariant checked after every step.
    Sim(sim::Sim),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().task {
        Task::Test { only } => steps::run_all(only.as_deref()),
        Task::Tidy => tidy::check(),
        Task::Bench(bench) => bench::run_bench(&bench),
        Task::Instructions(options) => instructions::run(&options),
        Task::Sim(sim) => sim::run(&sim),
        Task::Layers => {
            print!("{}", layers::markdown());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}
