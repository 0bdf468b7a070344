//! Conversations in the JSON form of openai-harmony.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Messages in order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Conversation {
    /// Oldest first.
    pub messages: Vec<Message>,
}

/// One message: who wrote it, to whom, on which channel, and what.
///
/// JSON: `{"role":…,"name":…,"recipient":…,"channel":…,"content_type":…,"content":[…]}`; absent fields are left out, and a
/// `content` that is a plain string is read as one text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Writer; its fields `role` and `name` lie beside the message's in JSON.
    #[serde(flatten)]
    pub author: Author,
    /// Addressee; `None` is everybody. A tool call's recipient is the tool, for example `functions.get_weather`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The parts of the message.
    #[serde(deserialize_with = "string_or_contents")]
    pub content: Vec<Content>,
    /// `analysis`, `commentary` or `final` on messages of the assistant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Form of the text, for example `<|constrain|>json`. Structure, not text: see the crate's documentation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// Writer of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Author {
    /// Kind of writer.
    pub role: Role,
    /// Name; a tool must have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Kind of writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The human.
    User,
    /// The model.
    Assistant,
    /// The platform: identity, effort, channels.
    System,
    /// The application: instructions and tools. An API's "system prompt" is this role in Harmony.
    Developer,
    /// A tool that answers a call.
    Tool,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 5] = [Self::User, Self::Assistant, Self::System, Self::Developer, Self::Tool];

    /// The role's word in a header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::System => "system",
            Self::Developer => "developer",
            Self::Tool => "tool",
        }
    }

    /// The role of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

/// One part of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum Content {
    /// Plain text.
    Text(TextContent),
    /// Allowed in system messages only.
    SystemContent(SystemContent),
    /// Allowed in developer messages only.
    DeveloperContent(DeveloperContent),
}

/// Plain text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextContent {
    /// The text.
    pub text: String,
}

/// What a system message says. `None` leaves a line out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SystemContent {
    /// First line, "You are …".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_identity: Option<String>,
    /// How long to think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<ReasoningEffort>,
    /// The current date, for example `2026-11-23`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_start_date: Option<String>,
    /// When the training data end, for example `2024-06`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knowledge_cutoff: Option<String>,
    /// The channels the model may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel_config: Option<ChannelConfig>,
    /// Built-in tools by namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeMap<String, ToolNamespaceConfig>>,
}

/// How long the model thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ReasoningEffort {
    /// Shortest.
    Low,
    /// The default.
    #[default]
    Medium,
    /// Longest.
    High,
}

impl ReasoningEffort {
    /// The word in the system message and in the API: `low`, `medium`, `high`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }

    /// The effort of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High].into_iter().find(|effort| effort.as_str() == word)
    }
}

/// The channels line of the system message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelConfig {
    /// Names; when empty the line is left out.
    pub valid_channels: Vec<String>,
    /// Whether the line says that every message must name its channel.
    pub channel_required: bool,
}

impl Default for ChannelConfig {
    /// `analysis`, `commentary`, `final`, required.
    fn default() -> Self {
        let valid_channels = ["analysis", "commentary", "final"].map(String::from).to_vec();
        Self { valid_channels, channel_required: true }
    }
}

/// What a developer message says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DeveloperContent {
    /// The application's instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// Tools by namespace; function tools are in the namespace `functions`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<BTreeMap<String, ToolNamespaceConfig>>,
}

/// Tools that share a prefix: `functions.get_weather` is `get_weather` of the namespace `functions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolNamespaceConfig {
    /// The prefix.
    pub name: String,
    /// Shown above the tools.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The tools; without any, the namespace is itself the tool (`python`).
    pub tools: Vec<ToolDescription>,
}

/// A tool of a namespace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolDescription {
    /// Name without the namespace.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its argument object; the order of properties is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

impl Conversation {
    /// A conversation of these messages.
    pub fn new(messages: Vec<Message>) -> Self {
        Self { messages }
    }

    /// Whether a developer message declares function tools; the system message then says where their calls go.
    pub fn has_function_tools(&self) -> bool {
        let contents = self.messages.iter().flat_map(|message| &message.content);
        contents.into_iter().any(|content| match content {
            Content::DeveloperContent(developer) => {
                let functions = developer.tools.as_ref().and_then(|tools| tools.get("functions"));
                functions.is_some_and(|namespace| !namespace.tools.is_empty())
            }
            Content::Text(_) | Content::SystemContent(_) => false,
        })
    }
}

