//! `GET /metrics`: what it shows is what was done.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::mpsc,
};

use serde_json::{Value, json};
use sostenuto_engine::EngineOptions;
use sostenuto_server::{ApiKeys, ServerConfig};
use tokio::io::AsyncWriteExt;

use crate::{
    client::{TestServer, eventually, post_bytes},
    scripted::{self, Scripted, harmony},
};

const CHAT: &str = "/v1/chat/completions";
const OF_MODEL: &str = "model_name=\"toy\",engine=\"0\"";

/// Values by series, as on the page.
struct Page(BTreeMap<String, f64>);

impl Page {
    async fn get(server: &TestServer) -> Page {
        let answer = server.get("/metrics").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
        let series = lines.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        });
        Page(series.collect())
    }

    /// The value of a series without labels of its own.
    #[track_caller]
    fn value(&self, name: &str) -> f64 {
        let of_model = format!("{name}{{{OF_MODEL}}}");
        let value = self.0.get(name).or_else(|| self.0.get(&of_model));
        *value.unwrap_or_else(|| panic!("{name} is not in {:#?}", self.0.keys()))
    }

    /// The value of the series with this label; 0 if there is none.
    fn labelled(&self, name: &str, label: &str) -> f64 {
        let mut series = self.0.iter().filter(|(series, _)| {
            series.split_once('{').is_some_and(|(found, labels)| found == name && labels.contains(label))
        });
        series.next().map_or(0.0, |(_, value)| *value)
    }
}

fn request(max_tokens: Option<usize>) -> Value {
    let mut request = json!({"messages": [{"role": "user", "content": "hi"}], "seed": 1});
    if let Some(max_tokens) = max_tokens {
        request["max_tokens"] = json!(max_tokens);
    }
    request
}

