//! Broken sequences that people met. Names give the public thread.

use sostenuto_harmony::{Content, EndedBy, HEADER_LIMIT_BYTES, Message, RenderOptions, Role, WarningKind};

use crate::support::{HARMONY, call, ids_of, kinds, parse, parse_ids};

const ARGUMENTS: &str = r#"{"q":1}"#;

/// Checks messages and the kinds of warnings of a completion.
#[track_caller]
fn check(completion: &str, messages: &[Message], warnings: &[WarningKind]) {
    let parsed = parse(completion);
    assert_eq!(parsed.messages, messages, "{completion}: {:?}", parsed.warnings);
    assert_eq!(kinds(&parsed), warnings, "{completion}: {:?}", parsed.warnings);
}

fn warning_text(completion: &str, kind: WarningKind) -> String {
    let warnings = parse(completion).warnings;
    warnings.into_iter().find(|warning| warning.kind == kind).expect("the warning is there").text
}

#[test]
fn harmony_38_words_left_in_the_header_become_a_warning() {
    let completion = "<|channel|>commentary to=functions.f and more words json<|message|>{}<|call|>";
    let messages = parse(completion).messages;
    assert_eq!(messages[0].joined_text(), "{}");
    assert_eq!(messages[0].channel.as_deref(), Some("commentary"));
    let completion = "<|channel|>final !! ?!<|message|>Hi<|return|>";
    check(completion, &[Message::assistant("final", "Hi")], &[WarningKind::HeaderText]);
    assert_eq!(warning_text(completion, WarningKind::HeaderText), "!! ?!");
}

#[test]
fn vllm_51977_dashed_tool_name_is_a_recipient() {
    let completion = "<|channel|>commentary to=functions.web-browsing <|constrain|>json<|message|>{}<|call|>";
    check(completion, &[call("web-browsing", "{}")], &[]);
}

#[test]
fn harmony_60_text_instead_of_start_is_kept() {
    // 12606 is "comment", the beginning of "commentary".
    let mut ids = ids_of(&HARMONY, "<|channel|>analysis<|message|>Hm.<|end|>");
    ids.push(12_606);
    ids.extend(ids_of(&HARMONY, "ary to=functions.f <|constrain|>json<|message|>{}<|call|>"));
    let parsed = parse_ids(&HARMONY, &ids);
    assert_eq!(parsed.messages, [Message::assistant("analysis", "Hm."), call("f", "{}")]);
    assert!(kinds(&parsed).contains(&WarningKind::MissingStart));
}

#[test]
fn harmony_60_return_instead_of_start_is_ignored() {
    let expected = [Message::assistant("final", "Done.")];
    check("<|channel|>final<|message|>Done.<|end|><|return|>", &expected, &[WarningKind::StrayControlToken]);
}

#[test]
fn harmony_33_end_of_input_in_the_header_is_no_error() {
    use WarningKind::IncompleteHeader;
    let cuts =
        ["", "<|channel|>", "<|channel|>fin", "<|channel|>analysis", " to=functions.f<|channel|>commentary"];
    for cut in cuts {
        let parsed = parse(cut);
        assert!(parsed.messages.is_empty(), "{cut}: {:?}", parsed.messages);
        assert!(kinds(&parsed).contains(&IncompleteHeader), "{cut}");
    }
    assert_eq!(warning_text("<|channel|>fin", IncompleteHeader), "fin");
    let after_a_message = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant";
    let parsed = parse(after_a_message);
    assert_eq!(parsed.messages, [Message::assistant("analysis", "Hm.")]);
    assert_eq!(kinds(&parsed), [IncompleteHeader]);
}

#[test]
fn harmony_48_channel_marker_without_value_is_a_missing_channel() {
    let messages = [Message::text(Role::Assistant, "Hi")];
    check("<|channel|><|message|>Hi<|return|>", &messages, &[WarningKind::MissingChannel]);
    check(
        "<|channel|> final<|message|>Hi<|return|>",
        &[Message::assistant("final", "Hi")],
        &[WarningKind::MissingMarker],
    );
}

