//! Starts engine processes, listens to them, and replaces those that fail.

use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::EngineError;
use crate::event::Event;
use crate::owner::panic_message;
use crate::remote::frame::{FrameError, FrameReader, Received, encode};
use crate::remote::front::{CANARY, Shared};
use crate::remote::journal::EventViolation;
use crate::remote::message::{PROTOCOL_VERSION, ToFront, WireEvent};
use crate::remote::process::{Ending, EngineProcess};
use crate::remote::watchdog::{Hang, Watchdog, WatchdogOptions};

/// An engine process is waited for at most this long between two looks at the rest.
const TICK: Duration = Duration::from_millis(100);
/// Loading may take this long.
const LOAD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// An engine process that was asked to end, or lost its socket, has this long before it is killed.
const END_LIMIT: Duration = Duration::from_secs(1);
/// So many failures in a row before any engine process was ready end the front.
const MAX_FAILED_STARTS: u32 = 3;
/// Pause before the second restart in a row; it doubles with each, and the first restart is at once.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest pause.
const LAST_BACKOFF: Duration = Duration::from_secs(10);

/// Makes the command of an engine process, given the number of those before it.
pub(crate) type Launch = Box<dyn FnMut(u32) -> Command + Send>;

/// Why an engine process is replaced.
#[derive(Debug, thiserror::Error)]
enum EngineFault {
    #[error("the engine process can't be started: {0}")]
    Spawn(std::io::Error),
    #[error("the engine process closed its socket")]
    Closed,
    #[error("{0}")]
    Ended(Ending),
    #[error("the engine process failed: {message}")]
    Reported { message: String },
    #[error("{message}")]
    Refused { message: String },
    #[error("the engine process sent garbage: {0}")]
    Frame(FrameError),
    #[error("the engine process broke the order of events: {0}")]
    Event(#[from] EventViolation),
    #[error("the engine process hung: {0}")]
    Hung(#[from] Hang),
    #[error("the engine process was not ready after {} s", LOAD_LIMIT.as_secs())]
    LoadTooLong,
    #[error("the engine process gave no token for the request that tests it: {outcome}")]
    Canary { outcome: String },
    #[error("the engine process {0}")]
    Protocol(String),
}

impl EngineFault {
    /// The socket ended, in a frame or between two, or failed.
    fn is_lost_socket(&self) -> bool {
        matches!(self, Self::Closed | Self::Frame(FrameError::Truncated { .. } | FrameError::Io(_)))
    }
}

/// How far an engine process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has said nothing.
    Silent,
    /// It loads.
    Loading,
    /// It serves.
    Serving,
}

/// See the module. Its thread is the parent of every engine process and the one that calls the sinks.
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    launch: Launch,
    watchdog: Watchdog,
    /// Engine processes started so far.
    starts: u32,
    /// Failures in a row, without a token for a request in between.
    failures: u32,
}

impl Supervisor {
    pub(crate) fn new(shared: Arc<Shared>, options: WatchdogOptions, launch: Launch) -> Self {
        Self { shared, launch, watchdog: Watchdog::new(options), starts: 0, failures: 0 }
    }

