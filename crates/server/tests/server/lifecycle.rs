//! Requests in progress: overload, disconnects, shutdown, failures.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use serde_json::{Value, json};
use sostenuto_engine::{
    EngineClient, EngineError, EngineOptions, EngineState, EngineStats, EventSink, GenerateRequest,
    RequestId, RequestRules, ShutdownMode, SubmitError,
    testing::{Fault, HashExecutor},
};
use sostenuto_server::{Deadlines, ServerConfig};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::{
    client::{TestServer, eventually, post_bytes, read_answer, read_until},
    scripted::{self, Scripted, harmony},
};

const CHAT: &str = "/v1/chat/completions";

fn request(stream: bool) -> Value {
    json!({"model": "toy", "messages": [{"role": "user", "content": "hi"}], "stream": stream})
}

/// Speaks until it is stopped.
fn endless() -> Scripted {
    Scripted::new(harmony("<|channel|>final<|message|>on and on"))
}

async fn begin(server: &TestServer, stream: bool) -> TcpStream {
    begin_with(server, &request(stream)).await
}

/// Sends a request and does not wait for the answer.
async fn begin_with(server: &TestServer, request: &Value) -> TcpStream {
    let mut connection = server.connect().await;
    let body = request.to_string();
    connection.write_all(&post_bytes(CHAT, "application/json", body.as_bytes())).await.unwrap();
    connection
}

/// llama.cpp #24496, vLLM #54947: generation went on after the client was gone.
#[tokio::test]
async fn disconnect_cancels_the_sequence_streaming_or_not() {
    for stream in [true, false] {
        let (gate, waiting) = mpsc::channel();
        let server = TestServer::start(endless().with_gate(waiting)).await;
        let mut connection = begin(&server, stream).await;
        for _ in 0..10 {
            gate.send(()).unwrap();
        }
        if stream {
            read_until(&mut connection, "\"content\":\"on\"").await;
        }
        eventually(|| server.engine.stats().running == 1).await;
        drop(connection);
        eventually(|| {
            // A step may wait at the gate; one more lets the engine see the cancel.
            let _ = gate.send(());
            server.engine.stats().running == 0
        })
        .await;
        let totals = server.engine.stats().totals;
        assert_eq!((totals.cancelled, totals.finished), (1, 0), "stream: {stream}");
        drop(gate);
        server.stop().await;
    }
}

/// ik_llama #1020: a disconnect during prefill was not noticed.
#[tokio::test]
async fn disconnect_during_prefill_and_in_the_queue_cancels() {
    let (gate, waiting) = mpsc::channel();
    let executor = endless().with_gate(waiting).with_limits(|limits| {
        limits.max_sequences = 1;
        limits.max_chunk = 8;
    });
    let server = TestServer::start(executor).await;
    let mut long = request(true);
    long["messages"][0]["content"] = json!("word ".repeat(3_000));
    let prefilling = begin_with(&server, &long).await;
    eventually(|| server.engine.stats().running + server.engine.stats().queued == 1).await;
    let queued = begin(&server, false).await;
    eventually(|| server.engine.stats().accepted == 2).await;
    drop((prefilling, queued));
    eventually(|| {
        let _ = gate.send(());
        let stats = server.engine.stats();
        stats.running == 0 && stats.queued == 0
    })
    .await;
    let totals = server.engine.stats().totals;
    assert!(totals.prefill_tokens < 3_000 && totals.decode_tokens == 0, "{totals:?}");
    drop(gate);
    server.stop().await;
}

#[tokio::test]
async fn request_beyond_the_queue_is_429_with_retry_after() {
    let (gate, waiting) = mpsc::channel();
    let executor = endless().with_gate(waiting).with_limits(|limits| limits.max_sequences = 1);
    let options = EngineOptions { max_queued_requests: 1, ..scripted::options() };
    let server = TestServer::with(executor, ServerConfig::default(), options).await;
    let running = begin(&server, true).await;
    eventually(|| server.engine.stats().running == 1).await;
    let queued = begin(&server, true).await;
    eventually(|| server.engine.stats().queued == 1).await;
    let refused = server.chat(request(false)).await;
    assert_eq!(refused.error(), (429, "rate_limit_exceeded".into()));
    let retry_after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!(retry_after >= 1, "{refused:?}");
    // Several sequences are accepted as a whole or not at all.
    let mut several = request(false);
    several["n"] = json!(8);
    assert_eq!(server.chat(several).await.status, 429);
    drop((running, queued, gate));
    server.stop().await;
}

