//! From [`ChatRequest`] to [`ValidChatRequest`].

use std::{collections::BTreeMap, time::Duration};

use serde_json::Number;

use super::{
    ChatRequest, TextOrList, ToolChoice, ValidMessage, ValidTool,
    message::{check_count, validate_messages},
    tool::{validate_choice, validate_tools},
};
use crate::{
    ValidationError,
    limits::{
        FREQUENCY_PENALTY, LOGIT_BIAS, LOGIT_BIAS_VALUE, MAX_TOKENS, MIN_P, N, PRESENCE_PENALTY, PRIORITY,
        REPETITION_PENALTY, Range, STOP_STRING_BYTES, STOP_STRINGS, TEMPERATURE, TIMEOUT, TOP_K,
        TOP_LOGPROBS, TOP_P,
    },
};

const EFFORTS: &str = "one of none, minimal, low, medium, high, xhigh";

/// A request that keeps every rule. What was absent is `None` where the server chooses the default.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidChatRequest {
    /// Name of the model, as sent; `None` for whatever is served.
    pub model: Option<String>,
    /// The conversation; not empty as sent, but assistant messages that held nothing are gone.
    pub messages: Vec<ValidMessage>,
    /// The tools.
    pub tools: Vec<ValidTool>,
    /// The choice among them.
    pub tool_choice: ToolChoice,
    /// Whether one answer may hold several calls.
    pub parallel_tool_calls: bool,
    /// How long to think.
    pub effort: Option<Effort>,
    /// Whether the answer holds the reasoning.
    pub include_reasoning: bool,
    /// Whether to answer with server-sent events.
    pub stream: bool,
    /// Whether a stream ends with a usage chunk.
    pub include_usage: bool,
    /// Largest number of generated tokens, at least 1.
    pub max_tokens: Option<usize>,
    /// Stop strings, none of them empty.
    pub stop: Vec<String>,
    /// Number of answers, 1 to 8.
    pub n: usize,
    /// Alternatives per token (0 to 20) when log probabilities are wanted.
    pub logprobs: Option<u8>,
    /// Lower runs earlier; 0 is normal.
    pub priority: i32,
    /// Time from its arrival after which the request is given up.
    pub timeout: Option<Duration>,
    /// Sampling.
    pub sampling: ValidSampling,
}

/// Sampling parameters within their intervals ([`crate::limits::RANGES`]).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ValidSampling {
    /// Temperature.
    pub temperature: Option<f32>,
    /// Nucleus.
    pub top_p: Option<f32>,
    /// Number of most probable tokens kept; `Some(0)` switches a default off.
    pub top_k: Option<u32>,
    /// Least probability kept, as a share of the greatest.
    pub min_p: Option<f32>,
    /// Presence penalty.
    pub presence_penalty: Option<f32>,
    /// Frequency penalty.
    pub frequency_penalty: Option<f32>,
    /// Repetition penalty.
    pub repetition_penalty: Option<f32>,
    /// Token id and bias.
    pub logit_bias: Vec<(u32, f32)>,
    /// Seed. Negative numbers keep their two's complement.
    pub seed: Option<u64>,
}

/// Reasoning effort, the three levels that gpt-oss was trained with.
///
/// `none` and `minimal` are low: the model can't be told to skip thinking. `xhigh` is high.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Short.
    Low,
    /// The model's default.
    Medium,
    /// Long.
    High,
}

