//! How fast requests leave the queue, to tell those who are refused when to come back.

use std::time::Duration;

/// Share of the newest observation in the mean.
const NEWEST: f64 = 0.2;
/// Bounds of what is told, so that one odd observation sends nobody away for good.
const LONGEST: Duration = Duration::from_secs(600);
const SHORTEST: Duration = Duration::from_secs(1);

/// Mean time between two starts of requests while others wait.
#[derive(Debug, Default)]
pub(crate) struct DrainRate {
    mean_seconds: Option<f64>,
    started: u64,
    /// When requests began to wait, or the last one started since.
    waiting_since: Option<Duration>,
}

impl DrainRate {
    /// Takes in the state after a step: time, whether requests wait, and how many ever started.
    pub(crate) fn observe(&mut self, now: Duration, waits: bool, started: u64) {
        let newly = started - self.started;
        self.started = started;
        if let (Some(since), true) = (self.waiting_since, newly > 0) {
            let sample = now.saturating_sub(since).as_secs_f64() / newly as f64;
            let mean = self.mean_seconds.unwrap_or(sample);
            self.mean_seconds = Some(mean + NEWEST * (sample - mean));
        }
        if !waits {
            self.waiting_since = None;
        } else if newly > 0 || self.waiting_since.is_none() {
            self.waiting_since = Some(now);
        }
    }

    /// When a place in the full queue is likely to be free: after the mean time between starts, or as long again as
    /// the present wait where that is longer.
    pub(crate) fn retry_after(&self, now: Duration) -> Duration {
        let mean = Duration::from_secs_f64(self.mean_seconds.unwrap_or(0.0).min(LONGEST.as_secs_f64()));
        let wait = self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        mean.max(wait).clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn time_between_starts_counts_only_while_requests_wait() {
        let mut rate = DrainRate::default();
        rate.observe(seconds(0), false, 1);
        rate.observe(seconds(1_000), true, 2);
        rate.observe(seconds(1_010), true, 3);
        rate.observe(seconds(1_030), true, 5);
        assert_eq!(rate.retry_after(seconds(1_030)), seconds(10));
        rate.observe(seconds(1_040), false, 6);
        rate.observe(seconds(9_000), false, 7);
        assert_eq!(rate.retry_after(seconds(9_000)), seconds(10));
    }

    #[test]
    fn long_wait_counts_before_it_ends_and_bounds_hold() {
        let mut rate = DrainRate::default();
        assert_eq!(rate.retry_after(seconds(0)), SHORTEST);
        rate.observe(seconds(0), true, 1);
        assert_eq!(rate.retry_after(seconds(40)), seconds(40));
        assert_eq!(rate.retry_after(seconds(100_000)), LONGEST);
    }
}