#[tokio::test]
async fn answer_that_takes_longer_than_its_timeout_ends_with_an_error() {
    let server = TestServer::start(endless()).await;
    let mut late = request(false);
    late["timeout"] = json!(0.05);
    assert_eq!(server.chat(late.clone()).await.error(), (504, "deadline_exceeded".into()));
    late["stream"] = json!(true);
    let events = server.chat(late).await.events();
    assert_eq!(events.last().unwrap()["error"]["code"], "deadline_exceeded");
    let page = server.get("/metrics").await.body;
    let counted =
        "vllm:request_success_total{model_name=\"toy\",engine=\"0\",finished_reason=\"deadline\"} 2";
    assert!(page.contains(counted), "{page}");
    server.stop().await;
}

/// vLLM's field: the lower number runs first.
#[tokio::test]
async fn lower_priority_runs_before_those_that_came_earlier() {
    let (gate, waiting) = mpsc::channel();
    let executor = Scripted::new(harmony("<|channel|>final<|message|>x<|return|>"))
        .with_gate(waiting)
        .with_limits(|limits| limits.max_sequences = 1);
    let prompt = executor.prompt();
    let server = TestServer::start(executor).await;
    let mut connections = vec![begin(&server, false).await];
    eventually(|| server.engine.stats().running == 1).await;
    for (accepted, priority) in [(2, 5), (3, -5)] {
        let mut queued = request(false);
        queued["priority"] = json!(priority);
        queued["messages"][0]["content"] = json!("word ".repeat(accepted as usize * 10));
        connections.push(begin_with(&server, &queued).await);
        eventually(|| server.engine.stats().accepted == accepted).await;
    }
    while server.engine.stats().totals.finished < 2 {
        let steps = server.engine.stats().totals.steps;
        gate.send(()).unwrap();
        eventually(|| server.engine.stats().totals.steps > steps).await;
    }
    // The third can't have begun: its first step waits at the gate.
    let ran = prompt.lock().unwrap().clone();
    let words = harmony(" word")[0];
    assert!(
        ran.iter().filter(|token| **token == words).count() > 25,
        "the longer one, with the lower number"
    );
    drop((connections, gate));
    server.stop().await;
}

#[tokio::test]
async fn stop_string_ends_the_sequence_in_the_engine() {
    let server = TestServer::start(endless()).await;
    let mut request = request(false);
    request["stop"] = json!("and on");
    let choice = server.chat(request).await.json()["choices"][0].clone();
    assert_eq!(choice["message"]["content"], "on ");
    eventually(|| server.engine.stats().running == 0).await;
    let totals = server.engine.stats().totals;
    assert_eq!((totals.cancelled, totals.finished), (1, 0));
    server.stop().await;
}

#[tokio::test]
async fn shutdown_lets_answers_in_progress_end() {
    let (gate, waiting) = mpsc::channel();
    let script = harmony("<|channel|>final<|message|>To the end.<|return|>");
    let mut server = TestServer::start(Scripted::new(script).with_gate(waiting)).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    read_until(&mut idle, "\"ready\"").await;
    let mut streaming = begin(&server, true).await;
    let mut whole = begin(&server, false).await;
    eventually(|| server.engine.stats().accepted == 2).await;
    server.signal_shutdown();
    assert_eq!(read_answer(&mut idle).await.status, 0, "an idle connection is closed");
    let refused = server.chat(request(false)).await;
    assert_eq!(refused.error(), (503, "shutting_down".into()));
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    for (path, status) in [("/health", 200), ("/ready", 503)] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, &answer.json()["status"]), (status, &json!("draining")), "{path}");
    }
    drop(gate);
    assert!(read_answer(&mut streaming).await.body.ends_with("data: [DONE]\n\n"));
    let answer = read_answer(&mut whole).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "To the end.");
    assert_eq!(server.stop().await, 0);
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_end_in_time() {
    let deadlines = Deadlines { drain: Duration::from_millis(50), ..Deadlines::default() };
    let config = ServerConfig { deadlines, ..ServerConfig::default() };
    let (gate, waiting) = mpsc::channel();
    let server = TestServer::with(endless().with_gate(waiting), config, scripted::options()).await;
    let engine = server.engine.clone();
    let connection = begin(&server, true).await;
    eventually(|| engine.stats().running == 1).await;
    assert_eq!(server.stop().await, 1);
    drop(gate);
    engine.join().unwrap();
    assert_eq!(engine.stats().running, 0);
    drop(connection);
}