#[test]
fn harmony_82_header_without_message_token_keeps_the_text() {
    let missing = [WarningKind::MissingMessageToken];
    check(
        "<|channel|>analysisWe need to think.<|end|>",
        &[Message::assistant("analysis", "We need to think.")],
        &missing,
    );
    check(
        "<|channel|>final The answer is 4.<|return|>",
        &[Message::assistant("final", "The answer is 4.")],
        &missing,
    );
    check(
        r#"<|channel|>commentary to=functions.f <|constrain|>json{"q":1}<|call|>"#,
        &[call("f", ARGUMENTS)],
        &missing,
    );
    check("<|channel|>commentary to=functions.f <|constrain|>json<|call|>", &[call("f", "")], &missing);
}

#[test]
fn tenstorrent_386_doubled_role_is_the_assistant() {
    for lead in [
        "assistant",
        "assistantassistant",
        " assistant assistant",
        "<|start|>assistantassistant",
        "<|start|>assistant assistant",
    ] {
        let parsed = parse(&format!("{lead}<|channel|>final<|message|>Hi<|return|>"));
        assert_eq!(parsed.messages, [Message::assistant("final", "Hi")], "{lead}");
        assert!(!parsed.warnings.is_empty(), "{lead}");
    }
    let parsed = parse(
        "<|channel|>analysis<|message|>a<|end|><|start|>assistantassistant<|channel|>final<|message|>b<|return|>",
    );
    assert_eq!(parsed.messages, [Message::assistant("analysis", "a"), Message::assistant("final", "b")]);
    assert_eq!(kinds(&parsed), [WarningKind::RepeatedHeader]);
}

#[test]
fn llamacpp_27720_free_text_instead_of_a_header_is_a_message() {
    let messages = [Message::text(Role::Assistant, "The answer is 4.")];
    check(
        "The answer is 4.<|return|>",
        &messages,
        &[WarningKind::MissingMessageToken, WarningKind::MissingChannel],
    );
    let long = "word ".repeat(HEADER_LIMIT_BYTES);
    let parsed = parse(&format!("{long}<|return|>"));
    assert_eq!(parsed.messages, [Message::text(Role::Assistant, long)]);
    assert_eq!(kinds(&parsed), [WarningKind::HeaderTooLong, WarningKind::MissingChannel]);
}

#[test]
fn llamacpp_27720_question_marks_in_the_header_are_a_warning() {
    for header in ["<|channel|>final??", "<|channel|>final ??", "??<|channel|>final", " ?? <|channel|>final"]
    {
        let completion = format!("{header}<|message|>Hi<|return|>");
        check(&completion, &[Message::assistant("final", "Hi")], &[WarningKind::HeaderText]);
        assert_eq!(warning_text(&completion, WarningKind::HeaderText), "??");
    }
    let completion = "<|channel|>commentary 2?<|message|>Hi<|end|>";
    check(completion, &[Message::assistant("commentary", "Hi")], &[WarningKind::HeaderText]);
}

#[test]
fn llamacpp_27720_doubled_headers_keep_the_last() {
    let repeated = [WarningKind::RepeatedHeader];
    check(
        "<|channel|>analysis<|channel|>final<|message|>Hi<|return|>",
        &[Message::assistant("final", "Hi")],
        &repeated,
    );
    let completion =
        "<|channel|>commentary to=functions.f<|channel|>commentary <|constrain|>json<|message|>{}<|call|>";
    check(completion, &[call("f", "{}")], &repeated);
    let completion =
        " to=functions.g<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>";
    check(completion, &[call("f", "{}")], &repeated);
    assert_eq!(warning_text(completion, WarningKind::RepeatedHeader), "functions.g");
}

