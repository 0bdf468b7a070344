//! Readers that take a few bytes a second, beside readers that take all they can.

use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::findings::Findings;
use super::server::ServerView;
use super::{CommonArgs, Target};
use crate::bench::serve::driver::{Pace, Run, Until};
use crate::bench::serve::goodput::Goals;
use crate::bench::serve::tally::{Latencies, Tally};
use crate::client::CHAT_PATH;
use crate::error::CliError;

/// Bytes that the operating system keeps for a slow reader, so that the server feels it.
const RECEIVE_BUFFER_BYTES: u32 = 2048;
/// How much slower the fast readers may be beside slow ones.
const MAX_RATIO: f64 = 1.10;
/// For one answer, and for the server to be idle again.
const PATIENCE: Duration = Duration::from_secs(600);

/// Arguments of `bench stress slow-readers`.
#[derive(Debug, Args)]
pub(crate) struct SlowReadersArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Fast readers, and as many others.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1 << 14))]
    readers: u64,
    /// Bytes that a slow reader takes in a second.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    bytes_per_second: u32,
    /// Answers that each fast reader reads in a round.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..))]
    answers: u64,
    /// Rounds; in each, the others are fast once and slow once.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// What the fast readers met with.
#[derive(Debug, Default)]
struct Met {
    complete: u64,
    refused: u64,
    failed: u64,
    gaps: Latencies,
    whole: Latencies,
}

impl Met {
    fn add(&mut self, tally: &Tally) {
        self.complete += tally.complete;
        self.refused += tally.refusals();
        self.failed += tally.failures();
        self.gaps.add(&tally.gaps);
        self.whole.add(&tally.whole);
    }
}

/// Measures the fast readers beside fast and beside slow ones, in turn.
pub(crate) async fn run(args: &SlowReadersArgs) -> Result<Findings, CliError> {
    let target = args.common.open().await?;
    let (mut beside_fast, mut beside_slow) = (Met::default(), Met::default());
    for _ in 0..args.rounds {
        beside_fast.add(&measure(&target, args, false).await?);
        beside_slow.add(&measure(&target, args, true).await?);
    }
    let after = ServerView::when_idle(&target.client, PATIENCE).await?;

    let mut findings = Findings::new("slow-readers");
    let expected = u64::from(args.rounds) * args.readers * args.answers;
    compare(&mut findings, &beside_fast, &beside_slow, expected);
    let idle = after.is_idle()?;
    findings.rule("the server is idle afterwards", idle, "= true", idle);
    Ok(findings)
}

/// Adds what the fast readers, with `expected` answers in each case, met beside fast and beside slow ones.
fn compare(findings: &mut Findings, beside_fast: &Met, beside_slow: &Met, expected: u64) {
    for (name, met) in [("fast", beside_fast), ("slow", beside_slow)] {
        findings.exactly(format!("answers of fast readers beside {name} ones"), met.complete, expected);
        findings.fact(format!("refused or failed beside {name} ones"), met.refused + met.failed);
        findings
            .fact(format!("end to end beside {name} ones, mean ms"), format!("{:.2}", met.whole.mean_ms()));
        let p99_ms = met.gaps.quantile_ms(0.99);
        findings.fact(format!("inter-token latency beside {name} ones, p99 ms"), format!("{p99_ms:.2}"));
    }
    let ratios = [
        ("end to end, slow to fast", beside_slow.whole.mean_ms() / beside_fast.whole.mean_ms()),
        (
            "inter-token latency p99, slow to fast",
            beside_slow.gaps.quantile_ms(0.99) / beside_fast.gaps.quantile_ms(0.99),
        ),
    ];
    for (what, ratio) in ratios {
        findings.rule(what, format!("{ratio:.3}"), format!("<= {MAX_RATIO:.2}"), ratio <= MAX_RATIO);
    }
}

/// The fast readers' tally, beside as many others with requests of the same kind.
async fn measure(target: &Target, args: &SlowReadersArgs, slow: bool) -> Result<Tally, CliError> {
    ServerView::when_idle(&target.client, PATIENCE).await?;
    let mut others = target.clone();
    others.workload.seed = !target.workload.seed;
    let mut companions = JoinSet::new();
    if slow {
        for index in 0..args.readers {
            companions.spawn(read_slowly(others.clone(), index, args.bytes_per_second));
        }
    } else {
        let run = run_of(others, args.readers, Until::Requests(args.readers));
        companions.spawn(async move {
            // Its answers are not counted, so what becomes of them does not matter.
            let _ = run.drive(Goals::default(), None, |_| {}, std::future::pending()).await;
        });
    }
    let run = run_of(target.clone(), args.readers, Until::Requests(args.readers * args.answers));
    run.drive(Goals::default(), None, |_| {}, std::future::pending()).await
}

fn run_of(target: Target, readers: u64, until: Until) -> Run {
    let pace = Pace::Closed { concurrency: readers as usize };
    Run { client: target.client, workload: target.workload, pace, until, timeout: PATIENCE }
}

/// Reads until it is dropped or the answer ends. That it can't connect or is cut off is no failure of the fast readers.
async fn read_slowly(target: Target, index: u64, bytes_per_second: u32) {
    let Ok(mut connection) = target.client.connect_with_buffer(RECEIVE_BUFFER_BYTES).await else { return };
    let request = target.client.post_bytes(CHAT_PATH, &target.workload.request(index));
    if connection.write_all(&request).await.is_err() {
        return;
    }
    let mut tick = tokio::time::interval(Duration::from_secs(1) / bytes_per_second);
    let mut byte = [0];
    while matches!(connection.read(&mut byte).await, Ok(1)) {
        tick.tick().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(complete: u64, gap_ms: u64, whole_ms: u64) -> Met {
        let mut met = Met { complete, ..Met::default() };
        met.gaps.record(Duration::from_millis(gap_ms));
        met.whole.record(Duration::from_millis(whole_ms));
        met
    }

    #[test]
    fn readers_that_slow_others_or_cost_them_answers_break_a_rule() {
        let broken = |beside_slow: Met| {
            let mut findings = Findings::new("slow-readers");
            compare(&mut findings, &met(10, 100, 1000), &beside_slow, 10);
            findings.broken()
        };
        assert_eq!(broken(met(10, 109, 1090)), 0);
        assert_eq!(broken(met(10, 112, 1000)), 1);
        assert_eq!(broken(met(10, 100, 1120)), 1);
        assert_eq!(broken(met(9, 100, 1000)), 1);
    }
}
