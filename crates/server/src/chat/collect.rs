//! A generation as one answer.

use std::future::poll_fn;

use sostenuto_api::chat::{
    ChatCompletion, Choice, FinishReason, FunctionCall, Logprobs, ResponseMessage, TokenLogprob, ToolCall,
};

use super::{
    Identity,
    generation::{Generation, Update},
    turn::Delta,
};
use crate::error::ApiError;

/// One answer as it grows.
#[derive(Debug, Default)]
struct Growing {
    reasoning: Option<String>,
    content: Option<String>,
    logprobs: Vec<TokenLogprob>,
    tool_calls: Vec<ToolCall>,
    finish_reason: Option<FinishReason>,
}

/// Waits for all of `n` answers.
///
/// # Errors
/// The failure that ended the generation.
pub(crate) async fn collect(
    generation: &mut Generation,
    identity: Identity,
    n: usize,
    with_logprobs: bool,
) -> Result<ChatCompletion, ApiError> {
    let mut answers: Vec<Growing> = (0..n).map(|_| Growing::default()).collect();
    while let Some(update) = poll_fn(|cx| generation.poll_update(cx)).await {
        match update {
            Update::Delta(index, delta) => answers[index].add(delta),
            Update::Finished(index, reason) => answers[index].finish_reason = Some(reason),
            Update::Failed(error) => return Err(error),
        }
    }
    let choices = answers.into_iter().enumerate();
    let choices = choices.map(|(index, answer)| answer.into_choice(index, with_logprobs)).collect();
    Ok(ChatCompletion {
        id: identity.id,
        object: "chat.completion".to_owned(),
        created: identity.created,
        model: identity.model,
        choices,
        usage: generation.usage(),
        system_fingerprint: Some(identity.system_fingerprint),
        service_tier: None,
    })
}

impl Growing {
    fn add(&mut self, delta: Delta) {
        match delta {
            Delta::Reasoning(text) => self.reasoning.get_or_insert_default().push_str(&text),
            Delta::Content { text, logprobs } => {
                self.content.get_or_insert_default().push_str(&text);
                self.logprobs.extend(logprobs);
            }
            Delta::Call { index, id, name } => {
                assert_eq!(index, self.tool_calls.len(), "calls begin in order");
                let function = FunctionCall { name, arguments: String::new() };
                self.tool_calls.push(ToolCall { id, kind: "function".to_owned(), function });
            }
            Delta::Arguments { index, text } => self.tool_calls[index].function.arguments.push_str(&text),
        }
    }

    fn into_choice(self, index: usize, with_logprobs: bool) -> Choice {
        // Clients expect text unless there are calls.
        let content = self.content.or_else(|| self.tool_calls.is_empty().then(String::new));
        let message = ResponseMessage {
            role: "assistant".to_owned(),
            content,
            refusal: None,
            reasoning_content: self.reasoning.clone(),
            reasoning: self.reasoning,
            tool_calls: self.tool_calls,
            annotations: Vec::new(),
        };
        Choice {
            index,
            message,
            logprobs: with_logprobs.then_some(Logprobs { content: Some(self.logprobs), refusal: None }),
            finish_reason: self.finish_reason.expect("a generation that did not fail finishes every answer"),
        }
    }
}