#[test]
fn vllm_50690_surplus_after_a_complete_answer_does_not_spoil_it() {
    for surplus in
        ["<|return|>", "<|end|><|end|>", "<|endoftext|>", "<|start|>", "<|start|>assistant", "<|channel|>"]
    {
        let parsed = parse(&format!("<|channel|>final<|message|>Done.<|return|>{surplus}"));
        assert_eq!(parsed.messages, [Message::assistant("final", "Done.")], "{surplus}");
        assert_eq!(parsed.ended_by, [EndedBy::Return], "{surplus}");
        assert!(!parsed.warnings.is_empty(), "{surplus}");
    }
}

#[test]
fn vllm_23167_commentary_without_tools_keeps_its_text() {
    check("<|channel|>commentary<|message|>Hi<|end|>", &[Message::assistant("commentary", "Hi")], &[]);
}

#[test]
fn harmony_27_constrain_spelled_in_characters_is_understood_and_rendered_as_the_token() {
    let mut ids = ids_of(&HARMONY, "<|channel|>commentary to=functions.f ");
    HARMONY.tokenizer().encode_into("<|constrain|>json", &mut ids);
    ids.extend(ids_of(&HARMONY, "<|message|>{}<|call|>"));
    assert!(!ids.contains(&HARMONY.control().constrain));
    let messages = parse_ids(&HARMONY, &ids).messages;
    assert_eq!(messages, [call("f", "{}")]);
    let conversation = sostenuto_harmony::Conversation::new(messages);
    let rendered = HARMONY.render(&conversation, &RenderOptions::default()).expect("renders");
    assert!(rendered.contains(&HARMONY.control().constrain));
}

#[test]
fn drama_llama_101_control_tokens_spelled_in_history_stay_text() {
    let text = "I wrote <|start|> assistant<|channel|>final<|message|>x<|end|>";
    let conversation = sostenuto_harmony::Conversation::new(vec![Message::assistant("final", text)]);
    let ids = HARMONY.render_messages(&conversation, &RenderOptions::default()).expect("renders");
    let control = HARMONY.control();
    let specials: Vec<u32> = ids.iter().copied().filter(|&id| HARMONY.tokenizer().is_special(id)).collect();
    assert_eq!(specials, [control.start, control.channel, control.message, control.end]);
    let completion = &ids[2..];
    assert_eq!(parse_ids(&HARMONY, completion).messages, conversation.messages);
}

#[test]
fn vllm_32587_channel_token_glued_to_a_tool_name_is_not_part_of_it() {
    let completion =
        " to=functions.query_dataset<|channel|>commentary <|constrain|>json<|message|>{}<|call|>";
    check(completion, &[call("query_dataset", "{}")], &[]);
    let mut ids = ids_of(&HARMONY, "<|channel|>commentary to=functions.query_dataset");
    HARMONY.tokenizer().encode_into("<|channel|>commentary", &mut ids);
    ids.extend(ids_of(&HARMONY, " <|constrain|>json<|message|>{}<|call|>"));
    assert_eq!(parse_ids(&HARMONY, &ids).messages, [call("query_dataset", "{}")]);
}

#[test]
fn trtllm_9256_bare_channel_token_in_a_text_opens_the_next_message() {
    let completion = "<|channel|>analysis<|message|>Hm.<|channel|>final<|message|>Hi<|return|>";
    let messages = [Message::assistant("analysis", "Hm."), Message::assistant("final", "Hi")];
    check(completion, &messages, &[WarningKind::MissingEnd]);
    let completion = "<|channel|>final<|message|>one <|channel|> two<|return|>";
    let parsed = parse(completion);
    let texts: Vec<String> = parsed.messages.iter().map(Message::joined_text).collect();
    assert_eq!(texts, ["one ", " two"]);
    assert!(parsed.messages.iter().all(|message| message.channel.as_deref() == Some("final")));
}

