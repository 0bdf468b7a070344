//! Clients that go away at random bytes, of their request or of the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use rand::RngExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::findings::Findings;
use super::server::ServerView;
use super::{CommonArgs, Target};
use crate::bench::serve::workload::generator;
use crate::client::{CHAT_PATH, ClientError};
use crate::error::CliError;

/// For one client, and for the server to be idle again.
const PATIENCE: Duration = Duration::from_secs(60);
/// Steps that the engine may take from the first look after the last disconnect until it is idle.
const MAX_STEPS: f64 = 2.0;
/// Time that may pass instead: steps of a small model are shorter than the time after which a process that wants a
/// processor gets one.
const MAX_TIME: Duration = Duration::from_millis(20);

/// Arguments of `bench stress disconnects`.
#[derive(Debug, Args)]
pub(crate) struct DisconnectsArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Clients in all.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..))]
    disconnects: u64,
    /// Clients at a time.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=1 << 14))]
    concurrency: u64,
}

/// What one client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Went away within its request.
    Asking,
    /// Went away within the answer.
    Reading,
    /// The answer ended before.
    TooLate,
}

/// Lets all clients come and go, then looks at what the server still holds.
pub(crate) async fn run(args: &DisconnectsArgs) -> Result<Findings, CliError> {
    let target = args.common.open().await?;
    let answer_bytes = answer_bytes(&target).await?;
    let before = ServerView::when_idle(&target.client, PATIENCE).await?;
    if !before.is_idle()? {
        return Err(CliError::new("the server is not idle: bench stress must be alone on it"));
    }
    let counts = disconnect_all(&target, args, answer_bytes).await?;
    // The clock starts before the look, whose answer may wait for a processor.
    let looked = Instant::now();
    let first_look = ServerView::read(&target.client).await?;
    let after = ServerView::when_idle(&target.client, PATIENCE).await?;
    let took = looked.elapsed();

    let mut findings = Findings::new("disconnects");
    findings.fact("went away within the request", counts[Left::Asking as usize]);
    findings.fact("went away within the answer", counts[Left::Reading as usize]);
    findings.fact("read the whole answer", counts[Left::TooLate as usize]);
    findings.exactly("clients", counts.iter().sum(), args.disconnects);
    what_is_left(&mut findings, [&before, &first_look, &after], took)?;
    Ok(findings)
}

/// Adds what the server holds in the end, when all clients are gone, and how long it took to get there from the first
/// look.
fn what_is_left(
    findings: &mut Findings,
    [before, first_look, after]: [&ServerView; 3],
    took: Duration,
) -> Result<(), CliError> {
    for (what, name) in [
        ("sequences that run", "vllm:num_requests_running"),
        ("sequences that wait", "vllm:num_requests_waiting"),
        ("share of KV blocks in use", "vllm:kv_cache_usage_perc"),
    ] {
        let value = after.value(name)?;
        findings.rule(format!("{what}, afterwards"), value, "= 0", value == 0.0);
    }
    let open = after.value("sostenuto:open_connections")?;
    findings.rule("connections, afterwards", open, "= 1, the look's", open == 1.0);
    let steps =
        after.value("sostenuto:engine_steps_total")? - first_look.value("sostenuto:engine_steps_total")?;
    let holds = steps <= MAX_STEPS || took <= MAX_TIME;
    let rule = format!("<= {MAX_STEPS}, or {} ms", MAX_TIME.as_millis());
    let value = format!("{steps} ({:.1} ms)", took.as_secs_f64() * 1e3);
    findings.rule("steps until all was free", value, rule, holds);
    let same = before.same_processes(after)?;
    findings.rule("the same processes run", same, "= true", same);
    findings.fact("resident bytes before", before.resident_bytes()?);
    findings.fact("resident bytes after", after.resident_bytes()?);
    Ok(())
}

/// Length of a whole answer on the wire.
async fn answer_bytes(target: &Target) -> Result<u64, CliError> {
    let mut connection = target.client.connect().await?;
    connection.write_all(&target.client.post_bytes(CHAT_PATH, &target.workload.request(0))).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, connection.read_to_end(&mut answer)).await??;
    if !answer.starts_with(b"HTTP/1.1 200") {
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        return Err(ClientError::Unexpected(format!("a first request got {line:?}")).into());
    }
    Ok(answer.len() as u64)
}

