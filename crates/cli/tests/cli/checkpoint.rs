//! `synth`, `inspect`, `debug logits`, `bench` and `generate --raw` on one checkpoint.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::support::{arg, sostenuto, sostenuto_reading, synth};

#[test]
fn inspect_describes_a_synthetic_checkpoint() {
    let folder = synth(&["--vocab", "500", "--experts", "6", "--layers", "3"]);
    let text = sostenuto(["inspect", arg(folder.path())]).ok();
    for fact in [
        "gpt_oss, Hugging Face layout",
        "3: 2 sliding (window 16), 1 full",
        "4 of 6 active",
        "model.safetensors",
    ] {
        assert!(text.contains(fact), "{fact}: {text}");
    }
    let summary = sostenuto(["inspect", "--json", arg(folder.path())]).json();
    assert_eq!(summary["model"]["config"]["num_local_experts"], 6);
    assert_eq!(summary["model"]["config"]["vocab_size"], 500);
    assert_eq!(summary["tokenizer"], Value::Null);
    let by_type =
        summary["dtypes"].as_object().unwrap().values().map(|entry| entry["size_bytes"].as_u64().unwrap());
    assert_eq!(by_type.sum::<u64>(), summary["total_bytes"].as_u64().unwrap());
}

#[test]
fn inspect_takes_a_single_file() {
    let folder = synth(&["--vocab", "500", "--layers", "1"]);
    let file = folder.path().join("model.safetensors");
    let summary = sostenuto(["inspect", "--json", arg(&file)]).json();
    assert_eq!(summary["model"], Value::Null);
    assert_eq!(summary["files"].as_array().map(Vec::len), Some(1));
    assert!(sostenuto(["inspect", arg(&file)]).ok().contains("model.layers.*.self_attn.sinks"));
}

#[test]
fn synth_gives_the_same_bytes_for_the_same_seed() {
    let bytes = |seed| {
        let folder = synth(&["--vocab", "100", "--layers", "1", "--seed", seed]);
        std::fs::read(folder.path().join("model.safetensors")).unwrap()
    };
    assert!(bytes("7") == bytes("7"));
    assert!(bytes("7") != bytes("8"));
}

/// The shortest decimal of an f32 reads back to the same bits, so equal text is equal bits.
#[test]
fn logits_depend_on_neither_chunks_nor_threads() {
    let folder = synth(&["--vocab", "300"]);
    let ids: Vec<u32> = (0..600).map(|index| index * 7 % 300).collect();
    let line = json!({ "ids": ids }).to_string();
    let logits = |last: &str, threads: &str| {
        let model = arg(folder.path());
        let args =
            ["debug", "logits", "--model", model, "--mode", "exact", "--last", last, "--threads", threads];
        sostenuto_reading(&line, args).json()["logits"].as_array().unwrap().clone()
    };
    // With 600 rows of logits wanted the steps are short; with one they are as long as can be.
    let all = logits("600", "1");
    let one = logits("1", "2");
    assert_eq!((all.len(), one.len()), (600, 1));
    assert_eq!(all[599], one[0]);
    assert_eq!(one[0].as_array().unwrap().len(), 300);
    assert_ne!(all[598], all[599]);
    // A prefix sees nothing of what follows it.
    let prefix = json!({ "ids": &ids[..333] }).to_string();
    let model = arg(folder.path());
    let args = ["debug", "logits", "--model", model, "--mode", "exact"];
    assert_eq!(sostenuto_reading(&prefix, args).json()["logits"][0], all[332]);
}

#[test]
fn cpu_backend_agrees_with_the_scalar_reference() {
    let folder = synth(&["--vocab", "300", "--hidden", "96", "--intermediate", "160"]);
    let ids: Vec<u32> = (0..90).map(|index| index * 11 % 300).collect();
    let logits = |backend: &str| -> Vec<f64> {
        let model = arg(folder.path());
        let args =
            ["debug", "logits", "--model", model, "--mode", "exact", "--last", "90", "--backend", backend];
        let answer = sostenuto_reading(&json!({ "ids": ids }).to_string(), args).json();
        let rows = answer["logits"].as_array().unwrap().clone();
        rows.iter()
            .flat_map(|row| row.as_array().unwrap().clone())
            .map(|value| value.as_f64().unwrap())
            .collect()
    };
    let (cpu, scalar) = (logits("cpu"), logits("scalar"));
    assert_eq!((cpu.len(), scalar.len()), (27_000, 27_000));
    let largest = cpu.iter().zip(&scalar).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest <= 2e-4, "{largest}");
}

