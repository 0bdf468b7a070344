//! `sostenuto serve`: the model over HTTP until a signal.

pub(crate) mod banner;
#[cfg(unix)]
mod front;
pub(crate) mod signals;

use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgAction, Args};
use sostenuto_engine::{EngineClient, EngineOptions, EngineState, MAX_QUEUED_REQUESTS, ShutdownMode};
use sostenuto_server::{ApiKeys, AppState, DEFAULT_PORT, Server, ServerConfig, ServerError};
use tracing_subscriber::EnvFilter;

use self::signals::Signals;
use crate::date::Date;
use crate::error::CliError;
use crate::files;
use crate::model_args::ModelArgs;
use crate::serving::{Facts, Serving};

/// Pause between two looks at an engine that starts.
const START_TICK: Duration = Duration::from_millis(20);

/// Longest queue that can be asked for, in requests.
const MAX_QUEUE: usize = 1 << 16;

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Address to listen on; any other than loopback needs --api-key-file.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = DEFAULT_PORT)]
    port: u16,
    /// File with API keys, one a line, that only its owner can read.
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Host name that requests may be addressed to, beside localhost; may be repeated.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// Origin whose pages may use the server, such as `https://chat.example`; may be repeated.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Name of the model in the API; without it, the folder's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Further name that requests may use; may be repeated.
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Current date as the model is told; without it, today's (UTC).
    #[arg(long, value_name = "YYYY-MM-DD")]
    date: Option<Date>,
    /// Run the engine in this process: one process, and no second chance.
    #[arg(long)]
    pub(crate) in_process: bool,
    /// Replace an engine process that makes no progress for this long; a step may always take 20 times what it should.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    watchdog_seconds: u32,
    /// Requests that may wait to run; further ones are refused until there is room.
    #[arg(long, value_name = "N", default_value_t = MAX_QUEUED_REQUESTS, value_parser = parse_queue)]
    pub(crate) queue: usize,
    /// Log every request; twice for more. RUST_LOG overrides it.
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(flatten)]
    pub(crate) model: ModelArgs,
}

/// Serves until SIGINT or SIGTERM.
pub(crate) fn run(args: &ServeArgs) -> Result<(), CliError> {
    start_log(args.verbose);
    let config = server_config(args)?;
    check_address(&config)?;
    files::allow_many();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(connection_threads())
        .enable_all()
        .build()?;
    banner::loading(args.model.model.as_deref())?;
    let Started { state, engine, announcement } = start_engine(args)?;
    let result = runtime.block_on(serve(config, state, Arc::clone(&engine), announcement));
    engine.shutdown(ShutdownMode::Now);
    engine.join()?;
    result
}

/// Threads that serve connections. The engine has one for each core, so on few cores a second one here would only take
/// turns with the first.
fn connection_threads() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    if cores < 4 { 1 } else { 2 }
}

/// An engine on its way, and what it serves.
struct Started {
    state: AppState,
    engine: Arc<dyn EngineClient>,
    announcement: Announcement,
}

/// What is said when the engine is ready.
struct Announcement {
    /// Of a model in this process; an engine process says it itself.
    facts: Option<Facts>,
    name: String,
    is_demo: bool,
}

#[cfg(unix)]
fn start_engine(args: &ServeArgs) -> Result<Started, CliError> {
    match args.in_process {
        true => load_here(args),
        false => front::start(args),
    }
}

#[cfg(not(unix))]
fn start_engine(args: &ServeArgs) -> Result<Started, CliError> {
    load_here(args)
}

/// Everything in this process: a failure of the engine ends the server.
fn load_here(args: &ServeArgs) -> Result<Started, CliError> {
    let options = EngineOptions { max_queued_requests: args.queue, ..args.model.engine_options() };
    let serving =
        Serving::start(&args.model, args.name.as_deref(), &args.alias, args.date.as_ref(), options)?;
    let Serving { state, facts, engine } = serving;
    let (name, is_demo) = (facts.name.clone(), facts.is_demo);
    let announcement = Announcement { facts: Some(facts), name, is_demo };
    Ok(Started { state, engine: Arc::new(engine), announcement })
}

