//! What a Chat Completions request may and may not hold.

use serde_json::{Value, json};
use sostenuto_api::{
    ValidationError,
    chat::{ChatRequest, Effort, ToolChoice, ValidChatRequest, ValidMessage, ValidToolCall},
    limits::{self, LIMITS, Limit, RANGES},
};

fn check(request: Value) -> Result<ValidChatRequest, ValidationError> {
    ChatRequest::from_json(request.to_string().as_bytes()).and_then(ChatRequest::validate)
}

/// A minimal request with `fields` added.
fn with(fields: Value) -> Value {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    request
}

#[track_caller]
fn refused(request: Value, param: &str, code: &str) {
    let error = check(request).unwrap_err();
    assert_eq!((error.param(), error.code()), (Some(param), code), "{error}");
}

#[test]
fn smallest_request_gets_the_documented_defaults() {
    let valid = check(with(json!({}))).unwrap();
    assert_eq!(valid.messages, [ValidMessage::User { text: "hi".into() }]);
    assert_eq!((valid.n, valid.stream, valid.include_usage), (1, false, false));
    assert!(valid.parallel_tool_calls && valid.include_reasoning);
    assert_eq!((valid.max_tokens, valid.logprobs, valid.effort), (None, None, None));
    assert_eq!(valid.tool_choice, ToolChoice::Auto);
}

#[test]
fn unknown_fields_and_nulls_change_nothing() {
    let extra = json!({"user": "u", "metadata": {"a": {"b": 1}}, "store": true, "service_tier": "flex", "banana": [1],
        "stop": null, "tools": null, "temperature": null, "response_format": {"type": "text"}, "n": null});
    assert_eq!(check(with(extra)), check(with(json!({}))));
}

#[test]
fn every_number_is_checked_at_and_beyond_the_ends_of_its_interval() {
    for range in RANGES {
        let request = |value: f64| match range.name {
            "top_logprobs" => with(json!({"logprobs": true, "top_logprobs": value})),
            "logit_bias value" => with(json!({"logit_bias": {"7": value}})),
            name => with(json!({name: value})),
        };
        let step = if range.whole { 1.0 } else { 1e-6 };
        assert!(
            check(request(range.max)).is_ok() && check(request(range.max - step)).is_ok(),
            "{}",
            range.name
        );
        assert!(check(request(range.min + step)).is_ok(), "{}", range.name);
        assert_eq!(check(request(range.min)).is_ok(), !range.min_excluded, "{}", range.name);
        let beyond = [range.max + step, range.min - step, range.max * 1e6 + 1.0, -1e18, 1e308, -1e308];
        for value in beyond {
            let error = check(request(value)).unwrap_err();
            assert_eq!(error.code(), "invalid_value", "{} {value}", range.name);
            assert!(error.to_string().contains(&range.rule()), "{error}");
        }
        if range.whole {
            assert!(check(request(range.min + 0.5)).is_err(), "{}", range.name);
        }
    }
}

/// CVE-2026-34756: an unbounded `n` multiplied the work before anything was queued.
#[test]
fn n_is_refused_beyond_eight_whatever_its_size_or_type() {
    for n in [json!(9), json!(0), json!(-1), json!(i64::MIN), json!(u64::MAX), json!(1.5), json!(1e300)] {
        refused(with(json!({"n": n})), "n", "invalid_value");
    }
    refused(with(json!({"n": "1"})), "n", "invalid_type");
    let text =
        br#"{"model": "m", "messages": [{"role": "user", "content": "x"}], "n": 99999999999999999999999}"#;
    assert_eq!(ChatRequest::from_json(text).and_then(ChatRequest::validate).unwrap_err().param(), Some("n"));
}

fn schema_of_bytes(bytes: usize) -> Value {
    let empty = json!({"title": ""}).to_string().len();
    json!({"title": "x".repeat(bytes - empty)})
}

fn schema_of_depth(depth: usize) -> Value {
    (1..depth).fold(json!({}), |schema, _| json!({"items": schema}))
}

fn tool(name: &str, parameters: Value) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": parameters}})
}

