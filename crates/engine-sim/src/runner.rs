//! Many seeds on several threads.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use crate::coverage::Coverage;
use crate::simulation::Simulation;

/// A seed that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {message}\nreplay with: cargo xtask sim --seed {seed}")]
pub struct Violation {
    /// The seed.
    pub seed: u64,
    /// The invariant that broke, and the facts.
    pub message: String,
}

/// Runs one seed.
///
/// # Errors
/// The first invariant that broke.
pub fn run_seed(seed: u64) -> Result<Coverage, Violation> {
    catch_unwind(AssertUnwindSafe(|| Simulation::new(seed).run())).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Violation { seed, message: message.unwrap_or_else(|| "a panic without a message".into()) }
    })
}

/// Runs seeds on `threads` threads; `progress` hears of every thousandth seed, with the counts so far.
///
/// # Errors
/// The violation of the lowest seed that broke an invariant before all threads had heard of the first.
pub fn run_seeds(
    seeds: Range<u64>,
    threads: usize,
    progress: impl Fn(&Coverage) + Sync,
) -> Result<Coverage, Violation> {
    let next = AtomicU64::new(seeds.start);
    let outcome = Mutex::new((Coverage::default(), None::<Violation>));
    let work = || loop {
        let seed = next.fetch_add(1, Relaxed);
        if seed >= seeds.end {
            return;
        }
        let result = run_seed(seed);
        let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, first) = &mut *outcome;
        match result {
            Ok(coverage) => total.add(&coverage),
            Err(violation) => {
                next.store(seeds.end, Relaxed);
                if first.as_ref().is_none_or(|first| seed < first.seed) {
                    *first = Some(violation);
                }
            }
        }
        if total.seeds.is_multiple_of(1_000) {
            progress(total);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    match outcome.into_inner().unwrap_or_else(PoisonError::into_inner) {
        (total, None) => Ok(total),
        (_, Some(violation)) => Err(violation),
    }
}
