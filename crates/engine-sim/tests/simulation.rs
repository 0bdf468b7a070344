//! The simulation that runs with every test run.

use sostenuto_engine_sim::{Coverage, run_seed, run_seeds};

/// Seeds of a test run.
const SEEDS: u64 = 20_000;

/// Steps that they have at least.
const STEPS: u64 = 30_000_000;

#[test]
fn engines_keep_every_invariant_and_every_sequence_equals_its_solo_run() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let coverage = run_seeds(0..SEEDS, threads, |_| ()).unwrap_or_else(|violation| panic!("{violation}"));
    println!("{coverage:?}");
    assert_eq!(coverage.seeds, SEEDS);
    assert!(coverage.steps >= STEPS, "{} steps", coverage.steps);
    assert!(coverage.finished >= 200_000, "{} requests finished", coverage.finished);
    check_everything_came_about(&coverage);
}

/// A simulation in which nothing happens finds nothing.
fn check_everything_came_about(coverage: &Coverage) {
    for (name, count) in coverage.counts() {
        assert!(count >= 10_000, "{name} came about {count} times");
    }
}

#[test]
fn seed_decides_everything() {
    for seed in 0..20 {
        assert_eq!(run_seed(seed), run_seed(seed));
    }
    assert_ne!(run_seed(0), run_seed(1));
}
