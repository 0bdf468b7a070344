//! The layer table: a crate imports only from lower layers.

use std::collections::BTreeMap;

use crate::steps::{repository_root, run_captured};

/// Crate (without the prefix `sostenuto-`), its layer, and one line about it.
const LAYERS: &[(&str, u32, &str)] = &[
    ("formats", 0, "E2M1, E8M0, MXFP4, bf16; safetensors; config; checkpoint = name → tensor view; mmap"),
    ("tokenizer", 0, "o200k_harmony embedded, tokenizer.json read from a model folder; incremental UTF-8"),
    ("api", 0, "wire types of the HTTP interfaces and validation into `Valid…` types"),
    ("ops", 10, "the op contract: `Backend` trait, ops as data, KV layout, scalar reference device"),
    ("harmony", 10, "conversation → tokens; tokens → messages, a total streaming parser"),
    ("ops-suite", 15, "test only: every op case, run against any backend"),
    ("kernels-cpu", 20, "SIMD kernels, ISA witness, thread pool, CPU backend"),
    ("model", 30, "weights bound once to named fields, the forward program, memory plan"),
    ("engine", 40, "KV accounting, scheduler, sampler, step loop; commands in, events out"),
    ("engine-sim", 45, "test only: the engine under a fake model, a virtual clock, seeded users and faults"),
    ("server", 60, "HTTP, streaming, auth, admission, mapping api ↔ harmony ↔ engine"),
    ("cli", 70, "the binary `sostenuto`: chooses the backend, loads, wires, runs"),
];

/// The layer table as ARCHITECTURE.md shows it.
pub(crate) fn markdown() -> String {
    let mut text = String::from("| Layer | Crate | One line |\n|---|---|---|\n");
    for (name, layer, line) in LAYERS {
        text.push_str(&format!("| {layer} | `{name}` | {line} |\n"));
    }
    text
}

/// One import of a crate of the workspace by another.
struct Import {
    from: String,
    to: String,
    /// Dev-dependencies may name test-only crates of any layer.
    dev: bool,
}

/// Refuses an import that does not point down, and a crate without a layer.
pub(crate) fn check() -> Result<(), String> {
    violations(&imports()?).map_or(Ok(()), Err)
}

fn violations(imports: &[Import]) -> Option<String> {
    let layers: BTreeMap<&str, u32> = LAYERS.iter().map(|&(name, layer, _)| (name, layer)).collect();
    let mut found = Vec::new();
    for Import { from, to, dev } in imports {
        let (Some(&above), Some(&below)) = (layers.get(from.as_str()), layers.get(to.as_str())) else {
            found.push(format!("{from} imports {to}: one of them has no layer in xtask/src/layers.rs"));
            continue;
        };
        if below >= above && !dev {
            found.push(format!("{from} (layer {above}) imports {to} (layer {below}): imports point down"));
        }
    }
    (!found.is_empty()).then(|| found.join("\n"))
}

fn imports() -> Result<Vec<Import>, String> {
    let metadata =
        run_captured("cargo", &["metadata", "--no-deps", "--format-version", "1"], &repository_root())?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).map_err(|e| e.to_string())?;
    let short = |name: &str| name.strip_prefix("sostenuto-").map(str::to_owned);
    let mut imports = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(from) = package["name"].as_str().and_then(short) else { continue };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            if let Some(to) = dependency["name"].as_str().and_then(short) {
                let dev = dependency["kind"].as_str() == Some("dev");
                imports.push(Import { from: from.clone(), to, dev });
            }
        }
    }
    Ok(imports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_point_down() {
        check().unwrap();
    }

    #[test]
    fn an_import_upwards_is_found() {
        let import = |from: &str, to: &str, dev| Import { from: from.into(), to: to.into(), dev };
        assert!(violations(&[import("ops", "model", false)]).unwrap().contains("imports point down"));
        assert!(violations(&[import("model", "model", false)]).is_some());
        assert!(violations(&[import("ops", "unheard-of", false)]).unwrap().contains("no layer"));
        assert!(violations(&[import("model", "ops", false), import("ops", "ops-suite", true)]).is_none());
    }

    #[test]
    fn architecture_shows_the_table() {
        let page = std::fs::read_to_string(repository_root().join("ARCHITECTURE.md")).unwrap();
        assert!(
            page.contains(&markdown()),
            "run `cargo xtask layers` and paste its table into ARCHITECTURE.md"
        );
    }
}
