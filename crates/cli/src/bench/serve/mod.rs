//! `sostenuto bench serve`: load on a server over HTTP, ours or any that speaks OpenAI's chat completions.

mod arrivals;
pub(crate) mod chunk;
pub(crate) mod driver;
pub(crate) mod exchange;
pub(crate) mod goodput;
mod plot;
mod report;
pub(crate) mod tally;
mod timeline;
pub(crate) mod workload;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::{Map, Value};

use self::driver::{Pace, Run, Until};
use self::exchange::{Outcome, exchange};
use self::goodput::{Goal, Goals};
use self::report::Report;
use self::tally::Tally;
use self::workload::{Length, Workload};
use super::target::TargetArgs;
use crate::client::{CHAT_PATH, Client};
use crate::error::CliError;
use crate::files;
use crate::output::{self, Style};

/// Requests if neither a number nor a duration is given.
const DEFAULT_REQUESTS: u64 = 100;
/// Most requests under way that can be asked for.
const MAX_IN_FLIGHT: u64 = 1 << 16;

/// Arguments of `bench serve`.
#[derive(Debug, Args)]
pub(crate) struct BenchServeArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Open loop: requests per second on average, at random times, whatever the answers do.
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "concurrency")]
    rate: Option<f64>,
    /// Of the open loop: 1 is a Poisson process, less comes in bursts, more is more even.
    #[arg(long, value_name = "SHAPE", default_value_t = 1.0)]
    burstiness: f64,
    /// Of the open loop: requests under way at most; those due beyond it are counted and not sent.
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(1..=MAX_IN_FLIGHT))]
    max_in_flight: u64,
    /// Closed loop: so many requests under way at all times.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=MAX_IN_FLIGHT))]
    concurrency: u64,
    /// Requests in all [default: 100].
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
    /// Seconds to send for; what is under way then is waited for.
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,
    /// Words (about tokens) of a prompt: N, A-B (uniform) or lognormal:MEDIAN:SIGMA.
    #[arg(long, value_name = "LENGTH", default_value = "128")]
    prompt_tokens: Length,
    /// Words that all prompts begin with, before those.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1 << 20))]
    shared_prefix_tokens: u32,
    /// Tokens of an answer at most, in the same form.
    #[arg(long, value_name = "LENGTH", default_value = "64")]
    answer_tokens: Length,
    /// Sampling temperature; without it, the server's.
    #[arg(long)]
    temperature: Option<f64>,
    /// Further fields of every request, as a JSON object, such as {"ignore_eos":true} for vLLM.
    #[arg(long, value_name = "JSON", value_parser = parse_object)]
    extra_body: Option<Map<String, Value>>,
    /// Seed of prompts, lengths and times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Goal that an answer must meet to count as good: ttft:MS, tpot:MS or e2el:MS; may be repeated.
    #[arg(long, value_name = "KIND:MS")]
    goodput: Vec<Goal>,
    /// Seconds for one request.
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = parse_seconds)]
    timeout: Duration,
    /// Write the results as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a line for each request.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Draw the run.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

