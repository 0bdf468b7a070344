//! Checkpoints that are not: refused in one line, with the name and what was expected, by every command that opens one.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{arg, sostenuto, synth};

/// Breaks a sound checkpoint and checks what the commands say about it.
fn refused(break_it: impl Fn(&Path), facts: &[&str]) {
    let folder = synth(&["--vocab", "64", "--layers", "1", "--hidden", "32", "--intermediate", "32"]);
    break_it(folder.path());
    refused_at(folder.path(), facts);
}

#[track_caller]
fn refused_at(path: &Path, facts: &[&str]) {
    let path = arg(path);
    for args in
        [&["inspect", path][..], &["debug", "logits", "--model", path], &["generate", "x", "--model", path]]
    {
        let refusal = sostenuto(args).refusal();
        for fact in facts {
            assert!(refusal.contains(fact), "{args:?} does not say {fact:?}: {refusal}");
        }
    }
}

fn edit_config(folder: &Path, from: &str, to: &str) {
    let path = folder.join("config.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn missing_folder_is_refused() {
    refused_at(&PathBuf::from("/nonexistent/gpt-oss-20b"), &["/nonexistent/gpt-oss-20b", "No such file"]);
}

#[test]
fn empty_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    refused_at(folder.path(), &[arg(folder.path()), "expected model.safetensors"]);
}

#[test]
fn file_in_place_of_a_folder_is_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("model");
    fs::write(&file, "not a model").unwrap();
    refused_at(&file, &[arg(&file), "expected"]);
}

#[test]
fn truncated_weights_are_refused() {
    let truncate = |folder: &Path| {
        let file = fs::OpenOptions::new().write(true).open(folder.join("model.safetensors")).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    };
    refused(truncate, &["model.safetensors", "expected", "found"]);
}

#[test]
fn other_architecture_is_refused() {
    refused(|folder| edit_config(folder, "\"gpt_oss\"", "\"llama\""), &["config.json", "gpt_oss", "llama"]);
}

#[test]
fn wrong_shape_is_refused() {
    let fewer_experts =
        |folder: &Path| edit_config(folder, "\"num_local_experts\": 8", "\"num_local_experts\": 4");
    refused(fewer_experts, &["expected shape", "found"]);
}

#[test]
fn missing_configuration_is_refused() {
    refused(|folder| fs::remove_file(folder.join("config.json")).unwrap(), &["config.json", "expected"]);
}

#[test]
fn broken_tokenizer_is_refused_by_those_who_need_it() {
    let folder = synth(&["--vocab", "64", "--layers", "1"]);
    fs::write(folder.path().join("tokenizer.json"), "{\"model\":{}}").unwrap();
    let path = arg(folder.path());
    for args in [&["inspect", path][..], &["generate", "x", "--model", path]] {
        assert!(sostenuto(args).refusal().contains("tokenizer.json"));
    }
}

#[test]
fn synth_refuses_a_folder_with_files_and_a_shape_that_cannot_be() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("precious"), "").unwrap();
    let out = arg(folder.path());
    assert!(sostenuto(["synth", "--out", out]).refusal().contains("empty or new folder"));
    let new = folder.path().join("new");
    let refusal = sostenuto(["synth", "--hidden", "33", "--out", arg(&new)]).refusal();
    assert!(refusal.contains("hidden_size: expected a multiple of 32, found 33"), "{refusal}");
    assert!(!new.exists());
}
