//! Answers and chunks of a stream.
//!
//! Keys that OpenAI's schema requires are always present, null where there is nothing to say.

use serde::{Deserialize, Serialize};

/// The answer to a request that does not stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// `chatcmpl-…`.
    pub id: String,
    /// Always `chat.completion`.
    pub object: String,
    /// Seconds since 1970.
    pub created: u64,
    /// Served name of the model.
    pub model: String,
    /// One per answer asked for, by index.
    pub choices: Vec<Choice>,
    /// Token counts over all choices.
    pub usage: Usage,
    /// What the answer was computed with.
    pub system_fingerprint: Option<String>,
    /// Always null.
    pub service_tier: Option<String>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// Its number.
    pub index: usize,
    /// What was said.
    pub message: ResponseMessage,
    /// Log probabilities of `message.content`, or null when not asked for.
    pub logprobs: Option<Logprobs>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// The message of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseMessage {
    /// Always `assistant`.
    pub role: String,
    /// The final channel, and preambles on the commentary channel; null when there is none.
    pub content: Option<String>,
    /// Always null: gpt-oss has no refusal channel.
    pub refusal: Option<String>,
    /// The analysis channel.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reasoning: Option<String>,
    /// The same as `reasoning`, under DeepSeek's name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reasoning_content: Option<String>,
    /// Calls of the client's functions; absent when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tool_calls: Vec<ToolCall>,
    /// Always empty.
    pub annotations: Vec<serde_json::Value>,
}

/// A call of one of the client's functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// `call_…`.
    pub id: String,
    /// Always `function`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The function and its arguments.
    pub function: FunctionCall,
}

/// A function and its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Name, as the client declared it.
    pub name: String,
    /// The text the model wrote; JSON unless the model erred.
    pub arguments: String,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model ended it, or a stop string did.
    Stop,
    /// The token limit was reached.
    Length,
    /// The model called at least one function.
    ToolCalls,
}

/// Token counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the rendered conversation, counted once however many answers were asked for.
    pub prompt_tokens: usize,
    /// Generated tokens of all answers: text, reasoning and Harmony's control tokens.
    pub completion_tokens: usize,
    /// The sum.
    pub total_tokens: usize,
    /// Parts of `prompt_tokens`.
    pub prompt_tokens_details: PromptTokensDetails,
    /// Parts of `completion_tokens`.
    pub completion_tokens_details: CompletionTokensDetails,
}

/// Parts of `prompt_tokens`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokensDetails {
    /// Tokens that were not computed again.
    pub cached_tokens: usize,
}

/// Parts of `completion_tokens`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionTokensDetails {
    /// Text tokens on the analysis channel.
    pub reasoning_tokens: usize,
}

/// Log probabilities of an answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Logprobs {
    /// One entry per token of `content`.
    pub content: Option<Vec<TokenLogprob>>,
    /// Always null.
    pub refusal: Option<Vec<TokenLogprob>>,
}

/// A token and what else was probable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenLogprob {
    /// Text of the token; U+FFFD where its bytes are part of a character.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Option<Vec<u8>>,
    /// The most probable tokens at this place, most probable first.
    pub top_logprobs: Vec<TopLogprob>,
}

/// One of the most probable tokens at a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TopLogprob {
    /// Text of the token.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// Its bytes.
    pub bytes: Option<Vec<u8>>,
}

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatChunk {
    /// The same in all chunks.
    pub id: String,
    /// Always `chat.completion.chunk`.
    pub object: String,
    /// The same in all chunks.
    pub created: u64,
    /// Served name of the model.
    pub model: String,
    /// What the answer was computed with.
    pub system_fingerprint: Option<String>,
    /// Always null.
    pub service_tier: Option<String>,
    /// One entry; none in the usage chunk.
    pub choices: Vec<ChunkChoice>,
    /// In the last chunk when `stream_options.include_usage` was set, then null in all others; otherwise absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub usage: Option<Option<Usage>>,
}

/// What a chunk adds to one answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChunkChoice {
    /// Number of the answer.
    pub index: usize,
    /// What is added.
    pub delta: Delta,
    /// Log probabilities of `delta.content`, or null.
    pub logprobs: Option<Logprobs>,
    /// Set in the answer's last chunk.
    pub finish_reason: Option<FinishReason>,
}

/// What a chunk adds to a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// `assistant`, in the answer's first chunk.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub role: Option<String>,
    /// Added to `content`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub content: Option<String>,
    /// Added to `reasoning`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reasoning: Option<String>,
    /// Added to `reasoning_content`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reasoning_content: Option<String>,
    /// New calls, and text added to the arguments of earlier ones.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub tool_calls: Vec<ToolCallDelta>,
}

/// What a chunk adds to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCallDelta {
    /// Number of the call within the answer.
    pub index: usize,
    /// In the call's first chunk.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// `function`, in the call's first chunk.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<String>,
    /// Name and arguments.
    pub function: FunctionCallDelta,
}

/// What a chunk adds to a call's function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionCallDelta {
    /// In the call's first chunk.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// Added to the arguments.
    pub arguments: String,
}