async fn serve(
    config: ServerConfig,
    state: AppState,
    engine: Arc<dyn EngineClient>,
    announcement: Announcement,
) -> Result<(), CliError> {
    let drain_seconds = config.deadlines.drain.as_secs();
    let mut signals = Signals::listen()?;
    let address = config.bind;
    let server = Server::bind(config, state).await.map_err(|error| explain(error, address))?;
    let address = server.local_addr();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut running = tokio::spawn(server.run(async {
        // The sender says stop, or is gone, which means the same.
        let _ = stopped.await;
    }));
    tokio::select! {
        () = signals.next() => {}
        result = announce_and_watch(&engine, &announcement, address) => result?,
    }
    drop(stop);
    eprintln!(
        "Shutting down: answers in progress have up to {drain_seconds} s; a second signal ends at once."
    );
    tokio::select! {
        cut = &mut running => {
            match cut? {
                0 => eprintln!("Every answer was finished."),
                cut => eprintln!("{cut} connections were cut."),
            }
            Ok(())
        }
        () = signals.next() => {
            eprintln!("Ended at once; answers in progress were cut.");
            // Waiting for the step in progress could take seconds. An engine process sees its socket close.
            std::process::exit(1);
        }
    }
}

/// Waits for the engine to be ready, says so, and waits for its end.
///
/// # Errors
/// It could not start.
async fn announce_and_watch(
    engine: &Arc<dyn EngineClient>,
    announcement: &Announcement,
    address: SocketAddr,
) -> Result<(), CliError> {
    let mut tick = tokio::time::interval(START_TICK);
    loop {
        tick.tick().await;
        match engine.state() {
            EngineState::Starting => {}
            EngineState::Stopped { reason: Some(error) } => return Err(error.into()),
            _ => break,
        }
    }
    banner::ready(announcement, address)?;
    let ending = Arc::clone(engine);
    // The engine's own thread ends with an error or by a shutdown, which the caller knows of.
    let _ = tokio::task::spawn_blocking(move || ending.join()).await?;
    eprintln!("sostenuto: the engine ended; no request can be answered any more");
    Ok(())
}

fn parse_queue(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=MAX_QUEUE) => Ok(count),
        _ => Err(format!("{text:?} is not a number from 1 to {MAX_QUEUE}")),
    }
}

fn server_config(args: &ServeArgs) -> Result<ServerConfig, CliError> {
    let api_keys = match &args.api_key_file {
        Some(path) => ApiKeys::from_file(path)?,
        None => ApiKeys::default(),
    };
    Ok(ServerConfig {
        bind: SocketAddr::new(args.host, args.port),
        allowed_hosts: args.allow_host.clone(),
        allowed_origins: args.allow_origin.clone(),
        api_keys,
        ..ServerConfig::default()
    })
}

/// Says that an address cannot be had before the weights are loaded and not after.
fn check_address(config: &ServerConfig) -> Result<(), CliError> {
    let address = config.bind;
    if !address.ip().is_loopback() && config.api_keys.is_empty() {
        return Err(explain(ServerError::OpenToTheNetwork { address }, address));
    }
    match TcpListener::bind(address) {
        Ok(_) => Ok(()),
        Err(source) => Err(explain(ServerError::Bind { address, source }, address)),
    }
}

fn explain(error: ServerError, address: SocketAddr) -> CliError {
    match error {
        ServerError::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            CliError::new(format!(
                "{address} is taken by another program, perhaps another sostenuto: stop it, or choose another port with \
             --port N (0 takes a free one)"
            ))
        }
        ServerError::OpenToTheNetwork { .. } => CliError::from(error).context("--host (see --api-key-file)"),
        other => other.into(),
    }
}

pub(crate) fn start_log(verbose: u8) {
    let default = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    log.with_ansi(io::stderr().is_terminal()).init();
}