impl Message {
    /// A message with one part and no recipient, channel or content type.
    pub fn new(role: Role, content: Content) -> Self {
        let author = Author { role, name: None };
        Self { author, recipient: None, content: vec![content], channel: None, content_type: None }
    }

    /// A message with one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self::new(role, Content::Text(TextContent { text: text.into() }))
    }

    /// A system message.
    pub fn system(content: SystemContent) -> Self {
        Self::new(Role::System, Content::SystemContent(content))
    }

    /// A developer message.
    pub fn developer(content: DeveloperContent) -> Self {
        Self::new(Role::Developer, Content::DeveloperContent(content))
    }

    /// A user's text.
    pub fn user(text: impl Into<String>) -> Self {
        Self::text(Role::User, text)
    }

    /// A text of the assistant on `channel` (`analysis`, `commentary` or `final`).
    pub fn assistant(channel: impl Into<String>, text: impl Into<String>) -> Self {
        Self { channel: Some(channel.into()), ..Self::text(Role::Assistant, text) }
    }

    /// The assistant's call of `functions.NAME` with its arguments as JSON text.
    pub fn function_call(name: &str, arguments_json: impl Into<String>) -> Self {
        Self {
            recipient: Some(format!("functions.{name}")),
            content_type: Some("<|constrain|>json".to_owned()),
            ..Self::assistant("commentary", arguments_json)
        }
    }

    /// The result of `functions.NAME`, to the assistant.
    pub fn function_result(name: &str, output: impl Into<String>) -> Self {
        Self {
            author: Author { role: Role::Tool, name: Some(format!("functions.{name}")) },
            recipient: Some(Role::Assistant.as_str().to_owned()),
            channel: Some("commentary".to_owned()),
            ..Self::text(Role::Tool, output)
        }
    }

    /// The texts of the message, joined. Empty for system and developer contents.
    pub fn joined_text(&self) -> String {
        let texts = self.content.iter().map(|content| match content {
            Content::Text(TextContent { text }) => text.as_str(),
            Content::SystemContent(_) | Content::DeveloperContent(_) => "",
        });
        texts.collect()
    }
}

impl SystemContent {
    /// The system message of gpt-oss ([`Default`]) with the current date and an effort.
    pub fn for_date(current_date: impl Into<String>, reasoning_effort: ReasoningEffort) -> Self {
        Self {
            conversation_start_date: Some(current_date.into()),
            reasoning_effort: Some(reasoning_effort),
            ..Self::default()
        }
    }

    /// Adds a built-in tool, for example [`ToolNamespaceConfig::browser`].
    pub fn with_tool(mut self, namespace: ToolNamespaceConfig) -> Self {
        self.tools.get_or_insert_default().insert(namespace.name.clone(), namespace);
        self
    }
}

impl Default for SystemContent {
    /// ChatGPT's identity, medium effort, cutoff 2024-06, the three channels, no date, no tools: the defaults of
    /// openai-harmony.
    fn default() -> Self {
        Self {
            model_identity: Some("You are ChatGPT, a large language model trained by OpenAI.".to_owned()),
            reasoning_effort: Some(ReasoningEffort::Medium),
            conversation_start_date: None,
            knowledge_cutoff: Some("2024-06".to_owned()),
            channel_config: Some(ChannelConfig::default()),
            tools: None,
        }
    }
}

impl DeveloperContent {
    /// Instructions and function tools; either may be absent.
    pub fn new(instructions: Option<String>, functions: Vec<ToolDescription>) -> Self {
        let name = "functions".to_owned();
        let tools = (!functions.is_empty()).then(|| {
            let namespace = ToolNamespaceConfig { name: name.clone(), description: None, tools: functions };
            BTreeMap::from([(name, namespace)])
        });
        Self { instructions, tools }
    }
}

/// Reads `content`: a list of parts, or a string for one text.
fn string_or_contents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Content>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum StringOrContents {
        Text(String),
        Contents(Vec<Content>),
    }
    Ok(match StringOrContents::deserialize(deserializer)? {
        StringOrContents::Text(text) => vec![Content::Text(TextContent { text })],
        StringOrContents::Contents(contents) => contents,
    })
}
