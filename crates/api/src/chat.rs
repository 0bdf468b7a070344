//! Chat Completions: requests, answers, chunks of a stream.
//!
//! Source: OpenAI's API reference of Chat Completions, plus `reasoning` and `reasoning_content` (the names of
//! OpenRouter and DeepSeek, which clients of gpt-oss read).

mod message;
mod request;
mod response;
mod tool;
mod validate;

pub use message::{Content, ContentPart, Message, ValidMessage, ValidToolCall};
pub use request::{ChatRequest, ReasoningOptions, StreamOptions, TextOrList};
pub use response::{
    ChatChunk, ChatCompletion, Choice, ChunkChoice, CompletionTokensDetails, Delta, FinishReason,
    FunctionCall, FunctionCallDelta, Logprobs, PromptTokensDetails, ResponseMessage, TokenLogprob, ToolCall,
    ToolCallDelta, TopLogprob, Usage,
};
pub use tool::{FunctionDefinition, Tool, ToolChoice, ValidTool};
pub use validate::{Effort, ValidChatRequest, ValidSampling};
