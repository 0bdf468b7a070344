//! The CPU kernels' tests on emulated 64-bit ARM.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::steps::{repository_root, run, run_captured};

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
const EMULATOR: &str = "qemu-aarch64";

/// Processors that are emulated, and which tests run there: all on one with the dot product extension, and those of
/// NEON code on one without it.
const PROCESSORS: [(&str, &[&str]); 2] = [("max", &[]), ("cortex-a53", &["simd::", "neon"])];

/// Builds the tests of `kernels-cpu` for 64-bit ARM and runs them on each of the emulated processors.
pub(crate) fn test() -> Result<(), String> {
    if let Some(missing) = missing()? {
        println!("skipped: {missing}");
        return Ok(());
    }
    for (processor, tests) in PROCESSORS {
        println!("--> {EMULATOR} -cpu {processor}");
        let mut command = Command::new("cargo");
        command.args(["test", "--release", "--package", "sostenuto-kernels-cpu", "--lib", "--tests"]);
        command.args(["--target", TARGET, "--"]).args(tests).current_dir(repository_root());
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER", format!("{EMULATOR} -cpu {processor}"));
        // The emulator then needs no libraries of that architecture.
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
        run(command)?;
    }
    Ok(())
}

/// The first thing that is needed and not there.
fn missing() -> Result<Option<String>, String> {
    for (program, package) in [(LINKER, "gcc-aarch64-linux-gnu"), (EMULATOR, "qemu-user")] {
        let mut command = Command::new(program);
        let command = command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            return Ok(Some(format!("no {program} (on Debian and Ubuntu in {package})")));
        }
    }
    // A compiler that does not find a file answers with its bare name.
    let library = run_captured(LINKER, &["-print-file-name=libc.a"], &repository_root())?;
    if !Path::new(library.trim()).is_absolute() {
        return Ok(Some("no C library for it (on Debian and Ubuntu in libc6-dev-arm64-cross)".into()));
    }
    let arguments = ["--print", "target-libdir", "--target", TARGET];
    let libraries = run_captured("rustc", &arguments, &repository_root())?;
    let is_there = Path::new(libraries.trim()).exists();
    Ok((!is_there).then(|| format!("no standard library for it (rustup target add {TARGET})")))
}