#[tokio::test]
async fn metrics_count_what_was_done() {
    let script = harmony("<|channel|>final<|message|>Four little words.<|return|>");
    let tokens = script.len() as f64;
    let server = TestServer::start(Scripted::new(script)).await;
    let whole = server.chat(request(None)).await.json();
    let prompt_tokens = whole["usage"]["prompt_tokens"].as_f64().unwrap();
    assert_eq!(whole["usage"]["completion_tokens"], tokens);
    let mut streamed = request(Some(100));
    (streamed["stream"], streamed["n"]) = (json!(true), json!(2));
    server.chat(streamed).await.events();
    assert_eq!(server.chat(request(Some(2))).await.status, 200);
    let mut wrong = request(None);
    wrong["temperature"] = json!(9);
    assert_eq!(server.chat(wrong).await.status, 400);
    assert_eq!(server.get("/nothing").await.status, 404);

    let page = Page::get(&server).await;
    let ends = ["stop", "length", "abort", "deadline", "error"]
        .map(|end| page.labelled("vllm:request_success_total", end));
    assert_eq!(ends, [3.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(page.value("vllm:prompt_tokens_total"), 4.0 * prompt_tokens);
    assert_eq!(page.value("vllm:generation_tokens_total"), 3.0 * tokens + 2.0);
    for (name, count) in [
        ("vllm:time_to_first_token_seconds", 4.0),
        ("vllm:inter_token_latency_seconds", 3.0 * (tokens - 1.0) + 1.0),
        ("vllm:request_time_per_output_token_seconds", 4.0),
        ("vllm:e2e_request_latency_seconds", 4.0),
        ("vllm:request_queue_time_seconds", 4.0),
        ("vllm:request_prefill_time_seconds", 4.0),
        ("vllm:request_decode_time_seconds", 4.0),
        ("vllm:request_inference_time_seconds", 4.0),
        ("vllm:request_params_n", 3.0),
        ("vllm:request_params_max_tokens", 2.0),
    ] {
        assert_eq!(page.value(&format!("{name}_count")), count, "{name}");
    }
    assert_eq!(page.value("vllm:request_prompt_tokens_sum"), 4.0 * prompt_tokens);
    assert_eq!(page.value("vllm:request_generation_tokens_sum"), 3.0 * tokens + 2.0);
    assert_eq!(page.value("vllm:request_params_max_tokens_sum"), 102.0);
    assert_eq!(page.labelled("sostenuto:request_errors_total", "code=\"invalid_value\""), 1.0);
    assert_eq!(page.labelled("sostenuto:http_responses_total", "path=\"other\",status=\"404\""), 1.0);
    let answered = format!("path=\"{CHAT}\",status=\"200\"");
    assert_eq!(page.labelled("sostenuto:http_responses_total", &answered), 3.0);
    assert_eq!(page.value("sostenuto:accepted_sequences_total"), 4.0);
    assert!(page.value("process_resident_memory_bytes") > 1e6);
    assert_eq!(page.value("sostenuto:open_connections"), 1.0, "the one that asks");
    server.stop().await;
}

/// Times of a phase are part of the whole, and none is counted for a request that was cut.
#[tokio::test]
async fn phases_of_an_answer_add_up() {
    let script = harmony("<|channel|>final<|message|>Four little words.<|return|>");
    let server = TestServer::start(Scripted::new(script)).await;
    server.chat(request(None)).await.json();
    let page = Page::get(&server).await;
    let sum = |name: &str| page.value(&format!("vllm:{name}_seconds_sum"));
    let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
    assert!(close(sum("request_inference_time"), sum("request_prefill_time") + sum("request_decode_time")));
    let until_first = sum("request_queue_time") + sum("request_prefill_time");
    assert!(close(sum("time_to_first_token"), until_first));
    assert!(close(sum("inter_token_latency"), sum("request_decode_time")));
    assert!(sum("e2e_request_latency") >= until_first + sum("request_decode_time") - 1e-6);
    server.stop().await;
}

#[tokio::test]
async fn gauges_show_what_runs_and_waits_and_refusals_and_aborts_are_counted() {
    let (gate, waiting) = mpsc::channel();
    let executor = Scripted::new(harmony("<|channel|>final<|message|>on and on"))
        .with_gate(waiting)
        .with_limits(|limits| limits.max_sequences = 1);
    let options = EngineOptions { max_queued_requests: 1, ..scripted::options() };
    let server = TestServer::with(executor, ServerConfig::default(), options).await;
    let mut connections = Vec::new();
    for accepted in 1..=2 {
        let mut connection = server.connect().await;
        let body = request(None).to_string();
        connection.write_all(&post_bytes(CHAT, "application/json", body.as_bytes())).await.unwrap();
        eventually(|| {
            let stats = server.engine.stats();
            stats.running + stats.queued == accepted && stats.running == 1
        })
        .await;
        connections.push(connection);
    }
    assert_eq!(server.chat(request(None)).await.status, 429);

    let page = Page::get(&server).await;
    assert_eq!(page.value("vllm:num_requests_running"), 1.0);
    assert_eq!(page.value("vllm:num_requests_waiting"), 1.0);
    assert!(page.value("vllm:kv_cache_usage_perc") > 0.0);
    assert_eq!(page.value("sostenuto:open_connections"), 3.0);
    assert_eq!(page.labelled("sostenuto:request_errors_total", "rate_limit_exceeded"), 1.0);
    assert_eq!(page.value("sostenuto:queue_full_total"), 1.0);

    drop((connections, gate));
    eventually(|| server.engine.stats().running + server.engine.stats().queued == 0).await;
    let page = Page::get(&server).await;
    assert_eq!(page.labelled("vllm:request_success_total", "abort"), 2.0);
    assert_eq!(page.value("vllm:kv_cache_usage_perc"), 0.0);
    assert_eq!(page.value("sostenuto:open_connections"), 1.0);
    server.stop().await;
}

/// The number of series must not follow from what clients send.
#[tokio::test]
async fn strange_requests_make_no_new_series() {
    let server = TestServer::start(Scripted::new(harmony("<|channel|>final<|message|>x<|return|>"))).await;
    server.get("/nothing").await;
    server.chat(json!({"messages": []})).await;
    server.get("/v1/models/none").await;
    let before = Page::get(&server).await.0.len();
    for index in 0..50 {
        server.get(&format!("/nothing/{index}")).await;
        server.get(&format!("/v1/models/none-{index}")).await;
        server.chat(json!({"messages": [], format!("field-{index}"): index, "model": "toy"})).await;
    }
    // The page itself was answered once more.
    assert!(Page::get(&server).await.0.len() <= before + 1);
    server.stop().await;
}

#[tokio::test]
async fn metrics_need_a_key_where_the_api_does() {
    let config = ServerConfig {
        api_keys: ApiKeys::parse("0123456789abcdef", "test").unwrap(),
        ..ServerConfig::default()
    };
    let executor = Scripted::new(harmony("<|channel|>final<|message|>x<|return|>"));
    let server = TestServer::with(executor, config, scripted::options()).await;
    assert_eq!(server.get("/metrics").await.status, 401);
    let with_key = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nx-api-key: 0123456789abcdef\r\n\
                    connection: close\r\n\r\n";
    assert_eq!(server.raw(with_key.as_bytes()).await.status, 200);
    server.stop().await;
}

#[tokio::test]
async fn documentation_lists_exactly_the_metrics_that_exist() {
    let server = TestServer::start(Scripted::new(harmony("<|channel|>final<|message|>x<|return|>"))).await;
    // Counters with labels appear with their first value.
    assert_eq!(server.chat(json!({"messages": []})).await.status, 400);
    let body = server.get("/metrics").await.body;
    let types = body.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let shown: BTreeSet<String> = types.map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let page = std::fs::read_to_string(path).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let listed: BTreeSet<String> = rows.map(str::to_owned).collect();
    assert_eq!(listed, shown);
    server.stop().await;
}