impl ChatRequest {
    /// Checks every rule of the interface that needs neither the model nor the server's state.
    ///
    /// # Errors
    /// The first rule that is broken, in the order: features that don't exist here, messages, tools, numbers.
    pub fn validate(self) -> Result<ValidChatRequest, ValidationError> {
        refuse_absent_features(&self)?;
        let sampling = validate_sampling(&self)?;
        let logprobs = validate_logprobs(self.logprobs, self.top_logprobs.as_ref())?;
        let tools = validate_tools(self.tools)?;
        let reasoning = self.reasoning.unwrap_or_default();
        let effort = match self.reasoning_effort {
            Some(word) => Some(("reasoning_effort", word)),
            None => reasoning.effort.map(|word| ("reasoning.effort", word)),
        };
        let max_tokens = match (&self.max_completion_tokens, &self.max_tokens) {
            (Some(number), _) => whole("max_completion_tokens", Some(number), &MAX_TOKENS)?,
            (None, number) => whole("max_tokens", number.as_ref(), &MAX_TOKENS)?,
        };
        let stream_options = self.stream_options.unwrap_or_default();
        Ok(ValidChatRequest {
            model: self.model,
            messages: validate_messages(self.messages)?,
            tool_choice: validate_choice(self.tool_choice, &tools)?,
            tools,
            parallel_tool_calls: self.parallel_tool_calls.unwrap_or(true),
            effort: effort.map(|(param, word)| validate_effort(param, &word)).transpose()?,
            include_reasoning: self.include_reasoning.unwrap_or(true) && !reasoning.exclude.unwrap_or(false),
            stream: self.stream.unwrap_or(false),
            include_usage: stream_options.include_usage.unwrap_or(false),
            max_tokens: max_tokens.map(|tokens| tokens as usize),
            stop: validate_stop(self.stop)?,
            n: whole("n", self.n.as_ref(), &N)?.unwrap_or(1) as usize,
            logprobs,
            priority: whole("priority", self.priority.as_ref(), &PRIORITY)?.unwrap_or(0) as i32,
            timeout: self.timeout.map(validate_timeout).transpose()?,
            sampling,
        })
    }
}

fn refuse_absent_features(request: &ChatRequest) -> Result<(), ValidationError> {
    if request.functions.is_some() || request.function_call.is_some() {
        let param = if request.functions.is_some() { "functions" } else { "function_call" };
        let reason = "it is deprecated; use tools and tool_choice";
        return Err(ValidationError::unsupported(param, param, reason));
    }
    if let Some(format) = &request.response_format {
        match format["type"].as_str() {
            Some("text") => {}
            Some(kind @ ("json_object" | "json_schema")) => {
                let reason = "structured output is not supported yet; ask for JSON in the instructions";
                return Err(ValidationError::unsupported("response_format.type", kind, reason));
            }
            _ => {
                let rule = "one of text, json_object, json_schema";
                return Err(ValidationError::value("response_format.type", rule, &format["type"]));
            }
        }
    }
    let text_only = "gpt-oss reads and writes text only";
    if let Some(kind) = request.modalities.iter().flatten().find(|kind| *kind != "text") {
        return Err(ValidationError::unsupported("modalities", kind, text_only));
    }
    if request.audio.is_some() {
        return Err(ValidationError::unsupported("audio", "audio output", text_only));
    }
    if request.web_search_options.is_some() {
        let reason = "this server runs no web search";
        return Err(ValidationError::unsupported("web_search_options", "web search", reason));
    }
    Ok(())
}

fn validate_sampling(request: &ChatRequest) -> Result<ValidSampling, ValidationError> {
    let top_k = whole("top_k", request.top_k.as_ref(), &TOP_K)?;
    Ok(ValidSampling {
        temperature: real(request.temperature, &TEMPERATURE)?,
        top_p: real(request.top_p, &TOP_P)?,
        top_k: top_k.map(|k| k.max(0) as u32),
        min_p: real(request.min_p, &MIN_P)?,
        presence_penalty: real(request.presence_penalty, &PRESENCE_PENALTY)?,
        frequency_penalty: real(request.frequency_penalty, &FREQUENCY_PENALTY)?,
        repetition_penalty: real(request.repetition_penalty, &REPETITION_PENALTY)?,
        logit_bias: validate_logit_bias(request.logit_bias.as_ref())?,
        seed: request.seed.as_ref().map(validate_seed).transpose()?,
    })
}

