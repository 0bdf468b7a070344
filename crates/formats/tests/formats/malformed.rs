//! Checkpoints that are broken in one way each: every one is refused, mapped or read, with the error that its row
//! names (file or tensor, what was expected, what was found).

use std::path::Path;
use std::time::{Duration, Instant};

use sostenuto_formats::{Checkpoint, Loading};

mod checkpoint;
mod container;

/// What breaks the checkpoint, how, and what the error must say.
type Case = (&'static str, fn(&Path), &'static [&'static str]);

const NORM: &str = "model.norm.weight";

/// Refusal within seconds is promised; each of these takes milliseconds.
const LONGEST: Duration = Duration::from_secs(5);

fn check(copy: fn() -> tempfile::TempDir, cases: &[Case]) {
    for (name, break_it, expected) in cases {
        for loading in [Loading::Mmap, Loading::Read] {
            let folder = copy();
            Checkpoint::open(folder.path(), loading).expect("whole before it is broken");
            break_it(folder.path());
            let start = Instant::now();
            let error = match Checkpoint::open(folder.path(), loading) {
                Ok(_) => panic!("{name}: accepted"),
                Err(error) => error.to_string(),
            };
            assert!(start.elapsed() < LONGEST, "{name}: refused after {:?}", start.elapsed());
            for part in *expected {
                assert!(error.contains(part), "{name}: expected {part:?} in: {error}");
            }
            assert!(error.len() < 1000, "{name}: {} bytes of error", error.len());
        }
    }
}

fn weights(folder: &Path) -> std::path::PathBuf {
    folder.join("model.safetensors")
}
