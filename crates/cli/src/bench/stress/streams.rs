//! Many streams at once, each held against the same answer sent as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::findings::Findings;
use super::server::ServerView;
use super::transcript::{Said, Transcript};
use super::{CommonArgs, Target};
use crate::client::{CHAT_PATH, ClientError, EventStream};
use crate::error::CliError;

/// Whole answers that are asked for at a time.
const REFERENCES_AT_ONCE: usize = 8;

/// Arguments of `bench stress streams`.
#[derive(Debug, Args)]
pub(crate) struct StreamsArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Streams that are open at once. The server needs room for them: --sequences and --queue together.
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    streams: u64,
    /// Different requests among them; each is also asked for as a whole, before.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    distinct: u64,
}

/// Opens all streams, then reads them all.
pub(crate) async fn run(args: &StreamsArgs) -> Result<Findings, CliError> {
    let target = args.common.open().await?;
    let distinct = args.distinct.min(args.streams);
    let references = references(&target, distinct).await?;
    let mut findings = Findings::new("streams");
    let (opened, mut troubles) = open_all(&target, args.streams, distinct).await;
    findings.exactly("streams open at once", opened.len() as u64, args.streams);
    let view = ServerView::read(&target.client).await?;
    findings.fact("connections that the server counts", view.value("sostenuto:open_connections")?);
    findings.fact("sequences that ran then", view.value("vllm:num_requests_running")?);
    findings.fact("sequences that waited then", view.value("vllm:num_requests_waiting")?);

    let mut tasks = JoinSet::new();
    for (index, stream) in opened {
        tasks.spawn(async move { (index, read_to_end(stream).await) });
    }
    let (mut equal, mut different) = (0, 0);
    while let Some(joined) = tasks.join_next().await {
        let (index, said) = joined?;
        match said {
            Ok(said) if said == references[(index % distinct) as usize] => equal += 1,
            Ok(_) => different += 1,
            Err(trouble) => *troubles.entry(trouble).or_insert(0) += 1,
        }
    }
    findings.exactly("streams that say what the whole answer says", equal, args.streams);
    findings.exactly("streams that say something else", different, 0);
    for (trouble, count) in troubles {
        findings.exactly(format!("streams: {trouble}"), count, 0);
    }
    Ok(findings)
}

async fn references(target: &Target, distinct: u64) -> Result<Vec<Said>, CliError> {
    let permits = Arc::new(Semaphore::new(REFERENCES_AT_ONCE));
    let mut tasks = JoinSet::new();
    for index in 0..distinct {
        let (target, permits) = (target.clone(), Arc::clone(&permits));
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let mut request = target.workload.request(index);
            request["stream"] = Value::Bool(false);
            request.as_object_mut().and_then(|fields| fields.remove("stream_options"));
            let completion = target.client.post_json(CHAT_PATH, &request).await?;
            Ok::<_, ClientError>((index, Said::of_completion(&completion)))
        });
    }
    let mut said = BTreeMap::new();
    while let Some(joined) = tasks.join_next().await {
        let (index, reference) = joined??;
        said.insert(index, reference);
    }
    Ok(said.into_values().collect())
}

/// Streams whose header has come, with their numbers, and what kept the others from it.
async fn open_all(
    target: &Target,
    streams: u64,
    distinct: u64,
) -> (Vec<(u64, EventStream)>, BTreeMap<String, u64>) {
    let mut tasks = JoinSet::new();
    for index in 0..streams {
        let target = target.clone();
        tasks.spawn(async move {
            let request = target.workload.request(index % distinct);
            (index, target.client.post_events(CHAT_PATH, &request).await)
        });
    }
    let (mut opened, mut troubles) = (Vec::new(), BTreeMap::new());
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok((index, Ok(stream))) => opened.push((index, stream)),
            Ok((_, Err(error))) => *troubles.entry(error.to_string()).or_insert(0) += 1,
            Err(error) => *troubles.entry(error.to_string()).or_insert(0) += 1,
        }
    }
    (opened, troubles)
}

async fn read_to_end(mut stream: EventStream) -> Result<Said, String> {
    let mut transcript = Transcript::default();
    while let Some(event) = stream.next().await.map_err(|error| error.to_string())? {
        transcript.take(&event).map_err(|fault| fault.to_string())?;
    }
    transcript.finish().map_err(|fault| fault.to_string())
}