/// Sends the load and reports.
pub(crate) fn run(args: &BenchServeArgs) -> Result<(), CliError> {
    files::allow_many();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (client, model) = runtime.block_on(args.target.open())?;
    let url = client.url();
    let run = args.run(client, model.clone());
    let pace = run.describe();
    let bar = progress_bar(run.until);
    let tally = runtime.block_on(async {
        check(&run).await?;
        let stop = async {
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let goals = Goals(args.goodput.clone());
        let until = run.until;
        run.drive(goals, args.csv.as_deref(), |tally| show(&bar, until, tally), stop).await
    })?;
    bar.finish_and_clear();
    let report = Report::new(url, model, pace.clone(), args.seed, &tally, tally.elapsed().as_secs_f64());
    report.write_table(&mut io::stdout().lock(), Style::of_stdout())?;
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    if let Some(path) = &args.plot {
        plot::write(path, &pace, &tally)?;
    }
    Ok(())
}

impl BenchServeArgs {
    fn run(&self, client: Client, model: String) -> Run {
        Run {
            client,
            workload: Workload {
                model,
                seed: self.seed,
                prompt: self.prompt_tokens,
                shared_prefix: self.shared_prefix_tokens,
                answer: self.answer_tokens,
                temperature: self.temperature,
                extra: self.extra_body.clone().unwrap_or_default(),
            },
            pace: match self.rate {
                Some(rate) => Pace::Open {
                    rate,
                    burstiness: self.burstiness,
                    tick: Duration::ZERO,
                    max_in_flight: self.max_in_flight as usize,
                },
                None => Pace::Closed { concurrency: self.concurrency as usize },
            },
            until: match (self.duration, self.requests) {
                (Some(time), _) => Until::Elapsed(time),
                (None, count) => Until::Requests(count.unwrap_or(DEFAULT_REQUESTS)),
            },
            timeout: self.timeout,
        }
    }
}

impl Run {
    fn describe(&self) -> String {
        let pace = match self.pace {
            Pace::Open { rate, burstiness, .. } => {
                format!("open loop, {rate} requests/s, burstiness {burstiness}")
            }
            Pace::Closed { concurrency } => format!("closed loop, {concurrency} at a time"),
        };
        let workload = &self.workload;
        let shared = match workload.shared_prefix {
            0 => String::new(),
            count => format!("{count} shared + "),
        };
        format!("{pace}, prompts {shared}{}, answers {}", workload.prompt, workload.answer)
    }
}

/// Asks one question that is not counted, so that a wrong key or model is said at once and in words.
async fn check(run: &Run) -> Result<(), CliError> {
    let body = run.workload.request(u64::MAX - 1);
    match exchange(&run.client, &body, run.timeout).await {
        Outcome::Failed(failure) => {
            // Asked once more without a stream: its error has words.
            let mut whole = body;
            whole["stream"] = Value::Bool(false);
            whole.as_object_mut().and_then(|fields| fields.remove("stream_options"));
            run.client.post_json(CHAT_PATH, &whole).await?;
            Err(CliError::new(format!("a first streamed request failed: {failure}")))
        }
        Outcome::Complete(_) | Outcome::Refused { .. } => Ok(()),
    }
}

fn progress_bar(until: Until) -> ProgressBar {
    let (length, unit) = match until {
        Until::Requests(count) => (count, "requests"),
        Until::Elapsed(time) => (time.as_secs(), "s"),
    };
    let template = format!("{{bar:30}} {{pos}}/{{len}} {unit}  {{msg}}");
    output::progress_bar(length, &template)
}

fn show(bar: &ProgressBar, until: Until, tally: &Tally) {
    let ended = tally.complete + tally.refusals() + tally.failures();
    bar.set_position(match until {
        Until::Requests(_) => ended,
        Until::Elapsed(_) => tally.elapsed().as_secs(),
    });
    bar.set_message(format!(
        "{} under way, {} complete, {} refused, {} failed, {:.1} tokens/s",
        tally.sent - ended,
        tally.complete,
        tally.refusals(),
        tally.failures(),
        tally.completion_tokens as f64 / tally.elapsed().as_secs_f64().max(1e-3)
    ));
}

/// Writes a JSON document and a newline.
///
/// # Errors
/// The file can't be written.
pub(crate) fn write_json(path: &Path, document: &impl serde::Serialize) -> Result<(), CliError> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    std::fs::write(path, text)
        .map_err(|error| CliError::new(format!("cannot write {}: {error}", path.display())))
}

/// Seconds above 0, at most a week.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    const WEEK_SECONDS: f64 = 7.0 * 86_400.0;
    match text.parse() {
        Ok(seconds) if seconds > 0.0 && seconds <= WEEK_SECONDS => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("{text:?} is not a number of seconds above 0 and at most {WEEK_SECONDS}")),
    }
}

fn parse_object(text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}
