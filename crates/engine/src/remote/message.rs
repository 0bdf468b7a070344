//! What front and engine say to each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::EngineError;
use crate::event::{Event, FinishReason, TokenEvent, Usage};
use crate::request::{GenerateRequest, RequestRules};
use crate::stats::EngineStats;

/// Changes with every change of these types: front and engine are to be of one program.
pub const PROTOCOL_VERSION: u32 = 2;

/// From the front to the engine. Ids are the front's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToEngine {
    /// Run this.
    Submit {
        /// Its id in what follows; never used twice on a connection.
        id: u64,
        /// The request, with the tokens it has already.
        request: GenerateRequest,
    },
    /// End this request, if it has not ended.
    Cancel {
        /// Its id.
        id: u64,
    },
}

/// From the engine to the front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToFront {
    /// The first message.
    Hello {
        /// [`PROTOCOL_VERSION`].
        version: u32,
    },
    /// The weights are loaded and requests can come.
    Ready {
        /// What the front checks requests against.
        rules: RequestRules,
    },
    /// The engine can't start, and trying again would not help. The last message.
    Refused {
        /// Why.
        message: String,
    },
    /// The owner thread begins a step.
    StepBegun {
        /// Its rows; none if there is nothing to do.
        rows: u64,
    },
    /// It ended the step.
    StepEnded {
        /// How long it took.
        took: Duration,
        /// Counts after it.
        stats: EngineStats,
    },
    /// What one half of a step brought, whole: a request's last token never comes without its end.
    Events {
        /// Ids of requests and what happened to them, in order.
        events: Vec<(u64, WireEvent)>,
    },
    /// The engine ended by a failure: the device's, or a bug. The last message.
    Ended {
        /// Which.
        message: String,
    },
}

/// [`Event`] as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WireEvent {
    /// [`Event::Started`].
    Started {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Most completion tokens.
        max_tokens: usize,
        /// Tokens of the prompt that the prefix cache holds.
        cached_tokens: usize,
    },
    /// [`Event::Token`].
    Token(TokenEvent),
    /// [`Event::Finished`].
    Finished {
        /// Why.
        reason: FinishReason,
        /// What it used.
        usage: Usage,
    },
    /// [`Event::Failed`].
    Failed(WireFailure),
}

/// [`EngineError`] as data: what is wrong with one request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum WireFailure {
    /// [`EngineError::NonFiniteLogits`].
    NonFiniteLogits {
        /// Position of the token to be sampled.
        position: usize,
        /// The first such token id.
        token: u32,
        /// NaN or an infinity.
        value: f32,
    },
    /// [`EngineError::NoCandidate`].
    NoCandidate {
        /// Position of the token to be sampled.
        position: usize,
    },
    /// Anything else, in words.
    Other(String),
}

impl From<WireFailure> for WireEvent {
    fn from(failure: WireFailure) -> Self {
        Self::Failed(failure)
    }
}

impl From<Event> for WireEvent {
    fn from(event: Event) -> Self {
        match event {
            Event::Started { prompt_tokens, max_tokens, cached_tokens } => {
                Self::Started { prompt_tokens, max_tokens, cached_tokens }
            }
            Event::Token(token) => Self::Token(token),
            Event::Finished { reason, usage } => Self::Finished { reason, usage },
            Event::Failed(error) => Self::Failed(error.into()),
        }
    }
}

impl From<WireEvent> for Event {
    fn from(event: WireEvent) -> Self {
        match event {
            WireEvent::Started { prompt_tokens, max_tokens, cached_tokens } => {
                Self::Started { prompt_tokens, max_tokens, cached_tokens }
            }
            WireEvent::Token(token) => Self::Token(token),
            WireEvent::Finished { reason, usage } => Self::Finished { reason, usage },
            WireEvent::Failed(failure) => Self::Failed(failure.into()),
        }
    }
}

impl From<EngineError> for WireFailure {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NonFiniteLogits { position, token, value } => {
                Self::NonFiniteLogits { position, token, value }
            }
            EngineError::NoCandidate { position } => Self::NoCandidate { position },
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<WireFailure> for EngineError {
    fn from(failure: WireFailure) -> Self {
        match failure {
            WireFailure::NonFiniteLogits { position, token, value } => {
                Self::NonFiniteLogits { position, token, value }
            }
            WireFailure::NoCandidate { position } => Self::NoCandidate { position },
            WireFailure::Other(message) => Self::Remote { message },
        }
    }
}
