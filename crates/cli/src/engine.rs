//! `sostenuto engine`: the engine process of `serve`. Not for people; its standard input is the front's socket.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use clap::Args;
use sostenuto_engine::remote::EngineEnd;
use sostenuto_engine::{Engine, EngineOptions};

use crate::error::CliError;
use crate::load::{Loaded, Source};
use crate::memory::Processes;
use crate::serve::{ServeArgs, banner, signals::Signals, start_log};
use crate::serving::Facts;

/// Exit code when the front is gone.
const FRONT_GONE: i32 = 3;

/// Arguments of `engine`.
#[derive(Debug, Args)]
pub(crate) struct EngineArgs {
    /// The front's process id.
    #[arg(long)]
    parent: u32,
    /// Context that the front announced.
    #[arg(long)]
    pinned_ctx: usize,
    /// KV memory that the front announced.
    #[arg(long)]
    pinned_kv_tokens: usize,
    /// Do not print what was loaded.
    #[arg(long)]
    quiet: bool,
    /// As of `serve`, of which those about the model matter.
    #[command(flatten)]
    serve: ServeArgs,
}

/// Serves the front until it is gone or the engine fails.
pub(crate) fn run(args: &EngineArgs) -> Result<(), CliError> {
    #[cfg(target_os = "linux")]
    sostenuto_engine::remote::tie_to_parent(args.parent)?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
    let front = EngineEnd::open(UnixStream::from(socket), || std::process::exit(FRONT_GONE))?;
    start_log(args.serve.verbose);
    // Signals that go to every process of a service are the front's affair.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _ignored = runtime.block_on(async { Signals::listen() })?;
    let (loaded, facts) = match load(args) {
        Ok(loaded) => loaded,
        Err(CliError::Message(message)) => {
            front.refuse(message);
            return Err(CliError::AlreadyReported);
        }
        Err(other) => return Err(other),
    };
    if !args.quiet {
        banner::facts(&facts, Some(args.parent))?;
    }
    let queue = EngineEnd::options(facts.limits.max_sequences, facts.limits.max_context);
    let options = EngineOptions {
        max_queued_requests: queue.max_queued_requests.max(args.serve.queue + facts.limits.max_sequences + 1),
        max_queued_prompt_tokens: queue.max_queued_prompt_tokens,
        ..args.serve.model.engine_options()
    };
    let engine = Engine::start_observed(loaded.model, options, front.observer())?;
    front.serve(engine).map_err(|error| CliError::from(error).context("the engine process ends"))
}

fn load(args: &EngineArgs) -> Result<(Loaded, Facts), CliError> {
    let mut model_args = args.serve.model.clone();
    model_args.ctx = Some(args.pinned_ctx);
    model_args.kv_tokens = Some(args.pinned_kv_tokens);
    model_args.processes = Processes::Two;
    let source = Source::find(&model_args)?;
    let limits = model_args.serving_limits(source.config())?;
    let loaded = source.load(&model_args, &limits)?;
    let facts = Facts::of(&source, &loaded, model_args.mode, args.serve.name.as_deref())?;
    Ok((loaded, facts))
}
