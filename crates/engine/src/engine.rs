//! The engine as its callers see it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::EngineState;
use crate::core::EngineCore;
use crate::error::{EngineError, StartError, SubmitError};
use crate::event::EventSink;
use crate::executor::Executor;
use crate::inbox::{Inbox, State};
use crate::limits::EngineOptions;
use crate::owner;
use crate::progress::{StepObserver, Unobserved};
use crate::request::{GenerateRequest, RequestId, RequestRules};
use crate::stats::{EngineStats, StatCounters};

/// Starts engines.
#[derive(Debug)]
pub struct Engine;

impl Engine {
    /// Gives the executor to a new owner thread named `engine`, which runs until [`EngineHandle::shutdown`], a failure
    /// that is not recoverable, or until the last handle is dropped.
    ///
    /// # Errors
    /// [`StartError`]: limits under which requests could not run, or no thread.
    pub fn start(executor: impl Executor, options: EngineOptions) -> Result<EngineHandle, StartError> {
        Self::start_observed(executor, options, Unobserved)
    }

    /// As [`Engine::start`], and tells `observer` of the owner thread's progress.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn start_observed(
        executor: impl Executor,
        options: EngineOptions,
        observer: impl StepObserver,
    ) -> Result<EngineHandle, StartError> {
        let core = EngineCore::new(executor, &options)?;
        let shared = Arc::new(Shared {
            inbox: Inbox::new(options.queue_limit()),
            stats: StatCounters::default(),
            rules: core.rules(),
        });
        shared.stats.publish(core.scheduler());
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || owner::run(core, for_thread, observer))?;
        Ok(EngineHandle { owner: Arc::new(Owner { shared, thread: Mutex::new(Some(thread)) }) })
    }
}

/// What the handles and the owner thread share.
pub(crate) struct Shared {
    pub(crate) inbox: Inbox,
    pub(crate) stats: StatCounters,
    rules: RequestRules,
}

/// How to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownMode {
    /// Accept nothing new; let what was accepted, queued or running, end by itself, and cut what is left after this
    /// long. The cut falls between steps.
    Drain {
        /// Time from now.
        within: Duration,
    },
    /// Accept nothing new and end everything after the step in progress.
    Now,
}

/// Talks to an engine; cheap to clone. When the last one is dropped the engine shuts down as by
/// [`ShutdownMode::Now`].
#[derive(Clone)]
pub struct EngineHandle {
    owner: Arc<Owner>,
}

impl std::fmt::Debug for EngineHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EngineHandle").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

struct Owner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.inbox.shut_down(None);
    }
}

impl EngineHandle {
    /// Checks a request and queues it; its events go to `sink`. Returns at once.
    ///
    /// # Errors
    /// [`SubmitError`]: the request breaks a rule, the queue is full, or the engine ends or has ended. The sink is
    /// dropped unused then.
    pub fn submit(&self, request: GenerateRequest, sink: impl EventSink) -> Result<RequestId, SubmitError> {
        self.submit_boxed(request, Box::new(sink))
    }

    pub(crate) fn submit_boxed(
        &self,
        request: GenerateRequest,
        sink: Box<dyn EventSink>,
    ) -> Result<RequestId, SubmitError> {
        let shared = &self.owner.shared;
        let request = shared.rules.check(request)?;
        let result = shared.inbox.submit(request, sink);
        if result.is_ok() {
            shared.stats.accepted.fetch_add(1, Relaxed);
        }
        self.count_refusal(result)
    }

    /// Whether a request would be refused now whatever it asks for.
    ///
    /// # Errors
    /// As for [`EngineHandle::submit`].
    pub fn check_room(&self) -> Result<(), SubmitError> {
        self.count_refusal(self.owner.shared.inbox.check_room())
    }

    fn count_refusal<T>(&self, result: Result<T, SubmitError>) -> Result<T, SubmitError> {
        if let Err(SubmitError::QueueFull { .. }) = result {
            self.owner.shared.stats.refused.fetch_add(1, Relaxed);
        }
        result
    }

    /// Asks for the end of a request, which comes before the next step with [`crate::FinishReason::Cancelled`]. Of no
    /// effect on a request that ended. Returns at once.
    pub fn cancel(&self, id: RequestId) {
        self.owner.shared.inbox.cancel(id);
    }

    /// Counts so far.
    pub fn stats(&self) -> EngineStats {
        let load = self.owner.shared.inbox.load();
        EngineStats {
            queued: load.requests,
            queued_prompt_tokens: load.prompt_tokens,
            ..self.owner.shared.stats.read()
        }
    }

    /// What requests are checked against: vocabulary and most tokens of a sequence.
    pub fn rules(&self) -> RequestRules {
        self.owner.shared.rules
    }

    /// Where it stands: never [`EngineState::Starting`] or [`EngineState::Degraded`].
    pub fn state(&self) -> EngineState {
        match self.owner.shared.inbox.state() {
            State::Serving => EngineState::Ready,
            State::Draining { .. } | State::Stopping => EngineState::Draining,
            State::Ended { reason } => EngineState::Stopped { reason },
        }
    }

    /// Asks for the end. Returns at once; [`EngineHandle::join`] waits. A second call can only make it come sooner.
    pub fn shutdown(&self, mode: ShutdownMode) {
        let deadline = match mode {
            ShutdownMode::Drain { within } => Instant::now().checked_add(within),
            ShutdownMode::Now => None,
        };
        self.owner.shared.inbox.shut_down(deadline);
    }

    /// Waits until the engine has ended and every event is delivered. Must not be called from a sink.
    ///
    /// # Errors
    /// The failure that ended it, if it was not a shutdown.
    pub fn join(&self) -> Result<(), EngineError> {
        let reason = self.owner.shared.inbox.wait_for_end();
        let thread = self.owner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // Its panics are caught and reported as the reason.
            let _ = thread.join();
        }
        reason.map_or(Ok(()), Err)
    }
}
