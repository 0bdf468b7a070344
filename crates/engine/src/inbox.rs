//! The bounded way into the engine: what callers leave for the owner thread, under one lock.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{EngineError, SubmitError};
use crate::event::EventSink;
use crate::queue::QueueLoad;
use crate::request::{RequestId, ValidRequest};

/// An idle owner thread looks around this often, which shows that it lives.
const IDLE_BEAT: Duration = Duration::from_millis(500);

/// A request on its way to the owner thread.
pub(crate) struct Submission {
    pub(crate) id: RequestId,
    pub(crate) request: ValidRequest,
    pub(crate) sink: Box<dyn EventSink>,
}

/// Whether the engine serves.
#[derive(Clone, Debug)]
pub(crate) enum State {
    /// Requests are accepted.
    Serving,
    /// Nothing new; what was accepted may run until the deadline.
    Draining { deadline: Instant },
    /// Nothing new; what was accepted ends after the step in progress.
    Stopping,
    /// The owner thread is done.
    Ended { reason: Option<EngineError> },
}

struct Contents {
    state: State,
    submissions: Vec<Submission>,
    cancels: HashSet<RequestId>,
    /// Accepted and not ended: bounds `cancels`.
    live: HashSet<RequestId>,
    /// What waits in `submissions`.
    arriving: QueueLoad,
    /// What waits in the scheduler, as of its last step.
    waiting: QueueLoad,
    /// What is told to those who find the queue full.
    retry_after: Duration,
    next_id: u64,
    /// The owner thread delivered its last event.
    done: bool,
}

/// What the owner thread takes out at once.
pub(crate) struct Delivery {
    pub(crate) submissions: Vec<Submission>,
    pub(crate) cancels: Vec<RequestId>,
    pub(crate) state: State,
}

/// See the module.
pub(crate) struct Inbox {
    contents: Mutex<Contents>,
    limit: QueueLoad,
    /// Something arrived.
    arrived: Condvar,
    /// The owner thread ended.
    ended: Condvar,
}

impl Inbox {
    pub(crate) fn new(limit: QueueLoad) -> Self {
        let contents = Contents {
            state: State::Serving,
            submissions: Vec::new(),
            cancels: HashSet::new(),
            live: HashSet::new(),
            arriving: QueueLoad::default(),
            waiting: QueueLoad::default(),
            retry_after: Duration::ZERO,
            next_id: 0,
            done: false,
        };
        Self { contents: Mutex::new(contents), limit, arrived: Condvar::new(), ended: Condvar::new() }
    }

    /// Leaves a request; refuses at once where the queue is full or the engine does not serve.
    pub(crate) fn submit(
        &self,
        request: ValidRequest,
        sink: Box<dyn EventSink>,
    ) -> Result<RequestId, SubmitError> {
        let mut contents = self.lock();
        let prompt_tokens = request.prompt_tokens();
        contents.check_room(prompt_tokens, self.limit)?;
        contents.arriving = contents.arriving.plus(QueueLoad { requests: 1, prompt_tokens });
        let id = RequestId(contents.next_id);
        contents.next_id += 1;
        contents.live.insert(id);
        contents.submissions.push(Submission { id, request, sink });
        self.arrived.notify_one();
        Ok(id)
    }

    /// Refuses where any request would be refused.
    pub(crate) fn check_room(&self) -> Result<(), SubmitError> {
        self.lock().check_room(0, self.limit)
    }

    /// Asks for the end of a request; ignored if it ended already.
    pub(crate) fn cancel(&self, id: RequestId) {
        let mut contents = self.lock();
        if contents.live.contains(&id) {
            contents.cancels.insert(id);
            self.arrived.notify_one();
        }
    }

    /// Asks for the end. A later call can only make it come sooner.
    pub(crate) fn shut_down(&self, drain_until: Option<Instant>) {
        let mut contents = self.lock();
        contents.state = match (&contents.state, drain_until) {
            (State::Serving, Some(deadline)) => State::Draining { deadline },
            (State::Draining { deadline: earlier }, Some(deadline)) => {
                State::Draining { deadline: deadline.min(*earlier) }
            }
            (State::Serving | State::Draining { .. }, None) => State::Stopping,
            (State::Stopping | State::Ended { .. }, _) => return,
        };
        self.arrived.notify_one();
    }

    /// Takes everything out; if the owner is idle, waits for something to arrive, for [`IDLE_BEAT`] at most.
    pub(crate) fn take(&self, idle: bool) -> Delivery {
        let mut contents = self.lock();
        if idle {
            let wait = self.arrived.wait_timeout_while(contents, IDLE_BEAT, |contents| contents.is_quiet());
            (contents, _) = wait.unwrap_or_else(PoisonError::into_inner);
        }
        contents.waiting = contents.waiting.plus(std::mem::take(&mut contents.arriving));
        Delivery {
            submissions: std::mem::take(&mut contents.submissions),
            cancels: contents.cancels.drain().collect(),
            state: contents.state.clone(),
        }
    }

    /// Reports what waits in the scheduler, and when to try again where that is too much.
    pub(crate) fn set_waiting(&self, waiting: QueueLoad, retry_after: Duration) {
        let mut contents = self.lock();
        contents.waiting = waiting;
        contents.retry_after = retry_after;
    }

    /// Reports that a request ended.
    pub(crate) fn forget(&self, id: RequestId) {
        let mut contents = self.lock();
        contents.live.remove(&id);
        contents.cancels.remove(&id);
    }

    /// Marks the end, after which nothing is accepted, and returns what never reached the scheduler.
    pub(crate) fn end(&self, reason: Option<EngineError>) -> Vec<Submission> {
        let mut contents = self.lock();
        contents.state = State::Ended { reason };
        contents.arriving = QueueLoad::default();
        contents.waiting = QueueLoad::default();
        contents.live.clear();
        contents.cancels.clear();
        std::mem::take(&mut contents.submissions)
    }

    /// Wakes those who wait for the end: the last event is delivered.
    pub(crate) fn announce_end(&self) {
        self.lock().done = true;
        self.ended.notify_all();
    }

    /// Waits for the end, and the last event before it.
    pub(crate) fn wait_for_end(&self) -> Option<EngineError> {
        let mut contents = self.lock();
        loop {
            if let (State::Ended { reason }, true) = (&contents.state, contents.done) {
                return reason.clone();
            }
            contents = self.ended.wait(contents).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What waits in all.
    pub(crate) fn load(&self) -> QueueLoad {
        let contents = self.lock();
        contents.arriving.plus(contents.waiting)
    }

    /// The state now.
    pub(crate) fn state(&self) -> State {
        self.lock().state.clone()
    }

    /// No code panics while it holds the lock, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn check_serving(&self) -> Result<(), SubmitError> {
        match &self.state {
            State::Serving => Ok(()),
            State::Draining { .. } | State::Stopping => Err(SubmitError::ShuttingDown),
            State::Ended { reason } => Err(SubmitError::Stopped { reason: reason.clone() }),
        }
    }

    /// Whether a prompt of so many tokens may wait.
    fn check_room(&self, prompt_tokens: usize, limit: QueueLoad) -> Result<(), SubmitError> {
        self.check_serving()?;
        let sum = self.arriving.plus(self.waiting).with(prompt_tokens, limit);
        sum.map(drop).map_err(|full| full.into_error(self.retry_after))
    }

    fn is_quiet(&self) -> bool {
        self.submissions.is_empty() && self.cancels.is_empty() && matches!(self.state, State::Serving)
    }
}
