//! A streamed answer, put together and held against the rules of a stream.

use serde_json::Value;

use crate::bench::serve::chunk::{Chunk, Usage};

/// What an answer says, however it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// Reasoning.
    pub(crate) reasoning: String,
    /// Content.
    pub(crate) content: String,
    /// How it ended.
    pub(crate) finish_reason: Option<String>,
    /// Token counts.
    pub(crate) usage: Option<Usage>,
}

impl Said {
    /// Reads a chat completion that was sent as a whole.
    pub(crate) fn of_completion(completion: &Value) -> Said {
        let (message, choice) = (&completion["choices"][0]["message"], &completion["choices"][0]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Said {
            reasoning: text(&message["reasoning"]),
            content: text(&message["content"]),
            finish_reason: choice["finish_reason"].as_str().map(str::to_owned),
            usage: serde_json::from_value(completion["usage"].clone()).ok(),
        }
    }
}

/// How a stream breaks the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub(crate) enum StreamFault {
    /// Not JSON of the right form.
    #[error("an event is malformed")]
    Malformed,
    /// An event that says that something failed.
    #[error("an event holds an error")]
    Error,
    /// The name of the answer changed.
    #[error("the id changes")]
    IdChanges,
    /// The first chunk has no role, or a later one has.
    #[error("the role is not in the first chunk alone")]
    Role,
    /// Output, or another end, after the end.
    #[error("an event follows the end of the answer")]
    AfterFinish,
    /// Counts twice, or before the end.
    #[error("the token counts are out of place")]
    Usage,
    /// Something after the end mark.
    #[error("an event follows [DONE]")]
    AfterDone,
    /// No end mark, no finish reason or no counts.
    #[error("the stream ends early")]
    EndsEarly,
}

/// A stream as far as it came.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    said: Said,
    id: Option<String>,
    is_done: bool,
}

impl Transcript {
    /// Takes the next event.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(crate) fn take(&mut self, event: &str) -> Result<(), StreamFault> {
        if self.is_done {
            return Err(StreamFault::AfterDone);
        }
        if event == "[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(event).map_err(|_| StreamFault::Malformed)?;
        if chunk.error.is_some() {
            return Err(StreamFault::Error);
        }
        let is_first = self.id.is_none();
        if *self.id.get_or_insert_with(|| chunk.id.clone()) != chunk.id {
            return Err(StreamFault::IdChanges);
        }
        for choice in &chunk.choices {
            if choice.delta.role.is_some() != is_first {
                return Err(StreamFault::Role);
            }
            if self.said.finish_reason.is_some() {
                return Err(StreamFault::AfterFinish);
            }
            self.said.reasoning.push_str(choice.delta.reasoning());
            self.said.content.push_str(choice.delta.content());
            self.said.finish_reason.clone_from(&choice.finish_reason);
        }
        match (chunk.usage, self.said.usage, &self.said.finish_reason) {
            (None, _, _) => Ok(()),
            (Some(usage), None, Some(_)) => {
                self.said.usage = Some(usage);
                Ok(())
            }
            (Some(_), _, _) => Err(StreamFault::Usage),
        }
    }

    /// What the stream said, now that it has ended.
    ///
    /// # Errors
    /// [`StreamFault::EndsEarly`].
    pub(crate) fn finish(self) -> Result<Said, StreamFault> {
        match self.is_done && self.said.finish_reason.is_some() && self.said.usage.is_some() {
            true => Ok(self.said),
            false => Err(StreamFault::EndsEarly),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chunk(delta: Value, finish_reason: Option<&str>) -> String {
        json!({"id": "a", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})
            .to_string()
    }

    fn sound() -> Vec<String> {
        vec![
            chunk(json!({"role": "assistant", "content": ""}), None),
            chunk(json!({"reasoning": "hm", "reasoning_content": "hm"}), None),
            chunk(json!({"content": "one "}), None),
            chunk(json!({"content": "two"}), None),
            chunk(json!({}), Some("stop")),
            json!({"id": "a", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}})
                .to_string(),
            "[DONE]".to_owned(),
        ]
    }

    fn read(events: &[String]) -> Result<Said, StreamFault> {
        let mut transcript = Transcript::default();
        events.iter().try_for_each(|event| transcript.take(event))?;
        transcript.finish()
    }

    #[test]
    fn sound_stream_says_what_the_whole_answer_says() {
        let whole = json!({
            "choices": [{"message": {"reasoning": "hm", "content": "one two"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        });
        assert_eq!(read(&sound()).unwrap(), Said::of_completion(&whole));
    }

    #[test]
    fn lost_doubled_and_swapped_events_are_found() {
        let whole = read(&sound()).unwrap();
        for index in 0..sound().len() {
            let mut lost = sound();
            lost.remove(index);
            assert_ne!(read(&lost).as_ref(), Ok(&whole), "event {index} lost");
            let mut doubled = sound();
            doubled.insert(index, sound()[index].clone());
            assert_ne!(read(&doubled).as_ref(), Ok(&whole), "event {index} doubled");
            for other in 0..index {
                let mut swapped = sound();
                swapped.swap(index, other);
                // Reasoning and content grow apart, so the order between them alone makes no difference.
                if !(other == 1 && (2..=3).contains(&index)) || (other, index) == (2, 3) {
                    assert_ne!(read(&swapped).as_ref(), Ok(&whole), "events {other} and {index} swapped");
                }
            }
        }
    }

    #[test]
    fn faults_have_names() {
        let with = |event: String| {
            let mut events = sound();
            events.insert(3, event);
            read(&events).unwrap_err()
        };
        assert_eq!(with("{".to_owned()), StreamFault::Malformed);
        assert_eq!(with(json!({"error": {"message": "x"}}).to_string()), StreamFault::Error);
        assert_eq!(with(json!({"id": "b", "choices": []}).to_string()), StreamFault::IdChanges);
        assert_eq!(with(chunk(json!({"role": "assistant"}), None)), StreamFault::Role);
        assert_eq!(with("[DONE]".to_owned()), StreamFault::AfterDone);
    }
}
