//! `chat` and `generate`: against the real server, and against a server that answers by a script, so that what the chat
//! shows and sends can be told exactly.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::server::ServerUnderTest;
use crate::support::{arg, checkpoint, sostenuto, sostenuto_reading};

#[test]
fn chat_talks_to_a_running_server() {
    let server = ServerUnderTest::start(checkpoint(), &["--ctx", "1024"]);
    let ask = || {
        let args = ["chat", "--url", &server.url(), "--max-tokens", "24", "--seed", "5", "--effort", "low"];
        sostenuto_reading("Hello\n/effort high\nAnd now?\n", args)
    };
    let run = ask();
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("The effort is high."), "{run:?}");
    assert!(run.stderr.contains("cut off at the limit of tokens"), "noise rarely ends by itself: {run:?}");
    assert_eq!(run.stdout, ask().stdout, "the same seed gives the same answer");
    assert_eq!(server.end("-TERM").0, Some(0));
}

#[test]
fn chat_starts_a_server_of_its_own_for_a_model() {
    let args = ["chat", "--model", arg(checkpoint()), "--ctx", "1024", "--max-tokens", "8"];
    let run = sostenuto_reading("Hello\n", args);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("Loaded") && run.stderr.contains("Hugging Face layout"), "{run:?}");
}

#[test]
fn chat_without_a_server_says_so() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refusal = sostenuto(["chat", "--url", &format!("http://{free}")]).refusal();
    assert!(refusal.contains(&free.to_string()), "{refusal}");
    assert!(sostenuto(["chat", "--url", "https://127.0.0.1"]).refusal().contains("http only"));
}

#[test]
fn piped_chat_prints_answers_alone_and_keeps_them_in_the_conversation() {
    let script = ScriptedServer::start(vec![
        vec![
            delta(json!({"role": "assistant"})),
            delta(json!({"reasoning": "think", "reasoning_content": "think"})),
            delta(json!({"content": "Hel"})),
            delta(json!({"content": "lo."})),
            finish("stop"),
        ],
        vec![delta(json!({"content": "Two."})), finish("stop")],
    ]);
    let input = "First\n\n/system Be kind.\nSecond \\ question\n/quit\nnever sent\n";
    let run = sostenuto_reading(input, ["chat", "--url", &script.url, "--temperature", "0.5"]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(0), "Hello.\nTwo.\n"), "{run:?}");
    let requests = script.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0]["model"], "scripted");
    assert_eq!(requests[0]["temperature"], 0.5);
    assert_eq!(requests[0]["messages"], json!([{"role": "user", "content": "First"}]));
    let second =
        json!([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Second \\ question"}]);
    assert_eq!(requests[1]["messages"], second);
}

#[test]
fn piped_chat_remembers_what_was_said() {
    let answer = |text: &str| vec![delta(json!({ "content": text })), finish("stop")];
    let script = ScriptedServer::start(vec![answer("A1"), answer("A2")]);
    sostenuto_reading("Q1\nQ2\n", ["chat", "--url", &script.url]).ok();
    let expected = json!([
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1"},
        {"role": "user", "content": "Q2"},
    ]);
    assert_eq!(script.requests()[1]["messages"], expected);
}

#[test]
fn answer_that_breaks_off_is_an_error() {
    let broken = vec![delta(json!({"content": "Half an ans"}))];
    let failed = vec![
        delta(json!({"content": "Half"})),
        json!({"error": {"message": "the engine failed"}}).to_string(),
    ];
    let script = ScriptedServer::start(vec![broken, failed]);
    let run = sostenuto_reading("Q1\nQ2\n", ["chat", "--url", &script.url]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), "Half an ans\nHalf\n"));
    assert!(run.stderr.contains("broke off") && run.stderr.contains("the engine failed"), "{run:?}");
}

#[test]
fn generate_gives_the_same_text_for_the_same_seed() {
    let generate = |seed: &str, raw: bool| {
        let model = arg(checkpoint());
        let args = ["generate", "--model", model, "--ctx", "512", "--max-tokens", "12", "--seed", seed];
        let raw = if raw { &["--raw"][..] } else { &[] };
        sostenuto_reading("Once upon a time", args.iter().chain(raw)).ok()
    };
    assert_eq!(generate("1", true), generate("1", true));
    assert_ne!(generate("1", true), generate("2", true));
    assert!(!generate("1", true).is_empty());
    assert_eq!(generate("1", false), generate("1", false));
}

#[test]
fn wrong_sampling_is_refused() {
    let refusal =
        sostenuto(["generate", "x", "--raw", "--temperature", "3", "--model", arg(checkpoint())]).refusal();
    assert!(refusal.contains("temperature is 3") && refusal.contains("0 to 2"), "{refusal}");
}

fn delta(delta: Value) -> String {
    json!({"choices": [{"index": 0, "delta": delta, "finish_reason": null}]}).to_string()
}

fn finish(reason: &str) -> String {
    json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}).to_string()
}

/// Answers each chat request with the next list of events, without the end mark where the last is no finish.
struct ScriptedServer {
    url: String,
    thread: JoinHandle<Vec<Value>>,
}

impl ScriptedServer {
    fn start(answers: Vec<Vec<String>>) -> ScriptedServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut requests = Vec::new();
            while requests.len() < answers.len() {
                let (stream, _) = listener.accept().unwrap();
                requests.extend(answer(stream, &answers[requests.len()]));
            }
            requests
        });
        ScriptedServer { url, thread }
    }

    /// The chat requests that came, in order.
    fn requests(self) -> Vec<Value> {
        self.thread.join().unwrap()
    }
}

/// Answers one request and gives its body if it asked for an answer of the model.
fn answer(stream: TcpStream, events: &[String]) -> Option<Value> {
    let mut reader = BufReader::new(stream);
    let (mut is_chat, mut length) = (false, 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        is_chat |= line.starts_with("POST /v1/chat/completions ");
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut stream = reader.into_inner();
    if !is_chat {
        let models = json!({"data": [{"id": "scripted"}]}).to_string();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{models}", models.len()).unwrap();
        return None;
    }
    write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n")
        .unwrap();
    for event in events {
        write!(stream, "data: {event}\n\n").unwrap();
    }
    if events.last().is_some_and(|event| event.contains("\"stop\"")) {
        write!(stream, "data: [DONE]\n\n").unwrap();
    }
    Some(serde_json::from_slice(&body).unwrap())
}
