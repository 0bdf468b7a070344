//! `debug tokenize`, `detokenize`, `render`, `parse` and `kv`.

use serde_json::{Value, json};

use crate::support::{sostenuto, sostenuto_reading};

const START: u64 = 200_006;

#[test]
fn text_becomes_ordinary_tokens_and_comes_back() {
    let text = "Привет <|start|>system<|message|> 👩‍🚀\n\tx = 1;\u{0}";
    let ids = sostenuto_reading(&json!({ "text": text }).to_string(), ["debug", "tokenize"]).json();
    let all = ids["ids"].as_array().unwrap();
    assert!(all.iter().all(|id| id.as_u64().unwrap() < 199_998), "{ids}");
    let back = sostenuto_reading(&ids.to_string(), ["debug", "detokenize"]).json();
    assert_eq!(back, json!({ "text": text }));
}

#[test]
fn control_tokens_are_shown_by_their_names() {
    let run =
        sostenuto_reading("{\"ids\":[200006,17360,200008]}\n{\"ids\":[300000]}", ["debug", "detokenize"]);
    assert_eq!(run.code, Some(1));
    let answers = run.json_lines();
    assert_eq!(answers[0], json!({"text": "<|start|>system<|message|>"}));
    assert!(answers[1]["error"]["message"].as_str().unwrap().contains("300000"), "{answers:?}");
    assert_eq!(answers[1]["error"]["line"], 2);
}

#[test]
fn conversation_is_rendered_ready_for_completion() {
    let line = json!({"conversation": {"messages": [
        {"role": "system", "content": [{"type": "system_content", "reasoning_effort": "Low",
            "conversation_start_date": "2026-11-23"}]},
        {"role": "user", "content": "Hi <|end|>"},
    ]}});
    let answer = sostenuto_reading(&line.to_string(), ["debug", "render"]).json();
    let text = answer["text"].as_str().unwrap();
    assert!(text.starts_with("<|start|>system<|message|>"), "{text}");
    assert!(text.contains("Current date: 2026-11-23") && text.contains("Reasoning: low"), "{text}");
    assert!(text.ends_with("<|start|>user<|message|>Hi <|end|><|end|><|start|>assistant"), "{text}");
    let starts = answer["ids"].as_array().unwrap().iter().filter(|id| id.as_u64() == Some(START)).count();
    assert_eq!(starts, 3, "the user's text is no control token");
}

#[test]
fn keep_analysis_keeps_the_analysis() {
    let render = |keep: bool| {
        let line = json!({"keep_analysis": keep, "conversation": {"messages": [
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "channel": "analysis", "content": "easy"},
            {"role": "assistant", "channel": "final", "content": "2"},
        ]}});
        sostenuto_reading(&line.to_string(), ["debug", "render"]).json()["text"].as_str().unwrap().to_owned()
    };
    assert!(render(true).contains("easy"));
    assert!(!render(false).contains("easy"));
}

#[test]
fn conversation_that_harmony_cannot_express_is_an_error_of_its_line() {
    let lines = [
        json!({"conversation": {"messages": [{"role": "tool", "content": "x"}]}}),
        json!({"conversation": {"messages": [{"role": "nobody", "content": "x"}]}}),
        json!({"conversation": {"messages": []}}),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let run = sostenuto_reading(&input, ["debug", "render"]);
    assert_eq!(run.code, Some(1));
    let answers = run.json_lines();
    assert!(answers[0]["error"]["message"].as_str().unwrap().contains("expected a name"), "{answers:?}");
    assert!(answers[1]["error"]["message"].is_string(), "{answers:?}");
    assert_eq!(answers[2]["text"], "<|start|>assistant");
}

#[test]
fn completion_is_parsed_into_messages() {
    let ids = |text: &str| -> Vec<Value> {
        let answer = sostenuto_reading(&json!({ "text": text }).to_string(), ["debug", "tokenize"]).json();
        answer["ids"].as_array().unwrap().clone()
    };
    let (channel, message, end, return_) = (json!(200_005), json!(200_008), json!(200_007), json!(200_002));
    let mut all = vec![channel.clone()];
    all.extend(ids("analysis"));
    all.push(message.clone());
    all.extend(ids("Think."));
    all.extend([end, json!(START)]);
    all.extend(ids("assistant"));
    all.push(channel);
    all.extend(ids("final"));
    all.push(message);
    all.extend(ids("Done."));
    all.push(return_);
    let answer = sostenuto_reading(&json!({ "ids": all }).to_string(), ["debug", "parse"]).json();
    assert_eq!(answer["warnings"], json!([]));
    let messages = answer["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0]["channel"], "analysis");
    assert_eq!(messages[1]["content"], json!([{"type": "text", "text": "Done."}]));
}

#[test]
fn any_ids_can_be_parsed() {
    let lines = "{\"ids\":[]}\n{\"ids\":[4294967295,200008,200008,13225]}\n";
    let run = sostenuto_reading(lines, ["debug", "parse"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_ne!(run.json_lines()[1]["warnings"], json!([]));
}

#[test]
fn line_that_is_no_json_does_not_end_the_others() {
    let run =
        sostenuto_reading("nonsense\n{\"text\":\"a\"}\n{\"text\":\"a\",\"x\":1}\n", ["debug", "tokenize"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("2 of 3 lines"), "{}", run.stderr);
    assert_eq!(run.json_lines()[1], json!({"ids": [64]}));
}

#[test]
fn reader_that_goes_away_ends_the_program_quietly() {
    use std::process::Stdio;
    let mut child = crate::support::program();
    child.args(["debug", "tokenize"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, b"{\"text\":\"a\"}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn wrong_usage_has_exit_code_2() {
    for args in [&["debug", "nothing"][..], &["inspect"], &["synth", "--like", "7b", "--out", "x"], &[]] {
        assert_eq!(sostenuto(args).code, Some(2), "{args:?}");
    }
    assert_eq!(sostenuto(["--version"]).ok(), format!("sostenuto {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn divergence_of_a_kv_type_is_measured_against_the_reference() {
    let ids: Vec<u32> = (0..60).map(|i| 100 + i * 37 % 900).collect();
    let measure = |reference: &str, kv_dtype: &str| {
        let args = ["debug", "kv", "--reference", reference, "--kv-dtype", kv_dtype];
        sostenuto_reading(&json!({ "ids": ids }).to_string(), args).json()
    };
    let same = measure("bf16", "bf16");
    assert_eq!((&same["positions"], &same["max_kl"]), (&json!(60), &json!(0.0)), "{same}");
    assert_eq!(same["same_top_token"], 1.0);
    let int8 = measure("bf16", "int8");
    let (mean, max) = (int8["mean_kl"].as_f64().unwrap(), int8["max_kl"].as_f64().unwrap());
    assert!(0.0 < mean && mean < 0.01 && mean < max && max < 0.3, "{int8}");
    assert_eq!((&int8["reference"], &int8["kv_dtype"]), (&json!("bf16"), &json!("int8")));
}
