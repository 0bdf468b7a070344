//! The request as it comes over the wire.

use std::{collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor, value::SeqAccessDeserializer},
};
use serde_json::{Number, Value};

use super::{Message, Tool};
use crate::{ValidationError, json};

/// The body of `POST /v1/chat/completions`. Unknown fields are ignored; null is the same as absent.
///
/// Fields of OpenAI's schema that change nothing here are accepted by being unknown: `user`, `metadata`, `store`,
/// `service_tier`, `prediction`, `prompt_cache_key`, `safety_identifier`, `verbosity`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ChatRequest {
    /// Served name or alias of the model; without one, the model that is served.
    pub model: Option<String>,
    /// The conversation.
    pub messages: Option<Vec<Message>>,
    /// Functions the model may call.
    pub tools: Option<Vec<Tool>>,
    /// `"none"`, `"auto"`, `"required"` or `{"type":"function","function":{"name":…}}`.
    pub tool_choice: Option<Value>,
    /// Whether one answer may hold several calls.
    pub parallel_tool_calls: Option<bool>,
    /// `none`, `minimal`, `low`, `medium`, `high` or `xhigh`.
    pub reasoning_effort: Option<String>,
    /// OpenRouter's form of the same, with a switch to leave the reasoning out of the answer.
    pub reasoning: Option<ReasoningOptions>,
    /// Whether the answer holds the reasoning (vLLM's name). Default true.
    pub include_reasoning: Option<bool>,
    /// Whether to answer with server-sent events.
    pub stream: Option<bool>,
    /// Options of the stream.
    pub stream_options: Option<StreamOptions>,
    /// Largest number of generated tokens; older name of `max_completion_tokens`.
    pub max_tokens: Option<Number>,
    /// Largest number of generated tokens, reasoning included.
    pub max_completion_tokens: Option<Number>,
    /// Strings that end the answer.
    pub stop: Option<TextOrList>,
    /// Number of answers.
    pub n: Option<Number>,
    /// Seed of the sampling.
    pub seed: Option<Number>,
    /// Temperature.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Number of most probable tokens kept; 0 or -1 for all.
    pub top_k: Option<Number>,
    /// Least probability kept, as a share of the greatest.
    pub min_p: Option<f64>,
    /// Presence penalty.
    pub presence_penalty: Option<f64>,
    /// Frequency penalty.
    pub frequency_penalty: Option<f64>,
    /// Repetition penalty.
    pub repetition_penalty: Option<f64>,
    /// Token id (as a string) → bias.
    pub logit_bias: Option<BTreeMap<String, f64>>,
    /// Whether to return log probabilities of the answer's tokens.
    pub logprobs: Option<bool>,
    /// Number of alternatives per token.
    pub top_logprobs: Option<Number>,
    /// Lower runs earlier (vLLM's field).
    pub priority: Option<Number>,
    /// Seconds after which the request is given up (LiteLLM's field).
    pub timeout: Option<f64>,
    /// `{"type":"text"}`; other types are refused until structured output exists.
    pub response_format: Option<Value>,
    /// Deprecated form of `tools`, refused.
    pub functions: Option<Value>,
    /// Deprecated form of `tool_choice`, refused.
    pub function_call: Option<Value>,
    /// Output modalities; anything but `text` is refused.
    pub modalities: Option<Vec<String>>,
    /// Audio output, refused.
    pub audio: Option<Value>,
    /// OpenAI's hosted search, refused.
    pub web_search_options: Option<Value>,
}

/// `stream_options`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct StreamOptions {
    /// Whether the stream ends with a chunk that holds `usage` and no choice.
    pub include_usage: Option<bool>,
}

/// `reasoning` of a request.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct ReasoningOptions {
    /// As `reasoning_effort`, which wins when both are there.
    pub effort: Option<String>,
    /// Whether to leave the reasoning out of the answer.
    pub exclude: Option<bool>,
}

/// A string or a list of strings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOrList {
    /// One string.
    Text(String),
    /// Several.
    List(Vec<String>),
}

impl ChatRequest {
    /// Reads a request body.
    ///
    /// # Errors
    /// [`ValidationError`] when it is not JSON, nests too deep, or a field has the wrong type.
    pub fn from_json(body: &[u8]) -> Result<ChatRequest, ValidationError> {
        json::read(body)
    }
}

impl<'de> Deserialize<'de> for TextOrList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrListVisitor;
        impl<'de> Visitor<'de> for TextOrListVisitor {
            type Value = TextOrList;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }
            fn visit_str<E>(self, text: &str) -> Result<TextOrList, E> {
                Ok(TextOrList::Text(text.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<TextOrList, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(TextOrList::List)
            }
        }
        deserializer.deserialize_any(TextOrListVisitor)
    }
}
