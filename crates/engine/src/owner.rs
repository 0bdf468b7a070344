//! The owner thread: takes what arrived, steps, delivers events.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::core::EngineCore;
use crate::drain_rate::DrainRate;
use crate::engine::Shared;
use crate::error::EngineError;
use crate::event::{Event, EventSink, RequestEvent};
use crate::executor::Executor;
use crate::inbox::State;
use crate::progress::StepObserver;
use crate::request::RequestId;

/// The sinks of requests that have not ended. Lives outside of what may panic.
struct Sinks {
    sinks: HashMap<RequestId, Box<dyn EventSink>>,
    /// Requests whose sinks closed, to be cancelled before the next step.
    closed: Vec<RequestId>,
    shared: Arc<Shared>,
}

/// Runs until the engine ends, then sees that every request has ended too.
pub(crate) fn run<E: Executor>(core: EngineCore<E>, shared: Arc<Shared>, observer: impl StepObserver) {
    let mut sinks = Sinks { sinks: HashMap::new(), closed: Vec::new(), shared: Arc::clone(&shared) };
    let result = catch_unwind(AssertUnwindSafe(|| {
        serve(core, &shared, &mut sinks, observer)?;
        assert!(sinks.sinks.is_empty(), "an orderly end leaves no request open");
        Ok(())
    }));
    let reason = match result {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(panic) => Some(EngineError::Panicked { message: panic_message(panic.as_ref()) }),
    };
    let late = shared.inbox.end(reason.clone());
    if let Some(error) = reason {
        let late = late.into_iter().map(|submission| submission.sink);
        for mut sink in sinks.sinks.into_values().chain(late) {
            send(sink.as_mut(), Event::Failed(error.clone()));
        }
    }
    shared.inbox.announce_end();
}

/// The loop. Returns after a shutdown, or with the failure that makes going on impossible.
fn serve<E: Executor>(
    mut core: EngineCore<E>,
    shared: &Shared,
    sinks: &mut Sinks,
    mut observer: impl StepObserver,
) -> Result<(), EngineError> {
    let (mut events, mut drain_rate, start) = (Vec::new(), DrainRate::default(), Instant::now());
    loop {
        let ends = take_arrivals(&mut core, shared, sinks, start, &mut events);
        let rows = core.begin_step(start.elapsed(), &mut events);
        publish(&core, shared, &mut drain_rate, start.elapsed());
        sinks.deliver(&mut events);
        observer.step_begun(rows);
        let begun = Instant::now();
        let result = core.finish_step(&mut events);
        let took = begun.elapsed();
        publish(&core, shared, &mut drain_rate, start.elapsed());
        sinks.deliver(&mut events);
        observer.step_ended(took, &shared.stats.read());
        match result {
            Err(error) if !error.recoverable() => return Err(EngineError::Executor(error)),
            _ if ends => return Ok(()),
            _ => {}
        }
    }
}

fn publish<E: Executor>(core: &EngineCore<E>, shared: &Shared, drain_rate: &mut DrainRate, now: Duration) {
    let waiting = core.scheduler().queue_load();
    drain_rate.observe(now, waiting.requests > 0, core.scheduler().totals().started);
    shared.inbox.set_waiting(waiting, drain_rate.retry_after(now));
    shared.stats.publish(core.scheduler());
}

/// Hands what arrived to the core; waits if there is nothing to do. True if the engine is to end: the core is idle.
fn take_arrivals<E: Executor>(
    core: &mut EngineCore<E>,
    shared: &Shared,
    sinks: &mut Sinks,
    start: Instant,
    events: &mut Vec<RequestEvent>,
) -> bool {
    let delivery = shared.inbox.take(core.scheduler().is_idle());
    let now = start.elapsed();
    for submission in delivery.submissions {
        sinks.sinks.insert(submission.id, submission.sink);
        let accepted = core.submit(submission.id, submission.request, now);
        accepted.expect("the inbox keeps the queue's bound and gives each id once");
    }
    for id in sinks.closed.drain(..).chain(delivery.cancels) {
        core.cancel(id, events);
    }
    let stop = match delivery.state {
        State::Serving => false,
        State::Draining { deadline } => Instant::now() >= deadline,
        State::Stopping | State::Ended { .. } => true,
    };
    if stop {
        core.shut_down(events);
    }
    core.scheduler().is_idle() && !matches!(delivery.state, State::Serving)
}

impl Sinks {
    /// Delivers events in order, and drops the sinks of requests that ended or whose sink closed.
    fn deliver(&mut self, events: &mut Vec<RequestEvent>) {
        for RequestEvent { id, event } in events.drain(..) {
            let is_terminal = event.is_terminal();
            let Some(sink) = self.sinks.get_mut(&id) else { continue };
            if is_terminal {
                // Forgotten first: whoever sees the end finds the counts without this request.
                self.shared.inbox.forget(id);
            }
            let open = send(sink.as_mut(), event);
            if is_terminal || !open {
                self.sinks.remove(&id);
            }
            if !is_terminal && !open {
                self.shared.inbox.forget(id);
                self.closed.push(id);
            }
        }
    }
}

/// Whether the sink is still open. A sink that panics is closed.
fn send(sink: &mut dyn EventSink, event: Event) -> bool {
    catch_unwind(AssertUnwindSafe(|| sink.send(event))).is_ok_and(|sent| sent.is_ok())
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