async fn disconnect_all(
    target: &Target,
    args: &DisconnectsArgs,
    answer_bytes: u64,
) -> Result<[u64; 3], CliError> {
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..args.concurrency {
        let (target, next, all) = (target.clone(), Arc::clone(&next), args.disconnects);
        tasks.spawn(async move {
            let mut counts = [0; 3];
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= all {
                    return Ok::<_, CliError>(counts);
                }
                let left =
                    tokio::time::timeout(PATIENCE, come_and_go(&target, index, answer_bytes)).await??;
                counts[left as usize] += 1;
            }
        });
    }
    let mut sum = [0; 3];
    while let Some(joined) = tasks.join_next().await {
        for (sum, count) in sum.iter_mut().zip(joined??) {
            *sum += count;
        }
    }
    Ok(sum)
}

/// Sends and reads as many bytes as the seed says, then ends the connection, half of the time by a reset.
async fn come_and_go(target: &Target, index: u64, answer_bytes: u64) -> Result<Left, CliError> {
    let request = target.client.post_bytes(CHAT_PATH, &target.workload.request(index));
    let mut rng = generator(!target.workload.seed, index);
    let at = rng.random_range(0..request.len() as u64 + answer_bytes);
    let mut connection = target.client.connect().await?;
    if rng.random() {
        connection.set_zero_linger()?;
    }
    let (sent, to_read) = match at.checked_sub(request.len() as u64) {
        None => (&request[..at as usize], 0),
        Some(to_read) => (&request[..], to_read),
    };
    connection.write_all(sent).await?;
    Ok(match (sent.len() < request.len(), read(&mut connection, to_read).await) {
        (true, _) => Left::Asking,
        (false, true) => Left::Reading,
        (false, false) => Left::TooLate,
    })
}

/// Whether so many bytes came before the end.
async fn read(connection: &mut TcpStream, mut bytes: u64) -> bool {
    let mut buffer = [0; 4096];
    while bytes > 0 {
        let room = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        match connection.read(&mut buffer[..room]).await {
            Ok(0) | Err(_) => return false,
            Ok(count) => bytes -= count as u64,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of `/metrics` of a server that did `steps` and holds nothing but what is given.
    fn view(steps: u64, name: &str, value: f64) -> ServerView {
        let names = [
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
            "process_resident_memory_bytes",
            "sostenuto:engine_resident_memory_bytes",
            "sostenuto:engine_restarts_total",
        ];
        let held = |other: &str| if other == name { value } else { 0.0 };
        let mut page: String = names.iter().map(|other| format!("{other} {}\n", held(other))).collect();
        let open = if name == "sostenuto:open_connections" { value } else { 1.0 };
        let start = if name == "process_start_time_seconds" { value } else { 7.0 };
        page += &format!("sostenuto:open_connections {open}\nprocess_start_time_seconds {start}\n");
        page += &format!("sostenuto:engine_steps_total {steps}\n");
        ServerView::parse(&page).unwrap()
    }

    /// Rules broken after so many milliseconds.
    fn broken_after(millis: u64, steps: u64, name: &str, value: f64) -> usize {
        let mut findings = Findings::new("disconnects");
        let views = [&view(5, "", 0.0), &view(6, "", 0.0), &view(steps, name, value)];
        what_is_left(&mut findings, views, Duration::from_millis(millis)).unwrap();
        findings.broken()
    }

    fn broken(steps: u64, name: &str, value: f64) -> usize {
        broken_after(1000, steps, name, value)
    }

    #[test]
    fn whatever_is_not_free_again_breaks_a_rule() {
        assert_eq!(broken(8, "", 0.0), 0);
        assert_eq!(broken(9, "", 0.0), 1, "three steps");
        assert_eq!(broken_after(20, 9, "", 0.0), 0, "short steps");
        for name in [
            "vllm:num_requests_running",
            "vllm:num_requests_waiting",
            "vllm:kv_cache_usage_perc",
            "sostenuto:open_connections",
            "process_start_time_seconds",
            "sostenuto:engine_restarts_total",
        ] {
            assert_eq!(broken(8, name, 2.0), 1, "{name}");
        }
    }
}
