//! A request's messages as a Harmony conversation.

use sostenuto_api::chat::{Effort, ToolChoice, ValidChatRequest, ValidMessage};
use sostenuto_harmony::{
    Conversation, DeveloperContent, Message, ReasoningEffort, SystemContent, ToolDescription,
};

use super::names::ToolNames;

/// The conversation that a request stands for, to be rendered with `keep_analysis`: what is to be left out is left
/// out here.
///
/// * The system message is gpt-oss's own, with `current_date` and the effort.
/// * `system` and `developer` messages, wherever they stand, are joined by an empty line, in order, into the
///   instructions of the one developer message. Neither replaces the other.
/// * Tools are declared unless `tool_choice` is `none`.
/// * Reasoning is kept from the last final answer on, so within a tool chain, and left out before, as gpt-oss was
///   trained. A final answer is an assistant message with content and no call.
/// * Content beside calls is a preamble: commentary to the user before the calls.
pub(crate) fn conversation(
    request: &ValidChatRequest,
    names: &ToolNames,
    current_date: &str,
) -> Conversation {
    let effort = match request.effort {
        Some(Effort::Low) => ReasoningEffort::Low,
        None | Some(Effort::Medium) => ReasoningEffort::Medium,
        Some(Effort::High) => ReasoningEffort::High,
    };
    let mut messages = vec![Message::system(SystemContent::for_date(current_date, effort))];
    messages.extend(developer_message(request, names));
    let chain_start = request.messages.iter().rposition(is_final_answer).map_or(0, |last| last + 1);
    for (index, message) in request.messages.iter().enumerate() {
        push_message(&mut messages, message, index >= chain_start, names);
    }
    Conversation::new(messages)
}

