//! The demo model, which is part of this program.

use std::path::Path;
use std::{fs, io};

use tempfile::TempDir;

use crate::error::CliError;

/// The name under which the demo model is served.
pub(crate) const NAME: &str = "gpt-oss-demo";

/// What the demo model is, and what to do next.
pub(crate) const NOTICE: &str = "\
This is the demo model: a toy of a few million parameters that shows the
machine running. It knows a few topics around Sostenuto and is often wrong.
For real work download openai/gpt-oss-20b (13.8 GB; about 16 GB of memory) or
openai/gpt-oss-120b (65.3 GB; about 70 GB), and start with --model FOLDER.";

/// File name and contents of each file of the demo checkpoint.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/demo_files.rs"));

/// Writes the demo checkpoint to a fresh folder that goes away with the value returned. Only this user can open it.
///
/// # Errors
/// This program was built without the demo model, or the folder for temporary files cannot be written.
pub(crate) fn unpack() -> Result<TempDir, CliError> {
    if FILES.is_empty() {
        return Err(CliError::new(
            "this program was built without the demo model (models/demo/checkpoint); name a model with --model FOLDER",
        ));
    }
    let fail = |what: &Path, error: io::Error| {
        CliError::new(format!(
            "cannot unpack the demo model to {}: {error}; set TMPDIR to a folder with 16 MB of room",
            what.display()
        ))
    };
    let folder = tempfile::Builder::new()
        .prefix("sostenuto-demo-")
        .tempdir()
        .map_err(|error| fail(&std::env::temp_dir(), error))?;
    for (name, contents) in FILES {
        let path = folder.path().join(name);
        fs::write(&path, contents).map_err(|error| fail(&path, error))?;
    }
    Ok(folder)
}
