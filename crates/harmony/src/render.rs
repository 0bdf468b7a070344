//! Conversations to token ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use sostenuto_tokenizer::{TokenId, Tokenizer};

use crate::control::{ControlTokens, MissingControlToken};
use crate::message::{
    Content, Conversation, DeveloperContent, Message, Role, SystemContent, ToolNamespaceConfig,
};
use crate::parser::{ParseStart, StreamParser};
use crate::typescript;

/// A tokenizer with the control tokens of Harmony. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Harmony {
    tokenizer: Arc<Tokenizer>,
    control: ControlTokens,
}

/// What to leave out of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RenderOptions {
    /// Keeps the assistant's analysis of finished turns. Without it, analysis before the first `final` is left out once the
    /// last assistant message is a `final`; inside a tool chain it stays.
    pub keep_analysis: bool,
}

/// A conversation that Harmony can't express.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A tool's message has no author name.
    #[error("messages[{index}]: role tool: expected a name, found none")]
    ToolWithoutName {
        /// Position in the conversation.
        index: usize,
    },
    /// System content outside a system message, or developer content outside a developer message.
    #[error("messages[{index}]: {content} is allowed with role {expected}, found role {found}")]
    MisplacedContent {
        /// Position in the conversation.
        index: usize,
        /// `system_content` or `developer_content`.
        content: &'static str,
        /// The role it belongs to.
        expected: &'static str,
        /// The message's role.
        found: &'static str,
    },
}

impl Harmony {
    /// Finds the control tokens of `tokenizer`.
    ///
    /// # Errors
    /// The tokenizer lacks one.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self, MissingControlToken> {
        let control = ControlTokens::of(&tokenizer)?;
        Ok(Self { tokenizer, control })
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The control tokens.
    pub fn control(&self) -> &ControlTokens {
        &self.control
    }

    /// The ids that end an assistant's turn; see [`ControlTokens::stop_ids`].
    pub fn stop_ids(&self) -> [TokenId; 3] {
        self.control.stop_ids()
    }

    /// A parser of what the assistant produces after [`render`](Self::render).
    pub fn parser(&self) -> StreamParser {
        self.parser_from(ParseStart::AssistantHeader)
    }

    /// A parser that starts elsewhere, for example at the start of a rendered conversation.
    pub fn parser_from(&self, start: ParseStart) -> StreamParser {
        StreamParser::new(self.tokenizer.clone(), self.control, start)
    }

    /// The prompt: all messages, then `<|start|>assistant`, ready for completion.
    ///
    /// # Errors
    /// The conversation has a part that Harmony can't express.
    pub fn render(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
    ) -> Result<Vec<TokenId>, RenderError> {
        let mut ids = self.render_messages(conversation, options)?;
        ids.push(self.control.start);
        self.push_text(&mut ids, Role::Assistant.as_str());
        Ok(ids)
    }

    /// The messages without the opening of the next.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_messages(
        &self,
        conversation: &Conversation,
        options: &RenderOptions,
    ) -> Result<Vec<TokenId>, RenderError> {
        let messages = &conversation.messages;
        let is_final = |message: &Message| message.channel.as_deref() == Some("final");
        let last_of_assistant = messages.iter().rev().find(|message| message.author.role == Role::Assistant);
        let analysis_end = match last_of_assistant.is_some_and(is_final) && !options.keep_analysis {
            true => messages.iter().position(is_final).unwrap_or(0),
            false => 0,
        };
        let has_function_tools = conversation.has_function_tools();
        let mut ids = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if index < analysis_end && message.channel.as_deref() == Some("analysis") {
                continue;
            }
            self.push_header(&mut ids, index, message)?;
            for content in &message.content {
                check_place(index, message.author.role, content)?;
                self.push_text(&mut ids, &content_text(content, has_function_tools));
            }
            let is_call = message.author.role == Role::Assistant && message.recipient.is_some();
            ids.push(if is_call { self.control.call } else { self.control.end });
        }
        Ok(ids)
    }

    fn push_header(
        &self,
        ids: &mut Vec<TokenId>,
        index: usize,
        message: &Message,
    ) -> Result<(), RenderError> {
        ids.push(self.control.start);
        let name = message.author.name.as_deref();
        if message.author.role == Role::Tool {
            self.push_text(ids, name.ok_or(RenderError::ToolWithoutName { index })?);
        } else {
            self.push_text(ids, message.author.role.as_str());
            if let Some(name) = name {
                self.push_text(ids, &format!(":{name}"));
            }
        }
        if let Some(recipient) = message.recipient.as_deref().filter(|recipient| *recipient != "all") {
            self.push_text(ids, &format!(" to={recipient}"));
        }
        if let Some(channel) = &message.channel {
            ids.push(self.control.channel);
            self.push_text(ids, channel);
        }
        if let Some(content_type) = &message.content_type {
            match content_type.strip_prefix("<|constrain|>") {
                Some(constrained) => {
                    self.push_text(ids, " ");
                    ids.push(self.control.constrain);
                    self.push_text(ids, constrained);
                }
                None => self.push_text(ids, &format!(" {content_type}")),
            }
        }
        ids.push(self.control.message);
        Ok(())
    }

    fn push_text(&self, ids: &mut Vec<TokenId>, text: &str) {
        self.tokenizer.encode_into(text, ids);
    }
}

