//! What is kept of many requests: counts and histograms, of bounded size however many there are.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::Instant;

use super::exchange::{Answer, Failure, Outcome};
use super::goodput::Goals;
use super::timeline::Timeline;

/// Longest time that is told apart, in microseconds: an hour.
const MAX_MICROSECONDS: u64 = 3_600_000_000;

/// Times, to three figures.
#[derive(Debug)]
pub(crate) struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MAX_MICROSECONDS, 3);
        Self(histogram.expect("the bounds are in order and three figures are allowed"))
    }
}

impl Latencies {
    /// Adds one.
    pub(crate) fn record(&mut self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.0.saturating_record(microseconds.max(1));
    }

    /// Adds all of another.
    pub(crate) fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("both have the same bounds");
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    /// The time in milliseconds that this share (0 to 1) of them does not pass; 0 if there are none.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1e3
    }

    /// Their mean in milliseconds.
    pub(crate) fn mean_ms(&self) -> f64 {
        self.0.mean() / 1e3
    }

    /// The longest in milliseconds.
    pub(crate) fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

/// Everything that is kept of a run.
#[derive(Debug)]
pub(crate) struct Tally {
    start: Instant,
    goals: Goals,
    csv: Option<BufWriter<File>>,
    /// Requests sent.
    pub(crate) sent: u64,
    /// Requests that were due and not sent, because too many were under way.
    pub(crate) unsent: u64,
    /// Whole answers.
    pub(crate) complete: u64,
    /// Whole answers that met the goals.
    pub(crate) good: u64,
    /// Refusals by status.
    pub(crate) refused: BTreeMap<u16, u64>,
    /// Refusals without a `Retry-After` of at least a second.
    pub(crate) refused_without_time: u64,
    /// Largest `Retry-After`.
    pub(crate) retry_after_seconds_max: u64,
    /// What failed, by kind.
    pub(crate) failed: BTreeMap<Failure, u64>,
    /// Prompt tokens of whole answers.
    pub(crate) prompt_tokens: u64,
    /// Tokens of whole answers.
    pub(crate) completion_tokens: u64,
    /// From sending to the first output.
    pub(crate) first: Latencies,
    /// From one output to the next.
    pub(crate) gaps: Latencies,
    /// Mean time of an output token after the first, of each answer.
    pub(crate) per_token: Latencies,
    /// From sending to the end.
    pub(crate) whole: Latencies,
    /// From the time a request was due to the time it was sent.
    pub(crate) late: Latencies,
    /// From sending to the refusal.
    pub(crate) refusal: Latencies,
    /// The run second by second.
    pub(crate) timeline: Timeline,
}

impl Tally {
    /// An empty tally of a run that starts now. `csv` gets a line for each request.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn new(goals: Goals, csv: Option<&Path>) -> io::Result<Tally> {
        let mut csv = csv.map(File::create).transpose()?.map(BufWriter::new);
        if let Some(csv) = &mut csv {
            writeln!(
                csv,
                "request,sent_s,end,status,ttft_ms,tpot_ms,e2e_ms,prompt_tokens,completion_tokens,good"
            )?;
        }
        Ok(Tally {
            start: Instant::now(),
            goals,
            csv,
            sent: 0,
            unsent: 0,
            complete: 0,
            good: 0,
            refused: BTreeMap::new(),
            refused_without_time: 0,
            retry_after_seconds_max: 0,
            failed: BTreeMap::new(),
            prompt_tokens: 0,
            completion_tokens: 0,
            first: Latencies::default(),
            gaps: Latencies::default(),
            per_token: Latencies::default(),
            whole: Latencies::default(),
            late: Latencies::default(),
            refusal: Latencies::default(),
            timeline: Timeline::default(),
        })
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Counts a request as sent, so much later than it was due.
    pub(crate) fn send(&mut self, late: Duration) {
        self.sent += 1;
        self.late.record(late);
    }

