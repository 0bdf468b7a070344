//! Replays the committed corpus of the fuzz targets.

use std::fs;
use std::path::Path;

use sostenuto_harmony::{fuzz_parse, fuzz_render};

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        run(&fs::read(entry.expect("lists").path()).expect("reads"));
        count += 1;
    }
    assert!(count >= 20, "{target}: the corpus has {count} inputs");
}

#[test]
fn parse_corpus_holds() {
    replay("parse", fuzz_parse);
}

#[test]
fn render_corpus_holds() {
    replay("render", fuzz_render);
}