fn real(value: Option<f64>, range: &Range) -> Result<Option<f32>, ValidationError> {
    let Some(value) = value else { return Ok(None) };
    if !range.contains(value) {
        return Err(ValidationError::value(range.name, range.rule(), value));
    }
    let narrowed = value as f32;
    // A tiny positive number may round to an excluded zero; the smallest positive float stands for it.
    let excluded = range.min_excluded && f64::from(narrowed) <= range.min;
    Ok(Some(if excluded { f32::MIN_POSITIVE } else { narrowed }))
}

fn whole(param: &str, value: Option<&Number>, range: &Range) -> Result<Option<i64>, ValidationError> {
    let Some(value) = value else { return Ok(None) };
    match value.as_f64().filter(|value| range.contains(*value)) {
        Some(value) => Ok(Some(value as i64)),
        None => Err(ValidationError::value(param, range.rule(), value)),
    }
}

fn validate_timeout(seconds: f64) -> Result<Duration, ValidationError> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(timeout) if TIMEOUT.contains(seconds) => Ok(timeout),
        _ => Err(ValidationError::value("timeout", TIMEOUT.rule(), seconds)),
    }
}

fn validate_seed(seed: &Number) -> Result<u64, ValidationError> {
    let bits = seed.as_u64().or_else(|| seed.as_i64().map(|seed| seed as u64));
    bits.ok_or_else(|| ValidationError::value("seed", "a whole number of at most 64 bits", seed))
}

fn validate_logit_bias(bias: Option<&BTreeMap<String, f64>>) -> Result<Vec<(u32, f32)>, ValidationError> {
    let Some(bias) = bias else { return Ok(Vec::new()) };
    check_count("logit_bias", bias.len(), &LOGIT_BIAS)?;
    let entry = |(key, &value): (&String, &f64)| {
        let rule = "an object whose keys are token ids";
        let id = key.parse().map_err(|_| ValidationError::value("logit_bias", rule, format!("{key:?}")))?;
        if !LOGIT_BIAS_VALUE.contains(value) {
            return Err(ValidationError::value(format!("logit_bias.{id}"), LOGIT_BIAS_VALUE.rule(), value));
        }
        Ok((id, value as f32))
    };
    bias.iter().map(entry).collect()
}

fn validate_logprobs(wanted: Option<bool>, top: Option<&Number>) -> Result<Option<u8>, ValidationError> {
    let top = whole("top_logprobs", top, &TOP_LOGPROBS)?;
    match (wanted.unwrap_or(false), top) {
        (true, top) => Ok(Some(top.unwrap_or(0) as u8)),
        (false, None | Some(0)) => Ok(None),
        (false, Some(top)) => {
            Err(ValidationError::value("top_logprobs", "sent with logprobs set to true", top))
        }
    }
}

fn validate_stop(stop: Option<TextOrList>) -> Result<Vec<String>, ValidationError> {
    let stop = match stop {
        None => return Ok(Vec::new()),
        Some(TextOrList::Text(text)) => vec![text],
        Some(TextOrList::List(list)) => list,
    };
    check_count("stop", stop.len(), &STOP_STRINGS)?;
    for (index, text) in stop.iter().enumerate() {
        let path = format!("stop[{index}]");
        if text.is_empty() {
            return Err(ValidationError::value(path, "a string of at least one character", "\"\""));
        }
        check_count(&path, text.len(), &STOP_STRING_BYTES)?;
    }
    Ok(stop)
}

fn validate_effort(param: &str, word: &str) -> Result<Effort, ValidationError> {
    match word {
        "none" | "minimal" | "low" => Ok(Effort::Low),
        "medium" => Ok(Effort::Medium),
        "high" | "xhigh" => Ok(Effort::High),
        _ => Err(ValidationError::value(param, EFFORTS, word)),
    }
}
