//! A run interval by interval, in bounded memory.

use std::time::Duration;

use serde::Serialize;

/// Intervals at most; when more are needed, pairs become one.
const MAX_SLOTS: usize = 1200;

/// What ended in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Slot {
    /// Whole answers.
    pub(crate) complete: u64,
    /// Whole answers that met the goals.
    pub(crate) good: u64,
    /// Refusals.
    pub(crate) refused: u64,
    /// Failures.
    pub(crate) failed: u64,
    /// Tokens of the whole answers.
    pub(crate) completion_tokens: u64,
}

/// The intervals, one second each until there are more than 1200.
#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    width_seconds: u64,
    slots: Vec<Slot>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { width_seconds: 1, slots: Vec::new() }
    }
}

impl Timeline {
    /// The interval that holds the time `elapsed` after the start.
    pub(crate) fn at(&mut self, elapsed: Duration) -> &mut Slot {
        while elapsed.as_secs() / self.width_seconds >= MAX_SLOTS as u64 {
            self.slots = self.slots.chunks(2).map(|pair| pair.iter().fold(Slot::default(), sum)).collect();
            self.width_seconds *= 2;
        }
        let index = (elapsed.as_secs() / self.width_seconds) as usize;
        if self.slots.len() <= index {
            self.slots.resize(index + 1, Slot::default());
        }
        &mut self.slots[index]
    }

    /// Length of an interval in seconds.
    pub(crate) fn width_seconds(&self) -> u64 {
        self.width_seconds
    }

    /// The intervals in order.
    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

fn sum(a: Slot, b: &Slot) -> Slot {
    Slot {
        complete: a.complete + b.complete,
        good: a.good + b.good,
        refused: a.refused + b.refused,
        failed: a.failed + b.failed,
        completion_tokens: a.completion_tokens + b.completion_tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_keep_their_sums_in_wider_intervals() {
        let mut timeline = Timeline::default();
        for second in 0..10_000 {
            timeline.at(Duration::from_secs(second)).complete += 1;
        }
        assert_eq!(timeline.width_seconds(), 16);
        assert_eq!(timeline.slots().len(), 10_000 / 16);
        assert!(timeline.slots().iter().all(|slot| slot.complete == 16));
    }
}