    /// Runs until a shutdown is complete, or the first start fails for good; then sees that every request has ended.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let reason = catch_unwind(AssertUnwindSafe(|| self.supervise())).unwrap_or_else(|panic| {
            shared.disconnected();
            Some(EngineError::Panicked { message: panic_message(panic.as_ref()) })
        });
        shared.stop(reason);
    }

    /// Returns the reason if it was no shutdown.
    fn supervise(&mut self) -> Option<EngineError> {
        loop {
            let Err((fault, blame)) = self.run_process() else { return None };
            let reason = fault.to_string();
            self.failures += 1;
            let is_final = matches!(fault, EngineFault::Refused { .. }) || self.failures >= MAX_FAILED_STARTS;
            if is_final && self.shared.is_starting() {
                return Some(EngineError::Remote { message: reason });
            }
            tracing::warn!(failures_in_a_row = self.failures, "{reason}; starting another");
            self.shared.failed(&reason, blame);
            self.shared.pause(backoff(self.failures));
            self.shared.expire();
            if self.shared.is_over() {
                return None;
            }
        }
    }

    /// Runs one engine process to its end. An error says what was wrong, and whether a request may have caused it.
    fn run_process(&mut self) -> Result<(), (EngineFault, bool)> {
        let command = (self.launch)(self.starts);
        let link = u64::from(self.starts);
        self.starts += 1;
        self.watchdog.restart();
        let mut process =
            EngineProcess::spawn(command).map_err(|error| (EngineFault::Spawn(error), false))?;
        self.shared.connected(link, process.id());
        let result = self.serve(&process.stream, link);
        self.shared.disconnected();
        let patience = match &result {
            Err(fault) if !fault.is_lost_socket() => Duration::ZERO,
            _ => END_LIMIT,
        };
        let ending = process.end(patience);
        result.map_err(|fault| match fault.is_lost_socket() {
            true => (EngineFault::Ended(ending), !ending.is_kill_from_outside()),
            false => (fault, true),
        })
    }

    fn serve(&mut self, stream: &UnixStream, link: u64) -> Result<(), EngineFault> {
        let to_engine = stream.try_clone().map_err(EngineFault::Spawn)?;
        stream.set_read_timeout(Some(TICK)).map_err(EngineFault::Spawn)?;
        let shared = Arc::clone(&self.shared);
        // It ends with the connection.
        std::thread::Builder::new()
            .name("to-engine".into())
            .spawn(move || write_messages(&shared, to_engine, link))
            .map_err(EngineFault::Spawn)?;
        self.listen(stream)
    }

    fn listen(&mut self, stream: &UnixStream) -> Result<(), EngineFault> {
        let mut reader = FrameReader::new(stream);
        let mut stage = Stage::Silent;
        let mut loading = Duration::ZERO;
        loop {
            let asked = Instant::now();
            match reader.receive().map_err(EngineFault::Frame)? {
                Received::Message(message) => stage = self.take_message(message, stage)?,
                Received::Quiet => self.shared.expire(),
                Received::Closed => return Err(EngineFault::Closed),
            }
            // If this process was stopped, the time that passed says nothing about the other.
            let waited = asked.elapsed().min(2 * TICK);
            if stage == Stage::Serving {
                self.watchdog.wait(waited)?;
            } else {
                loading += waited;
                if loading > LOAD_LIMIT {
                    return Err(EngineFault::LoadTooLong);
                }
            }
            if self.shared.is_over() {
                return Ok(());
            }
        }
    }

    fn take_message(&mut self, message: ToFront, stage: Stage) -> Result<Stage, EngineFault> {
        match (message, stage) {
            (ToFront::Hello { version: PROTOCOL_VERSION }, Stage::Silent) => Ok(Stage::Loading),
            (ToFront::Hello { version }, Stage::Silent) => Err(EngineFault::Protocol(format!(
                "speaks version {version} of the protocol, this front version {PROTOCOL_VERSION}"
            ))),
            (ToFront::Ready { rules }, Stage::Loading) => match self.shared.loaded(rules) {
                true => Ok(Stage::Serving),
                false => Err(EngineFault::Protocol(format!("came back with other limits: {rules:?}"))),
            },
            (ToFront::Refused { message }, Stage::Loading) => Err(EngineFault::Refused { message }),
            (ToFront::Ended { message }, Stage::Serving) => Err(EngineFault::Reported { message }),
            (ToFront::StepBegun { rows }, Stage::Serving | Stage::Loading) => {
                self.watchdog.step_begun(rows);
                Ok(stage)
            }
            (ToFront::StepEnded { took, stats }, Stage::Serving | Stage::Loading) => {
                self.watchdog.step_ended(took);
                self.shared.set_engine_stats(stats);
                Ok(stage)
            }
            (ToFront::Events { events }, Stage::Serving) => {
                for (id, event) in events {
                    self.take_event(id, event)?;
                }
                Ok(stage)
            }
            (message, stage) => {
                Err(EngineFault::Protocol(format!("said {message:?} while it was {stage:?}")))
            }
        }
    }

    fn take_event(&mut self, id: u64, event: WireEvent) -> Result<(), EngineFault> {
        if id == CANARY {
            return self.take_canary(event);
        }
        if matches!(event, WireEvent::Token(_)) {
            self.failures = 0;
        }
        Ok(self.shared.take_event(id, Event::from(event))?)
    }

    fn take_canary(&mut self, event: WireEvent) -> Result<(), EngineFault> {
        match event {
            WireEvent::Token(_) => {
                self.shared.proven();
                Ok(())
            }
            WireEvent::Failed(failure) => {
                let outcome = EngineError::from(failure).to_string();
                Err(EngineFault::Canary { outcome })
            }
            WireEvent::Started { .. } | WireEvent::Finished { .. } => Ok(()),
        }
    }
}

/// Sends what there is to send, until the connection is over.
fn write_messages(shared: &Shared, mut stream: UnixStream, link: u64) {
    let mut frame = Vec::new();
    while let Some(message) = shared.next_message(link) {
        frame.clear();
        encode(&message, &mut frame).expect("the rules keep requests shorter than a frame");
        if std::io::Write::write_all(&mut stream, &frame).is_err() {
            // Whoever listens on the socket finds out too.
            return;
        }
    }
}

fn backoff(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => (FIRST_BACKOFF * 2_u32.saturating_pow(more - 2).min(1 << 10)).min(LAST_BACKOFF),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit() {
        let millis: Vec<u128> = (0..12).map(|failures| backoff(failures).as_millis()).collect();
        assert_eq!(millis, [0, 0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
        assert_eq!(backoff(u32::MAX), LAST_BACKOFF);
    }
}