/// An engine elsewhere that answers nothing.
#[derive(Debug)]
struct Elsewhere(EngineState);

impl EngineClient for Elsewhere {
    fn submit(&self, _: GenerateRequest, _: Box<dyn EventSink>) -> Result<RequestId, SubmitError> {
        Err(SubmitError::Starting)
    }

    fn check_room(&self) -> Result<(), SubmitError> {
        Err(SubmitError::Starting)
    }

    fn cancel(&self, _: RequestId) {}

    fn stats(&self) -> EngineStats {
        EngineStats { restarts: 7, ..EngineStats::default() }
    }

    fn rules(&self) -> Option<RequestRules> {
        None
    }

    fn state(&self) -> EngineState {
        self.0.clone()
    }

    fn process_id(&self) -> Option<u32> {
        None
    }

    fn shutdown(&self, _: ShutdownMode) {}

    fn join(&self) -> Result<(), EngineError> {
        Ok(())
    }
}

#[tokio::test]
async fn server_listens_before_its_engine_is_ready_and_says_how_it_stands() {
    let degraded = EngineState::Degraded { reason: "signal: 9".into() };
    let states = [(EngineState::Starting, "starting"), (degraded, "degraded")];
    for (state, word) in states {
        let server = TestServer::with_client(Arc::new(Elsewhere(state))).await;
        let health = server.get("/health").await;
        let ready = server.get("/ready").await;
        assert_eq!((health.status, ready.status), (200, 503));
        assert!(ready.header("retry-after").is_some(), "{ready:?}");
        for answer in [health, ready] {
            let body = answer.json();
            assert_eq!((&body["status"], &body["restarts"]), (&json!(word), &json!(7)));
            assert_eq!(body["reason"].as_str(), (word == "degraded").then_some("signal: 9"));
        }
        for answer in [server.chat(request(true)).await, server.get("/v1/models").await] {
            assert_eq!(answer.error(), (503, "starting".into()), "{word}");
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn requests_to_a_stopped_engine_are_refused_and_health_says_so() {
    let server = TestServer::start(endless()).await;
    server.engine.shutdown(ShutdownMode::Now);
    server.engine.join().unwrap();
    assert!(server.chat(request(false)).await.status >= 500);
    for path in ["/health", "/ready"] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("stopped")), "{path}");
    }
    server.stop().await;
}

#[tokio::test]
async fn failure_of_the_device_is_reported_in_both_forms() {
    let vocab_size = sostenuto_tokenizer::Tokenizer::o200k_harmony().vocab_size() as usize;
    let limits = sostenuto_engine::ExecutorLimits { max_context: 256, ..HashExecutor::small_limits() };
    let executor = HashExecutor::new(vocab_size, limits).with_fault(0, Fault::Recoverable);
    let server = TestServer::start(executor).await;
    assert_eq!(server.chat(request(false)).await.error(), (500, "engine_error".into()));
    let mut bounded = request(false);
    bounded["max_tokens"] = json!(3);
    assert_eq!(server.chat(bounded).await.status, 200, "the next request runs");
    server.stop().await;
    let executor = HashExecutor::new(vocab_size, limits).with_fault(0, Fault::Recoverable);
    let server = TestServer::start(executor).await;
    let events = server.chat(request(true)).await.events();
    assert_eq!(events[0]["error"]["code"], "engine_error");
    server.stop().await;
}

#[tokio::test]
async fn stream_without_tokens_shows_signs_of_life() {
    let deadlines = Deadlines { keep_alive: Duration::from_millis(10), ..Deadlines::default() };
    let config = ServerConfig { deadlines, ..ServerConfig::default() };
    let (gate, waiting) = mpsc::channel();
    let server = TestServer::with(endless().with_gate(waiting), config, scripted::options()).await;
    let mut connection = begin(&server, true).await;
    read_until(&mut connection, ": keep-alive\n\n").await;
    drop((connection, gate));
    server.stop().await;
}
