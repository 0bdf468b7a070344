//! Lists the demo model's files, so that they become part of the program. Without the folder the list is empty and the
//! program says so when it is asked for the demo.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let manifest_dir = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let folder = manifest_dir.join("../../models/demo/checkpoint");
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut source = String::from("&[\n");
    for path in files_of(&folder) {
        println!("cargo:rerun-if-changed={}", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).expect("`files_of` gives named files");
        writeln!(
            source,
            "    ({name:?}, include_bytes!({:?})),",
            path.to_str().expect("checked by `files_of`")
        )
        .expect("a String takes any text");
    }
    source.push_str("]\n");
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    fs::write(out_dir.join("demo_files.rs"), source).expect("the build folder is writable");
}

/// The plain files of `folder`, sorted; none if it does not exist. Hidden files and paths that are not UTF-8 are left out.
fn files_of(folder: &Path) -> Vec<PathBuf> {
    let Ok(folder) = folder.canonicalize() else { return Vec::new() };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| is_wanted(path)).collect();
    files.sort();
    files
}

fn is_wanted(path: &Path) -> bool {
    let visible = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with('.'));
    visible && path.is_file() && path.to_str().is_some()
}
