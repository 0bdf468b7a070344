//! Requests that are refused, and limits of the HTTP front.

use std::time::Duration;

use serde_json::{Value, json};
use sostenuto_api::limits::{BODY_BYTES, HEADER_BYTES, HEADER_FIELDS};
use sostenuto_engine::ExecutorLimits;
use sostenuto_server::{ApiKeys, Deadlines, Server, ServerConfig};
use tokio::io::AsyncWriteExt;

use crate::{
    client::{Answer, TestServer, post_bytes, read_answer, read_until},
    scripted::{self, Scripted, harmony},
};

const CHAT: &str = "/v1/chat/completions";

fn toy() -> Scripted {
    Scripted::new(harmony("<|channel|>final<|message|>Hi.<|return|>"))
}

fn hello() -> Value {
    json!({"model": "toy", "messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test]
async fn models_are_listed_and_found_by_name_and_alias() {
    let server = TestServer::start(toy()).await;
    let list = server.get("/v1/models").await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("toy")));
    assert_eq!(list["data"][0]["max_model_len"], 4_096);
    for name in ["toy", "org/toy"] {
        assert_eq!(server.get(&format!("/v1/models/{name}")).await.json()["id"], "toy");
        let mut request = hello();
        request["model"] = json!(name);
        assert_eq!(server.chat(request).await.json()["model"], "toy");
    }
    let mut request = hello();
    request["model"] = json!("gpt-4o");
    let answer = server.chat(request).await;
    assert_eq!(answer.error(), (404, "model_not_found".into()));
    assert!(answer.body.contains("toy, org/toy"), "{answer:?}");
    assert_eq!(server.get("/v1/models/nothing").await.error(), (404, "model_not_found".into()));
    server.stop().await;
}

#[tokio::test]
async fn health_and_front_page_answer() {
    let server = TestServer::start(toy()).await;
    for path in ["/health", "/v1/health"] {
        assert_eq!(server.get(path).await.json()["status"], "ready");
    }
    let ready = server.get("/ready").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &"ready".into()));
    let page = server.get("/").await;
    assert!(page.status == 200 && page.body.contains(CHAT), "{page:?}");
    let head = server.raw(b"HEAD / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
    assert_eq!((head.status, &*head.body), (200, ""));
    server.stop().await;
}

