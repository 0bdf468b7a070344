//! Chunks of a streamed chat completion, as far as a load generator reads them.

use serde::Deserialize;
use serde_json::Value;

/// One event of a stream.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Chunk {
    /// Name of the answer.
    #[serde(default)]
    pub(crate) id: String,
    /// Additions to answers.
    #[serde(default)]
    pub(crate) choices: Vec<ChunkChoice>,
    /// Token counts, in the last chunk.
    pub(crate) usage: Option<Usage>,
    /// Set when the answer failed.
    pub(crate) error: Option<Value>,
}

/// An addition to one answer.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ChunkChoice {
    /// What is added.
    #[serde(default)]
    pub(crate) delta: Delta,
    /// Set in the answer's last chunk.
    pub(crate) finish_reason: Option<String>,
}

/// What is added.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Delta {
    /// Set in the answer's first chunk.
    pub(crate) role: Option<String>,
    /// Text.
    pub(crate) content: Option<String>,
    /// Reasoning; some servers call it [`Delta::reasoning_content`].
    pub(crate) reasoning: Option<String>,
    /// See [`Delta::reasoning`].
    pub(crate) reasoning_content: Option<String>,
    /// Parts of calls.
    pub(crate) tool_calls: Option<Vec<Value>>,
}

impl Delta {
    /// The reasoning under either name.
    pub(crate) fn reasoning(&self) -> &str {
        self.reasoning.as_deref().or(self.reasoning_content.as_deref()).unwrap_or_default()
    }

    /// The content.
    pub(crate) fn content(&self) -> &str {
        self.content.as_deref().unwrap_or_default()
    }

    /// Whether it adds something that the model wrote.
    pub(crate) fn has_output(&self) -> bool {
        let calls = self.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        calls || !self.reasoning().is_empty() || !self.content().is_empty()
    }
}

/// Token counts of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Usage {
    /// Tokens of the prompt.
    #[serde(default)]
    pub(crate) prompt_tokens: u64,
    /// Tokens written.
    #[serde(default)]
    pub(crate) completion_tokens: u64,
}
