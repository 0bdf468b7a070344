//! The engine's end of the socket.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::EngineHandle;
use crate::error::{EngineError, ExecutorError};
use crate::event::{Event, EventSink, SinkClosed};
use crate::limits::{EngineOptions, MAX_QUEUED_PROMPT_TOKENS, MAX_QUEUED_REQUESTS};
use crate::progress::StepObserver;
use crate::remote::frame::{FrameReader, MAX_PAYLOAD_BYTES, Received, encode};
use crate::remote::message::{PROTOCOL_VERSION, ToEngine, ToFront, WireEvent, WireFailure};
use crate::request::RequestId;
use crate::stats::EngineStats;

/// Most tokens of one sequence, so that every request fits in a frame: 5 bytes each, and 64 KiB for the rest of it.
pub const MAX_SEQUENCE_TOKENS: usize = (MAX_PAYLOAD_BYTES - (64 << 10)) / 5;
/// Most bytes that wait to be sent. A front that does not read so many is as good as gone.
const MAX_OUTBOX_BYTES: usize = 64 << 20;

/// The engine process's connection to its front.
///
/// Made before the weights are loaded, so that the process notices when its front is gone, whatever it is doing then.
#[derive(Debug)]
pub struct EngineEnd {
    outbox: Arc<Outbox>,
    engine: Arc<OnceLock<EngineHandle>>,
    writer: JoinHandle<()>,
}

