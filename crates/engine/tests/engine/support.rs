//! What the tests share.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use sostenuto_engine::testing::HashExecutor;
use sostenuto_engine::{
    EngineCore, EngineHandle, EngineOptions, Event, ExecutorLimits, FinishReason, GenerateRequest,
    RequestEvent, RequestId, philox4x32,
};

/// Long enough that only a hang reaches it.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// Seeded numbers for a test.
pub(crate) struct Random {
    seed: u32,
    draws: u32,
}

impl Random {
    pub(crate) fn new(seed: u32) -> Self {
        Self { seed, draws: 0 }
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.draws += 1;
        philox4x32([self.draws, 0, 0, 0], [self.seed, 0x7e57])[0] as usize % end
    }

    pub(crate) fn range(&mut self, range: std::ops::RangeInclusive<usize>) -> usize {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A core over a plain hash executor.
pub(crate) fn core(vocab_size: usize, limits: ExecutorLimits) -> EngineCore<HashExecutor> {
    EngineCore::new(HashExecutor::new(vocab_size, limits), &EngineOptions::default()).unwrap()
}

/// Queues a request that keeps the rules.
pub(crate) fn enqueue(core: &mut EngineCore<HashExecutor>, id: u64, request: GenerateRequest) {
    let request = core.rules().check(request).unwrap();
    core.submit(RequestId(id), request, Duration::ZERO).unwrap();
}

/// Steps until nothing is left to do.
pub(crate) fn run_to_idle(core: &mut EngineCore<HashExecutor>) -> Vec<RequestEvent> {
    let mut events = Vec::new();
    for _ in 0..10_000 {
        if core.scheduler().is_idle() {
            return events;
        }
        core.step(Duration::ZERO, &mut events).unwrap();
    }
    panic!("the core is not idle after 10,000 steps");
}

/// Events of a request that runs alone.
pub(crate) fn solo(vocab_size: usize, limits: ExecutorLimits, request: GenerateRequest) -> Vec<Event> {
    let mut core = core(vocab_size, limits);
    enqueue(&mut core, 0, request);
    of(RequestId(0), &run_to_idle(&mut core))
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

/// Waits until a condition holds.
#[cfg(target_os = "linux")]
pub(crate) fn eventually(mut condition: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < 3 * HANG, "the condition holds in time");
        std::thread::park_timeout(Duration::from_millis(1));
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
