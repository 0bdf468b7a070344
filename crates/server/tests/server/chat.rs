//! Answers: what of the model's output goes where, streaming and not.

use serde_json::{Value, json};

use crate::{
    client::{Answer, TestServer},
    scripted::{Scripted, bytewise, harmony},
};

/// A request with `fields` added.
fn request(fields: Value) -> Value {
    let mut request = json!({"model": "toy", "messages": [{"role": "user", "content": "hi"}], "seed": 7});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

fn tools(names: &[&str]) -> Value {
    let tool = |name: &&str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}});
    json!({"tools": names.iter().map(tool).collect::<Vec<_>>()})
}

/// Asks once without and once with streaming, checks that both say the same, and returns the first choice.
async fn ask(script: Vec<u32>, fields: Value) -> Value {
    let server = TestServer::start(Scripted::new(script)).await;
    let choice = ask_server(&server, fields).await;
    server.stop().await;
    choice
}

async fn ask_server(server: &TestServer, fields: Value) -> Value {
    let whole = server.chat(request(fields.clone())).await;
    assert_eq!(whole.status, 200, "{whole:?}");
    let whole = whole.json();
    let mut fields = fields;
    fields["stream"] = json!(true);
    fields["stream_options"] = json!({"include_usage": true});
    let streamed = server.chat(request(fields)).await;
    assert_eq!(streamed.header("content-type"), Some("text/event-stream"), "{streamed:?}");
    let (choices, usage) = assemble(&streamed);
    let mut comparable = whole["choices"].clone();
    for choice in comparable.as_array_mut().unwrap() {
        forget_call_ids(choice);
    }
    assert_eq!(Value::Array(choices), comparable);
    assert_eq!(usage, whole["usage"]);
    whole["choices"][0].clone()
}

/// Ids of calls differ from request to request.
fn forget_call_ids(choice: &mut Value) {
    let calls = choice["message"].get_mut("tool_calls").and_then(Value::as_array_mut);
    for call in calls.into_iter().flatten() {
        assert!(call["id"].as_str().unwrap().starts_with("call_"), "{call}");
        call["id"] = Value::Null;
    }
}

/// The choices that a stream amounts to, and its usage.
fn assemble(answer: &Answer) -> (Vec<Value>, Value) {
    let events = answer.events();
    let mut choices: Vec<Value> = Vec::new();
    let (last, rest) = events.split_last().unwrap();
    assert_eq!(last["choices"], json!([]), "the last event holds the usage alone");
    for event in rest {
        assert_eq!(event["usage"], Value::Null, "{event}");
        assert_eq!(event["id"], last["id"]);
        let part = &event["choices"][0];
        let index = part["index"].as_u64().unwrap() as usize;
        if choices.len() <= index {
            choices.resize(index + 1, Value::Null);
        }
        if choices[index].is_null() {
            assert_eq!(part["delta"]["role"], "assistant");
            choices[index] = json!({"index": index, "logprobs": null, "finish_reason": null,
                "message": {"role": "assistant", "content": "", "refusal": null, "annotations": []}});
        }
        add(&mut choices[index], part);
    }
    for choice in &mut choices {
        if choice["message"].get("tool_calls").is_some() && choice["message"]["content"] == "" {
            choice["message"]["content"] = Value::Null;
        }
    }
    (choices, last["usage"].clone())
}

fn add(choice: &mut Value, part: &Value) {
    assert_eq!(choice["finish_reason"], Value::Null, "nothing follows the finish reason");
    choice["finish_reason"] = part["finish_reason"].clone();
    let entries = part["logprobs"]["content"].as_array().cloned();
    if let Some(entries) = entries {
        if choice["logprobs"].is_null() {
            choice["logprobs"] = json!({"content": [], "refusal": null});
        }
        choice["logprobs"]["content"].as_array_mut().unwrap().extend(entries);
    }
    for field in ["content", "reasoning", "reasoning_content"] {
        if let Some(text) = part["delta"].get(field) {
            let so_far = choice["message"].get(field).and_then(Value::as_str).unwrap_or_default();
            choice["message"][field] = json!(format!("{so_far}{}", text.as_str().unwrap()));
        }
    }
    for delta in part["delta"]["tool_calls"].as_array().into_iter().flatten() {
        add_call(&mut choice["message"], delta);
    }
}

fn add_call(message: &mut Value, delta: &Value) {
    if message.get("tool_calls").is_none() {
        message["tool_calls"] = json!([]);
    }
    let calls = message["tool_calls"].as_array_mut().unwrap();
    let index = delta["index"].as_u64().unwrap() as usize;
    if index == calls.len() {
        let name = &delta["function"]["name"];
        assert!(name.is_string() && delta["id"].is_string() && delta["type"] == "function", "{delta}");
        calls.push(json!({"id": null, "type": "function", "function": {"name": name, "arguments": ""}}));
    } else {
        assert!(delta.get("id").is_none() && delta["function"].get("name").is_none(), "{delta}");
    }
    let so_far = calls[index]["function"]["arguments"].as_str().unwrap();
    let arguments = format!("{so_far}{}", delta["function"]["arguments"].as_str().unwrap());
    calls[index]["function"]["arguments"] = json!(arguments);
}

const PLAIN: &str = "<|channel|>analysis<|message|>Let me think.<|end|><|start|>assistant<|channel|>final<|message|>\
    Hello, world!<|return|>";

#[tokio::test]
async fn analysis_becomes_reasoning_and_final_becomes_content() {
    let choice = ask(harmony(PLAIN), json!({})).await;
    let message = &choice["message"];
    assert_eq!(message["content"], "Hello, world!");
    assert_eq!(message["reasoning"], "Let me think.");
    assert_eq!(message["reasoning_content"], "Let me think.");
    assert_eq!(choice["finish_reason"], "stop");
    assert!(message.get("tool_calls").is_none());
}
