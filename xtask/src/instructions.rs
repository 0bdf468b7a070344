//! `cargo xtask instructions`: how many instructions the main kernels take, compared with a table.
//!
//! Counts, unlike times, are the same on a busy machine. They depend on the compiler, which is pinned, and a little on
//! the C library; that is what the tolerance is for.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::steps::{cargo, repository_root, run_captured};

/// The table: a case and its count a line.
const TABLE: &str = "crates/kernels-cpu/instructions.txt";

/// How far a count may be from the table's.
const TOLERANCE: f64 = 0.03;

/// What is counted, as callgrind writes its name.
const MEASURED: &str = "*measured*";

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Instructions {
    /// Write the counts into the table instead of comparing.
    #[arg(long)]
    update: bool,
}

/// Compares, or writes the table.
///
/// # Errors
/// A count outside the tolerance, or none.
pub(crate) fn run(options: &Instructions) -> Result<(), String> {
    if let Some(why) = unable() {
        return if options.update {
            Err(why)
        } else {
            println!("skipped: {why}");
            Ok(())
        };
    }
    let root = repository_root();
    let counts = count(&root)?;
    let path = root.join(TABLE);
    if options.update {
        let lines: Vec<String> = counts.iter().map(|(case, count)| format!("{case} {count}\n")).collect();
        return std::fs::write(&path, lines.concat()).map_err(|e| format!("{TABLE}: {e}"));
    }
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{TABLE}: {e}"))?;
    compare(&parse(&text)?, &counts)
}

/// The step of `cargo xtask test`.
pub(crate) fn check() -> Result<(), String> {
    run(&Instructions { update: false })
}

/// Why nothing can be counted here.
fn unable() -> Option<String> {
    if !has_avx2() {
        return Some("this processor lacks avx2, whose instructions the table counts".into());
    }
    let version = Command::new("valgrind").arg("--version").output();
    let is_there = version.is_ok_and(|output| output.status.success());
    (!is_there).then(|| "no valgrind".into())
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2() -> bool {
    false
}

/// Counts each case.
fn count(root: &Path) -> Result<BTreeMap<String, u64>, String> {
    cargo(&["build", "--release", "--package", "sostenuto-kernels-cpu", "--example", "instructions"])?;
    let program = root.join("target/release/examples/instructions");
    let program = program.to_str().ok_or("the repository's path is not UTF-8")?;
    let output = root.join("target/callgrind.out");
    let file = format!("--callgrind-out-file={}", output.display());
    let toggle = format!("--toggle-collect={MEASURED}");
    let mut counts = BTreeMap::new();
    for case in run_captured(program, &[], root)?.lines() {
        let arguments = ["SOSTENUTO_ISA=avx2", "valgrind", "--quiet", "--tool=callgrind", &file, &toggle];
        run_captured("env", &[&arguments[..], &[program, case]].concat(), root)?;
        let text = std::fs::read_to_string(&output).map_err(|e| format!("{}: {e}", output.display()))?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
        match total {
            Some(count) if count > 0 => counts.insert(case.to_owned(), count),
            _ => return Err(format!("{case}: callgrind counted nothing in {MEASURED}")),
        };
    }
    Ok(counts)
}

fn parse(table: &str) -> Result<BTreeMap<String, u64>, String> {
    let line = |line: &str| {
        let (case, count) = line.split_once(' ')?;
        Some((case.to_owned(), count.parse().ok()?))
    };
    table.lines().map(|text| line(text).ok_or_else(|| format!("{TABLE}: {text:?} is no count"))).collect()
}

/// Prints each case beside the table's.
fn compare(table: &BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) -> Result<(), String> {
    let mut wrong = Vec::new();
    for (case, &count) in counts {
        let Some(&expected) = table.get(case) else {
            wrong.push(format!("{case} is not in the table"));
            continue;
        };
        let change = count as f64 / expected as f64 - 1.0;
        println!("{case:16} {count:>10} {:+.2} %", 100.0 * change);
        if change.abs() > TOLERANCE {
            wrong.push(format!("{case}: {count} instructions, the table has {expected}"));
        }
    }
    wrong.extend(
        table.keys().filter(|case| !counts.contains_key(*case)).map(|case| format!("{case} is gone")),
    );
    if wrong.is_empty() {
        return Ok(());
    }
    Err(format!("{}\nIf that is meant: cargo xtask instructions --update", wrong.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(table: &str, counts: &str) -> Result<(), String> {
        compare(&parse(table).unwrap(), &parse(counts).unwrap())
    }

    #[test]
    fn counts_near_the_table_pass_and_others_are_named() {
        assert_eq!(outcome("a 1000\nb 500\n", "a 1029\nb 486\n"), Ok(()));
        for (counts, named) in [("a 1031\nb 500", "a: 1031"), ("a 1000\nb 480", "b: 480")] {
            assert!(outcome("a 1000\nb 500", counts).unwrap_err().contains(named));
        }
        assert!(outcome("a 1000", "a 1000\nb 1").unwrap_err().contains("b is not in the table"));
        assert!(outcome("a 1000\nb 1", "a 1000").unwrap_err().contains("b is gone"));
        assert!(parse("a many").is_err());
    }
}