fn check_place(index: usize, role: Role, content: &Content) -> Result<(), RenderError> {
    let (content, expected) = match content {
        Content::Text(_) => return Ok(()),
        Content::SystemContent(_) => ("system_content", Role::System),
        Content::DeveloperContent(_) => ("developer_content", Role::Developer),
    };
    if role == expected {
        return Ok(());
    }
    Err(RenderError::MisplacedContent { index, content, expected: expected.as_str(), found: role.as_str() })
}

fn content_text(content: &Content, has_function_tools: bool) -> String {
    match content {
        Content::Text(content) => content.text.clone(),
        Content::SystemContent(content) => system_text(content, has_function_tools),
        Content::DeveloperContent(content) => developer_text(content),
    }
}

fn system_text(content: &SystemContent, has_function_tools: bool) -> String {
    let top = [
        content.model_identity.clone(),
        content.knowledge_cutoff.as_ref().map(|date| format!("Knowledge cutoff: {date}")),
        content.conversation_start_date.as_ref().map(|date| format!("Current date: {date}")),
    ];
    let top: Vec<String> = top.into_iter().flatten().collect();
    let mut sections = Vec::new();
    if !top.is_empty() {
        sections.push(top.join("\n"));
    }
    if let Some(effort) = content.reasoning_effort {
        sections.push(format!("Reasoning: {}", effort.as_str()));
    }
    sections.extend(tools_section(content.tools.as_ref()));
    if let Some(config) = content.channel_config.as_ref().filter(|config| !config.valid_channels.is_empty()) {
        let mut line = format!("# Valid channels: {}.", config.valid_channels.join(", "));
        if config.channel_required {
            line.push_str(" Channel must be included for every message.");
        }
        if has_function_tools {
            line.push_str("\nCalls to these tools must go to the commentary channel: 'functions'.");
        }
        sections.push(line);
    }
    sections.join("\n\n")
}

fn developer_text(content: &DeveloperContent) -> String {
    let mut sections = Vec::new();
    if let Some(instructions) = &content.instructions {
        sections.push("# Instructions".to_owned());
        sections.push(instructions.clone());
    }
    sections.extend(tools_section(content.tools.as_ref()));
    sections.join("\n\n")
}

/// `# Tools` and each namespace in the order of the map's keys; `None` without any.
fn tools_section(tools: Option<&BTreeMap<String, ToolNamespaceConfig>>) -> Option<String> {
    let tools = tools.filter(|tools| !tools.is_empty())?;
    let namespaces = tools.values().map(namespace_text);
    Some(std::iter::once("# Tools".to_owned()).chain(namespaces).collect::<Vec<_>>().join("\n\n"))
}

fn namespace_text(namespace: &ToolNamespaceConfig) -> String {
    let name = &namespace.name;
    let comment = |line: &str| format!("// {line}");
    let mut lines = vec![format!("## {name}\n")];
    let description = namespace.description.as_deref().unwrap_or_default().lines();
    if namespace.tools.is_empty() {
        lines.extend(description.map(str::to_owned));
        return lines.join("\n");
    }
    lines.extend(description.map(comment));
    lines.push(format!("namespace {name} {{\n"));
    for tool in &namespace.tools {
        lines.extend(tool.description.lines().map(comment));
        let argument = tool.parameters.as_ref().map(|parameters| typescript::type_of(parameters, ""));
        let argument = argument.map_or(String::new(), |kind| format!("_: {kind}"));
        lines.push(format!("type {} = ({argument}) => any;\n", tool.name));
    }
    lines.push(format!("}} // namespace {name}"));
    lines.join("\n")
}