impl EngineEnd {
    /// Greets the front. `on_front_gone` is called once, on a thread of its own, when the front closes the socket or sends
    /// what can't be understood; it should end the process at once.
    ///
    /// # Errors
    /// The socket can't be shared between threads, or there is no thread.
    pub fn open(
        stream: UnixStream,
        on_front_gone: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<EngineEnd> {
        let outbox = Arc::new(Outbox::default());
        outbox.push(&ToFront::Hello { version: PROTOCOL_VERSION });
        let engine = Arc::new(OnceLock::new());
        let (from_front, to_front) = (stream.try_clone()?, stream);
        let for_writer = Arc::clone(&outbox);
        let writer = std::thread::Builder::new()
            .name("to-front".into())
            .spawn(move || for_writer.send_all(to_front))?;
        let reader = Reader { engine: Arc::clone(&engine), outbox: Arc::clone(&outbox), ids: Arc::default() };
        std::thread::Builder::new().name("from-front".into()).spawn(move || {
            reader.run(from_front);
            on_front_gone();
        })?;
        Ok(EngineEnd { outbox, engine, writer })
    }

    /// What tells the front of the owner thread's progress; for [`crate::Engine::start_observed`].
    pub fn observer(&self) -> impl StepObserver + use<> {
        ProgressSender { outbox: Arc::clone(&self.outbox) }
    }

    /// Options for an engine whose front bounds the queue: the front's bound, and room for what ran when the process
    /// before this one failed, which comes back all at once.
    pub fn options(max_sequences: usize, sequence_capacity: usize) -> EngineOptions {
        let ran = max_sequences.saturating_mul(sequence_capacity);
        EngineOptions {
            max_queued_requests: MAX_QUEUED_REQUESTS.saturating_add(max_sequences + 1),
            max_queued_prompt_tokens: MAX_QUEUED_PROMPT_TOKENS.saturating_add(ran),
            ..EngineOptions::default()
        }
    }

    /// Tells the front that there is no engine, and why; trying again would not help.
    pub fn refuse(self, message: String) {
        self.outbox.push(&ToFront::Refused { message });
        self.finish();
    }

    /// Serves the front until the engine ends, which it does by a failure or by its other handles.
    ///
    /// # Errors
    /// The failure that ended the engine; the front knows it then.
    pub fn serve(self, engine: EngineHandle) -> Result<(), EngineError> {
        let rules = engine.rules();
        let tokens = rules.sequence_capacity;
        if tokens > MAX_SEQUENCE_TOKENS {
            self.refuse(format!(
                "sequences of {tokens} tokens; an engine process takes {MAX_SEQUENCE_TOKENS}"
            ));
            return Ok(());
        }
        let kept = self.engine.set(engine.clone());
        assert!(kept.is_ok(), "serve is called once, since it takes the connection");
        self.outbox.push(&ToFront::Ready { rules });
        let result = engine.join();
        if let Err(error) = &result {
            self.outbox.push(&ToFront::Ended { message: error.to_string() });
        }
        self.finish();
        result
    }

    /// Sends what is left.
    fn finish(self) {
        self.outbox.close();
        // A writer that panicked has nothing more to say.
        let _ = self.writer.join();
    }
}

/// The engine's ids by the front's, of requests that have not ended.
type Ids = Arc<Mutex<HashMap<u64, RequestId>>>;

/// Takes what the front sends.
struct Reader {
    engine: Arc<OnceLock<EngineHandle>>,
    outbox: Arc<Outbox>,
    ids: Ids,
}

impl Reader {
    /// Runs until the front is gone, or says what can't be.
    fn run(self, stream: UnixStream) {
        let mut frames = FrameReader::new(stream);
        while let Ok(Received::Message(message)) = frames.receive() {
            let Some(engine) = self.engine.get() else { return };
            match message {
                ToEngine::Submit { id, request } => {
                    // Held until the id is known, so that the request can't end before.
                    let mut ids = lock(&self.ids);
                    let sink = FrontSink { id, outbox: Arc::clone(&self.outbox), ids: Arc::clone(&self.ids) };
                    match engine.submit(request, sink) {
                        Ok(engine_id) => {
                            ids.insert(id, engine_id);
                        }
                        Err(error) => {
                            let failure = WireFailure::Other(error.to_string());
                            self.outbox.push(&ToFront::Events { events: vec![(id, failure.into())] });
                        }
                    }
                }
                ToEngine::Cancel { id } => {
                    if let Some(&engine_id) = lock(&self.ids).get(&id) {
                        engine.cancel(engine_id);
                    }
                }
            }
        }
    }
}

/// Sends the events of one request.
struct FrontSink {
    id: u64,
    outbox: Arc<Outbox>,
    ids: Ids,
}

impl EventSink for FrontSink {
    fn send(&mut self, event: Event) -> Result<(), SinkClosed> {
        if event.is_terminal() {
            lock(&self.ids).remove(&self.id);
        }
        if let Event::Failed(error) = &event
            && ends_the_engine(error)
        {
            // The front goes on with this request in another process.
            return Ok(());
        }
        // The observer comes next and sends all events of its half of a step.
        self.outbox.add(self.id, event.into());
        Ok(())
    }
}

fn ends_the_engine(error: &EngineError) -> bool {
    matches!(error, EngineError::Executor(ExecutorError::Device { .. }) | EngineError::Panicked { .. })
}

/// See [`EngineEnd::observer`].
struct ProgressSender {
    outbox: Arc<Outbox>,
}

impl StepObserver for ProgressSender {
    fn step_begun(&mut self, rows: usize) {
        self.outbox.push_events();
        self.outbox.push(&ToFront::StepBegun { rows: rows as u64 });
    }

    fn step_ended(&mut self, took: Duration, stats: &EngineStats) {
        self.outbox.push_events();
        self.outbox.push(&ToFront::StepEnded { took, stats: *stats });
    }
}

/// Frames that wait to be sent, under a lock that is never held while the socket is used.
#[derive(Debug, Default)]
struct Outbox {
    frames: Mutex<Frames>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    /// Events of half a step, not yet a frame; of each live request a few.
    events: Vec<(u64, WireEvent)>,
    /// Nothing is added any more.
    closed: bool,
}

impl Frames {
    fn push(&mut self, message: &ToFront) {
        if self.closed {
            return;
        }
        let encoded = encode(message, &mut self.bytes);
        if encoded.is_err() || self.bytes.len() > MAX_OUTBOX_BYTES {
            // The front would miss something: better that it starts another engine.
            *self = Frames { closed: true, ..Frames::default() };
        }
    }
}

impl Outbox {
    /// Sends a message; never waits.
    fn push(&self, message: &ToFront) {
        lock(&self.frames).push(message);
        self.arrived.notify_one();
    }

