//! The owner thread: commands in, events out, shutdown, failures. No test sleeps: a gate holds the executor at a step.

use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::time::Duration;

use sostenuto_engine::testing::{Fault, HashExecutor};
use sostenuto_engine::{
    Engine, EngineError, EngineHandle, EngineOptions, EngineState, Event, ExecutorLimits, FinishReason,
    GenerateRequest, QueueResource, ShutdownMode, SinkClosed, SubmitError,
};

use crate::support::{HANG, finish_reason, read_to_end, solo, submit, tokens};

const VOCAB_SIZE: usize = 50;

fn limits() -> ExecutorLimits {
    HashExecutor::small_limits()
}

fn request(max_tokens: usize) -> GenerateRequest {
    GenerateRequest::greedy(vec![1, 2, 3], max_tokens)
}

fn executor() -> HashExecutor {
    HashExecutor::new(VOCAB_SIZE, limits())
}

fn start(executor: HashExecutor) -> EngineHandle {
    Engine::start(executor, EngineOptions::default()).unwrap()
}

/// Holds the executor at the start of each step.
struct Gate {
    started: Receiver<u64>,
    open: Option<Sender<()>>,
}

impl Gate {
    /// Waits until a step has begun.
    fn wait(&self) -> u64 {
        self.started.recv_timeout(HANG).expect("a step begins")
    }

    /// Lets the step in progress go on.
    fn pass(&self) {
        self.open.as_ref().expect("the gate is not open for good").send(()).unwrap();
    }

    /// Lets every step go on.
    fn open(&mut self) {
        self.open = None;
    }
}

fn gated(executor: HashExecutor) -> (HashExecutor, Gate) {
    let (started_tx, started) = sync_channel(100_000);
    let (open, gate) = channel();
    (executor.with_gate(started_tx, gate), Gate { started, open: Some(open) })
}

/// An engine held at its first step, with one running request and as many queued ones.
fn held(
    executor: HashExecutor,
    queued: usize,
    max_tokens: usize,
) -> (EngineHandle, Gate, Vec<Receiver<Event>>) {
    let (executor, gate) = gated(executor);
    let engine = start(executor);
    let mut receivers = vec![submit(&engine, request(max_tokens)).1];
    gate.wait();
    receivers.extend((0..queued).map(|_| submit(&engine, request(max_tokens)).1));
    (engine, gate, receivers)
}

fn failed(events: &[Event]) -> &EngineError {
    match events.last() {
        Some(Event::Failed(error)) => error,
        other => panic!("not failed: {other:?}"),
    }
}

#[test]
fn submitted_request_streams_the_tokens_of_its_solo_run_and_ends_once() {
    let engine = start(executor());
    let receivers: Vec<_> = (5..25).map(|n| (n, submit(&engine, request(n)).1)).collect();
    for (max_tokens, rx) in receivers {
        let events = read_to_end(&rx);
        assert_eq!(tokens(&events), tokens(&solo(VOCAB_SIZE, limits(), request(max_tokens))));
        assert_eq!(finish_reason(&events), Some(FinishReason::Length));
    }
    let stats = engine.stats();
    assert_eq!((stats.accepted, stats.totals.finished, stats.queued, stats.running), (20, 20, 0, 0));
    assert_eq!(stats.blocks.held, 0);
    engine.shutdown(ShutdownMode::Now);
    engine.join().unwrap();
}

#[test]
fn threads_submit_and_cancel_at_once_and_every_request_ends() {
    let engine = start(executor());
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let engine = engine.clone();
            scope.spawn(move || {
                for round in 0..40 {
                    let (id, rx) = submit(&engine, request(1 + (thread * 7 + round) % 30));
                    if round % 3 == 0 {
                        engine.cancel(id);
                    }
                    assert!(finish_reason(&read_to_end(&rx)).is_some());
                }
            });
        }
    });
    let stats = engine.stats();
    assert_eq!(stats.totals.finished + stats.totals.cancelled, 320);
    assert_eq!(stats.blocks.held, 0);
}

#[test]
fn cancel_acts_before_the_next_step() {
    let (executor, gate) = gated(executor());
    let engine = start(executor);
    let (id, rx) = submit(&engine, request(100));
    for _ in 0..5 {
        gate.wait();
        gate.pass();
    }
    gate.wait();
    engine.cancel(id);
    gate.pass();
    let events = read_to_end(&rx);
    assert_eq!(finish_reason(&events), Some(FinishReason::Cancelled));
    assert_eq!(tokens(&events).len(), 6, "the step in progress gives the last token");
    assert_eq!(engine.stats().totals.steps, 6);
}

#[test]
fn queued_request_is_cancelled_while_another_holds_the_executor() {
    let (engine, gate, receivers) =
        held(HashExecutor::new(VOCAB_SIZE, ExecutorLimits { max_sequences: 1, ..limits() }), 0, 2);
    let (id, rx) = submit(&engine, request(2));
    engine.cancel(id);
    gate.pass();
    let events = read_to_end(&rx);
    assert!(matches!(events[..], [Event::Finished { reason: FinishReason::Cancelled, .. }]));
    gate.pass();
    assert_eq!(finish_reason(&read_to_end(&receivers[0])), Some(FinishReason::Length));
}