#[tokio::test]
async fn unknown_paths_methods_and_types_are_refused_in_openai_s_form() {
    let server = TestServer::start(toy()).await;
    for path in ["/nothing", "/v1", "/v1/", "/v1/completions", "/v1/chat", "//", "/../etc/passwd"] {
        assert_eq!(server.get(path).await.error(), (404, "not_found".into()), "{path}");
    }
    assert_eq!(server.get(CHAT).await.error(), (405, "method_not_allowed".into()));
    assert_eq!(server.get(CHAT).await.header("allow"), Some("POST"));
    assert_eq!(server.post("/v1/models", "{}").await.error(), (405, "method_not_allowed".into()));
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/jsonx"]
    {
        let answer = server.raw(&post_bytes(CHAT, kind, hello().to_string().as_bytes())).await;
        assert_eq!(answer.error(), (415, "unsupported_media_type".into()), "{kind}");
    }
    let with_charset = post_bytes(CHAT, "Application/JSON; charset=utf-8", hello().to_string().as_bytes());
    assert_eq!(server.raw(&with_charset).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn bodies_that_are_no_request_are_400() {
    let server = TestServer::start(toy()).await;
    for (body, code) in [
        ("", "invalid_json"),
        ("{", "invalid_json"),
        ("nonsense", "invalid_json"),
        ("{}{}", "invalid_json"),
        ("[]", "invalid_type"),
        ("null", "invalid_type"),
        ("{}", "missing_required_parameter"),
        ("{\"model\": 1}", "invalid_type"),
        ("{\"temperature\": 1e999}", "invalid_json"),
        ("{\"model\": \"\\ud800\"}", "invalid_json"),
    ] {
        assert_eq!(server.post(CHAT, body).await.error(), (400, code.into()), "{body}");
    }
    let not_utf8 = server.raw(&post_bytes(CHAT, "application/json", b"{\"model\": \"\xff\"}")).await;
    assert_eq!(not_utf8.error(), (400, "invalid_json".into()));
    let deep = "[".repeat(2_000_000);
    assert_eq!(server.post(CHAT, &deep).await.error(), (400, "json_too_deep".into()));
    let mut forced = hello();
    forced["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
    forced["tool_choice"] = json!("required");
    assert_eq!(server.chat(forced).await.error(), (400, "unsupported_value".into()));
    server.stop().await;
}

/// A request body of exactly `size` bytes.
fn body_of(size: usize) -> String {
    let short = hello().to_string();
    let padded = format!("{}{}}}", &short[..short.len() - 1], " ".repeat(size - short.len()));
    assert_eq!(padded.len(), size);
    padded
}

#[tokio::test]
async fn bodies_are_read_up_to_the_limit() {
    let server = TestServer::start(toy()).await;
    let limit = BODY_BYTES.max as usize;
    for size in [limit - 1, limit] {
        assert_eq!(server.post(CHAT, &body_of(size)).await.status, 200, "{size}");
    }
    for size in [limit + 1, limit * 3] {
        assert_eq!(
            server.post(CHAT, &body_of(size)).await.error(),
            (413, "request_too_large".into()),
            "{size}"
        );
    }
    // Only announced: the answer comes without waiting for four terabytes.
    let announced = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        limit * 1_000_000
    );
    assert_eq!(server.raw(announced.as_bytes()).await.error(), (413, "request_too_large".into()));
    let mut chunked = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\
         connection: close\r\n\r\n"
    )
    .into_bytes();
    for chunk in body_of(limit + 1).as_bytes().chunks(1 << 16) {
        chunked.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunked.extend(chunk);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert_eq!(server.raw(&chunked).await.error(), (413, "request_too_large".into()));
    server.stop().await;
}

/// CVE-2025-48956: a huge header exhausted memory.
#[tokio::test]
async fn headers_are_read_up_to_the_limit() {
    let server = TestServer::start(toy()).await;
    let request = |size: usize| {
        let frame = "GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: \r\n\r\n".len();
        let value = "v".repeat(size - frame);
        format!("GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: {value}\r\n\r\n")
    };
    let limit = HEADER_BYTES.max as usize;
    for (size, status) in [(limit - 1, 200), (limit, 200), (limit + 1, 431), (limit * 1_000, 431)] {
        assert_eq!(server.raw(request(size).as_bytes()).await.status, status, "{size}");
    }
    let fields = |count: usize| {
        let extra: String = (2..count).map(|i| format!("x{i}: v\r\n")).collect();
        format!("GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{extra}\r\n")
    };
    let limit = HEADER_FIELDS.max as usize;
    for (count, status) in [(limit - 1, 200), (limit, 200), (limit + 1, 431), (limit * 100, 431)] {
        assert_eq!(server.raw(fields(count).as_bytes()).await.status, status, "{count}");
    }
    server.stop().await;
}

fn short_deadlines() -> ServerConfig {
    let deadlines = Deadlines {
        header: Duration::from_millis(100),
        body: Duration::from_millis(100),
        ..Deadlines::default()
    };
    ServerConfig { deadlines, ..ServerConfig::default() }
}

#[tokio::test]
async fn clients_that_do_not_finish_what_they_began_are_cut_off() {
    let server = TestServer::with(toy(), short_deadlines(), scripted::options()).await;
    let mut silent = server.connect().await;
    assert_eq!(read_answer(&mut silent).await.status, 0);
    let half_head = server.raw(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loc").await;
    assert_eq!(half_head.status, 0);
    let half_body = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    assert_eq!(server.raw(half_body.as_bytes()).await.error(), (408, "request_timeout".into()));
    server.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_for_a_free_place() {
    let config = ServerConfig { max_connections: 1, ..ServerConfig::default() };
    let server = TestServer::with(toy(), config, scripted::options()).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    read_until(&mut first, "\"ready\"").await;
    let mut second = server.connect().await;
    second.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    // The only place is taken: nothing can have arrived, however long one waits.
    let mut buffer = [0; 1];
    assert!(second.try_read(&mut buffer).is_err());
    drop(first);
    assert_eq!(read_answer(&mut second).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn address_beyond_loopback_needs_a_key() {
    let server = TestServer::start(toy()).await;
    let state = server.state();
    let bind = "0.0.0.0:0".parse().unwrap();
    let error =
        Server::bind(ServerConfig { bind, ..ServerConfig::default() }, state.clone()).await.unwrap_err();
    assert!(error.to_string().contains("API key"), "{error}");
    let api_keys = ApiKeys::parse("0123456789abcdef", "test").unwrap();
    assert!(Server::bind(ServerConfig { bind, api_keys, ..ServerConfig::default() }, state).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn key_is_asked_for_everywhere_but_on_health_and_front_page() {
    let api_keys = ApiKeys::parse("0123456789abcdef", "test").unwrap();
    let config = ServerConfig { api_keys, ..ServerConfig::default() };
    let server = TestServer::with(toy(), config, scripted::options()).await;
    let ask = async |path: &str, header: &str| -> Answer {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}connection: close\r\n\r\n");
        server.raw(request.as_bytes()).await
    };
    for path in ["/v1/models", CHAT, "/nothing"] {
        let refused = ask(path, "").await;
        assert_eq!(refused.error(), (401, "invalid_api_key".into()), "{path}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        assert_eq!(ask(path, "x-api-key: 0123456789ABCDEF\r\n").await.status, 401, "{path}");
    }
    for header in ["x-api-key: 0123456789abcdef\r\n", "authorization: Bearer 0123456789abcdef\r\n"] {
        assert_eq!(ask("/v1/models", header).await.status, 200);
    }
    for path in ["/", "/health", "/v1/health", "/ready"] {
        assert_eq!(ask(path, "").await.status, 200, "{path}");
    }
    // The body of a request without a key is not read.
    let refused = server.post(CHAT, "nonsense").await;
    assert_eq!(refused.status, 401);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_and_listed_ones_get_their_headers() {
    let allowed_origins = vec!["https://chat.example".to_owned()];
    let config = ServerConfig { allowed_origins, ..ServerConfig::default() };
    let server = TestServer::with(toy(), config, scripted::options()).await;
    let ask = async |method: &str, origin: &str| -> Answer {
        let request = format!(
            "{method} /v1/models HTTP/1.1\r\nhost: localhost\r\norigin: {origin}\r\nconnection: close\r\n\r\n"
        );
        server.raw(request.as_bytes()).await
    };
    for method in ["GET", "OPTIONS"] {
        let refused = ask(method, "https://evil.example").await;
        assert_eq!(refused.error(), (403, "origin_not_allowed".into()));
        assert_eq!(refused.header("access-control-allow-origin"), None);
        let allowed = ask(method, "https://chat.example").await;
        assert_eq!(allowed.header("access-control-allow-origin"), Some("https://chat.example"));
    }
    assert_eq!(ask("OPTIONS", "https://chat.example").await.status, 204);
    let rebound =
        server.raw(b"GET /v1/models HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert_eq!(rebound.error(), (403, "host_not_allowed".into()));
    server.stop().await;
}

#[tokio::test]
async fn conversation_longer_than_the_context_is_refused_with_numbers() {
    let executor = toy().with_limits(|limits: &mut ExecutorLimits| limits.max_context = 128);
    let server = TestServer::start(executor).await;
    let mut request = hello();
    request["messages"][0]["content"] = json!("word ".repeat(200));
    let answer = server.chat(request).await;
    assert_eq!(answer.error(), (400, "context_length_exceeded".into()));
    assert!(answer.body.contains("127"), "{answer:?}");
    server.stop().await;
}

#[tokio::test]
async fn bias_on_a_token_that_does_not_exist_is_400() {
    let server = TestServer::start(toy()).await;
    let mut request = hello();
    request["logit_bias"] = json!({"4000000": 1});
    assert_eq!(server.chat(request).await.error().0, 400);
    server.stop().await;
}

#[tokio::test]
async fn client_s_request_id_is_kept_if_it_fits_in_a_log_line() {
    let server = TestServer::start(toy()).await;
    let ask = async |id: &str| {
        let request = format!(
            "GET /health HTTP/1.1\r\nhost: localhost\r\nx-request-id: {id}\r\nconnection: close\r\n\r\n"
        );
        server.raw(request.as_bytes()).await.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(ask("my-id_1").await, "my-id_1");
    for id in ["two words", &"x".repeat(65), "{}", "\""] {
        assert!(ask(id).await.starts_with("req_"), "{id}");
    }
    server.stop().await;
}
