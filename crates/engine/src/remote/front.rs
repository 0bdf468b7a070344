//! The front of an engine process: an [`EngineClient`] whose engine may be killed at any time.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::client::{EngineClient, EngineState};
use crate::drain_rate::DrainRate;
use crate::engine::ShutdownMode;
use crate::error::{EngineError, SubmitError};
use crate::event::{Event, EventSink, FinishReason};
use crate::limits::{MAX_QUEUED_PROMPT_TOKENS, MAX_QUEUED_REQUESTS};
use crate::queue::{QueueFull, QueueLoad};
use crate::remote::journal::{Delivery, EventViolation, Journal};
use crate::remote::message::ToEngine;
use crate::remote::supervisor::Supervisor;
use crate::remote::watchdog::WatchdogOptions;
use crate::request::{GenerateRequest, RequestId, RequestRules};
use crate::stats::EngineStats;

/// Id of the request that shows that an engine process works; those of others are above it.
pub(crate) const CANARY: u64 = 0;

/// A drain without end ends after a year.
const LONGEST_DRAIN: Duration = Duration::from_secs(365 * 24 * 3600);

/// What the caller may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontOptions {
    /// When an engine counts as hung.
    pub watchdog: WatchdogOptions,
    /// Most requests that wait. Default [`MAX_QUEUED_REQUESTS`].
    pub max_queued_requests: usize,
    /// Most prompt tokens that wait. Default [`MAX_QUEUED_PROMPT_TOKENS`].
    pub max_queued_prompt_tokens: usize,
}

impl Default for FrontOptions {
    fn default() -> Self {
        Self {
            watchdog: WatchdogOptions::default(),
            max_queued_requests: MAX_QUEUED_REQUESTS,
            max_queued_prompt_tokens: MAX_QUEUED_PROMPT_TOKENS,
        }
    }
}

/// Runs engine processes, one after the other, and makes of them one engine that goes on.
///
/// Dropping it shuts down as by [`ShutdownMode::Now`].
pub struct RemoteEngine {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl RemoteEngine {
    /// Starts the first engine process and returns at once; the state tells how it goes.
    ///
    /// `launch` makes the command of an engine process and is given the number of those before it. The process gets its
    /// end of the socket as standard input and must serve it with [`super::EngineEnd`].
    ///
    /// # Errors
    /// No thread could be created.
    pub fn start(
        options: FrontOptions,
        launch: impl FnMut(u32) -> Command + Send + 'static,
    ) -> io::Result<RemoteEngine> {
        let shared = Arc::new(Shared::new(&options));
        let supervisor = Supervisor::new(Arc::clone(&shared), options.watchdog, Box::new(launch));
        // The kernel ties a child's life to the thread that made it: this one lives as long as anything is to be served.
        let thread = std::thread::Builder::new().name("supervisor".into()).spawn(move || supervisor.run())?;
        Ok(RemoteEngine { shared, thread: Mutex::new(Some(thread)) })
    }
}

impl fmt::Debug for RemoteEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteEngine").field("state", &self.state()).finish_non_exhaustive()
    }
}

impl Drop for RemoteEngine {
    fn drop(&mut self) {
        self.shutdown(ShutdownMode::Now);
    }
}

impl EngineClient for RemoteEngine {
    fn submit(&self, request: GenerateRequest, sink: Box<dyn EventSink>) -> Result<RequestId, SubmitError> {
        let rules = self.shared.lock().rules_for_submit()?;
        let request = rules.check(request)?.into_inner();
        let mut front = self.shared.lock();
        // It may have ended meanwhile.
        front.rules_for_submit()?;
        let now = Instant::now();
        match front.journal.submit(request, sink, now) {
            Ok(id) => {
                front.stats.accepted += 1;
                self.shared.changed.notify_all();
                Ok(RequestId(id))
            }
            Err(full) => Err(front.refuse(full, now - self.shared.begun)),
        }
    }

