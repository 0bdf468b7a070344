//! When requests are sent.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand_distr::{Distribution, Gamma};

use super::workload::generator;
use crate::error::CliError;

/// Times of arrival of an open loop, from its start on: intervals are gamma-distributed with mean 1 / rate. The shape
/// is the burstiness, as in vLLM: 1 is a Poisson process, less comes in bursts, more is more even.
#[derive(Debug)]
pub(crate) struct Arrivals {
    rng: Xoshiro256PlusPlus,
    interval: Gamma<f64>,
    next_seconds: f64,
}

impl Arrivals {
    /// Arrivals at `rate` per second.
    ///
    /// # Errors
    /// A rate or a burstiness that is not a finite number above 0.
    pub(crate) fn new(rate: f64, burstiness: f64, seed: u64) -> Result<Arrivals, CliError> {
        let is_sound = |value: f64| value > 0.0 && value.is_finite();
        let interval = Gamma::new(burstiness, 1.0 / (rate * burstiness));
        let interval = interval.ok().filter(|_| is_sound(rate) && is_sound(burstiness));
        let interval = interval.ok_or_else(|| {
            CliError::new(format!("--rate {rate} with --burstiness {burstiness}: both must be above 0"))
        })?;
        Ok(Arrivals { rng: generator(seed, u64::MAX), interval, next_seconds: 0.0 })
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.next_seconds += self.interval.sample(&mut self.rng);
        Duration::try_from_secs_f64(self.next_seconds).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean interval and its coefficient of variation, over many.
    fn intervals(burstiness: f64) -> (f64, f64) {
        let times: Vec<f64> =
            Arrivals::new(50.0, burstiness, 3).unwrap().take(20_000).map(|at| at.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        (mean, variance.sqrt() / mean)
    }

    #[test]
    fn intervals_have_the_rate_and_the_burstiness() {
        for burstiness in [0.25, 1.0, 4.0] {
            let (mean, variation) = intervals(burstiness);
            assert!((mean * 50.0 - 1.0).abs() < 0.06, "mean {mean} at {burstiness}");
            // The coefficient of variation of a gamma distribution is 1 / sqrt(shape).
            let expected = 1.0 / burstiness.sqrt();
            assert!((variation / expected - 1.0).abs() < 0.06, "{variation} at {burstiness}");
        }
    }

    #[test]
    fn arrivals_follow_from_the_seed() {
        let times = |seed| Arrivals::new(5.0, 1.0, seed).unwrap().take(9).collect::<Vec<_>>();
        assert_eq!(times(1), times(1));
        assert_ne!(times(1), times(2));
    }

    #[test]
    fn impossible_rates_are_refused() {
        for (rate, burstiness) in [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (f64::NAN, 1.0), (f64::INFINITY, 1.0)]
        {
            assert!(Arrivals::new(rate, burstiness, 1).is_err(), "{rate} {burstiness}");
        }
    }
}
