//! Plants the bugs of [`list`] one by one into a copy of the workspace and runs the simulator there.

mod list;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::sim::PACKAGE;
use crate::steps::{repository_root, run, run_captured};
use list::{MUTANTS, Mutant};

/// Seeds that a mutant has to survive to count as missed, unless another number is asked for.
const SEEDS: [&str; 2] = ["--seeds", "3000"];

/// A mutant that makes the engine loop for ever is caught after this time.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What of the repository the copy holds.
const COPIED: [&str; 5] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", "crates", "xtask"];

/// Runs every mutant whose name contains one of `only`, all if there is none, and prints a table.
///
/// # Errors
/// The names of those that were not caught; whatever keeps one from being built.
pub(crate) fn run_all(only: &[String], arguments: &[String]) -> Result<(), String> {
    let is_chosen = |name: &str| only.is_empty() || only.iter().any(|part| name.contains(part.as_str()));
    let chosen: Vec<&Mutant> = MUTANTS.iter().filter(|mutant| is_chosen(mutant.name)).collect();
    let tree = Tree::copy()?;
    println!("without a mutant: {}", tree.simulate(arguments)?.unwrap_or_else(|| "nothing caught".into()));
    let mut missed = Vec::new();
    for mutant in &chosen {
        tree.plant(mutant)?;
        let caught = tree.simulate(arguments);
        tree.restore(mutant)?;
        let Mutant { name, source, .. } = mutant;
        match caught.map_err(|error| format!("{name}: {error}"))? {
            Some(how) => println!("caught | {name} | {source} | {how}"),
            None => {
                println!("MISSED | {name} | {source} |");
                missed.push(*name);
            }
        }
    }
    println!("{} of {} mutants caught", chosen.len() - missed.len(), chosen.len());
    if missed.is_empty() { Ok(()) } else { Err(format!("not caught: {}", missed.join(", "))) }
}

/// A copy of the workspace under `target`.
struct Tree {
    root: PathBuf,
    target: PathBuf,
}

impl Tree {
    fn copy() -> Result<Self, String> {
        let repository = repository_root();
        let base = repository.join("target/mutants");
        let tree = Self { root: base.join("tree"), target: base.join("target") };
        let mut list = vec!["ls-files", "--cached", "--others", "--exclude-standard", "--"];
        list.extend(COPIED);
        for file in run_captured("git", &list, &repository)?.lines() {
            if repository.join(file).exists() {
                write_if_changed(&tree.root.join(file), &read(&repository.join(file))?)?;
            }
        }
        Ok(tree)
    }

    fn plant(&self, mutant: &Mutant) -> Result<(), String> {
        for edit in mutant.edits {
            let path = self.root.join(edit.file);
            let text = String::from_utf8(read(&path)?).map_err(|e| format!("{}: {e}", edit.file))?;
            write_if_changed(&path, text.replacen(edit.old, edit.new, 1).as_bytes())?;
        }
        Ok(())
    }

    fn restore(&self, mutant: &Mutant) -> Result<(), String> {
        for edit in mutant.edits {
            write_if_changed(&self.root.join(edit.file), &read(&repository_root().join(edit.file))?)?;
        }
        Ok(())
    }

    /// Builds the simulator and runs it. Returns what it found, none if nothing.
    fn simulate(&self, arguments: &[String]) -> Result<Option<String>, String> {
        let mut build = Command::new("cargo");
        build.args(["build", "--quiet", "--package", PACKAGE]).current_dir(&self.root);
        build.env("CARGO_TARGET_DIR", &self.target).env("RUSTFLAGS", "-Awarnings");
        run(build)?;
        let mut simulate = Command::new(self.target.join("debug").join(PACKAGE));
        if !arguments.iter().any(|argument| argument == SEEDS[0]) {
            simulate.args(SEEDS);
        }
        simulate.args(arguments).env("RUST_BACKTRACE", "0");
        let mut child = simulate
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("the simulator could not be started: {e}"))?;
        let output = child.stdout.take().expect("its output is piped");
        let (sender, receiver) = channel();
        std::thread::spawn(move || sender.send(std::io::read_to_string(output)));
        let text = match receiver.recv_timeout(TIMEOUT) {
            Ok(text) => text.map_err(|e| e.to_string())?,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                child.kill().map_err(|e| e.to_string())?;
                format!("no end after {} s", TIMEOUT.as_secs())
            }
        };
        let status = child.wait().map_err(|e| e.to_string())?;
        let first = text.lines().next().unwrap_or("no word").to_owned();
        Ok((!status.success()).then_some(first))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Leaves the time of an unchanged file as it is, so that it is not built again.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<(), String> {
    if std::fs::read(path).is_ok_and(|present| present == content) {
        return Ok(());
    }
    let folder = path.parent().expect("a file of the tree lies in a folder");
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, content));
    written.map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_applies_exactly_once_and_changes_something() {
        for Mutant { name, edits, .. } in MUTANTS {
            assert!(!edits.is_empty(), "{name} edits something");
            for edit in *edits {
                let text = std::fs::read_to_string(repository_root().join(edit.file)).unwrap();
                let times = text.matches(edit.old).count();
                assert_eq!(times, 1, "{name}: the old text occurs in {}", edit.file);
                assert_ne!(edit.old, edit.new, "{name} changes something");
            }
        }
    }

    #[test]
    fn there_are_at_least_twenty_mutants_and_each_has_its_own_name() {
        let names: std::collections::BTreeSet<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), MUTANTS.len());
        assert!(names.len() >= 20);
    }
}