    fn check_room(&self) -> Result<(), SubmitError> {
        let mut front = self.shared.lock();
        front.rules_for_submit()?;
        let room = front.journal.check_room(0);
        room.map_err(|full| front.refuse(full, self.shared.begun.elapsed()))
    }

    fn cancel(&self, id: RequestId) {
        let delivery = self.shared.lock().journal.cancel(id.0);
        self.shared.wake_waiters();
        if let Some(delivery) = delivery {
            self.shared.deliver(delivery);
        }
    }

    fn stats(&self) -> EngineStats {
        let front = self.shared.lock();
        let waiting = front.journal.waiting();
        EngineStats {
            queued: waiting.requests,
            queued_prompt_tokens: waiting.prompt_tokens,
            accepted: front.stats.accepted,
            refused: front.stats.refused,
            restarts: front.stats.restarts,
            ..front.engine_stats.after(&front.earlier)
        }
    }

    fn rules(&self) -> Option<RequestRules> {
        self.shared.lock().rules
    }

    fn state(&self) -> EngineState {
        let front = self.shared.lock();
        match (&front.standing, front.closing) {
            (Standing::Stopped { reason }, _) => EngineState::Stopped { reason: reason.clone() },
            (_, Some(_)) => EngineState::Draining,
            (Standing::Starting, None) => EngineState::Starting,
            (Standing::Ready, None) => EngineState::Ready,
            (Standing::Degraded { reason }, None) => EngineState::Degraded { reason: reason.clone() },
        }
    }

    fn process_id(&self) -> Option<u32> {
        self.shared.lock().process_id
    }

    fn shutdown(&self, mode: ShutdownMode) {
        let deadline = match mode {
            ShutdownMode::Drain { within } => Instant::now() + within.min(LONGEST_DRAIN),
            ShutdownMode::Now => Instant::now(),
        };
        let mut front = self.shared.lock();
        front.closing = Some(front.closing.map_or(deadline, |earlier| earlier.min(deadline)));
        self.shared.changed.notify_all();
    }

    fn join(&self) -> Result<(), EngineError> {
        let reason = self.shared.wait_for_stop();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It says why it ends before it does.
            let _ = thread.join();
        }
        reason.map_or(Ok(()), Err)
    }
}

/// What callers, the supervisor's thread and the writer's share.
pub(crate) struct Shared {
    front: Mutex<Front>,
    begun: Instant,
    /// Something is to be sent, or the state changed.
    changed: Condvar,
}

/// Where the front stands, apart from closing.
enum Standing {
    Starting,
    Ready,
    Degraded { reason: String },
    Stopped { reason: Option<EngineError> },
}

/// Counts of the front itself.
#[derive(Default)]
struct FrontStats {
    accepted: u64,
    refused: u64,
    restarts: u64,
}

/// The front's state, under one lock that is never held while a sink is called.
pub(crate) struct Front {
    journal: Journal,
    standing: Standing,
    /// Nothing new is accepted; what is live may run until then.
    closing: Option<Instant>,
    rules: Option<RequestRules>,
    process_id: Option<u32>,
    /// Names the connection to the engine process that runs.
    link: Option<u64>,
    /// That process takes requests.
    serving: bool,
    /// The canary is to be sent.
    canary: bool,
    stats: FrontStats,
    /// Last counts of the engine process that runs.
    engine_stats: EngineStats,
    /// Counts of those before it.
    earlier: EngineStats,
    /// How fast requests leave the queue.
    drain_rate: DrainRate,
    /// The last event is delivered.
    stopped: bool,
}

impl Front {
    fn rules_for_submit(&self) -> Result<RequestRules, SubmitError> {
        match (&self.standing, self.closing, self.rules) {
            (Standing::Stopped { reason }, _, _) => Err(SubmitError::Stopped { reason: reason.clone() }),
            (_, Some(_), _) => Err(SubmitError::ShuttingDown),
            (Standing::Ready | Standing::Degraded { .. }, None, Some(rules)) => Ok(rules),
            (_, None, _) => Err(SubmitError::Starting),
        }
    }