    /// Keeps an event for [`Outbox::push_events`].
    fn add(&self, id: u64, event: WireEvent) {
        lock(&self.frames).events.push((id, event));
    }

    /// Sends the events kept so far in one frame: the front gets all of them or none.
    fn push_events(&self) {
        let mut frames = lock(&self.frames);
        if frames.events.is_empty() {
            return;
        }
        let events = std::mem::take(&mut frames.events);
        frames.push(&ToFront::Events { events });
        self.arrived.notify_one();
    }

    fn close(&self) {
        lock(&self.frames).closed = true;
        self.arrived.notify_one();
    }

    /// Sends until it is closed and empty, or the front is gone.
    fn send_all(&self, mut stream: UnixStream) {
        let mut bytes = Vec::new();
        while self.take(&mut bytes) && stream.write_all(&bytes).is_ok() {}
        // The front, and this process's reader, see the end. An error means that they have.
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }

    /// Swaps all frames into `bytes`; waits for some. False at the end.
    fn take(&self, bytes: &mut Vec<u8>) -> bool {
        bytes.clear();
        let frames = lock(&self.frames);
        let wait = self.arrived.wait_while(frames, |frames| frames.bytes.is_empty() && !frames.closed);
        let mut frames = wait.unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(bytes, &mut frames.bytes);
        !bytes.is_empty()
    }
}

/// No code panics while it holds one of these locks, so a poisoned one is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ties this process's life to its parent's: the kernel kills it when the parent's thread that started it ends.
///
/// # Errors
/// The parent is not `parent` any more, or the kernel refuses.
#[cfg(target_os = "linux")]
pub fn tie_to_parent(parent: u32) -> std::io::Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before that.
    let is_there = getppid().map(Pid::as_raw_nonzero).is_some_and(|id| id.get() as u32 == parent);
    match is_there {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("process {parent} is gone"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{FinishReason, TokenEvent, Usage};

    fn sink(outbox: &Arc<Outbox>) -> FrontSink {
        FrontSink { id: 1, outbox: Arc::clone(outbox), ids: Ids::default() }
    }

    fn last_events() -> [Event; 2] {
        let token = TokenEvent { id: 5, index: 0, logprob: None, top_logprobs: Vec::new() };
        [Event::Token(token), Event::Finished { reason: FinishReason::Length, usage: Usage::default() }]
    }

    /// Everything that can be sent now.
    fn messages(outbox: &Outbox) -> Vec<ToFront> {
        let bytes = std::mem::take(&mut lock(&outbox.frames).bytes);
        let mut reader = FrameReader::new(&bytes[..]);
        let mut read = || match reader.receive().unwrap() {
            Received::Message(message) => Some(message),
            Received::Quiet | Received::Closed => None,
        };
        std::iter::from_fn(&mut read).collect()
    }

    #[test]
    fn last_token_and_end_are_one_frame() {
        let outbox = Arc::new(Outbox::default());
        let mut sink = sink(&outbox);
        let events = last_events();
        for event in events.clone() {
            sink.send(event).unwrap();
            // From the thread that takes requests, in the midst of a step.
            outbox.push(&ToFront::Events { events: vec![(2, WireFailure::Other("full".into()).into())] });
            assert!(matches!(&messages(&outbox)[..], [ToFront::Events { events }] if events[0].0 == 2));
        }
        ProgressSender { outbox: Arc::clone(&outbox) }.step_ended(Duration::ZERO, &EngineStats::default());
        let sent = messages(&outbox);
        let expected = ToFront::Events { events: events.map(|event| (1, event.into())).into() };
        assert!(matches!(&sent[..], [first, ToFront::StepEnded { .. }] if *first == expected), "{sent:?}");
    }

    #[test]
    fn events_of_a_step_that_did_not_end_are_not_sent() {
        let outbox = Arc::new(Outbox::default());
        let [token, _] = last_events();
        sink(&outbox).send(token).unwrap();
        outbox.push(&ToFront::Ended { message: "a bug".into() });
        assert_eq!(messages(&outbox), [ToFront::Ended { message: "a bug".into() }]);
    }
}