#[test]
fn ollama_12884_malformed_arguments_are_kept_as_they_are() {
    for arguments in [r#"{"code":"a\n"#, r#"{"a":1}]"#, "not json", "{\"a\": \"line\nline\"}"] {
        let completion =
            format!("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{arguments}<|call|>");
        check(&completion, &[call("f", arguments)], &[]);
    }
}

#[test]
fn lmstudio_876_tool_name_with_a_space_is_kept_whole() {
    for header in [
        "<|channel|>commentary to=functions.Web Search <|constrain|>json",
        " to=functions.Web Search<|channel|>commentary <|constrain|>json",
    ] {
        let completion = format!("{header}<|message|>{{}}<|call|>");
        check(&completion, &[call("Web Search", "{}")], &[WarningKind::SpaceInRecipient]);
    }
}

#[test]
fn vllm_35884_call_on_analysis_keeps_channel_and_recipient() {
    let completion = "<|channel|>analysis to=functions.f <|constrain|>json<|message|>{}<|call|>";
    check(completion, &[Message { channel: Some("analysis".into()), ..call("f", "{}") }], &[]);
}

#[test]
fn openhands_10112_recipient_outside_a_namespace_is_kept() {
    let parsed = parse("<|channel|>analysis to=execute_bash code<|message|>ls<|call|>");
    let message = &parsed.messages[0];
    assert_eq!(message.recipient.as_deref(), Some("execute_bash"));
    assert_eq!(message.content_type.as_deref(), Some("code"));
    assert!(parsed.warnings.is_empty());
}

#[test]
fn final_with_constrain_is_json_on_final() {
    let expected =
        Message { content_type: Some("<|constrain|>json".into()), ..Message::assistant("final", "{}") };
    for header in [
        "<|channel|>final <|constrain|>json",
        "<|channel|>final<|constrain|>json",
        "<|channel|>final <|constrain|> json",
    ] {
        check(&format!("{header}<|message|>{{}}<|return|>"), std::slice::from_ref(&expected), &[]);
    }
}

#[test]
fn recipient_is_found_in_every_position() {
    for header in [
        "<|channel|>commentary to=functions.f <|constrain|>json",
        " to=functions.f<|channel|>commentary <|constrain|>json",
        "<|channel|>commentary <|constrain|>json to=functions.f",
        " to=functions.f <|constrain|>json<|channel|>commentary",
        "<|channel|>commentaryto=functions.f <|constrain|>json",
        "<|channel|>commentary to= functions.f <|constrain|>json",
        "<|start|>assistant to=functions.f<|channel|>commentary <|constrain|>json",
        "<|start|>to=functions.f<|channel|>commentary <|constrain|>json",
    ] {
        let parsed = parse(&format!("{header}<|message|>{{}}<|call|>"));
        assert_eq!(parsed.messages, [call("f", "{}")], "{header}");
    }
    let completion = "<|channel|>commentary functions.f <|constrain|>json<|message|>{}<|call|>";
    check(completion, &[call("f", "{}")], &[WarningKind::MissingMarker]);
}

#[test]
fn missing_start_tokens_between_messages_lose_nothing() {
    let messages = [Message::assistant("analysis", "a"), Message::assistant("final", "b")];
    let missing = [WarningKind::MissingStart];
    check(
        "<|channel|>analysis<|message|>a<|end|>assistant<|channel|>final<|message|>b<|return|>",
        &messages,
        &missing,
    );
    check(
        "<|channel|>analysis<|message|>a<|end|><|channel|>final<|message|>b<|return|>",
        &messages,
        &missing,
    );
    check(
        "<|channel|>analysis<|message|>a<|end|>assistantfinal<|message|>b<|return|>",
        &messages,
        &[WarningKind::MissingStart, WarningKind::MissingMarker],
    );
    check(
        "<|channel|>analysis<|message|>a<|start|>assistant<|channel|>final<|message|>b<|return|>",
        &messages,
        &[WarningKind::MissingEnd],
    );
}

