//! `sostenuto bench`: how fast a model runs here, against what this machine's memory allows; and servers under load.

pub(crate) mod bandwidth;
mod limits;
mod peak;
mod report;
pub(crate) mod serve;
mod solo;
mod streams;
mod stress;
mod target;
pub(crate) mod traffic;

use clap::{Args, Subcommand};

use crate::error::CliError;

/// Arguments of `bench`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: Option<BenchCommand>,
    #[command(flatten)]
    solo: solo::SoloArgs,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Put a load on a server, ours or another that is OpenAI-compatible, and measure its answers.
    Serve(Box<serve::BenchServeArgs>),
    /// Try to break a server of ours, and say whether it held.
    Stress(Box<stress::StressArgs>),
}

/// Measures and reports.
pub(crate) fn run(args: &BenchArgs) -> Result<(), CliError> {
    match &args.what {
        Some(BenchCommand::Serve(args)) => serve::run(args),
        Some(BenchCommand::Stress(args)) => stress::run(args),
        None => solo::run(&args.solo),
    }
}

/// Pseudo-random ids below `vocab_size` (SplitMix64).
fn random_ids(seed: u64, count: usize, vocab_size: usize) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..count).map(|_| (next() % vocab_size as u64) as u32).collect()
}

/// The middle value, or the mean of the middle two. `values` is not empty.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (lower, upper) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    (lower + upper) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[9.0, 1.0, 5.0, 7.0]), 6.0);
    }

    #[test]
    fn random_ids_are_split_mix_64() {
        // The generator's published first outputs for seed 1234567.
        let expected = [6_457_827_717_110_365_317u64, 3_203_168_211_198_807_973];
        let modulus = 1 << 22;
        assert_eq!(random_ids(1_234_567, 2, modulus), expected.map(|value| (value % modulus as u64) as u32));
    }
}
