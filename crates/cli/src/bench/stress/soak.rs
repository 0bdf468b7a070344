//! Very many requests, and the server's memory over them.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::findings::Findings;
use super::server::ServerView;
use super::{CommonArgs, Target};
use crate::bench::serve::driver::{Pace, Run, Until};
use crate::bench::serve::goodput::Goals;
use crate::bench::serve::tally::Tally;
use crate::error::CliError;

/// Bytes per request that the resident memory may grow by.
const MAX_SLOPE: f64 = 1.0;
/// Share of the requests after which memory is looked at.
const WARM_UP: f64 = 0.1;
/// Looks that are kept; beyond it every second one goes and the others come half as often.
const MAX_SAMPLES: usize = 400;
/// For one answer, and for the server to be idle again.
const PATIENCE: Duration = Duration::from_secs(600);

/// Arguments of `bench stress soak`.
#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Requests in all.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(10..))]
    requests: u64,
    /// Requests under way.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=1 << 13))]
    concurrency: u64,
}

/// Sends all requests and watches the memory meanwhile.
pub(crate) async fn run(args: &SoakArgs) -> Result<Findings, CliError> {
    let target = args.common.open().await?;
    let before = ServerView::when_idle(&target.client, PATIENCE).await?;
    let (tally, samples) = drive_and_watch(&target, args, before.ended_answers()?).await?;
    let after = ServerView::when_idle(&target.client, PATIENCE).await?;

    let mut findings = Findings::new("soak");
    findings.exactly("complete", tally.complete, args.requests);
    findings.fact("refused or failed", tally.refusals() + tally.failures());
    findings.fact("requests/s", format!("{:.1}", tally.complete as f64 / tally.elapsed().as_secs_f64()));
    findings.fact("resident bytes before", before.resident_bytes()?);
    findings.fact("resident bytes after", after.resident_bytes()?);
    findings.fact("looks after the warm-up", samples.len());
    match Slope::of(&samples) {
        Some(slope) => {
            findings.fact("bytes per request, upper end of 95 %", format!("{:.3}", slope.upper));
            let holds = slope.median <= MAX_SLOPE;
            findings.rule(
                "bytes per request",
                format!("{:.3}", slope.median),
                format!("<= {MAX_SLOPE}"),
                holds,
            );
        }
        None => findings.rule("bytes per request", "unknown", "two looks", false),
    }
    for (what, name) in [("open files", "process_open_fds"), ("threads", "process_threads")] {
        let (then, now) = (before.value(name)?, after.value(name)?);
        findings.rule(format!("{what}, afterwards"), now, format!("<= {then}"), now <= then);
    }
    let same = before.same_processes(&after)?;
    findings.rule("the same processes run", same, "= true", same);
    let idle = after.is_idle()?;
    findings.rule("the server is idle afterwards", idle, "= true", idle);
    Ok(findings)
}

/// The tally, and (requests, resident bytes) at looks after the warm-up.
async fn drive_and_watch(
    target: &Target,
    args: &SoakArgs,
    answers_before: f64,
) -> Result<(Tally, Vec<(f64, f64)>), CliError> {
    let run = Run {
        client: target.client.clone(),
        workload: target.workload.clone(),
        pace: Pace::Closed { concurrency: args.concurrency as usize },
        until: Until::Requests(args.requests),
        timeout: PATIENCE,
    };
    let mut samples = Vec::new();
    let watch = async {
        let mut interval = Duration::from_millis(50);
        loop {
            tokio::time::sleep_until(Instant::now() + interval).await;
            let view = ServerView::read(&target.client).await?;
            let answers = view.ended_answers()? - answers_before;
            if answers >= WARM_UP * args.requests as f64 {
                samples.push((answers, view.resident_bytes()?));
            }
            if samples.len() >= MAX_SAMPLES {
                let mut keep = false;
                samples.retain(|_| {
                    keep = !keep;
                    keep
                });
                interval *= 2;
            }
        }
    };
    let tally = tokio::select! {
        tally = run.drive(Goals::default(), None, |_| {}, std::future::pending()) => tally?,
        failed = watch => {
            let failed: Result<std::convert::Infallible, CliError> = failed;
            match failed { Err(error) => return Err(error), Ok(never) => match never {} }
        }
    };
    Ok((tally, samples))
}

/// A line's slope by Theil and Sen: the median of the slopes between all pairs, which outliers hardly move.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slope {
    median: f64,
    /// Upper end of the 95 % confidence interval, by Sen's normal approximation.
    upper: f64,
}

impl Slope {
    /// `None` without two points at different places.
    fn of(points: &[(f64, f64)]) -> Option<Slope> {
        let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
        for (index, (x, y)) in points.iter().enumerate() {
            let later = points[index + 1..].iter().filter(|(other, _)| other != x);
            slopes.extend(later.map(|(other_x, other_y)| (other_y - y) / (other_x - x)));
        }
        slopes.sort_by(f64::total_cmp);
        let last = slopes.len().checked_sub(1)?;
        let median = (slopes[last / 2] + slopes[last.div_ceil(2)]) / 2.0;
        let n = points.len() as f64;
        let width = 1.96 * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let upper = ((slopes.len() as f64 + width) / 2.0).ceil() as usize;
        Some(Slope { median, upper: slopes[upper.min(last)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_is_that_of_the_line_despite_outliers() {
        let mut points: Vec<(f64, f64)> =
            (0..100).map(|x| (f64::from(x), 7.0 + 3.0 * f64::from(x))).collect();
        points[10].1 = 1e9;
        points[70].1 = -1e9;
        let slope = Slope::of(&points).unwrap();
        assert!((slope.median - 3.0).abs() < 1e-9, "{slope:?}");
    }

    #[test]
    fn upper_end_is_above_the_median_where_points_scatter() {
        let points: Vec<(f64, f64)> = (0..200).map(|x| (f64::from(x), f64::from((x * 7919) % 101))).collect();
        let slope = Slope::of(&points).unwrap();
        assert!(slope.median.abs() < 0.1 && slope.upper > slope.median, "{slope:?}");
        assert_eq!(Slope::of(&[(1.0, 2.0)]), None);
        assert_eq!(Slope::of(&[(1.0, 2.0), (1.0, 3.0)]), None);
    }
}
