//! `sostenuto bench stress`: loads that a server of ours must hold, each with rules and a verdict.
//!
//! They read `/metrics`, so they need a Sostenuto server with nobody else on it.

mod disconnects;
mod findings;
mod overload;
mod server;
mod slow;
mod soak;
mod streams;
mod transcript;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use self::findings::Findings;
use super::serve::workload::{Length, Workload};
use super::target::TargetArgs;
use crate::client::Client;
use crate::error::CliError;
use crate::files;

/// Arguments of `bench stress`.
#[derive(Debug, Args)]
pub(crate) struct StressArgs {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Many streams open at once: every one must hold exactly the events of its answer.
    Streams(streams::StreamsArgs),
    /// Clients that go away at random bytes: everything they held must be free again.
    Disconnects(disconnects::DisconnectsArgs),
    /// Readers that take a byte a second: they must not slow the others.
    SlowReaders(slow::SlowReadersArgs),
    /// Ten times the capacity: goodput must stay, and every refusal must be answered.
    Overload(overload::OverloadArgs),
    /// Very many requests: memory must not grow with them.
    Soak(soak::SoakArgs),
}

/// What every scenario needs.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Words (about tokens) of a prompt: N, A-B (uniform) or lognormal:MEDIAN:SIGMA.
    #[arg(long, value_name = "LENGTH", default_value = "16-64")]
    prompt_tokens: Length,
    /// Tokens of an answer at most, in the same form.
    #[arg(long, value_name = "LENGTH", default_value = "32")]
    answer_tokens: Length,
    /// Seed of prompts, lengths and times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the findings as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// A server and what to ask it.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    client: Client,
    workload: Workload,
}

impl CommonArgs {
    async fn open(&self) -> Result<Target, CliError> {
        let (client, model) = self.target.open().await?;
        let workload = Workload {
            model,
            seed: self.seed,
            prompt: self.prompt_tokens,
            shared_prefix: 0,
            answer: self.answer_tokens,
            temperature: None,
            extra: Map::<String, Value>::new(),
        };
        Ok(Target { client, workload })
    }
}

/// Runs a scenario, prints what was found, and fails where a rule does not hold.
pub(crate) fn run(args: &StressArgs) -> Result<(), CliError> {
    files::allow_many();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (common, findings) = runtime.block_on(async {
        Ok::<(&CommonArgs, Findings), CliError>(match &args.scenario {
            Scenario::Streams(args) => (&args.common, streams::run(args).await?),
            Scenario::Disconnects(args) => (&args.common, disconnects::run(args).await?),
            Scenario::SlowReaders(args) => (&args.common, slow::run(args).await?),
            Scenario::Overload(args) => (&args.common, overload::run(args).await?),
            Scenario::Soak(args) => (&args.common, soak::run(args).await?),
        })
    })?;
    findings.report(common.json.as_deref())
}
