//! Messages of a conversation: wire form, checked form, and the way from one to the other.

use std::{collections::HashMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::Value;

use super::tool::check_name;
use crate::{
    ValidationError,
    limits::{CONTENT_PARTS, Limit, MESSAGES, TOOL_CALLS},
};

const ROLES: &str = "one of system, developer, user, assistant, tool";

/// A message as it comes over the wire.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Option<String>,
    /// What is said.
    pub content: Option<Content>,
    /// Name of the speaker; of the function in a tool message.
    pub name: Option<String>,
    /// Calls made by an assistant message.
    pub tool_calls: Option<Vec<WireToolCall>>,
    /// The call that a tool message answers.
    pub tool_call_id: Option<String>,
    /// What the assistant thought. Three names are in use; the first that holds text counts.
    pub reasoning: Option<Value>,
    /// See `reasoning`.
    pub reasoning_content: Option<Value>,
    /// See `reasoning`.
    pub thinking: Option<Value>,
    /// Refusal text of an assistant message; counts as content when there is no other.
    pub refusal: Option<String>,
    /// Deprecated form of `tool_calls`, refused.
    pub function_call: Option<Value>,
}

/// `content` of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A string.
    Text(String),
    /// A list of parts.
    Parts(Vec<ContentPart>),
}

/// One part of a content list. Payloads of parts that are not text are skipped, not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct ContentPart {
    /// `text`, `input_text`, `output_text` or `refusal`; everything else is refused.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The text.
    pub text: Option<String>,
    /// The text of a refusal.
    pub refusal: Option<String>,
}

/// A tool call of an assistant message as it comes over the wire.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct WireToolCall {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    function: Option<WireFunctionCall>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct WireFunctionCall {
    name: Option<String>,
    arguments: Option<Value>,
}

/// A checked message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValidMessage {
    /// A `system` or `developer` message: instructions.
    Instructions {
        /// The text.
        text: String,
    },
    /// A user's message.
    User {
        /// The text.
        text: String,
    },
    /// An earlier answer of the model. At least one of the three holds something.
    Assistant {
        /// What it thought.
        reasoning: Option<String>,
        /// What it said.
        content: Option<String>,
        /// What it called.
        tool_calls: Vec<ValidToolCall>,
    },
    /// The result of a call.
    Tool {
        /// Name of the function that was called.
        name: String,
        /// The result.
        text: String,
    },
}

/// A checked tool call of an earlier answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidToolCall {
    /// Name of the function.
    pub name: String,
    /// The arguments, as the text the model wrote.
    pub arguments: String,
}

/// Checks a conversation. Assistant messages that hold nothing are left out.
pub(super) fn validate_messages(
    messages: Option<Vec<Message>>,
) -> Result<Vec<ValidMessage>, ValidationError> {
    let messages = messages.ok_or_else(|| ValidationError::missing("messages"))?;
    if messages.is_empty() {
        return Err(ValidationError::value("messages", "an array of at least one message", "an empty array"));
    }
    check_count("messages", messages.len(), &MESSAGES)?;
    let mut names_by_call_id = HashMap::new();
    let mut valid = Vec::with_capacity(messages.len());
    for (index, message) in messages.into_iter().enumerate() {
        let path = format!("messages[{index}]");
        valid.extend(validate_message(message, &path, &mut names_by_call_id)?);
    }
    Ok(valid)
}

pub(super) fn check_count(param: &str, count: usize, limit: &'static Limit) -> Result<(), ValidationError> {
    if count as u64 > limit.max {
        return Err(ValidationError::Limit { param: param.to_owned(), limit, got: count as u64 });
    }
    Ok(())
}

fn validate_message(
    mut message: Message,
    path: &str,
    names_by_call_id: &mut HashMap<String, String>,
) -> Result<Option<ValidMessage>, ValidationError> {
    let role = message.role.take().ok_or_else(|| ValidationError::missing(format!("{path}.role")))?;
    match role.as_str() {
        "system" | "developer" => {
            Ok(Some(ValidMessage::Instructions { text: required_text(message.content, path)? }))
        }
        "user" => Ok(Some(ValidMessage::User { text: required_text(message.content, path)? })),
        "assistant" => validate_assistant(message, path, names_by_call_id),
        "tool" => validate_tool_result(message, path, names_by_call_id).map(Some),
        "function" => Err(ValidationError::unsupported(
            format!("{path}.role"),
            "function",
            "it is the deprecated form of tool messages; use role \"tool\" with tool_call_id",
        )),
        other => Err(ValidationError::value(format!("{path}.role"), ROLES, other)),
    }
}

