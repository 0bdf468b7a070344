//! Rendering and parsing equal openai-harmony 0.0.8; see `tools/golden/harmony`.

use serde::Deserialize;
use sostenuto_harmony::{Conversation, Message, RenderOptions, Role};
use sostenuto_tokenizer::TokenId;

use crate::support::{HARMONY, SMALL, kinds, parse_ids};

const RENDER: &str = include_str!("../golden/render.json");
const PARSE: &str = include_str!("../golden/parse.json");

#[derive(Deserialize)]
struct Rendered {
    name: String,
    conversation: Conversation,
    ids: Vec<TokenId>,
    ids_keeping_analysis: Option<Vec<TokenId>>,
}

#[derive(Deserialize)]
struct Completed {
    name: String,
    completion: String,
    ids: Vec<TokenId>,
    messages: Vec<Message>,
}

fn rendered() -> Vec<Rendered> {
    serde_json::from_str(RENDER).expect("the golden is JSON")
}

#[test]
fn rendered_ids_equal_openai_harmony() {
    let rows = rendered();
    assert!(rows.len() >= 60);
    for row in rows {
        for keep_analysis in [false, true] {
            let ids = HARMONY.render(&row.conversation, &RenderOptions { keep_analysis }).expect("renders");
            let kept = row.ids_keeping_analysis.as_ref().filter(|_| keep_analysis);
            let expected = kept.unwrap_or(&row.ids);
            let decode = |ids: &[TokenId]| HARMONY.tokenizer().decode_lossy(ids);
            assert_eq!(decode(&ids), decode(expected), "{}, keep_analysis {keep_analysis}", row.name);
            assert_eq!(ids, *expected, "{}, keep_analysis {keep_analysis}", row.name);
        }
    }
}

#[test]
fn analysis_is_dropped_where_openai_harmony_drops_it() {
    let dropped: Vec<String> =
        rendered().into_iter().filter(|row| row.ids_keeping_analysis.is_some()).map(|row| row.name).collect();
    for name in ["analysis_dropped_after_final", "tool_chain_finished", "builtin_tool_chain_done"] {
        assert!(dropped.iter().any(|dropped| dropped == name), "{name}");
    }
    assert!(dropped.iter().all(|name| name != "analysis_kept_inside_tool_chain"));
}

#[test]
fn another_tokenizer_renders_the_same_text_with_its_own_control_ids() {
    for row in rendered() {
        let ids = SMALL.render(&row.conversation, &RenderOptions::default()).expect("renders");
        let expected = HARMONY.tokenizer().decode_lossy(&row.ids);
        assert_eq!(SMALL.tokenizer().decode_lossy(&ids), expected, "{}", row.name);
        let controls = |harmony: &sostenuto_harmony::Harmony, ids: &[TokenId]| -> Vec<String> {
            let names = ids.iter().filter_map(|&id| harmony.tokenizer().special_name(id));
            names.map(str::to_owned).collect()
        };
        assert_eq!(controls(&SMALL, &ids), controls(&HARMONY, &row.ids), "{}", row.name);
    }
}

#[test]
fn conversation_json_survives_reading_and_writing() {
    for row in rendered() {
        let text = serde_json::to_string(&row.conversation).expect("writes");
        let again: Conversation = serde_json::from_str(&text).expect("reads");
        assert_eq!(again, row.conversation, "{}", row.name);
    }
}

#[test]
fn parsed_messages_equal_openai_harmony() {
    let rows: Vec<Completed> = serde_json::from_str(PARSE).expect("the golden is JSON");
    assert!(rows.len() >= 40);
    for row in rows {
        let parsed = parse_ids(&HARMONY, &row.ids);
        assert_eq!(parsed.messages, row.messages, "{}: {}", row.name, row.completion);
        let is_odd = row.name.contains("channel")
            && !row.name.contains("before_channel")
            && !row.name.contains("after_channel");
        let has_role_without_channel = is_odd || row.name == "system_and_developer";
        assert_eq!(
            parsed.warnings.is_empty(),
            !has_role_without_channel,
            "{}: {:?}",
            row.name,
            kinds(&parsed)
        );
    }
}

#[test]
fn roles_have_the_words_of_openai_harmony() {
    let words = Role::ALL.map(Role::as_str);
    assert_eq!(words, ["user", "assistant", "system", "developer", "tool"]);
    assert!(Role::ALL.into_iter().all(|role| Role::from_word(role.as_str()) == Some(role)));
}
