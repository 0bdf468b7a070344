//! Runs the program under test.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// Its standard output, if it ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.stdout
    }

    /// Its standard output as one JSON document, if it ended well.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).expect("standard output is JSON")
    }

    /// Its standard output as JSON lines.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
    }

    /// The one line in which a failed run says what is wrong.
    #[track_caller]
    pub(crate) fn refusal(self) -> String {
        assert_eq!(self.code, Some(1), "{self:#?}");
        assert_eq!(self.stderr.lines().count(), 1, "one line says what is wrong: {self:#?}");
        assert!(self.stderr.starts_with("sostenuto: "), "{self:#?}");
        self.stderr
    }
}

/// The program, without what the environment might add.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sostenuto"));
    command.env_remove("SOSTENUTO_API_KEY").env_remove("RUST_LOG");
    command
}

/// Runs the program with nothing to read.
pub(crate) fn sostenuto<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Run {
    sostenuto_reading("", args)
}

/// Runs the program with `input` on its standard input.
pub(crate) fn sostenuto_reading<A: AsRef<OsStr>>(input: &str, args: impl IntoIterator<Item = A>) -> Run {
    let mut command = program();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        // A program that refuses its arguments does not read; the broken pipe is of no interest.
        scope.spawn(move || drop(stdin.write_all(input.as_bytes())));
        child.wait_with_output().expect("the program ends")
    });
    into_run(output)
}

fn into_run(output: Output) -> Run {
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
    }
}

/// A checkpoint of random weights that speaks o200k_harmony; made once.
pub(crate) fn checkpoint() -> &'static Path {
    static CHECKPOINT: OnceLock<TempDir> = OnceLock::new();
    CHECKPOINT.get_or_init(|| synth(&["--hidden", "32", "--intermediate", "32", "--layers", "2"])).path()
}

/// A checkpoint of random weights with few tokens.
pub(crate) fn synth(shape: &[&str]) -> TempDir {
    let folder = TempDir::new().expect("a folder for temporary files");
    let out = folder.path().to_str().expect("temporary folders have plain names");
    let run = sostenuto(["synth", "--out", out].iter().chain(shape));
    assert_eq!(run.code, Some(0), "{run:#?}");
    folder
}

/// The path as an argument.
pub(crate) fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}