fn validate_assistant(
    message: Message,
    path: &str,
    names_by_call_id: &mut HashMap<String, String>,
) -> Result<Option<ValidMessage>, ValidationError> {
    if message.function_call.is_some() {
        return Err(ValidationError::unsupported(
            format!("{path}.function_call"),
            "function_call",
            "it is the deprecated form of tool_calls; use tool_calls",
        ));
    }
    let reasoning = [message.reasoning, message.reasoning_content, message.thinking]
        .into_iter()
        .flatten()
        .find_map(|value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned));
    let content = message.content.map(|content| content.into_text(path)).transpose()?;
    let content = content.filter(|text| !text.is_empty()).or(message.refusal);
    let calls = message.tool_calls.unwrap_or_default();
    check_count(&format!("{path}.tool_calls"), calls.len(), &TOOL_CALLS)?;
    let mut tool_calls = Vec::with_capacity(calls.len());
    for (index, call) in calls.into_iter().enumerate() {
        let (id, call) = validate_call(call, &format!("{path}.tool_calls[{index}]"))?;
        names_by_call_id.insert(id, call.name.clone());
        tool_calls.push(call);
    }
    if reasoning.is_none() && content.is_none() && tool_calls.is_empty() {
        return Ok(None);
    }
    Ok(Some(ValidMessage::Assistant { reasoning, content, tool_calls }))
}

fn validate_call(call: WireToolCall, path: &str) -> Result<(String, ValidToolCall), ValidationError> {
    if let Some(kind) = call.kind.filter(|kind| kind != "function") {
        return Err(ValidationError::unsupported(
            format!("{path}.type"),
            kind,
            "only function calls exist here",
        ));
    }
    let id = call.id.ok_or_else(|| ValidationError::missing(format!("{path}.id")))?;
    let function = call.function.ok_or_else(|| ValidationError::missing(format!("{path}.function")))?;
    let name_path = format!("{path}.function.name");
    let name = function.name.ok_or_else(|| ValidationError::missing(&*name_path))?;
    check_name(&name, &name_path)?;
    // Some clients send the arguments as an object; they are kept as the text the model would have written.
    let arguments = match function.arguments {
        None => "{}".to_owned(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    };
    Ok((id, ValidToolCall { name, arguments }))
}

fn validate_tool_result(
    message: Message,
    path: &str,
    names_by_call_id: &HashMap<String, String>,
) -> Result<ValidMessage, ValidationError> {
    let id_path = format!("{path}.tool_call_id");
    let id = message.tool_call_id.ok_or_else(|| ValidationError::Missing {
        param: id_path.clone(),
        why: " in a message with role tool",
    })?;
    let name = match (names_by_call_id.get(&id), message.name) {
        (Some(name), _) => name.clone(),
        (None, Some(name)) => {
            check_name(&name, &format!("{path}.name"))?;
            name
        }
        (None, None) => {
            let rule = "the id of a tool call in an earlier assistant message";
            return Err(ValidationError::value(id_path, rule, id));
        }
    };
    let text = message.content.map(|content| content.into_text(path)).transpose()?.unwrap_or_default();
    Ok(ValidMessage::Tool { name, text })
}

fn required_text(content: Option<Content>, path: &str) -> Result<String, ValidationError> {
    content.ok_or_else(|| ValidationError::missing(format!("{path}.content")))?.into_text(path)
}

impl Content {
    /// The text of all parts, one after the other without a separator.
    fn into_text(self, path: &str) -> Result<String, ValidationError> {
        let parts = match self {
            Content::Text(text) => return Ok(text),
            Content::Parts(parts) => parts,
        };
        check_count(&format!("{path}.content"), parts.len(), &CONTENT_PARTS)?;
        let mut text = String::new();
        for (index, part) in parts.into_iter().enumerate() {
            text.push_str(&part.into_text(&format!("{path}.content[{index}]"))?);
        }
        Ok(text)
    }
}

impl ContentPart {
    fn into_text(self, path: &str) -> Result<String, ValidationError> {
        let kind = self.kind.ok_or_else(|| ValidationError::missing(format!("{path}.type")))?;
        match kind.as_str() {
            "text" | "input_text" | "output_text" => {
                self.text.ok_or_else(|| ValidationError::missing(format!("{path}.text")))
            }
            "refusal" => self.refusal.ok_or_else(|| ValidationError::missing(format!("{path}.refusal"))),
            _ => Err(ValidationError::unsupported(
                format!("{path}.type"),
                kind,
                "gpt-oss reads and writes text only; send parts of type text",
            )),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of content parts")
            }
            fn visit_str<E>(self, text: &str) -> Result<Content, E> {
                Ok(Content::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Content, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Content::Parts)
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}