fn developer_message(request: &ValidChatRequest, names: &ToolNames) -> Option<Message> {
    let instructions: Vec<&str> = request
        .messages
        .iter()
        .filter_map(|message| match message {
            ValidMessage::Instructions { text } if !text.is_empty() => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let instructions = (!instructions.is_empty()).then(|| instructions.join("\n\n"));
    let functions: Vec<ToolDescription> = match request.tool_choice {
        ToolChoice::None => Vec::new(),
        ToolChoice::Auto | ToolChoice::Required | ToolChoice::Named(_) => request
            .tools
            .iter()
            .map(|tool| ToolDescription {
                name: names.shown(&tool.name).to_owned(),
                description: tool.description.clone().unwrap_or_default(),
                parameters: tool.parameters.clone(),
            })
            .collect(),
    };
    let is_needed = instructions.is_some() || !functions.is_empty();
    is_needed.then(|| Message::developer(DeveloperContent::new(instructions, functions)))
}

fn is_final_answer(message: &ValidMessage) -> bool {
    matches!(message, ValidMessage::Assistant { content: Some(_), tool_calls, .. } if tool_calls.is_empty())
}

fn push_message(messages: &mut Vec<Message>, message: &ValidMessage, in_chain: bool, names: &ToolNames) {
    match message {
        ValidMessage::Instructions { .. } => {}
        ValidMessage::User { text } => messages.push(Message::user(text)),
        ValidMessage::Assistant { reasoning, content, tool_calls } => {
            if let Some(reasoning) = reasoning.as_ref().filter(|_| in_chain) {
                messages.push(Message::assistant("analysis", reasoning));
            }
            let channel = if tool_calls.is_empty() { "final" } else { "commentary" };
            if let Some(content) = content {
                messages.push(Message::assistant(channel, content));
            }
            for call in tool_calls {
                messages.push(Message::function_call(names.shown(&call.name), &call.arguments));
            }
        }
        ValidMessage::Tool { name, text } => {
            messages.push(Message::function_result(names.shown(name), text));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use sostenuto_api::chat::ChatRequest;
    use sostenuto_harmony::Content;

    use super::*;

    fn of(request: Value) -> Vec<Message> {
        let body = request.to_string();
        let request = ChatRequest::from_json(body.as_bytes()).unwrap().validate().unwrap();
        let names = ToolNames::new(&request.tools, &request.messages);
        conversation(&request, &names, "2026-11-23").messages
    }

    fn call(id: &str, name: &str) -> Value {
        json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}})
    }

    /// Channel (or role), recipient and text of each message after the system message.
    fn summary(messages: &[Message]) -> Vec<(String, Option<String>, String)> {
        let tuple = |message: &Message| {
            let name = message.channel.clone().unwrap_or(message.author.role.as_str().into());
            (name, message.recipient.clone(), message.joined_text())
        };
        messages[1..].iter().map(tuple).collect()
    }

    /// Dynamo and SGLang drop one of the two.
    #[test]
    fn system_and_developer_texts_are_both_in_the_instructions() {
        let messages = of(json!({"model": "m", "messages": [{"role": "developer", "content": "one"},
            {"role": "system", "content": "two"}, {"role": "user", "content": "q"}]}));
        let [Content::DeveloperContent(developer)] = &*messages[1].content else { panic!("{messages:?}") };
        assert_eq!(developer.instructions.as_deref(), Some("one\n\ntwo"));
    }

    /// vLLM #27653, llama.cpp #15181: reasoning was lost within a tool chain.
    #[test]
    fn reasoning_is_kept_within_a_tool_chain() {
        let messages = of(json!({"model": "m", "messages": [{"role": "user", "content": "q"},
            {"role": "assistant", "reasoning": "think", "content": "wait", "tool_calls": [call("1", "f"), call("2", "g")]},
            {"role": "tool", "tool_call_id": "1", "content": "r1"}, {"role": "tool", "tool_call_id": "2", "content": "r2"}]}));
        let expected = [
            ("user", None, "q"),
            ("analysis", None, "think"),
            ("commentary", None, "wait"),
            ("commentary", Some("functions.f"), "{}"),
            ("commentary", Some("functions.g"), "{}"),
            ("commentary", Some("assistant"), "r1"),
            ("commentary", Some("assistant"), "r2"),
        ];
        let expected =
            expected.map(|(name, to, text)| (name.to_owned(), to.map(str::to_owned), text.to_owned()));
        assert_eq!(summary(&messages), expected);
        assert_eq!(messages[6].author.name.as_deref(), Some("functions.f"));
        assert_eq!(messages[7].author.name.as_deref(), Some("functions.g"));
    }

    #[test]
    fn reasoning_of_finished_turns_is_left_out() {
        let messages = of(json!({"model": "m", "messages": [{"role": "user", "content": "q1"},
            {"role": "assistant", "reasoning": "old 1", "tool_calls": [call("1", "f")]},
            {"role": "tool", "tool_call_id": "1", "content": "r"},
            {"role": "assistant", "reasoning": "old 2", "content": "a1"}, {"role": "user", "content": "q2"},
            {"role": "assistant", "reasoning": "new", "tool_calls": [call("2", "f")]},
            {"role": "tool", "tool_call_id": "2", "content": "r"}]}));
        let analysis: Vec<_> =
            summary(&messages).into_iter().filter(|(name, ..)| name == "analysis").collect();
        assert_eq!(analysis, [("analysis".to_owned(), None, "new".to_owned())]);
    }

    #[test]
    fn tools_are_hidden_when_the_choice_is_none() {
        let request = |choice: &str| {
            let tools = json!([{"type": "function", "function": {"name": "Web Search"}}]);
            of(
                json!({"model": "m", "tools": tools, "tool_choice": choice, "messages": [{"role": "user", "content": "q"}]}),
            )
        };
        assert_eq!(request("none").len(), 2);
        let messages = request("auto");
        let [Content::DeveloperContent(developer)] = &*messages[1].content else { panic!("{messages:?}") };
        assert_eq!(developer.tools.as_ref().unwrap()["functions"].tools[0].name, "Web_Search_1");
    }
}
