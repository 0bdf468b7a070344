//! Checks of the tree as a whole.

use std::path::Path;

use crate::layers;
use crate::steps::{repository_root, run_captured};

/// A source file longer than this is no longer easy to find one's way in.
const MAX_SOURCE_LINES: usize = 800;

/// No tracked file is larger, but for the demo model's weights.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Strings of a development machine that have no place in the tree.
const MACHINE_PATHS: [&str; 3] = ["/home/", "/tmp/scratch", "/root/"];

/// Runs every check and reports all that is found.
pub(crate) fn check() -> Result<(), String> {
    let mut found = Vec::new();
    if let Err(message) = layers::check() {
        found.push(message);
    }
    let root = repository_root();
    let files = run_captured("git", &["ls-files", "--cached", "--others", "--exclude-standard"], &root)?;
    for file in files.lines() {
        check_file(&root, file, &mut found);
    }
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

fn check_file(root: &Path, file: &str, found: &mut Vec<String>) {
    let path = root.join(file);
    let Ok(size) = path.metadata().map(|m| m.len()) else { return };
    if size > MAX_FILE_BYTES && !file.starts_with("models/demo/checkpoint/") {
        found.push(format!("{file}: {size} bytes, at most {MAX_FILE_BYTES}"));
    }
    let is_source = [".rs", ".py", ".mjs", ".md", ".toml"].iter().any(|ending| file.ends_with(ending));
    if !is_source || file == "xtask/src/tidy.rs" {
        return;
    }
    let Ok(text) = std::fs::read_to_string(&path) else { return };
    let lines = text.lines().count();
    if file.ends_with(".rs") && lines > MAX_SOURCE_LINES {
        found.push(format!("{file}: {lines} lines, at most {MAX_SOURCE_LINES}"));
    }
    for needle in MACHINE_PATHS {
        if let Some(line) = text.lines().position(|line| line.contains(needle)) {
            found.push(format!("{file}:{}: names {needle}, a path of one machine", line + 1));
        }
    }
}
