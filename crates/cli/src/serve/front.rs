//! The front of an engine process of this same program.

use std::ffi::OsString;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sostenuto_engine::EngineClient;
use sostenuto_engine::remote::{FrontOptions, RemoteEngine, WatchdogOptions};
use sostenuto_formats::Loading;

use super::{Announcement, ServeArgs, Started};
use crate::error::CliError;
use crate::load::Source;
use crate::memory::Processes;
use crate::model_args::ModelArgs;
use crate::serving::Description;

/// Describes the model and starts its engine process, which loads it.
pub(super) fn start(args: &ServeArgs) -> Result<Started, CliError> {
    let source = Source::find(&args.model)?;
    let model_args = ModelArgs { processes: Processes::Two, ..args.model.clone() };
    let limits = model_args.serving_limits(source.config())?;
    // For the fingerprint alone: the engine process has the weights in memory.
    let checkpoint = source.open_weights(Loading::Auto)?;
    let description =
        Description::of(&source, &checkpoint, limits, &args.model, args.name.as_deref(), &args.alias)?;
    drop(checkpoint);
    let name = description.name().to_owned();
    let announcement = Announcement { facts: None, name, is_demo: description.is_demo };
    // Free memory may be another when a second process starts: its limits must be the same all the same.
    let (ctx, kv_tokens) = (description.limits.max_context, description.limits.kv_tokens);
    let launch = move |earlier| {
        let mut command = this_program();
        command.arg("engine").arg(format!("--parent={}", std::process::id()));
        command.args([format!("--pinned-ctx={ctx}"), format!("--pinned-kv-tokens={kv_tokens}")]);
        if earlier > 0 {
            command.arg("--quiet");
        }
        command.args(serve_arguments());
        command
    };
    let least = Duration::from_secs(args.watchdog_seconds.into());
    let defaults = WatchdogOptions::default();
    let watchdog = WatchdogOptions { least, unmeasured: defaults.unmeasured.max(least) };
    let options = FrontOptions { watchdog, max_queued_requests: args.queue, ..FrontOptions::default() };
    let engine: Arc<dyn EngineClient> = Arc::new(RemoteEngine::start(options, launch)?);
    let state = description.app_state(Arc::clone(&engine), args.date.as_ref());
    Ok(Started { state, engine, announcement })
}

/// The file that this process runs, also if another has taken its place since.
#[cfg(target_os = "linux")]
fn this_program() -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(std::env::args_os().next().unwrap_or_else(|| "sostenuto".into()));
    command
}

/// The file that this process was started from.
#[cfg(not(target_os = "linux"))]
fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap_or_else(|_| "sostenuto".into()))
}

/// What followed `serve` on the command line.
fn serve_arguments() -> impl Iterator<Item = OsString> {
    std::env::args_os().skip(2)
}
