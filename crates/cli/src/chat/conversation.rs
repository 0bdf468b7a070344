//! A chat's state and what it becomes on the wire.

use serde_json::{Value, json};

use super::command::Effort;

/// What the server is asked to do, apart from the messages.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The model's name, as the server gives it.
    pub(crate) model: String,
    /// Instructions for the model.
    pub(crate) system: Option<String>,
    /// How long the model may think; the server's default if absent.
    pub(crate) effort: Option<Effort>,
    /// Sampling temperature; the server's default if absent.
    pub(crate) temperature: Option<f32>,
    /// Seed of the sampling.
    pub(crate) seed: Option<u64>,
    /// Tokens of an answer, thinking included, at most.
    pub(crate) max_tokens: Option<u32>,
}

/// A conversation: user messages and answers in turn.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    messages: Vec<Value>,
}

impl Conversation {
    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.messages.clear();
    }

    /// The request that asks for an answer to `question`, as a stream.
    pub(crate) fn request(&self, settings: &Settings, question: &str) -> Value {
        let mut messages = Vec::with_capacity(self.messages.len() + 2);
        if let Some(system) = &settings.system {
            messages.push(json!({"role": "system", "content": system}));
        }
        messages.extend(self.messages.iter().cloned());
        messages.push(json!({"role": "user", "content": question}));
        let mut request = json!({
            "model": settings.model,
            "messages": messages,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        if let Some(effort) = settings.effort {
            request["reasoning_effort"] = json!(effort.name());
        }
        if let Some(temperature) = settings.temperature {
            request["temperature"] = json!(temperature);
        }
        if let Some(seed) = settings.seed {
            request["seed"] = json!(seed);
        }
        if let Some(max_tokens) = settings.max_tokens {
            request["max_completion_tokens"] = json!(max_tokens);
        }
        request
    }

    /// Keeps a question and its answer, whole or stopped. A question without an answer is not kept, so that turns
    /// alternate.
    pub(crate) fn keep(&mut self, question: &str, answer: &str) {
        if !answer.is_empty() {
            self.messages.push(json!({"role": "user", "content": question}));
            self.messages.push(json!({"role": "assistant", "content": answer}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            model: "demo".to_owned(),
            system: Some("Be brief.".to_owned()),
            effort: Some(Effort::High),
            temperature: None,
            seed: Some(7),
            max_tokens: None,
        }
    }

    #[test]
    fn request_has_history_settings_and_question() {
        let mut conversation = Conversation::default();
        conversation.keep("Hi", "Hello.");
        let request = conversation.request(&settings(), "Why?");
        assert_eq!(
            request,
            json!({
                "model": "demo",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Hello."},
                    {"role": "user", "content": "Why?"},
                ],
                "stream": true,
                "stream_options": {"include_usage": true},
                "reasoning_effort": "high",
                "seed": 7,
            })
        );
    }

    #[test]
    fn question_without_answer_is_forgotten() {
        let mut conversation = Conversation::default();
        conversation.keep("Hi", "");
        assert_eq!(conversation.request(&settings(), "Why?")["messages"].as_array().map(Vec::len), Some(2));
    }
}