/// A request that holds exactly `size` of what `limit` counts, and the parameter an error must name.
fn request_of_size(limit: &Limit, size: usize) -> Option<(Value, &'static str)> {
    let repeat = |value: Value| vec![value; size];
    Some(match limit.name {
        "messages" => {
            let messages = repeat(json!({"role": "user", "content": "x"}));
            (json!({"model": "m", "messages": messages}), "messages")
        }
        "content_parts" => {
            let content = repeat(json!({"type": "text", "text": "x"}));
            (json!({"model": "m", "messages": [{"role": "user", "content": content}]}), "messages[0].content")
        }
        "tool_calls" => {
            let calls =
                repeat(json!({"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}));
            let messages = json!([{"role": "assistant", "tool_calls": calls}]);
            (json!({"model": "m", "messages": messages}), "messages[0].tool_calls")
        }
        "tools" => {
            let tools: Vec<_> = (0..size).map(|i| tool(&format!("f{i}"), json!({}))).collect();
            (with(json!({"tools": tools})), "tools")
        }
        "tool_name_chars" => {
            (with(json!({"tools": [tool(&"я".repeat(size), json!({}))]})), "tools[0].function.name")
        }
        "tool_schema_bytes" => {
            (with(json!({"tools": [tool("f", schema_of_bytes(size))]})), "tools[0].function.parameters")
        }
        "tool_schema_depth" => {
            (with(json!({"tools": [tool("f", schema_of_depth(size))]})), "tools[0].function.parameters")
        }
        "stop_strings" => (with(json!({"stop": repeat(json!("x"))})), "stop"),
        "stop_string_bytes" => (with(json!({"stop": "x".repeat(size)})), "stop[0]"),
        "logit_bias" => {
            let bias: serde_json::Map<_, _> = (0..size).map(|id| (id.to_string(), json!(1))).collect();
            (with(json!({"logit_bias": bias})), "logit_bias")
        }
        _ => return None,
    })
}

/// Larger multiples than fit a body are refused by the body limit first; the server's tests cover that.
#[test]
fn every_count_is_allowed_up_to_its_limit_and_refused_beyond() {
    let mut tested = 0;
    for limit in LIMITS.iter().copied() {
        let max = limit.max as usize;
        let Some((request, _)) = request_of_size(limit, max) else { continue };
        tested += 1;
        assert!(check(request).is_ok(), "{} at the limit", limit.name);
        assert!(check(request_of_size(limit, max - 1).unwrap().0).is_ok(), "{} below", limit.name);
        // Deeper than the bound on the whole body, the body's error comes first.
        let far = if limit.name == "tool_schema_depth" { max + 10 } else { max * 10 };
        for size in [max + 1, far] {
            let (request, param) = request_of_size(limit, size).unwrap();
            let error = check(request).unwrap_err();
            assert_eq!(error.param(), Some(param), "{}", limit.name);
            let ValidationError::Limit { limit: found, got, .. } = error else { panic!("{error}") };
            assert_eq!((found, got), (limit, size as u64), "{}", limit.name);
        }
    }
    let of_this_crate = LIMITS.iter().filter(|limit| limit.status == 400).count();
    assert_eq!(tested + 1, of_this_crate, "json_depth has its own test, every other row is probed here");
}

#[test]
fn million_fold_stop_string_is_refused() {
    let size = limits::STOP_STRING_BYTES.max as usize * 100_000;
    refused(with(json!({"stop": "x".repeat(size)})), "stop[0]", "string_above_max_length");
}

#[test]
fn content_is_a_string_or_text_parts() {
    let parts = json!([{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}]);
    let valid = check(json!({"model": "m", "messages": [{"role": "user", "content": parts}]})).unwrap();
    assert_eq!(valid.messages, [ValidMessage::User { text: "ab".into() }]);
    for kind in ["image_url", "input_audio", "file", "video_url"] {
        let content = json!([{"type": "text", "text": "a"}, {"type": kind, kind: {"url": "data:x"}}]);
        refused(
            json!({"model": "m", "messages": [{"role": "user", "content": content}]}),
            "messages[0].content[1].type",
            "unsupported_value",
        );
    }
    for content in [json!(1), json!({"type": "text"}), json!(true)] {
        let request = json!({"model": "m", "messages": [{"role": "user", "content": content}]});
        refused(request, "messages[0].content", "invalid_type");
    }
    refused(
        json!({"model": "m", "messages": [{"role": "user"}]}),
        "messages[0].content",
        "missing_required_parameter",
    );
}

#[test]
fn system_and_developer_messages_are_both_kept_in_order() {
    let messages = json!([
        {"role": "system", "content": "a"}, {"role": "developer", "content": "b"}, {"role": "system", "content": "c"},
        {"role": "user", "content": "d"}]);
    let valid = check(json!({"model": "m", "messages": messages})).unwrap();
    let instructions: Vec<_> = valid
        .messages
        .iter()
        .filter_map(|message| match message {
            ValidMessage::Instructions { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(instructions, ["a", "b", "c"]);
}

/// openai/codex #3721: three names of one field.
#[test]
fn reasoning_is_read_under_each_of_its_names() {
    for name in ["reasoning", "reasoning_content", "thinking"] {
        let messages =
            json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", name: "t"}]);
        let valid = check(json!({"model": "m", "messages": messages})).unwrap();
        let expected = ValidMessage::Assistant {
            reasoning: Some("t".into()),
            content: Some("a".into()),
            tool_calls: vec![],
        };
        assert_eq!(valid.messages[1], expected);
    }
}

/// llama.cpp #19701: content, reasoning and calls together were an error.
#[test]
fn assistant_message_may_hold_content_reasoning_and_calls_together() {
    let call =
        json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}});
    let messages = json!([{"role": "user", "content": "q"},
        {"role": "assistant", "content": "wait", "reasoning_content": "t", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "r"}]);
    let valid = check(json!({"model": "m", "messages": messages})).unwrap();
    let call = ValidToolCall { name: "f".into(), arguments: "{\"a\": 1}".into() };
    let expected = ValidMessage::Assistant {
        reasoning: Some("t".into()),
        content: Some("wait".into()),
        tool_calls: vec![call],
    };
    assert_eq!(valid.messages[1], expected);
    assert_eq!(valid.messages[2], ValidMessage::Tool { name: "f".into(), text: "r".into() });
}

#[test]
fn empty_assistant_messages_are_left_out() {
    let messages = json!([{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": []},
        {"role": "assistant"}, {"role": "user", "content": "again"}]);
    assert_eq!(check(json!({"model": "m", "messages": messages})).unwrap().messages.len(), 2);
}

#[test]
fn tool_result_needs_an_earlier_call_or_a_name() {
    let result =
        |message: Value| json!({"model": "m", "messages": [{"role": "user", "content": "q"}, message]});
    refused(
        result(json!({"role": "tool", "tool_call_id": "call_9", "content": "r"})),
        "messages[1].tool_call_id",
        "invalid_value",
    );
    refused(
        result(json!({"role": "tool", "content": "r"})),
        "messages[1].tool_call_id",
        "missing_required_parameter",
    );
    let named = result(json!({"role": "tool", "tool_call_id": "call_9", "name": "f", "content": "r"}));
    assert_eq!(check(named).unwrap().messages[1], ValidMessage::Tool { name: "f".into(), text: "r".into() });
}

#[test]
fn tool_choice_is_checked_against_the_tools() {
    let tools = json!([tool("f", json!({"type": "object"}))]);
    let named = |name: &str| json!({"type": "function", "function": {"name": name}});
    let choice = |choice: Value| check(with(json!({"tools": tools, "tool_choice": choice})));
    assert_eq!(choice(json!("none")).unwrap().tool_choice, ToolChoice::None);
    assert_eq!(choice(json!("required")).unwrap().tool_choice, ToolChoice::Required);
    assert_eq!(choice(named("f")).unwrap().tool_choice, ToolChoice::Named("f".into()));
    assert_eq!(choice(named("g")).unwrap_err().param(), Some("tool_choice.function.name"));
    for wrong in [json!("any"), json!(1), json!({"type": "custom"}), json!({"type": "function"}), json!([])] {
        assert_eq!(choice(wrong).unwrap_err().param(), Some("tool_choice"));
    }
    refused(with(json!({"tool_choice": "required"})), "tools", "missing_required_parameter");
}

#[test]
fn tools_are_refused_by_path() {
    let path = |tools: Value| check(with(json!({"tools": tools}))).unwrap_err().param().unwrap().to_owned();
    assert_eq!(path(json!([{"function": {"name": "f"}}])), "tools[0].type");
    assert_eq!(path(json!([{"type": "custom", "custom": {"name": "f"}}])), "tools[0].type");
    assert_eq!(path(json!([{"type": "function"}])), "tools[0].function");
    assert_eq!(path(json!([{"type": "function", "function": {}}])), "tools[0].function.name");
    assert_eq!(path(json!([tool("", json!({}))])), "tools[0].function.name");
    assert_eq!(path(json!([tool("a\nb", json!({}))])), "tools[0].function.name");
    assert_eq!(path(json!([tool("f", json!([]))])), "tools[0].function.parameters");
    assert_eq!(path(json!([tool("f", json!({})), tool("f", json!({}))])), "tools[1].function.name");
}

#[test]
fn efforts_map_to_three_levels() {
    let levels = [
        ("none", Effort::Low),
        ("minimal", Effort::Low),
        ("low", Effort::Low),
        ("medium", Effort::Medium),
        ("high", Effort::High),
        ("xhigh", Effort::High),
    ];
    for (word, effort) in levels {
        assert_eq!(check(with(json!({"reasoning_effort": word}))).unwrap().effort, Some(effort));
        assert_eq!(check(with(json!({"reasoning": {"effort": word}}))).unwrap().effort, Some(effort));
    }
    refused(with(json!({"reasoning_effort": "max"})), "reasoning_effort", "invalid_value");
    let both = with(json!({"reasoning_effort": "low", "reasoning": {"effort": "high", "exclude": true}}));
    let valid = check(both).unwrap();
    assert_eq!((valid.effort, valid.include_reasoning), (Some(Effort::Low), false));
}

#[test]
fn what_does_not_exist_here_is_refused_by_name() {
    for (field, value, param) in [
        ("functions", json!([{"name": "f"}]), "functions"),
        ("function_call", json!("auto"), "function_call"),
        ("response_format", json!({"type": "json_object"}), "response_format.type"),
        ("response_format", json!({"type": "json_schema", "json_schema": {}}), "response_format.type"),
        ("modalities", json!(["text", "audio"]), "modalities"),
        ("audio", json!({"voice": "x"}), "audio"),
        ("web_search_options", json!({}), "web_search_options"),
    ] {
        refused(with(json!({field: value})), param, "unsupported_value");
    }
    refused(with(json!({"response_format": {"type": "xml"}})), "response_format.type", "invalid_value");
    refused(with(json!({"response_format": "json"})), "response_format.type", "invalid_value");
}

#[test]
fn stop_is_a_string_or_a_list_without_empty_strings() {
    assert_eq!(check(with(json!({"stop": "a"}))).unwrap().stop, ["a"]);
    assert_eq!(check(with(json!({"stop": ["a", "b"]}))).unwrap().stop, ["a", "b"]);
    refused(with(json!({"stop": ["a", ""]})), "stop[1]", "invalid_value");
    refused(with(json!({"stop": 1})), "stop", "invalid_type");
    refused(with(json!({"stop": ["a", 1]})), "stop[1]", "invalid_type");
}

#[test]
fn newer_name_of_the_token_limit_wins() {
    assert_eq!(check(with(json!({"max_tokens": 5}))).unwrap().max_tokens, Some(5));
    assert_eq!(
        check(with(json!({"max_tokens": 5, "max_completion_tokens": 7}))).unwrap().max_tokens,
        Some(7)
    );
    refused(with(json!({"max_tokens": 0})), "max_tokens", "invalid_value");
    refused(with(json!({"max_completion_tokens": -1})), "max_completion_tokens", "invalid_value");
}

#[test]
fn seed_takes_any_whole_number_of_64_bits() {
    for (seed, bits) in [(json!(0), 0), (json!(-1), u64::MAX), (json!(u64::MAX), u64::MAX)] {
        assert_eq!(check(with(json!({"seed": seed}))).unwrap().sampling.seed, Some(bits));
    }
    refused(with(json!({"seed": 1.5})), "seed", "invalid_value");
}

#[test]
fn logit_bias_keys_are_token_ids() {
    let bias = check(with(json!({"logit_bias": {"5": -100, "7": 1.5}}))).unwrap().sampling.logit_bias;
    assert_eq!(bias, [(5, -100.0), (7, 1.5)]);
    refused(with(json!({"logit_bias": {"hello": 1}})), "logit_bias", "invalid_value");
}

#[test]
fn top_logprobs_needs_logprobs() {
    assert_eq!(check(with(json!({"logprobs": true}))).unwrap().logprobs, Some(0));
    assert_eq!(check(with(json!({"logprobs": true, "top_logprobs": 5}))).unwrap().logprobs, Some(5));
    refused(with(json!({"top_logprobs": 5})), "top_logprobs", "invalid_value");
}

#[test]
fn type_errors_name_the_field() {
    let error = check(with(json!({"temperature": "hot"}))).unwrap_err();
    assert_eq!((error.param(), error.code()), (Some("temperature"), "invalid_type"));
    refused(json!({"model": "m", "messages": "hi"}), "messages", "invalid_type");
    refused(json!({"model": "m", "messages": [{"role": 1}]}), "messages[0].role", "invalid_type");
    refused(
        json!({"model": "m", "messages": [{"role": "robot", "content": ""}]}),
        "messages[0].role",
        "invalid_value",
    );
    refused(json!({"model": "m"}), "messages", "missing_required_parameter");
    refused(json!({"model": "m", "messages": []}), "messages", "invalid_value");
}
