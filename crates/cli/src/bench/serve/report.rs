//! What a run came to, as a table and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::tally::{Latencies, Tally};
use super::timeline::Slot;
use crate::output::{Style, grouped};

/// Times in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Times {
    /// How many.
    pub(crate) count: u64,
    /// Mean.
    pub(crate) mean_ms: f64,
    /// Median.
    pub(crate) p50_ms: f64,
    /// 90 % are at most this.
    pub(crate) p90_ms: f64,
    /// 99 % are at most this.
    pub(crate) p99_ms: f64,
    /// The longest.
    pub(crate) max_ms: f64,
}

impl Times {
    fn of(latencies: &Latencies) -> Times {
        Times {
            count: latencies.len(),
            mean_ms: latencies.mean_ms(),
            p50_ms: latencies.quantile_ms(0.5),
            p90_ms: latencies.quantile_ms(0.9),
            p99_ms: latencies.quantile_ms(0.99),
            max_ms: latencies.max_ms(),
        }
    }
}

/// What a run came to. Rates are over the whole run, from the first request to the last end.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    url: String,
    model: String,
    load: String,
    seed: u64,
    seconds: f64,
    sent: u64,
    unsent: u64,
    complete: u64,
    good: u64,
    refused: BTreeMap<u16, u64>,
    refused_without_retry_after: u64,
    retry_after_seconds_max: u64,
    failed: BTreeMap<String, u64>,
    prompt_tokens: u64,
    completion_tokens: u64,
    requests_per_second: f64,
    goodput_per_second: f64,
    completion_tokens_per_second: f64,
    ttft: Times,
    inter_token: Times,
    tpot: Times,
    e2e: Times,
    refusal: Times,
    lateness: Times,
    interval_seconds: u64,
    intervals: Vec<Slot>,
}

impl Report {
    /// Reads a tally that is complete. `load` says in words how requests were sent.
    pub(crate) fn new(
        url: String,
        model: String,
        load: String,
        seed: u64,
        tally: &Tally,
        seconds: f64,
    ) -> Report {
        let per_second = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        Report {
            url,
            model,
            load,
            seed,
            seconds,
            sent: tally.sent,
            unsent: tally.unsent,
            complete: tally.complete,
            good: tally.good,
            refused: tally.refused.clone(),
            refused_without_retry_after: tally.refused_without_time,
            retry_after_seconds_max: tally.retry_after_seconds_max,
            failed: tally.failed.iter().map(|(failure, count)| (failure.to_string(), *count)).collect(),
            prompt_tokens: tally.prompt_tokens,
            completion_tokens: tally.completion_tokens,
            requests_per_second: per_second(tally.complete),
            goodput_per_second: per_second(tally.good),
            completion_tokens_per_second: per_second(tally.completion_tokens),
            ttft: Times::of(&tally.first),
            inter_token: Times::of(&tally.gaps),
            tpot: Times::of(&tally.per_token),
            e2e: Times::of(&tally.whole),
            refusal: Times::of(&tally.refusal),
            lateness: Times::of(&tally.late),
            interval_seconds: tally.timeline.width_seconds(),
            intervals: tally.timeline.slots().to_vec(),
        }
    }

    /// Writes the table.
    ///
    /// # Errors
    /// Those of `out`.
    pub(crate) fn write_table(&self, out: &mut impl Write, style: Style) -> io::Result<()> {
        let (bold, reset) = (style.bold(), style.reset());
        writeln!(out, "target      {}, model {}", self.url, self.model)?;
        writeln!(out, "load        {}, seed {}", self.load, self.seed)?;
        writeln!(
            out,
            "requests    {} sent, {} complete, {} refused, {} failed in {:.1} s",
            grouped(self.sent),
            grouped(self.complete),
            grouped(self.refused.values().sum()),
            grouped(self.failed.values().sum()),
            self.seconds
        )?;
        writeln!(
            out,
            "tokens      {} of prompts, {} of answers",
            grouped(self.prompt_tokens),
            grouped(self.completion_tokens)
        )?;
        writeln!(
            out,
            "throughput  {:.2} requests/s, {:.1} tokens/s of answers",
            self.requests_per_second, self.completion_tokens_per_second
        )?;
        let share = 100.0 * self.good as f64 / (self.sent + self.unsent).max(1) as f64;
        writeln!(out, "goodput     {:.2} requests/s, {share:.1} % of those due", self.goodput_per_second)?;
        writeln!(
            out,
            "\n{bold}{:<24}{:>10}{:>12}{:>12}{:>12}{:>12}{:>12}{reset}",
            "milliseconds", "count", "mean", "p50", "p90", "p99", "max"
        )?;
        for (name, times) in [
            ("time to first token", &self.ttft),
            ("inter-token latency", &self.inter_token),
            ("time per output token", &self.tpot),
            ("end to end", &self.e2e),
            ("refusal", &self.refusal),
            ("sent later than due", &self.lateness),
        ] {
            write_times(out, name, times)?;
        }
        self.write_trouble(out)
    }

    fn write_trouble(&self, out: &mut impl Write) -> io::Result<()> {
        let lines =
            self.refused.iter().map(|(status, count)| format!("refused     {} × {status}", grouped(*count)));
        let failures =
            self.failed.iter().map(|(kind, count)| format!("failed      {} × {kind}", grouped(*count)));
        let lines: Vec<String> = lines.chain(failures).collect();
        if !lines.is_empty() || self.unsent > 0 {
            writeln!(out)?;
        }
        for line in lines {
            writeln!(out, "{line}")?;
        }
        if !self.refused.is_empty() {
            writeln!(
                out,
                "            {} without Retry-After; the longest asked for {} s",
                grouped(self.refused_without_retry_after),
                self.retry_after_seconds_max
            )?;
        }
        if self.unsent > 0 {
            writeln!(out, "not sent    {}: --max-in-flight was reached", grouped(self.unsent))?;
        }
        Ok(())
    }
}

fn write_times(out: &mut impl Write, name: &str, times: &Times) -> io::Result<()> {
    if times.count == 0 {
        return Ok(());
    }
    writeln!(
        out,
        "{name:<24}{:>10}{:>12.2}{:>12.2}{:>12.2}{:>12.2}{:>12.2}",
        times.count, times.mean_ms, times.p50_ms, times.p90_ms, times.p99_ms, times.max_ms
    )
}