#[test]
fn queue_bound_holds_while_a_step_runs_and_counts_no_running_request() {
    let (executor, mut gate) =
        gated(HashExecutor::new(VOCAB_SIZE, ExecutorLimits { max_sequences: 1, ..limits() }));
    let options = EngineOptions { max_queued_requests: 4, ..EngineOptions::default() };
    let engine = Engine::start(executor, options).unwrap();
    let (_, running) = submit(&engine, request(2));
    gate.wait();
    let queued: Vec<_> = (0..4).map(|_| submit(&engine, request(2)).1).collect();
    let refused =
        engine.submit(request(2), |_| -> Result<(), SinkClosed> { panic!("a refused sink is unused") });
    assert!(matches!(
        refused,
        Err(SubmitError::QueueFull {
            resource: QueueResource::Requests,
            queued: 4,
            requested: 1,
            limit: 4,
            ..
        })
    ));
    let stats = engine.stats();
    assert_eq!((stats.queued, stats.queued_prompt_tokens, stats.running, stats.refused), (4, 12, 1, 1));
    gate.open();
    for rx in std::iter::once(&running).chain(&queued) {
        assert_eq!(finish_reason(&read_to_end(rx)), Some(FinishReason::Length));
    }
    submit(&engine, request(2));
}

#[test]
fn dropped_receiver_cancels_its_request_and_no_other() {
    let (executor, mut gate) = gated(executor());
    let engine = start(executor);
    let (_, gone) = submit(&engine, request(100));
    let (_, stays) = submit(&engine, request(10));
    gate.wait();
    drop(gone);
    gate.open();
    assert_eq!(finish_reason(&read_to_end(&stays)), Some(FinishReason::Length));
    let stats = engine.stats();
    assert_eq!((stats.totals.cancelled, stats.totals.finished, stats.running), (1, 1, 0));
    assert!(stats.totals.decode_tokens <= 12, "the dropped request decodes at most one step more");
    assert_eq!(stats.blocks.held, 0);
}

#[test]
fn reader_that_does_not_keep_up_is_cancelled_and_blocks_nobody() {
    let engine = start(executor());
    let (tx, slow) = sync_channel(3);
    engine.submit(request(100), tx).unwrap();
    let (_, fast) = submit(&engine, request(50));
    assert_eq!(finish_reason(&read_to_end(&fast)), Some(FinishReason::Length));
    let received: Vec<Event> = slow.iter().collect();
    assert_eq!(received.len(), 3);
    assert!(!received.iter().any(Event::is_terminal));
}

#[test]
fn sink_that_panics_loses_its_own_request_only() {
    let engine = start(executor());
    engine.submit(request(100), |_| -> Result<(), SinkClosed> { panic!("a sink's bug") }).unwrap();
    let (_, other) = submit(&engine, request(20));
    assert_eq!(finish_reason(&read_to_end(&other)), Some(FinishReason::Length));
    assert_eq!(engine.stats().totals.cancelled, 1);
}

#[test]
fn sink_that_closed_is_not_called_again() {
    let engine = start(executor());
    let (tx, calls) = channel();
    let sink = move |event: Event| {
        tx.send(event.is_terminal()).unwrap();
        Err(SinkClosed)
    };
    engine.submit(request(100), sink).unwrap();
    assert_eq!(calls.iter().collect::<Vec<_>>(), [false], "one call, then the sink is dropped");
}

#[test]
fn sink_may_call_the_engine() {
    let engine = start(executor());
    let (tx, rx) = channel();
    let (id_tx, id_rx) = channel();
    let from_sink = engine.clone();
    let sink = move |event: Event| {
        if matches!(event, Event::Started { .. }) {
            from_sink.cancel(id_rx.recv().map_err(|_| SinkClosed)?);
            assert_eq!(from_sink.stats().running, 1);
        }
        tx.send(event).map_err(|_| SinkClosed)
    };
    id_tx.send(engine.submit(request(100), sink).unwrap()).unwrap();
    assert_eq!(finish_reason(&read_to_end(&rx)), Some(FinishReason::Cancelled));
}

#[test]
fn shutdown_now_ends_running_and_queued_requests_after_the_step_in_progress() {
    let one_ring = HashExecutor::new(VOCAB_SIZE, ExecutorLimits { max_sequences: 1, ..limits() });
    let (engine, gate, receivers) = held(one_ring, 2, 50);
    engine.shutdown(ShutdownMode::Now);
    assert!(matches!(engine.state(), EngineState::Draining));
    assert!(matches!(engine.submit(request(1), |_| Ok(())), Err(SubmitError::ShuttingDown)));
    gate.pass();
    for (rx, expected) in receivers.iter().zip([1, 0, 0]) {
        let events = read_to_end(rx);
        assert_eq!(finish_reason(&events), Some(FinishReason::ShuttingDown));
        assert_eq!(tokens(&events).len(), expected);
    }
    engine.join().unwrap();
    assert!(matches!(engine.submit(request(1), |_| Ok(())), Err(SubmitError::Stopped { reason: None })));
    let stats = engine.stats();
    assert_eq!((stats.running, stats.queued, stats.blocks.held), (0, 0, 0));
}

