//! Many times the capacity, in an open loop.

use std::time::Duration;

use clap::Args;

use super::findings::Findings;
use super::server::ServerView;
use super::{CommonArgs, Target};
use crate::bench::serve::driver::{Pace, Run, Until};
use crate::bench::serve::goodput::{Goal, Goals};
use crate::bench::serve::parse_seconds;
use crate::bench::serve::tally::Tally;
use crate::error::CliError;

/// Share of the peak goodput that must be left.
const MIN_SHARE: f64 = 0.95;
/// For one answer, and for the server to be idle again.
const PATIENCE: Duration = Duration::from_secs(600);
/// Requests under way at most.
const MAX_IN_FLIGHT: usize = 8192;

/// Time between sends. Where clients and server share a machine, a wake for each of a thousand requests a second would take
/// more from the server than the requests do.
const SEND_TICK: Duration = Duration::from_millis(4);

/// Arguments of `bench stress overload`.
#[derive(Debug, Args)]
pub(crate) struct OverloadArgs {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Seconds in which the peak is measured, in a closed loop, before the overload and again after it.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    calibration: Duration,
    /// The peak in requests/s, where it is known; it is not measured then.
    #[arg(long, value_name = "PER_SECOND", value_parser = parse_rate)]
    peak: Option<f64>,
    /// Requests under way while the peak is measured: at least as many as run at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 13))]
    concurrency: u64,
    /// Seconds of overload.
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = parse_seconds)]
    duration: Duration,
    /// Load, as a multiple of the peak.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    factor: f64,
    /// Goal that an answer must meet to count as good: ttft:MS, tpot:MS or e2el:MS; may be repeated.
    #[arg(long, value_name = "KIND:MS")]
    goodput: Vec<Goal>,
}

/// Measures the peak, then the goodput under overload.
pub(crate) async fn run(args: &OverloadArgs) -> Result<Findings, CliError> {
    let target = args.common.open().await?;
    let goals = Goals(args.goodput.clone());
    let mut findings = Findings::new("overload");
    let peak_before = match args.peak {
        Some(rate) => rate,
        None => measure_peak(&target, args, goals.clone(), "before", &mut findings).await?,
    };
    let rate = peak_before * args.factor;
    let pace = Pace::Open { rate, burstiness: 1.0, tick: SEND_TICK, max_in_flight: MAX_IN_FLIGHT };
    let overload = drive(&target, pace, args.duration, goals.clone()).await?;
    let after = ServerView::when_idle(&target.client, PATIENCE).await?;
    let peak_after = match args.peak {
        Some(rate) => rate,
        None => measure_peak(&target, args, goals, "after", &mut findings).await?,
    };
    // The speed of a machine drifts over minutes.
    let peak_rate = (peak_before + peak_after) / 2.0;

    findings.fact("peak goodput, requests/s", format!("{peak_rate:.2}"));
    findings.fact("load, requests/s", format!("{rate:.2}"));
    findings.fact("requests sent", overload.sent);
    findings.fact("complete", overload.complete);
    let goodput = good_per_second(&overload, args.duration);
    findings.fact("goodput, requests/s", format!("{goodput:.2}"));
    let share = goodput / peak_rate;
    findings.rule("share of the peak", format!("{share:.3}"), format!(">= {MIN_SHARE}"), share >= MIN_SHARE);
    findings.fact("refused", overload.refusals());
    findings.exactly("refused without Retry-After", overload.refused_without_time, 0);
    let other = overload.refused.iter().filter(|(status, _)| **status != 429).map(|(_, count)| count).sum();
    findings.exactly("refused other than by 429", other, 0);
    findings.exactly("failed", overload.failures(), 0);
    for (failure, count) in &overload.failed {
        findings.fact(format!("failed: {failure}"), count);
    }
    findings.exactly("not sent, too many under way", overload.unsent, 0);
    findings.fact("longest Retry-After, s", overload.retry_after_seconds_max);
    findings.fact("refusal, p50 ms", format!("{:.2}", overload.refusal.quantile_ms(0.5)));
    findings.fact("refusal, p99 ms", format!("{:.2}", overload.refusal.quantile_ms(0.99)));
    findings.fact("time to first token, p99 ms", format!("{:.1}", overload.first.quantile_ms(0.99)));
    findings.fact("sent later than due, p99 ms", format!("{:.2}", overload.late.quantile_ms(0.99)));
    let idle = after.is_idle()?;
    findings.rule("the server is idle afterwards", idle, "= true", idle);
    Ok(findings)
}

/// Good answers per second in a closed loop, `when`.
async fn measure_peak(
    target: &Target,
    args: &OverloadArgs,
    goals: Goals,
    when: &str,
    findings: &mut Findings,
) -> Result<f64, CliError> {
    let pace = Pace::Closed { concurrency: args.concurrency as usize };
    let peak = drive(target, pace, args.calibration, goals).await?;
    ServerView::when_idle(&target.client, PATIENCE).await?;
    findings.fact(format!("peak {when}, refused or failed"), peak.refusals() + peak.failures());
    let first = peak.first.quantile_ms(0.99);
    findings.fact(format!("peak {when}, time to first token, p99 ms"), format!("{first:.1}"));
    let rate = good_per_second(&peak, args.calibration);
    findings.fact(format!("peak {when}, requests/s"), format!("{rate:.2}"));
    match rate {
        0.0 => Err(CliError::new("no answer was complete while the peak was measured: it needs longer")),
        rate => Ok(rate),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        _ => Err(format!("{text:?} is not a number above 0")),
    }
}

async fn drive(target: &Target, pace: Pace, time: Duration, goals: Goals) -> Result<Tally, CliError> {
    let run = Run {
        client: target.client.clone(),
        workload: target.workload.clone(),
        pace,
        until: Until::Elapsed(time),
        timeout: PATIENCE,
    };
    run.drive(goals, None, |_| {}, std::future::pending()).await
}

/// Good answers that ended within `window` of the start, per second. What ends later ends without the load.
fn good_per_second(tally: &Tally, window: Duration) -> f64 {
    let width = tally.timeline.width_seconds();
    let slots = tally.timeline.slots().iter().take((window.as_secs() / width).max(1) as usize);
    let good: u64 = slots.clone().map(|slot| slot.good).sum();
    good as f64 / (slots.len() as u64 * width).max(1) as f64
}
