//! A generation as server-sent events.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Bytes, HttpBody};
use hyper::body::Frame;
use serde::Serialize;
use sostenuto_api::chat::{
    ChatChunk, ChunkChoice, Delta as WireDelta, FinishReason, FunctionCallDelta, Logprobs, ToolCallDelta,
};
use tokio::time::{Instant, Sleep};

use super::{Identity, Reported, generation::Update, turn::Delta};

/// A frame is sent when it is this large or nothing more is there.
const FRAME_BYTES: usize = 16 * 1024;
const KEEP_ALIVE: &str = ": keep-alive\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// The body of a streaming answer. Dropping it, as hyper does when the client is gone, cancels the generation.
pub(crate) struct SseBody {
    reported: Reported,
    format: ChunkFormat,
    /// Answers whose first chunk is out.
    begun: Vec<bool>,
    keep_alive: Duration,
    next_keep_alive: Pin<Box<Sleep>>,
    is_done: bool,
}

/// What is the same in all chunks.
pub(crate) struct ChunkFormat {
    pub(crate) identity: Identity,
    pub(crate) include_usage: bool,
    pub(crate) with_logprobs: bool,
}

impl SseBody {
    /// A body for `n` answers.
    pub(crate) fn new(reported: Reported, format: ChunkFormat, n: usize, keep_alive: Duration) -> SseBody {
        SseBody {
            reported,
            format,
            begun: vec![false; n],
            keep_alive,
            next_keep_alive: Box::pin(tokio::time::sleep(keep_alive)),
            is_done: false,
        }
    }

    /// Appends what is there to `out` until it is a frame's size. Pending when nothing is there.
    fn poll_fill(&mut self, cx: &mut Context<'_>, out: &mut String) -> Poll<()> {
        while out.len() < FRAME_BYTES && !self.is_done {
            match self.reported.generation.poll_update(cx) {
                Poll::Pending if out.is_empty() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(Some(update)) => self.write(update, out),
                Poll::Ready(None) => {
                    if self.format.include_usage {
                        let usage = Some(self.reported.generation.usage());
                        push_event(out, &ChatChunk { usage: Some(usage), ..self.format.chunk(Vec::new()) });
                    }
                    out.push_str(DONE);
                    self.is_done = true;
                }
            }
        }
        Poll::Ready(())
    }

    fn write(&mut self, update: Update, out: &mut String) {
        let (index, delta, finish_reason) = match update {
            Update::Delta(index, delta) => (index, Some(delta), None),
            Update::Finished(index, reason) => (index, None, Some(reason)),
            Update::Failed(error) => {
                self.reported.count_error(&error);
                push_event(out, &error.body());
                out.push_str(DONE);
                self.is_done = true;
                return;
            }
        };
        if !std::mem::replace(&mut self.begun[index], true) {
            let role = WireDelta {
                role: Some("assistant".to_owned()),
                content: Some(String::new()),
                ..WireDelta::default()
            };
            push_event(out, &self.format.choice_chunk(index, role, None, None));
        }
        let (delta, logprobs) = wire_delta(delta);
        let logprobs = logprobs.filter(|_| self.format.with_logprobs);
        push_event(out, &self.format.choice_chunk(index, delta, logprobs, finish_reason));
    }
}

impl HttpBody for SseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let mut out = String::new();
        if self.poll_fill(cx, &mut out).is_pending() {
            if self.next_keep_alive.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            out.push_str(KEEP_ALIVE);
        }
        let next = Instant::now() + self.keep_alive;
        self.next_keep_alive.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(out.into()))))
    }
}

impl ChunkFormat {
    fn chunk(&self, choices: Vec<ChunkChoice>) -> ChatChunk {
        let Identity { id, created, model, system_fingerprint } = self.identity.clone();
        ChatChunk {
            id,
            object: "chat.completion.chunk".to_owned(),
            created,
            model,
            system_fingerprint: Some(system_fingerprint),
            service_tier: None,
            choices,
            usage: self.include_usage.then_some(None),
        }
    }

    fn choice_chunk(
        &self,
        index: usize,
        delta: WireDelta,
        logprobs: Option<Logprobs>,
        finish_reason: Option<FinishReason>,
    ) -> ChatChunk {
        self.chunk(vec![ChunkChoice { index, delta, logprobs, finish_reason }])
    }
}

fn wire_delta(delta: Option<Delta>) -> (WireDelta, Option<Logprobs>) {
    let call = |index, id: Option<String>, function| {
        let kind = id.is_some().then(|| "function".to_owned());
        let call = ToolCallDelta { index, id, kind, function };
        WireDelta { tool_calls: vec![call], ..WireDelta::default() }
    };
    match delta {
        None => (WireDelta::default(), None),
        Some(Delta::Reasoning(text)) => {
            let reasoning_content = Some(text.clone());
            (WireDelta { reasoning: Some(text), reasoning_content, ..WireDelta::default() }, None)
        }
        Some(Delta::Content { text, logprobs }) => {
            let logprobs = Logprobs { content: Some(logprobs), refusal: None };
            (WireDelta { content: Some(text), ..WireDelta::default() }, Some(logprobs))
        }
        Some(Delta::Call { index, id, name }) => {
            let function = FunctionCallDelta { name: Some(name), arguments: String::new() };
            (call(index, Some(id), function), None)
        }
        Some(Delta::Arguments { index, text }) => {
            (call(index, None, FunctionCallDelta { name: None, arguments: text }), None)
        }
    }
}

fn push_event(out: &mut String, event: &impl Serialize) {
    out.push_str("data: ");
    out.push_str(&serde_json::to_string(event).expect("wire types have string keys and finite numbers"));
    out.push_str("\n\n");
}
