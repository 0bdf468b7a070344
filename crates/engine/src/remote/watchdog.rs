//! Whether the engine makes progress. No clock: time comes in as durations.

use std::time::Duration;

/// When an engine counts as hung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchdogOptions {
    /// The least time without progress. Default 2 s.
    pub least: Duration,
    /// The least time while a step runs before any step was timed. Default 60 s.
    pub unmeasured: Duration,
}

impl Default for WatchdogOptions {
    fn default() -> Self {
        Self { least: Duration::from_secs(2), unmeasured: Duration::from_secs(60) }
    }
}

/// A step may take this many times what it is predicted to take.
const STEP_TIME_FACTOR: u32 = 20;
/// Classes of steps by rows: 1, 2, 3 to 4, 5 to 8, and so on.
const ROW_CLASSES: usize = 24;

/// The engine made no progress for too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no progress for {} s, {} s are allowed{}", .silent.as_secs_f32(), .allowed.as_secs_f32(), rows_text(*.rows))]
pub struct Hang {
    /// Without progress for so long.
    pub silent: Duration,
    /// So long was allowed.
    pub allowed: Duration,
    /// Rows of the step that runs; 0 between steps.
    pub rows: u64,
}

fn rows_text(rows: u64) -> String {
    match rows {
        0 => String::new(),
        rows => format!(" for a step of {rows} rows"),
    }
}

/// Adds up the time since the last sign of progress, and compares it with what the announced step may take: at least
/// `least`, and [`STEP_TIME_FACTOR`] times the predicted time.
#[derive(Debug)]
pub(crate) struct Watchdog {
    options: WatchdogOptions,
    silent: Duration,
    /// Rows of the step that runs; 0 between steps.
    rows: u64,
    /// By class of rows: a slowly falling maximum of the times measured.
    times: [Option<Duration>; ROW_CLASSES],
}

impl Watchdog {
    pub(crate) fn new(options: WatchdogOptions) -> Self {
        Self { options, silent: Duration::ZERO, rows: 0, times: [None; ROW_CLASSES] }
    }

    /// A new engine process; what was measured holds for it too.
    pub(crate) fn restart(&mut self) {
        (self.silent, self.rows) = (Duration::ZERO, 0);
    }

    pub(crate) fn step_begun(&mut self, rows: u64) {
        (self.silent, self.rows) = (Duration::ZERO, rows);
    }

    pub(crate) fn step_ended(&mut self, took: Duration) {
        if self.rows > 0 {
            let time = &mut self.times[class(self.rows)];
            let before = time.unwrap_or_default();
            *time = Some(took.max((before * 7 + took) / 8));
        }
        (self.silent, self.rows) = (Duration::ZERO, 0);
    }

    /// Time passed without a message.
    ///
    /// # Errors
    /// [`Hang`] if it is too much now.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<(), Hang> {
        self.silent += time;
        let allowed = self.allowed();
        match self.silent > allowed {
            true => Err(Hang { silent: self.silent, allowed, rows: self.rows }),
            false => Ok(()),
        }
    }

    fn allowed(&self) -> Duration {
        let step = match self.rows {
            0 => Duration::ZERO,
            rows => self.predict(rows).map_or(self.options.unmeasured, |time| time * STEP_TIME_FACTOR),
        };
        step.max(self.options.least)
    }

    /// The measured time of the step's class. Failing that, a smaller class's scaled by the rows, or a larger one's as it
    /// is: both are too long rather than too short, since a step's time grows with its rows and no faster.
    fn predict(&self, rows: u64) -> Option<Duration> {
        let class = class(rows);
        let smaller = (0..=class).rev().find_map(|i| Some(self.times[i]? * (1 << (class - i))));
        smaller.or_else(|| self.times[class..].iter().copied().flatten().next())
    }
}

fn class(rows: u64) -> usize {
    let class = rows.max(1).next_power_of_two().trailing_zeros() as usize;
    class.min(ROW_CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watchdog() -> Watchdog {
        Watchdog::new(WatchdogOptions::default())
    }

    #[test]
    fn silence_between_steps_adds_up_until_a_sign_of_progress() {
        let mut watchdog = watchdog();
        watchdog.wait(2 * SECOND).unwrap();
        watchdog.step_begun(0);
        watchdog.step_ended(Duration::ZERO);
        watchdog.wait(2 * SECOND).unwrap();
        let hang = watchdog.wait(Duration::from_millis(1)).unwrap_err();
        assert_eq!((hang.allowed, hang.rows), (2 * SECOND, 0));
    }

    #[test]
    fn step_may_take_twenty_times_what_it_took() {
        let mut watchdog = watchdog();
        watchdog.step_begun(1);
        watchdog.wait(60 * SECOND).unwrap();
        watchdog.step_ended(SECOND);
        watchdog.step_begun(1);
        watchdog.wait(20 * SECOND).unwrap();
        assert!(watchdog.wait(SECOND).is_err());
    }

    #[test]
    fn unknown_sizes_are_predicted_from_known_ones_and_not_too_short() {
        let mut watchdog = watchdog();
        assert_eq!(watchdog.predict(5), None);
        for (rows, took) in [(4, SECOND), (200, 9 * SECOND)] {
            watchdog.step_begun(rows);
            watchdog.step_ended(took);
        }
        assert_eq!(watchdog.predict(3), Some(SECOND));
        assert_eq!(watchdog.predict(1), Some(SECOND), "a larger step's");
        assert_eq!(watchdog.predict(16), Some(4 * SECOND), "four times the rows");
        assert_eq!(watchdog.predict(256), Some(9 * SECOND));
        assert_eq!(watchdog.predict(1 << 40), watchdog.predict(1 << 23), "the last class is open");
    }

    #[test]
    fn one_fast_step_does_not_shorten_the_prediction() {
        let mut watchdog = watchdog();
        for took in [8 * SECOND, Duration::ZERO] {
            watchdog.step_begun(1);
            watchdog.step_ended(took);
        }
        assert_eq!(watchdog.predict(1), Some(7 * SECOND));
    }
}
