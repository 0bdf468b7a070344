//! The command `sostenuto`: chooses the backend, loads, wires, runs.
//!
//! The only crate that knows every other: it turns a folder into a checkpoint, a model, an engine and a server, and
//! says on one line what is wrong when it cannot. One file per subcommand.

mod backend;
mod bench;
mod chat;
mod client;
mod date;
mod debug;
mod demo;
#[cfg(unix)]
mod engine;
mod error;
mod files;
mod generate;
mod hash;
mod inspect;
mod load;
mod local_server;
mod memory;
mod model_args;
mod output;
mod plan;
mod sequence;
mod serve;
mod serving;
mod synth;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::CliError;

/// Runs gpt-oss models on your own hardware.
#[derive(Parser)]
#[command(name = "sostenuto", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "With no --model, commands use the small demo model that ships inside this program.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a model over HTTP, OpenAI-compatible.
    Serve(serve::ServeArgs),
    /// Talk to a model; starts one if no server answers.
    Chat(chat::ChatArgs),
    /// Answer one prompt, without a server.
    Generate(generate::GenerateArgs),
    /// Show what is in a checkpoint and whether it is whole.
    Inspect(inspect::InspectArgs),
    /// Say what a model takes on a device and how fast it should be; needs no weights.
    Plan(plan::PlanArgs),
    /// Measure speed: of a model on this machine, or of a server under load.
    Bench(bench::BenchArgs),
    /// Write a checkpoint with random weights.
    Synth(synth::SynthArgs),
    /// The engine process of `serve`, which starts it.
    #[cfg(unix)]
    #[command(hide = true)]
    Engine(engine::EngineArgs),
    /// Run parts of the machine by themselves, JSON lines in and out.
    Debug(debug::DebugArgs),
}

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(report_bug));
    let cli = Cli::parse();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::BrokenPipe) => ExitCode::SUCCESS,
        Err(CliError::AlreadyReported) => ExitCode::FAILURE,
        Err(CliError::Message(message)) => {
            eprintln!("sostenuto: {message}");
            ExitCode::FAILURE
        }
    }
}

/// One line instead of a backtrace: whoever sees it can do nothing with the latter.
fn report_bug(info: &std::panic::PanicHookInfo<'_>) {
    let what = info.payload_as_str().unwrap_or("no message");
    let place = info.location().map(|location| format!(" at {location}")).unwrap_or_default();
    eprintln!("sostenuto {}: this is a bug, please report it: {what}{place}", env!("CARGO_PKG_VERSION"));
}

fn run(command: Command) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => serve::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Synth(args) => synth::run(&args),
        #[cfg(unix)]
        Command::Engine(args) => engine::run(&args),
        Command::Debug(args) => debug::run(&args),
    }
}
