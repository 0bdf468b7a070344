//! What comes out of the engine, and where it goes.

use std::sync::mpsc::SyncSender;

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::request::RequestId;

/// One sampled token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenEvent {
    /// Token id.
    pub id: u32,
    /// Place in the completion, from 0 and without gaps.
    pub index: usize,
    /// Natural log of the token's probability under the model's raw logits, where logprobs were asked for.
    pub logprob: Option<f32>,
    /// The most probable tokens and their logprobs, most probable first, lower id first on ties.
    pub top_logprobs: Vec<(u32, f32)>,
}

/// Why a request ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishReason {
    /// This stop token was sampled; it was delivered as the last [`Event::Token`].
    StopToken(u32),
    /// `max_tokens` or the context is used up.
    Length,
    /// Cancelled by its owner.
    Cancelled,
    /// Its deadline passed.
    Deadline,
    /// The engine shut down before it was done.
    ShuttingDown,
}

/// Tokens of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens sampled and delivered, a stop token included.
    pub completion_tokens: usize,
    /// Tokens of the prompt that the prefix cache spared when the request started.
    pub cached_prompt_tokens: usize,
}

/// One event of a request: `Started` at most once and first, then tokens, then exactly one `Finished` or `Failed`.
#[derive(Clone, Debug)]
pub enum Event {
    /// It left the queue and runs; once, also where it is preempted later. A request that ends while queued ends
    /// without this.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Completion tokens it can get at most: its `max_tokens`, less what the context does not hold.
        max_tokens: usize,
        /// Tokens of the prompt that need not be computed because the prefix cache holds them.
        cached_tokens: usize,
    },
    /// The next token.
    Token(TokenEvent),
    /// It ended in order.
    Finished {
        /// Why.
        reason: FinishReason,
        /// What it used.
        usage: Usage,
    },
    /// It ended by a failure.
    Failed(EngineError),
}

impl Event {
    /// Whether nothing follows.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Failed(_))
    }
}

/// An event and the request it belongs to.
#[derive(Clone, Debug)]
pub struct RequestEvent {
    /// The request.
    pub id: RequestId,
    /// The event.
    pub event: Event,
}

/// The receiver of a sink is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver of events is gone")]
pub struct SinkClosed;

/// Where the events of one request go. Called on the engine's owner thread.
pub trait EventSink: Send + 'static {
    /// Takes an event at once; it must not block, since every other request waits meanwhile.
    ///
    /// # Errors
    /// [`SinkClosed`] if nobody will read further events; the request is cancelled and the sink dropped.
    fn send(&mut self, event: Event) -> Result<(), SinkClosed>;
}

impl<F> EventSink for F
where
    F: FnMut(Event) -> Result<(), SinkClosed> + Send + 'static,
{
    fn send(&mut self, event: Event) -> Result<(), SinkClosed> {
        self(event)
    }
}

/// A full channel counts as closed: a reader that does not keep up is cancelled, and sees the channel close without
/// a terminal event. A capacity of `max_tokens + 2` is never full.
impl EventSink for SyncSender<Event> {
    fn send(&mut self, event: Event) -> Result<(), SinkClosed> {
        self.try_send(event).map_err(|_| SinkClosed)
    }
}
