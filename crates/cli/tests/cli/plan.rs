//! `plan`, and the start of a server against its memory plan.

use std::fs;

use serde_json::Value;

use crate::server::ServerUnderTest;
use crate::support::{arg, checkpoint, sostenuto, synth};

fn bytes_of(plan: &Value, purpose: &str) -> u64 {
    let rows = plan["plan"].as_array().unwrap();
    rows.iter().find(|row| row["purpose"] == purpose).unwrap()["bytes"].as_u64().unwrap()
}

#[test]
fn published_models_are_planned_without_weights() {
    for (name, weights_gb, per_token) in [("20b", 13.76, 24_576), ("120b", 65.25, 36_864)] {
        let args =
            ["plan", name, "--device", "rtx-pro-6000-blackwell", "--ctx", "32k", "--users", "25", "--json"];
        let plan = sostenuto(args).json();
        assert_eq!(plan["model"]["kv_bytes_per_token"], per_token);
        assert!((bytes_of(&plan, "weights") as f64 / 1e9 - weights_gb).abs() < 0.005, "{plan}");
        assert_eq!(bytes_of(&plan, "kv_full"), 25 * 32_768 * per_token);
        assert_eq!(plan["fits"], true);
        assert_eq!(plan["device"]["supported"], false);
        let rows = plan["plan"].as_array().unwrap().iter();
        let sum: u64 = rows.map(|row| row["bytes"].as_u64().unwrap()).sum();
        assert_eq!(plan["plan_bytes"], sum);
        let rate = |index: usize| plan["prediction"]["decode"][index]["tokens_per_second"].as_f64().unwrap();
        // 1, 2, 4, 8, 16, 25: more users, more tokens, and less than in proportion.
        assert!(rate(5) > rate(0) && rate(5) < 25.0 * rate(0), "{plan}");
    }
}

#[test]
fn most_users_fit_and_one_more_does_not() {
    let plan = |users: &str| {
        let args = ["plan", "20b", "--device", "rtx-4090", "--ctx", "32k", "--users", users, "--json"];
        sostenuto(args).json()
    };
    let most = plan("1")["most_users"].as_u64().unwrap();
    assert!((2..64).contains(&most), "{most}");
    assert_eq!(plan(&most.to_string())["fits"], true);
    assert_eq!(plan(&(most + 1).to_string())["fits"], false);
    let capacity = plan("1")["capacity"].clone();
    assert_eq!(capacity[1]["context_tokens"], 32_768);
    assert_eq!(capacity[1]["users"], most);
}

#[test]
fn card_is_said_to_be_arithmetic_and_the_speed_to_be_a_prediction() {
    let text = sostenuto(["plan", "120b", "--device", "h100-80gb"]).ok();
    for part in [
        "36 layers",
        "36,864 B of KV per token",
        "85.5 GB",
        "runs on processors only so far",
        "not measured",
        "kernels' scratch",
        "131,072 tokens each",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("sostenuto serve"), "{text}");
}

#[test]
fn device_may_be_given_by_hand() {
    let device = ["--device", "custom", "--memory", "16GB", "--bandwidth", "500", "--compute", "100"];
    let plan = sostenuto(["plan", "20b", "--json"].iter().chain(&device)).json();
    assert_eq!(plan["device"]["memory_bytes"], 16_000_000_000_u64);
    assert_eq!(plan["device"]["bandwidth_source"], "given");
    let refusal = sostenuto(["plan", "20b", "--device", "custom", "--memory", "16GB"]).refusal();
    assert!(refusal.contains("--bandwidth") && refusal.contains("--compute"), "{refusal}");
    let unknown = sostenuto(["plan", "20b", "--device", "abacus"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("rtx-5090"), "{unknown:?}");
}

#[test]
fn this_machine_is_measured_and_needs_a_configuration_only() {
    let folder = synth(&["--vocab", "500", "--layers", "2"]);
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let model = arg(folder.path());
    let plan = sostenuto(["plan", model, "--ctx", "256", "--users", "2", "--threads", "1", "--json"]).json();
    assert_eq!(plan["device"]["supported"], true);
    for source in ["memory_source", "bandwidth_source", "compute_source"] {
        assert_eq!(plan["device"][source], "measured", "{plan}");
    }
    for measured in
        ["bandwidth_bytes_per_second", "dense_operations_per_second", "expert_operations_per_second"]
    {
        assert!(plan["device"][measured].as_f64().unwrap() > 1e6, "{plan}");
    }
    assert!(bytes_of(&plan, "scratch") > 0);
    let text = sostenuto(["plan", model, "--ctx", "256", "--bandwidth", "20", "--compute", "0.3"]).ok();
    assert!(text.contains("sostenuto serve --model") && text.contains("--kv-tokens 1024"), "{text}");
    let refusal = sostenuto(["plan", arg(&folder.path().join("nothing"))]).refusal();
    assert!(refusal.contains("20b, 120b"), "{refusal}");
}

/// 8 KV heads of 1024 in two full layers take 64 KiB a token: a terabyte for the most tokens that may be asked for.
#[test]
fn server_whose_plan_does_not_fit_is_refused_with_what_does() {
    let shape =
        ["--hidden", "32", "--intermediate", "32", "--heads", "8", "--kv-heads", "8", "--head-dim", "1024"];
    let folder = synth(&shape);
    let model = arg(folder.path());
    let args = ["--threads", "1", "--ctx", "1024", "--kv-tokens", "16777216", "--model", model];
    let refusal = sostenuto(["generate", "--raw", "x"].iter().chain(&args)).refusal();
    for part in [
        "needs 1.10 TB",
        "are available",
        "KV, full layers 1.10 TB",
        "it fits with --kv-tokens",
        "--allow-overcommit",
    ] {
        assert!(refusal.contains(part), "{part}: {refusal}");
    }
}

#[test]
fn server_holds_what_it_planned_within_two_percent() {
    let large = synth(&["--hidden", "256", "--intermediate", "256", "--layers", "2", "--window", "128"]);
    let large = ["--model", arg(large.path()), "--ctx", "4096", "--threads", "1"];
    let cases: [(&str, &[&str]); 5] = [
        ("mapped", &[&large[..], &["--load", "mmap"]].concat()),
        ("read", &[&large[..], &["--load", "read"]].concat()),
        ("one process", &[&large[..], &["--in-process"]].concat()),
        ("demo model", &["--sequences", "64", "--kv-tokens", "32k"]),
        ("demo model in one process", &["--sequences", "64", "--kv-tokens", "32k", "--in-process"]),
    ];
    for (load, args) in cases {
        let server = ServerUnderTest::start_demo(args);
        let line = server.banner.lines().find(|line| line.contains("in memory now")).expect("Linux says");
        let percent: f64 = line.split_whitespace().rev().nth(4).unwrap().parse().expect("a percentage");
        assert!(percent.abs() <= 2.0, "{load}: {}", server.banner);
        assert_eq!(server.end("-TERM").0, Some(0));
    }
}

#[test]
fn overcommitted_server_starts_all_the_same() {
    let server = ServerUnderTest::start(checkpoint(), &["--ctx", "256", "--allow-overcommit"]);
    assert!(server.banner.contains("memory plan"), "{}", server.banner);
    assert_eq!(server.end("-TERM").0, Some(0));
}