    /// Requests that failed.
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Requests that were refused.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }

    /// Takes in what came of request `index`, sent at `sent`.
    ///
    /// # Errors
    /// The CSV file can't be written.
    pub(crate) fn record(&mut self, index: u64, sent: Instant, outcome: &Outcome) -> io::Result<()> {
        let elapsed = self.start.elapsed();
        match outcome {
            Outcome::Complete(answer) => self.record_answer(elapsed, answer),
            Outcome::Refused { status, retry_after_seconds } => {
                *self.refused.entry(*status).or_default() += 1;
                let seconds = retry_after_seconds.unwrap_or(0);
                self.refused_without_time += u64::from(seconds == 0);
                self.retry_after_seconds_max = self.retry_after_seconds_max.max(seconds);
                self.refusal.record(sent.elapsed());
                self.timeline.at(elapsed).refused += 1;
            }
            Outcome::Failed(failure) => {
                *self.failed.entry(*failure).or_default() += 1;
                self.timeline.at(elapsed).failed += 1;
            }
        }
        self.write_line(index, sent, outcome)
    }

    fn record_answer(&mut self, elapsed: Duration, answer: &Answer) {
        let is_good = self.goals.are_met_by(answer);
        self.complete += 1;
        self.good += u64::from(is_good);
        self.prompt_tokens += answer.usage.prompt_tokens;
        self.completion_tokens += answer.usage.completion_tokens;
        self.first.record(answer.first);
        self.whole.record(answer.whole);
        answer.gaps.iter().for_each(|gap| self.gaps.record(*gap));
        if let Some(time) = answer.per_output_token() {
            self.per_token.record(time);
        }
        let slot = self.timeline.at(elapsed);
        slot.complete += 1;
        slot.good += u64::from(is_good);
        slot.completion_tokens += answer.usage.completion_tokens;
    }

    fn write_line(&mut self, index: u64, sent: Instant, outcome: &Outcome) -> io::Result<()> {
        let Some(csv) = &mut self.csv else { return Ok(()) };
        let sent_s = (sent - self.start).as_secs_f64();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        match outcome {
            Outcome::Complete(answer) => {
                let tpot = answer.per_output_token().map(|time| format!("{:.3}", ms(time)));
                writeln!(
                    csv,
                    "{index},{sent_s:.6},complete,200,{:.3},{},{:.3},{},{},{}",
                    ms(answer.first),
                    tpot.unwrap_or_default(),
                    ms(answer.whole),
                    answer.usage.prompt_tokens,
                    answer.usage.completion_tokens,
                    self.goals.are_met_by(answer),
                )
            }
            Outcome::Refused { status, .. } => {
                writeln!(csv, "{index},{sent_s:.6},refused,{status},,,,,,false")
            }
            Outcome::Failed(failure) => writeln!(csv, "{index},{sent_s:.6},{failure},,,,,,,false"),
        }
    }

    /// Writes what is left of the CSV file.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        self.csv.as_mut().map_or(Ok(()), BufWriter::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_sorted_times() {
        let mut latencies = Latencies::default();
        for ms in (1..=1000).rev() {
            latencies.record(Duration::from_millis(ms));
        }
        for (share, expected) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = latencies.quantile_ms(share);
            assert!((found / expected - 1.0).abs() < 0.002, "{share}: {found}");
        }
        assert!((latencies.mean_ms() / 500.5 - 1.0).abs() < 0.002);
        latencies.record(Duration::from_secs(1_000_000));
        assert!(
            latencies.max_ms() <= MAX_MICROSECONDS as f64 / 1e3 * 1.001,
            "too long a time counts as the longest"
        );
    }

    #[test]
    fn refusals_without_a_time_to_wait_are_told_apart() {
        let mut tally = Tally::new(Goals::default(), None).unwrap();
        for retry_after_seconds in [Some(3), None, Some(0), Some(1)] {
            let refused = Outcome::Refused { status: 429, retry_after_seconds };
            tally.record(0, Instant::now(), &refused).unwrap();
        }
        assert_eq!((tally.refusals(), tally.refused_without_time, tally.retry_after_seconds_max), (4, 2, 3));
    }
}
