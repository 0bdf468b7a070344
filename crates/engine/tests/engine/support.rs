//! What the tests share.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use sostenuto_engine::testing::HashExecutor;
use sostenuto_engine::{
    EngineCore, EngineHandle, EngineOptions, Event, ExecutorLimits, FinishReason, GenerateRequest,
    RequestEvent, RequestId,
};

/// Long enough that only a hang reaches it.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// A core over a plain hash executor.
pub(crate) fn core(vocab_size: usize, limits: ExecutorLimits) -> EngineCore<HashExecutor> {
    EngineCore::new(HashExecutor::new(vocab_size, limits), &EngineOptions::default()).unwrap()
}

/// Submits to a handle and returns the id and where the events arrive.
pub(crate) fn submit(engine: &EngineHandle, request: GenerateRequest) -> (RequestId, Receiver<Event>) {
    let (tx, rx) = sync_channel(request.max_tokens.min(10_000) + 2);
    (engine.submit(request, tx).unwrap(), rx)
}

/// Reads events up to the terminal one, and asserts that the channel closes after it.
pub(crate) fn read_to_end(rx: &Receiver<Event>) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = rx.recv_timeout(HANG).expect("a terminal event comes before the channel closes");
        let is_terminal = event.is_terminal();
        events.push(event);
        if is_terminal {
            assert!(rx.recv_timeout(HANG).is_err(), "nothing follows the terminal event");
            return events;
        }
    }
}

/// Token ids among events.
pub(crate) fn tokens<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<u32> {
    let ids = events.into_iter().filter_map(|event| match event {
        Event::Token(token) => Some(token.id),
        _ => None,
    });
    ids.collect()
}

/// Events of one request.
pub(crate) fn of(id: RequestId, events: &[RequestEvent]) -> Vec<Event> {
    events.iter().filter(|e| e.id == id).map(|e| e.event.clone()).collect()
}

/// Reason of the last event.
pub(crate) fn finish_reason(events: &[Event]) -> Option<FinishReason> {
    match events.last() {
        Some(Event::Finished { reason, .. }) => Some(*reason),
        _ => None,
    }
}