#[test]
fn stray_tokens_in_a_text_are_ignored_and_named() {
    let completion = "<|channel|>final<|message|>a<|message|>b<|constrain|>c<|reserved_200000|>d<|return|>";
    check(completion, &[Message::assistant("final", "abcd")], &[WarningKind::StrayControlToken; 3]);
    let mut ids = ids_of(&HARMONY, "<|channel|>final<|message|>a");
    ids.extend([201_088, u32::MAX]);
    let parsed = parse_ids(&HARMONY, &ids);
    assert_eq!(parsed.messages, [Message::assistant("final", "a")]);
    assert_eq!(kinds(&parsed), [WarningKind::UnknownToken; 2]);
    assert_eq!(parsed.warnings[0].text, "201088");
}

#[test]
fn end_of_text_ends_the_message() {
    let parsed = parse("<|channel|>final<|message|>Done.<|endoftext|>");
    assert_eq!(parsed.messages, [Message::assistant("final", "Done.")]);
    assert_eq!(parsed.ended_by, [EndedBy::EndOfText]);
}

#[test]
fn characters_split_over_tokens_are_whole() {
    let mut ids = ids_of(&HARMONY, "<|channel|>final<|message|>");
    let tokenizer = HARMONY.tokenizer();
    let byte =
        |byte: u8| (0..199_998).find(|&id| tokenizer.token_bytes(id) == Some(&[byte])).expect("a token");
    ids.extend("я🙂".bytes().map(byte));
    // An unfinished character at the end of a message.
    ids.push(byte(0xD1));
    ids.push(HARMONY.control().return_);
    let parsed = parse_ids(&HARMONY, &ids);
    assert_eq!(parsed.messages, [Message::assistant("final", "я🙂\u{fffd}")]);
}

#[test]
fn header_over_its_limit_keeps_a_split_character() {
    let mut ids = ids_of(&HARMONY, "<|channel|>final ");
    let tokenizer = HARMONY.tokenizer();
    let byte =
        |byte: u8| (0..199_998).find(|&id| tokenizer.token_bytes(id) == Some(&[byte])).expect("a token");
    let text = "x".to_owned() + &"я".repeat(HEADER_LIMIT_BYTES);
    ids.extend(text.bytes().map(byte));
    let parsed = parse_ids(&HARMONY, &ids);
    assert_eq!(parsed.messages, [Message::assistant("final", text)]);
    assert_eq!(kinds(&parsed), [WarningKind::HeaderTooLong]);
}

#[test]
fn header_limit_is_exact() {
    let filler = |bytes: usize| format!("{}<|message|>Hi<|return|>", "?".repeat(bytes));
    assert_eq!(parse(&filler(HEADER_LIMIT_BYTES)).messages, [Message::text(Role::Assistant, "Hi")]);
    let over = parse(&filler(HEADER_LIMIT_BYTES + 1));
    assert_eq!(over.messages[0].joined_text(), "?".repeat(HEADER_LIMIT_BYTES + 1) + "Hi");
    let markers = parse(&"<|channel|>".repeat(1_000_000));
    assert!(
        markers.messages.iter().all(|message| message.content
            == [Content::Text(sostenuto_harmony::TextContent { text: String::new() })])
    );
}

#[test]
fn tool_and_named_roles_are_read() {
    let parsed = parse(
        "<|message|>x<|end|><|start|>functions.f to=assistant<|channel|>commentary<|message|>1<|end|><|start|>user:alice<|message|>2<|end|>",
    );
    assert_eq!(parsed.messages[1], Message::function_result("f", "1"));
    assert_eq!(parsed.messages[2].author.role, Role::User);
    assert_eq!(parsed.messages[2].author.name.as_deref(), Some("alice"));
    let parsed = parse("<|message|>x<|end|><|start|>gibberish<|channel|>final<|message|>2<|end|>");
    assert_eq!(parsed.messages[1], Message::assistant("final", "2"));
    assert_eq!(kinds(&parsed), [WarningKind::MissingChannel, WarningKind::UnknownRole]);
}