    /// Counts a refusal and says when to try again.
    fn refuse(&mut self, full: QueueFull, now: Duration) -> SubmitError {
        self.stats.refused += 1;
        full.into_error(self.drain_rate.retry_after(now))
    }

    fn is_over(&self) -> bool {
        self.closing.is_some_and(|deadline| self.journal.is_empty() || Instant::now() >= deadline)
    }
}

impl Shared {
    fn new(options: &FrontOptions) -> Self {
        let limit = QueueLoad {
            requests: options.max_queued_requests,
            prompt_tokens: options.max_queued_prompt_tokens,
        };
        let front = Front {
            journal: Journal::new(limit, CANARY + 1),
            standing: Standing::Starting,
            closing: None,
            rules: None,
            process_id: None,
            link: None,
            serving: false,
            canary: false,
            stats: FrontStats::default(),
            engine_stats: EngineStats::default(),
            earlier: EngineStats::default(),
            drain_rate: DrainRate::default(),
            stopped: false,
        };
        Self { front: Mutex::new(front), begun: Instant::now(), changed: Condvar::new() }
    }

    /// An engine process began to load; `link` is new.
    pub(crate) fn connected(&self, link: u64, process_id: u32) {
        let mut front = self.lock();
        (front.link, front.process_id) = (Some(link), Some(process_id));
    }

    /// The engine process takes requests. False if its rules are not those of the one before.
    pub(crate) fn loaded(&self, rules: RequestRules) -> bool {
        let mut front = self.lock();
        if front.rules.is_some_and(|known| known != rules) {
            return false;
        }
        front.rules = Some(rules);
        (front.serving, front.canary) = (true, true);
        self.changed.notify_all();
        true
    }

    /// A token went through the engine process.
    pub(crate) fn proven(&self) {
        self.lock().standing = Standing::Ready;
    }

    /// The engine process counts.
    pub(crate) fn set_engine_stats(&self, stats: EngineStats) {
        let mut front = self.lock();
        front.engine_stats = stats;
        let started = front.earlier.totals.started + stats.totals.started;
        let waits = front.journal.waiting().requests > 0;
        front.drain_rate.observe(self.begun.elapsed(), waits, started);
    }

    /// The engine process is gone: nothing more comes from it or goes to it.
    pub(crate) fn disconnected(&self) {
        let mut front = self.lock();
        (front.process_id, front.link) = (None, None);
        (front.serving, front.canary) = (false, false);
        front.earlier = std::mem::take(&mut front.engine_stats).after(&front.earlier);
        self.changed.notify_all();
    }

    /// The engine process failed and is to be replaced. `blame`: a request may have caused it.
    pub(crate) fn failed(&self, reason: &str, blame: bool) {
        let mut front = self.lock();
        front.stats.restarts += 1;
        if !matches!(front.standing, Standing::Starting) {
            front.standing = Standing::Degraded { reason: reason.to_owned() };
        }
        let deliveries = front.journal.crashed(blame, reason);
        drop(front);
        deliveries.into_iter().for_each(|delivery| self.deliver(delivery));
    }

