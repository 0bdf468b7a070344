//! The engine as the server and the command line see it, wherever it runs.

use std::fmt;

use crate::engine::{EngineHandle, ShutdownMode};
use crate::error::{EngineError, SubmitError};
use crate::event::EventSink;
use crate::request::{GenerateRequest, RequestId, RequestRules};
use crate::stats::EngineStats;

/// Where an engine stands.
#[derive(Clone, Debug)]
pub enum EngineState {
    /// The first engine process loads its weights, or has not yet given a token.
    Starting,
    /// A token went through the engine that runs, and requests are accepted.
    Ready,
    /// The engine process failed and is replaced. Requests are accepted and wait; those that ran will go on.
    Degraded {
        /// How it failed.
        reason: String,
    },
    /// Nothing new is accepted; what was accepted may run to its end.
    Draining,
    /// Nothing runs any more.
    Stopped {
        /// The failure that ended it, none after an orderly shutdown.
        reason: Option<EngineError>,
    },
}

impl EngineState {
    /// One lower-case word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded { .. } => "degraded",
            Self::Draining => "draining",
            Self::Stopped { .. } => "stopped",
        }
    }
}

/// An engine in this process ([`EngineHandle`]) or behind a socket (`remote::RemoteEngine`). No method waits for a step,
/// but for [`EngineClient::join`].
pub trait EngineClient: fmt::Debug + Send + Sync + 'static {
    /// Checks a request and queues it; its events go to `sink`.
    ///
    /// # Errors
    /// [`SubmitError`]: the request breaks a rule, the queue is full, or the engine loads, ends or has ended. The sink
    /// is dropped unused then.
    fn submit(&self, request: GenerateRequest, sink: Box<dyn EventSink>) -> Result<RequestId, SubmitError>;

    /// Whether a request would be refused now whatever it asks for, so that a caller need not prepare one: the queue
    /// holds as many as it may, or the engine loads, ends or has ended. A refusal counts as one.
    ///
    /// # Errors
    /// As for [`EngineClient::submit`].
    fn check_room(&self) -> Result<(), SubmitError>;

    /// Asks for the end of a request, which comes with [`crate::FinishReason::Cancelled`]. Of no effect on a request
    /// that ended.
    fn cancel(&self, id: RequestId);

    /// Counts so far.
    fn stats(&self) -> EngineStats;

    /// What requests are checked against; none until the weights are loaded, and constant from then on.
    fn rules(&self) -> Option<RequestRules>;

    /// Where it stands.
    fn state(&self) -> EngineState;

    /// The process that it runs in; none between two, or where it runs in this one.
    fn process_id(&self) -> Option<u32>;

    /// Asks for the end. Returns at once; [`EngineClient::join`] waits. A second call can only make it come sooner.
    fn shutdown(&self, mode: ShutdownMode);

    /// Waits until the engine has ended and every event is delivered. Must not be called from a sink.
    ///
    /// # Errors
    /// The failure that ended it, if it was not a shutdown.
    fn join(&self) -> Result<(), EngineError>;
}

impl EngineClient for EngineHandle {
    fn submit(&self, request: GenerateRequest, sink: Box<dyn EventSink>) -> Result<RequestId, SubmitError> {
        self.submit_boxed(request, sink)
    }

    fn check_room(&self) -> Result<(), SubmitError> {
        EngineHandle::check_room(self)
    }

    fn cancel(&self, id: RequestId) {
        EngineHandle::cancel(self, id);
    }

    fn stats(&self) -> EngineStats {
        EngineHandle::stats(self)
    }

    fn rules(&self) -> Option<RequestRules> {
        Some(EngineHandle::rules(self))
    }

    fn state(&self) -> EngineState {
        EngineHandle::state(self)
    }

    fn process_id(&self) -> Option<u32> {
        None
    }

    fn shutdown(&self, mode: ShutdownMode) {
        EngineHandle::shutdown(self, mode);
    }

    fn join(&self) -> Result<(), EngineError> {
        EngineHandle::join(self)
    }
}
