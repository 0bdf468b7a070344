//! Many clients at once, hasty ones and slow ones.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sostenuto_api::limits::STREAM_BACKLOG_TOKENS;
use sostenuto_engine::{EngineOptions, ExecutorLimits, testing::HashExecutor};
use sostenuto_server::{ApiKeys, ServerConfig};
use sostenuto_tokenizer::Tokenizer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
};

use crate::{
    client::{PATIENCE, TestServer, eventually, parse_answer, post_bytes, read_answer},
    scripted::{Scripted, harmony},
};

const CHAT: &str = "/v1/chat/completions";

fn hashing() -> HashExecutor {
    let limits = ExecutorLimits {
        max_step_rows: 64,
        max_logit_rows: 16,
        max_chunk: 64,
        max_sequences: 16,
        max_context: 256,
        num_blocks: 16 * 256 / 16,
        ..HashExecutor::small_limits()
    };
    HashExecutor::new(Tokenizer::o200k_harmony().vocab_size() as usize, limits)
}

fn request(seed: usize, stream: bool, max_tokens: usize) -> Value {
    json!({
        "messages": [{"role": "user", "content": format!("number {seed}")}],
        "seed": seed,
        "max_tokens": max_tokens,
        "stream": stream,
    })
}

/// Reasoning and content of a stream's events.
fn said(events: &[Value]) -> (String, String) {
    let mut texts = (String::new(), String::new());
    for event in events {
        let delta = &event["choices"][0]["delta"];
        texts.0.push_str(delta["reasoning"].as_str().unwrap_or_default());
        texts.1.push_str(delta["content"].as_str().unwrap_or_default());
    }
    texts
}

#[tokio::test]
async fn streams_at_once_hold_exactly_their_answers() {
    const DISTINCT: usize = 8;
    const STREAMS: usize = 96;
    let server = TestServer::start(hashing()).await;
    let mut whole = BTreeMap::new();
    for seed in 0..DISTINCT {
        let message = server.chat(request(seed, false, 8)).await.json()["choices"][0]["message"].clone();
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        whole.insert(seed, (text("reasoning"), text("content")));
    }
    let mut streams = JoinSet::new();
    for index in 0..STREAMS {
        let mut connection = server.connect().await;
        let body = request(index % DISTINCT, true, 8).to_string();
        streams.spawn(async move {
            connection.write_all(&post_bytes(CHAT, "application/json", body.as_bytes())).await.unwrap();
            (index % DISTINCT, read_answer(&mut connection).await)
        });
    }
    while let Some(joined) = streams.join_next().await {
        let (seed, answer) = joined.unwrap();
        assert_eq!(said(&answer.events()), whole[&seed]);
    }
    server.stop().await;
}

/// CVE-2026-9540 and its like: what a client held was not given back.
#[tokio::test]
async fn disconnects_at_any_byte_give_everything_back() {
    let server = TestServer::start(hashing()).await;
    let bytes = post_bytes(CHAT, "application/json", request(1, true, 6).to_string().as_bytes());
    let answer_bytes = {
        let mut connection = server.connect().await;
        connection.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await.unwrap();
        assert_eq!(parse_answer(&answer).status, 200);
        answer.len()
    };
    for (index, at) in (0..bytes.len() + answer_bytes).step_by(17).enumerate() {
        let mut connection = server.connect().await;
        if index % 2 == 0 {
            connection.set_zero_linger().unwrap();
        }
        connection.write_all(&bytes[..at.min(bytes.len())]).await.unwrap();
        let mut taken = vec![0; at.saturating_sub(bytes.len())];
        tokio::time::timeout(PATIENCE, connection.read_exact(&mut taken)).await.unwrap().unwrap();
        drop(connection);
    }
    eventually(|| {
        let stats = server.engine.stats();
        stats.running + stats.queued + stats.blocks.held == 0
    })
    .await;
    let stats = server.engine.stats();
    let ended = stats.totals.finished + stats.totals.cancelled;
    assert_eq!(ended, stats.accepted, "every accepted request ended: {stats:?}");
    assert_eq!(server.chat(request(1, false, 6)).await.status, 200);
    server.stop().await;
}

/// CVE-2025-46570: who asked before could be told from others' times.
#[tokio::test]
async fn prefixes_are_shared_by_requests_with_the_same_key_alone() {
    let keys = ["a-key-of-the-first", "a-key-of-the-second"];
    let config = ServerConfig {
        api_keys: ApiKeys::parse(&keys.join("\n"), "test").unwrap(),
        ..ServerConfig::default()
    };
    let server = TestServer::with(hashing(), config, EngineOptions::default()).await;
    let mut cached = Vec::new();
    for key in [keys[0], keys[0], keys[1], keys[1]] {
        let body = request(1, false, 2).to_string();
        let with_key = format!("x-api-key: {key}\r\ncontent-type:");
        let bytes = String::from_utf8(post_bytes(CHAT, "application/json", body.as_bytes())).unwrap();
        let answer = server.raw(bytes.replacen("content-type:", &with_key, 1).as_bytes()).await;
        let usage = answer.json()["usage"].clone();
        cached.push(usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap() > 0);
    }
    assert_eq!(cached, [false, true, false, true]);
    server.stop().await;
}

/// A reader that takes nothing holds a bounded part of its answer, and finds out.
#[tokio::test]
async fn reader_that_falls_behind_is_told_and_others_are_served() {
    let backlog = STREAM_BACKLOG_TOKENS.max as usize;
    let endless = Scripted::new(harmony("<|channel|>final<|message|>on and on")).with_limits(|limits| {
        limits.max_context = 8 * backlog;
        limits.num_blocks = 2 * 8 * backlog / 16;
    });
    let server = TestServer::start(endless).await;
    let mut slow = server.connect().await;
    let mut body = request(1, true, 7 * backlog);
    body["temperature"] = json!(0);
    let body = body.to_string();
    slow.write_all(&post_bytes(CHAT, "application/json", body.as_bytes())).await.unwrap();
    eventually(|| server.engine.stats().totals.cancelled == 1).await;
    let generated = server.engine.stats().totals.decode_tokens;
    assert!(generated > backlog as u64, "{generated}");
    assert_eq!(server.chat(request(2, false, 3)).await.status, 200);
    let events = read_answer(&mut slow).await.events();
    assert_eq!(events.last().unwrap()["error"]["code"], "slow_reader");
    assert!(events.len() > backlog, "what was kept is delivered: {}", events.len());
    server.stop().await;
}