    /// Whether no engine process was ever ready.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.lock().standing, Standing::Starting)
    }

    /// Ends every request, then announces the end.
    pub(crate) fn stop(&self, reason: Option<EngineError>) {
        let mut front = self.lock();
        front.standing = Standing::Stopped { reason: reason.clone() };
        let deliveries = front.journal.end_all(|usage| match &reason {
            Some(error) => Event::Failed(error.clone()),
            None => Event::Finished { reason: FinishReason::ShuttingDown, usage },
        });
        drop(front);
        deliveries.into_iter().for_each(|delivery| self.deliver(delivery));
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn wait_for_stop(&self) -> Option<EngineError> {
        let mut front = self.lock();
        loop {
            if let (Standing::Stopped { reason }, true) = (&front.standing, front.stopped) {
                return reason.clone();
            }
            front = self.changed.wait(front).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The next message over this connection; waits for one. None when the connection is over.
    pub(crate) fn next_message(&self, link: u64) -> Option<ToEngine> {
        let mut front = self.lock();
        loop {
            if front.link != Some(link) {
                return None;
            }
            if std::mem::take(&mut front.canary) {
                return Some(ToEngine::Submit { id: CANARY, request: GenerateRequest::greedy(vec![0], 1) });
            }
            if front.serving
                && let Some(message) = front.journal.next_message(Instant::now())
            {
                return Some(message);
            }
            front = self.changed.wait(front).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Whether a shutdown is complete: nothing is live, or its time is up.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// Waits for so long, or until a shutdown is complete.
    pub(crate) fn pause(&self, time: Duration) {
        let front = self.lock();
        // Either way the caller looks at the state.
        let _ = self.changed.wait_timeout_while(front, time, |front| !front.is_over());
    }

    /// Ends what waits for an engine process beyond its deadline.
    pub(crate) fn expire(&self) {
        let deliveries = self.lock().journal.expire(Instant::now());
        deliveries.into_iter().for_each(|delivery| self.deliver(delivery));
    }

    /// An event of the engine process.
    pub(crate) fn take_event(&self, id: u64, event: Event) -> Result<(), EventViolation> {
        let delivery = self.lock().journal.take_event(id, event)?;
        if let Some(delivery) = delivery {
            self.deliver(delivery);
        }
        // A trial may be over, or the sink may have closed.
        self.wake_waiters();
        Ok(())
    }

    /// Wakes those who wait for a message or for the end of a drain, if there can be either: most events bring none.
    fn wake_waiters(&self) {
        let front = self.lock();
        if front.journal.has_message() || front.closing.is_some() {
            self.changed.notify_all();
        }
    }

    fn deliver(&self, delivery: Delivery) {
        let Delivery { id, mut sink, event } = delivery;
        let is_open = catch_unwind(AssertUnwindSafe(|| sink.send(event))).is_ok_and(|sent| sent.is_ok());
        self.lock().journal.delivered(id, is_open.then_some(sink));
    }

    /// No code panics while it holds the lock, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, Front> {
        self.front.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::event::SinkClosed;

    #[test]
    fn writer_is_woken_for_the_cancel_of_a_closed_sink() {
        const LINK: u64 = 1;
        let shared = Arc::new(Shared::new(&FrontOptions::default()));
        shared.connected(LINK, 1);
        assert!(shared.loaded(RequestRules { vocab_size: 8, sequence_capacity: 8 }));
        let (sent_tx, sent) = channel();
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::spawn(move || {
            while let Some(message) = for_writer.next_message(LINK) {
                sent_tx.send(message).unwrap();
            }
        });
        let next = || sent.recv_timeout(Duration::from_secs(20)).expect("the writer is woken");
        assert!(matches!(next(), ToEngine::Submit { id: CANARY, .. }));
        // Often enough that the writer waits at least once when the event comes.
        for _ in 0..200 {
            let request = GenerateRequest::greedy(vec![1], 1);
            let id = {
                let mut front = shared.lock();
                front.journal.submit(request, Box::new(|_| Err(SinkClosed)), Instant::now()).unwrap()
            };
            shared.wake_waiters();
            assert!(matches!(next(), ToEngine::Submit { .. }));
            let started = Event::Started { prompt_tokens: 1, max_tokens: 1, cached_tokens: 0 };
            shared.take_event(id, started).unwrap();
            assert_eq!(next(), ToEngine::Cancel { id });
            let usage =
                crate::event::Usage { prompt_tokens: 1, completion_tokens: 0, cached_prompt_tokens: 0 };
            let end = Event::Finished { reason: FinishReason::Cancelled, usage };
            shared.take_event(id, end).unwrap();
        }
        shared.disconnected();
        writer.join().unwrap();
    }
}