#[test]
fn logits_of_a_line_do_not_depend_on_the_lines_before() {
    let folder = synth(&["--vocab", "300", "--layers", "2"]);
    let mut lines = String::new();
    for ids in [vec![5; 40], vec![1, 2, 3], vec![250; 100], vec![1, 2, 3]] {
        writeln!(lines, "{}", json!({ "ids": ids })).unwrap();
    }
    let run = sostenuto_reading(&lines, ["debug", "logits", "--model", arg(folder.path())]);
    let answers = run.json_lines();
    assert_eq!(answers[1], answers[3]);
    assert_ne!(answers[1], answers[2]);
}

#[test]
fn wrong_ids_are_answered_with_errors() {
    let folder = synth(&["--vocab", "300", "--layers", "1"]);
    let lines = "{\"ids\":[300]}\n{\"ids\":[]}\n{\"ids\":[-1]}\n{\"id\":[1]}\n{\"ids\":[1]}\n";
    let args = ["debug", "logits", "--model", arg(folder.path()), "--ctx", "16"];
    let run = sostenuto_reading(lines, args);
    assert_eq!(run.code, Some(1));
    let answers = run.json_lines();
    let message = |index: usize| answers[index]["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message(0).contains("ids[0] is 300") && message(0).contains("vocabulary's size 300"),
        "{}",
        message(0)
    );
    assert!(message(1).contains("empty"), "{}", message(1));
    assert!(message(2).contains("u32"), "{}", message(2));
    assert!(message(3).contains("ids"), "{}", message(3));
    assert!(answers[4]["logits"].is_array());
    let too_long = json!({ "ids": vec![1; 17] }).to_string();
    let run = sostenuto_reading(&too_long, args);
    assert!(run.json_lines()[0]["error"]["message"].as_str().unwrap().contains("at most 16"), "{run:?}");
}

#[test]
fn bench_reports_speed_and_a_hash_that_tells_weights_apart() {
    let bench = |seed| {
        let folder = synth(&["--vocab", "300", "--layers", "2", "--seed", seed]);
        let model = arg(folder.path());
        let common = ["bench", "--json", "--prompt", "8", "--decode", "2", "--context", "4", "--reps", "1"];
        let run = || sostenuto(common.iter().chain(&["--model", model, "--mode", "exact"])).json();
        let (first, second) = (run(), run());
        assert_eq!(first["logits_hash"], second["logits_hash"]);
        first
    };
    let report = bench("1");
    assert!(report["prefill"][0]["tokens_per_second"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["decode"][0]["share_of_bandwidth"].as_f64().unwrap() > 0.0, "{report}");
    assert_ne!(report["logits_hash"], bench("2")["logits_hash"]);
    let parts = &report["decode"][0]["parts"];
    let sum: u64 = parts.as_object().unwrap().values().map(|part| part.as_u64().unwrap()).sum();
    assert_eq!(Some(sum), report["decode"][0]["bytes_per_step"].as_u64());
}

#[test]
fn bench_prints_a_table() {
    let folder = synth(&["--vocab", "300", "--layers", "2"]);
    let args = ["bench", "--prompt", "8", "--decode", "2", "--context", "4,8", "--reps", "1", "--model"];
    let text = sostenuto(args.iter().chain(&[arg(folder.path())])).ok();
    for word in ["prefill", "decode", "GB/s", "logits", "A token after 8 reads"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn bench_decodes_batches_and_copied_contexts_in_both_modes() {
    let folder = synth(&["--vocab", "300", "--layers", "2"]);
    let args = "bench --json --decode-only --decode 2 --context 0,600 --batch 3 --fill copy --reps 1 --modes fast,exact";
    let run = sostenuto(args.split(' ').chain(["--model", arg(folder.path())]));
    let reports = run.json_lines();
    let modes: Vec<_> = reports.iter().map(|report| report["mode"].as_str().unwrap()).collect();
    assert_eq!(modes, ["fast", "exact"]);
    let fill = &reports[0]["fill"];
    assert_eq!(fill, "copy");
    for report in &reports {
        let points = report["decode"].as_array().unwrap().iter();
        let points: Vec<_> =
            points.map(|row| (row["batch"].as_u64(), row["context_tokens"].as_u64())).collect();
        assert_eq!(points, [(Some(1), Some(0)), (Some(1), Some(600)), (Some(3), Some(0))]);
        assert!(report["decode"][2]["share_of_limit"].as_f64().unwrap() > 0.0, "{report}");
    }
}