#[test]
fn shutdown_by_drain_finishes_what_was_accepted() {
    let one_ring = HashExecutor::new(VOCAB_SIZE, ExecutorLimits { max_sequences: 1, ..limits() });
    let (engine, mut gate, receivers) = held(one_ring, 2, 20);
    engine.shutdown(ShutdownMode::Drain { within: HANG });
    assert!(matches!(engine.submit(request(1), |_| Ok(())), Err(SubmitError::ShuttingDown)));
    gate.open();
    for rx in &receivers {
        let events = read_to_end(rx);
        assert_eq!(finish_reason(&events), Some(FinishReason::Length));
        assert_eq!(tokens(&events).len(), 20);
    }
    engine.join().unwrap();
}

#[test]
fn drain_past_its_deadline_cuts_what_is_left() {
    let (engine, gate, receivers) = held(executor(), 1, 100);
    engine.shutdown(ShutdownMode::Drain { within: Duration::ZERO });
    gate.pass();
    for rx in &receivers {
        assert_eq!(finish_reason(&read_to_end(rx)), Some(FinishReason::ShuttingDown));
    }
    engine.join().unwrap();
}

#[test]
fn second_shutdown_makes_the_first_one_quick() {
    let (engine, gate, receivers) = held(executor(), 1, 100);
    engine.shutdown(ShutdownMode::Drain { within: HANG });
    engine.shutdown(ShutdownMode::Now);
    // A later drain does not undo it.
    engine.shutdown(ShutdownMode::Drain { within: HANG });
    gate.pass();
    for rx in &receivers {
        assert_eq!(finish_reason(&read_to_end(rx)), Some(FinishReason::ShuttingDown));
    }
    engine.join().unwrap();
}

#[test]
fn idle_engine_shuts_down_both_ways() {
    for mode in [ShutdownMode::Now, ShutdownMode::Drain { within: HANG }] {
        let engine = start(executor());
        engine.shutdown(mode);
        engine.join().unwrap();
        engine.join().unwrap();
    }
}

#[test]
fn dropping_the_last_handle_ends_the_engine() {
    let (engine, gate, receivers) = held(executor(), 1, 100);
    let clone = engine.clone();
    drop(engine);
    assert!(matches!(clone.state(), EngineState::Ready));
    drop(clone);
    gate.pass();
    for rx in &receivers {
        assert_eq!(finish_reason(&read_to_end(rx)), Some(FinishReason::ShuttingDown));
    }
}

#[test]
fn panic_in_the_executor_fails_everyone_and_hangs_nobody() {
    let one_ring = HashExecutor::new(VOCAB_SIZE, ExecutorLimits { max_sequences: 1, ..limits() });
    let (engine, mut gate, receivers) = held(one_ring.with_fault(3, Fault::Panic), 2, 50);
    gate.open();
    for rx in &receivers {
        let events = read_to_end(rx);
        assert!(matches!(failed(&events), EngineError::Panicked { message } if message == "fault at step 3"));
    }
    assert!(matches!(engine.join(), Err(EngineError::Panicked { .. })));
    let refused = engine.submit(request(1), |_| Ok(()));
    assert!(matches!(refused, Err(SubmitError::Stopped { reason: Some(EngineError::Panicked { .. }) })));
    engine.shutdown(ShutdownMode::Drain { within: HANG });
}

#[test]
fn recoverable_error_fails_those_that_run_and_the_engine_serves_on() {
    let one_ring = HashExecutor::new(VOCAB_SIZE, ExecutorLimits { max_sequences: 1, ..limits() });
    let (engine, mut gate, receivers) = held(one_ring.with_fault(3, Fault::Recoverable), 1, 20);
    gate.open();
    let lost = read_to_end(&receivers[0]);
    assert!(matches!(failed(&lost), EngineError::Executor(error) if error.recoverable()));
    assert_eq!(tokens(&lost).len(), 3);
    assert_eq!(finish_reason(&read_to_end(&receivers[1])), Some(FinishReason::Length));
    let (_, rx) = submit(&engine, request(5));
    assert_eq!(tokens(&read_to_end(&rx)), tokens(&solo(VOCAB_SIZE, limits(), request(5))));
}

#[test]
fn fatal_error_stops_the_engine_with_its_reason() {
    let (engine, mut gate, receivers) = held(executor().with_fault(3, Fault::Fatal), 2, 20);
    gate.open();
    for rx in &receivers {
        let events = read_to_end(rx);
        assert_eq!(failed(&events).to_string(), "the device failed: fault at step 3");
    }
    assert!(matches!(engine.join(), Err(EngineError::Executor(_))));
    let refused = engine.submit(request(1), |_| Ok(())).unwrap_err();
    assert_eq!(refused.to_string(), "the engine has stopped: the device failed: fault at step 3");
}
