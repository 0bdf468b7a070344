//! Engine processes that are killed, stopped, hang and lie: every request ends with the events of its undisturbed run.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel, sync_channel};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sostenuto_engine::remote::{EngineEnd, FrontOptions, MAX_CRASHES, RemoteEngine, WatchdogOptions};
use sostenuto_engine::testing::HashExecutor;
use sostenuto_engine::{
    Engine, EngineClient, EngineError, EngineOptions, EngineState, Event, ExecutorLimits, FinishReason,
    GenerateRequest, RequestId, SamplingParams, ShutdownMode, SinkClosed, SubmitError,
};

use crate::support::{HANG, Random, eventually, finish_reason, read_to_end, solo, tokens};

/// As in `hash_engine`.
const VOCAB_SIZE: usize = 50;
/// Tokens that no request samples: a fault acts where one is in a prompt.
const FAULT: u32 = 7;
const SAFE: u32 = 8;

/// Limits for a run alone.
fn limits() -> ExecutorLimits {
    ExecutorLimits { max_context: 1_024, num_blocks: 64, ..HashExecutor::small_limits() }
}

/// A front whose engine processes get the faults that `faults` names for them.
fn start_with(
    options: FrontOptions,
    mut faults: impl FnMut(u32) -> &'static str + Send + 'static,
) -> RemoteEngine {
    let launch = move |earlier| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hash_engine"));
        command.arg(std::process::id().to_string()).args(faults(earlier).split_whitespace());
        command
    };
    RemoteEngine::start(options, launch).unwrap()
}

fn start(faults: impl FnMut(u32) -> &'static str + Send + 'static) -> RemoteEngine {
    let engine = start_with(patient(), faults);
    eventually(|| is_ready(&engine));
    engine
}

/// A front that takes no engine for hung, however busy the machine.
fn patient() -> FrontOptions {
    let watchdog = WatchdogOptions { least: 10 * HANG, unmeasured: 10 * HANG };
    FrontOptions { watchdog, ..FrontOptions::default() }
}

/// A front that does not wait long for a step.
fn watchful() -> FrontOptions {
    let watchdog = WatchdogOptions { unmeasured: Duration::ZERO, ..WatchdogOptions::default() };
    FrontOptions { watchdog, ..FrontOptions::default() }
}

fn is_ready(engine: &RemoteEngine) -> bool {
    matches!(engine.state(), EngineState::Ready)
}

/// Random numbers, penalties and logprobs: everything that a continuation could get wrong. Its key is its own, so that
/// it shares no prefix.
fn request(seed: u64, prompt: Vec<u32>, max_tokens: usize) -> GenerateRequest {
    let sampling = SamplingParams {
        seed,
        presence_penalty: 0.5,
        frequency_penalty: 0.01,
        repetition_penalty: 1.1,
        logit_bias: vec![(FAULT, -100.0), (SAFE, -100.0)],
        ..SamplingParams::default()
    };
    GenerateRequest { sampling, logprobs: Some(2), key: seed, ..GenerateRequest::greedy(prompt, max_tokens) }
}

/// A request that ends by one of many stop tokens, or by a length of its own: at each moment some end.
fn ending(seed: u64, prompt: Vec<u32>) -> GenerateRequest {
    let request = request(seed, prompt, 1 + seed as usize % 300);
    let stop_token_ids = if seed.is_multiple_of(4) { vec![3, 40] } else { Vec::new() };
    GenerateRequest { stop_token_ids, ..request }
}

fn submit(engine: &RemoteEngine, request: &GenerateRequest) -> (RequestId, Receiver<Event>) {
    let (tx, rx) = sync_channel(request.max_tokens + 2);
    let id = engine.submit(request.clone(), Box::new(tx)).unwrap();
    (id, rx)
}

/// The events are those of the request's run alone: nothing lost, nothing twice.
#[track_caller]
fn assert_undisturbed(events: &[Event], request: &GenerateRequest) {
    let expected = solo(VOCAB_SIZE, limits(), request.clone());
    assert_eq!(format!("{events:?}"), format!("{expected:?}"));
}

/// Reads events until so many tokens have come.
fn read_tokens(rx: &Receiver<Event>, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while tokens(&events).len() < count {
        events.push(rx.recv_timeout(HANG).expect("tokens come"));
    }
    events
}

fn signal(engine: &RemoteEngine, signal: Signal) {
    let id = engine.process_id().and_then(|id| Pid::from_raw(id as i32));
    if let Some(id) = id {
        // It may have ended by itself.
        let _ = kill_process(id, signal);
    }
}

fn stop(engine: &RemoteEngine) {
    engine.shutdown(ShutdownMode::Now);
    engine.join().unwrap();
}

#[test]
fn requests_in_another_process_give_the_events_of_their_solo_runs() {
    let engine = start(|_| "");
    let requests: Vec<_> = (0..20).map(|n| request(n, vec![1, 2, n as u32], 5 + n as usize)).collect();
    let running: Vec<_> = requests.iter().map(|request| submit(&engine, request).1).collect();
    for (rx, request) in running.iter().zip(&requests) {
        assert_undisturbed(&read_to_end(rx), request);
    }
    assert_eq!(engine.rules().unwrap().vocab_size, VOCAB_SIZE);
    eventually(|| engine.stats().totals.finished == 21);
    let stats = engine.stats();
    assert_eq!((stats.accepted, stats.queued, stats.running, stats.restarts), (20, 0, 0, 0));
    stop(&engine);
    assert!(matches!(engine.state(), EngineState::Stopped { reason: None }));
}

#[test]
fn killed_engines_lose_and_double_nothing() {
    const STREAMS: u64 = 64;
    const KILLS: u64 = 30;
    let engine = start(|_| "");
    let mut random = Random::new(3);
    let mut kills = 0;
    let mut round = 0;
    while kills < KILLS {
        round += 1;
        let prompt = |stream| vec![(stream % 50) as u32; 1 + stream as usize % 30];
        let requests: Vec<_> =
            (0..STREAMS).map(|stream| ending(round * STREAMS + stream, prompt(stream))).collect();
        let (tx, rx) = channel();
        for (stream, request) in requests.iter().enumerate() {
            let tx = tx.clone();
            let sink = move |event| tx.send((stream, event)).map_err(|_| SinkClosed);
            engine.submit(request.clone(), Box::new(sink)).unwrap();
        }
        let mut events = vec![Vec::new(); requests.len()];
        let (mut ended, mut until_kill) = (0, random.below(2_000));
        while ended < requests.len() {
            let (stream, event): (usize, Event) = rx.recv_timeout(HANG).expect("every stream ends");
            ended += usize::from(event.is_terminal());
            events[stream].push(event);
            if until_kill == 0 {
                signal(&engine, Signal::KILL);
                (kills, until_kill) = (kills + 1, random.below(2_000));
            }
            until_kill -= 1;
        }
        for (events, request) in events.iter().zip(&requests) {
            assert_undisturbed(events, request);
        }
    }
    assert!(engine.stats().restarts >= KILLS / 2, "kills that met a living engine: {:?}", engine.stats());
    assert_eq!(engine.stats().queued, 0);
    stop(&engine);
}

#[test]
fn stopped_engine_is_replaced_and_its_streams_go_on() {
    let engine = start_with(watchful(), |_| "");
    eventually(|| is_ready(&engine));
    let requests: Vec<_> = (0..8).map(|n| request(n, vec![1, n as u32], 900)).collect();
    let running: Vec<_> = requests.iter().map(|request| submit(&engine, request).1).collect();
    let first = read_tokens(&running[0], 3);
    signal(&engine, Signal::STOP);
    eventually(|| engine.stats().restarts > 0);
    for (n, (rx, request)) in running.iter().zip(&requests).enumerate() {
        let rest = read_to_end(rx);
        let events = if n == 0 { [&first[..], &rest].concat() } else { rest };
        assert_undisturbed(&events, request);
    }
    stop(&engine);
}

#[test]
fn engine_that_is_stopped_while_idle_is_replaced() {
    let engine = start_with(watchful(), |_| "");
    eventually(|| is_ready(&engine));
    signal(&engine, Signal::STOP);
    eventually(|| engine.stats().restarts > 0 && is_ready(&engine));
    let request = request(1, vec![1, 2], 20);
    assert_undisturbed(&read_to_end(&submit(&engine, &request).1), &request);
    stop(&engine);
}

/// A failure of the first engine process in the step of a certain request, by each means there is.
#[test]
fn request_that_fails_an_engine_once_ends_as_if_nothing_had_been() {
    for fault in ["abort=7", "hang=7", "fatal=7", "garbage=7"] {
        let engine = start_with(watchful(), move |earlier| if earlier == 0 { fault } else { "" });
        eventually(|| is_ready(&engine));
        let other = request(1, vec![1, 2, 3], 900);
        let (_, beside) = submit(&engine, &other);
        let before = read_tokens(&beside, 2);
        let unlucky = request(2, vec![1, FAULT], 50);
        let (_, rx) = submit(&engine, &unlucky);
        assert_undisturbed(&read_to_end(&rx), &unlucky);
        assert_undisturbed(&[before, read_to_end(&beside)].concat(), &other);
        assert!(engine.stats().restarts >= 1, "{fault}");
        stop(&engine);
    }
}

#[test]
fn request_that_always_ends_the_engine_fails_and_takes_no_other_with_it() {
    let engine = start(|_| "abort=7");
    let good: Vec<_> = (0..10).map(|n| request(n, vec![1, 2, n as u32 % 5], 600)).collect();
    let poison = request(99, vec![1, 2, FAULT], 50);
    let mut running: Vec<_> = good[..5].iter().map(|request| submit(&engine, request).1).collect();
    let (_, poisoned) = submit(&engine, &poison);
    running.extend(good[5..].iter().map(|request| submit(&engine, request).1));
    let events = read_to_end(&poisoned);
    let Some(Event::Failed(EngineError::Crashes { crashes, last })) = events.last() else {
        panic!("not failed: {events:?}")
    };
    assert_eq!(*crashes, MAX_CRASHES);
    assert!(last.contains("signal"), "{last}");
    for (rx, request) in running.iter().zip(&good) {
        assert_undisturbed(&read_to_end(rx), request);
    }
    assert_eq!(engine.stats().restarts, u64::from(MAX_CRASHES));
    stop(&engine);
}

#[test]
fn failure_of_one_sequence_arrives_as_it_is_and_restarts_nothing() {
    let engine = start(|_| "nan=7");
    let events = read_to_end(&submit(&engine, &request(1, vec![FAULT], 5)).1);
    let Some(Event::Failed(EngineError::NonFiniteLogits { position: 1, value, .. })) = events.last() else {
        panic!("not failed: {events:?}")
    };
    assert!(value.is_nan());
    let good = request(2, vec![1], 5);
    assert_undisturbed(&read_to_end(&submit(&engine, &good).1), &good);
    assert_eq!(engine.stats().restarts, 0);
    stop(&engine);
}

#[test]
fn engine_that_never_becomes_ready_ends_the_front_with_the_reason() {
    for (fault, launches, reason) in [("crash-at-start", 3, "signal"), ("refuse", 1, "no such model")] {
        let count = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&count);
        let engine = start_with(patient(), move |_| {
            counted.fetch_add(1, Relaxed);
            fault
        });
        let error = engine.join().unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(count.load(Relaxed), launches);
        assert!(matches!(engine.state(), EngineState::Stopped { reason: Some(_) }));
        let refused = engine.submit(request(1, vec![1], 1), Box::new(|_| Ok(())));
        assert!(matches!(refused, Err(SubmitError::Stopped { reason: Some(_) })));
    }
}

#[test]
fn crash_loop_is_degraded_with_its_reason_and_what_is_accepted_meanwhile_runs_in_the_end() {
    let healed = Arc::new(AtomicU32::new(0));
    let heal = Arc::clone(&healed);
    let engine = start(move |earlier| match (earlier, heal.load(Relaxed)) {
        // Its request must not end before it is killed.
        (0, _) => "slow",
        (_, 1) => "",
        _ => "crash-at-start",
    });
    let request = request(1, vec![1, 2], 900);
    let (_, rx) = submit(&engine, &request);
    let before = read_tokens(&rx, 1);
    signal(&engine, Signal::KILL);
    eventually(|| engine.stats().restarts >= 3);
    match engine.state() {
        EngineState::Degraded { reason } => assert!(reason.contains("signal"), "{reason}"),
        other => panic!("not degraded: {other:?}"),
    }
    let (_, meanwhile) = submit(&engine, &request);
    let (cancelled, rx_cancelled) = submit(&engine, &request);
    assert_eq!(engine.stats().queued, 3);
    engine.cancel(cancelled);
    let events = read_to_end(&rx_cancelled);
    assert!(matches!(events[..], [Event::Finished { reason: FinishReason::Cancelled, .. }]), "{events:?}");
    healed.store(1, Relaxed);
    assert_undisturbed(&[before, read_to_end(&rx)].concat(), &request);
    assert_undisturbed(&read_to_end(&meanwhile), &request);
    assert!(is_ready(&engine));
    stop(&engine);
}

#[test]
fn nothing_is_accepted_before_a_token_went_through() {
    let engine = start_with(patient(), |_| "hang=0");
    assert!(engine.rules().is_none());
    let refused = engine.submit(request(1, vec![1], 1), Box::new(|_| Ok(())));
    assert!(matches!(refused, Err(SubmitError::Starting)));
    // Loaded, and its first step does not end.
    eventually(|| engine.rules().is_some());
    assert!(matches!(engine.state(), EngineState::Starting));
    let refused = engine.submit(request(1, vec![1], 1), Box::new(|_| Ok(())));
    assert!(matches!(refused, Err(SubmitError::Starting)));
    stop(&engine);
}

#[test]
fn cancelled_request_ends_and_one_cancelled_in_a_dead_engine_does_not_come_back() {
    let engine = start(|_| "hang=7");
    // The engine may get to a request's end before it hears of it.
    eventually(|| {
        let (id, rx) = submit(&engine, &request(1, vec![1], 1_000));
        read_tokens(&rx, 1);
        engine.cancel(id);
        finish_reason(&read_to_end(&rx)) == Some(FinishReason::Cancelled)
    });
    let (id, rx) = submit(&engine, &request(1, vec![1, FAULT], 1_000));
    assert!(matches!(rx.recv_timeout(HANG), Ok(Event::Started { .. })));
    engine.cancel(id);
    signal(&engine, Signal::KILL);
    assert_eq!(finish_reason(&read_to_end(&rx)), Some(FinishReason::Cancelled));
    eventually(|| is_ready(&engine));
    assert_eq!(engine.stats().running, 0, "it is not sent again");
    stop(&engine);
}

#[test]
fn dropped_receiver_cancels_its_request() {
    let engine = start(|_| "");
    // The engine may get to a request's end before it hears of it.
    eventually(|| {
        let (_, rx) = submit(&engine, &request(1, vec![1], 1_000));
        read_tokens(&rx, 1);
        drop(rx);
        eventually(|| engine.stats().running == 0);
        engine.stats().totals.cancelled > 0
    });
    stop(&engine);
}

#[test]
fn queue_is_bounded_by_the_front() {
    let options = FrontOptions { max_queued_requests: 2, ..patient() };
    let engine = start_with(options, |_| "hang=7");
    eventually(|| is_ready(&engine));
    let (_, running) = submit(&engine, &request(1, vec![FAULT], 5));
    assert!(matches!(running.recv_timeout(HANG), Ok(Event::Started { .. })));
    let _waiting = [(); 2].map(|()| submit(&engine, &request(1, vec![1], 5)).1);
    let refused = engine.submit(request(1, vec![1], 1), Box::new(|_| Ok(())));
    assert!(matches!(refused, Err(SubmitError::QueueFull { queued: 2, limit: 2, .. })), "{refused:?}");
    assert_eq!((engine.stats().queued, engine.stats().refused), (2, 1));
    stop(&engine);
}

#[test]
fn drain_lets_requests_end_across_a_crash_and_refuses_new_ones() {
    let engine = start(|_| "");
    let requests: Vec<_> = (0..4).map(|n| request(n, vec![1, n as u32], 900)).collect();
    let running: Vec<_> = requests.iter().map(|request| submit(&engine, request).1).collect();
    let first = read_tokens(&running[0], 1);
    engine.shutdown(ShutdownMode::Drain { within: 10 * HANG });
    assert!(matches!(engine.state(), EngineState::Draining));
    let refused = engine.submit(request(1, vec![1], 1), Box::new(|_| Ok(())));
    assert!(matches!(refused, Err(SubmitError::ShuttingDown)));
    signal(&engine, Signal::KILL);
    assert_undisturbed(&[first, read_to_end(&running[0])].concat(), &requests[0]);
    for (rx, request) in running.iter().zip(&requests).skip(1) {
        assert_undisturbed(&read_to_end(rx), request);
    }
    engine.join().unwrap();
}

#[test]
fn shutdown_now_ends_what_a_hung_engine_holds() {
    for mode in [ShutdownMode::Now, ShutdownMode::Drain { within: Duration::ZERO }] {
        let engine = start(|_| "hang=7");
        let (_, rx) = submit(&engine, &request(1, vec![FAULT], 5));
        assert!(matches!(rx.recv_timeout(HANG), Ok(Event::Started { .. })));
        engine.shutdown(mode);
        assert_eq!(finish_reason(&read_to_end(&rx)), Some(FinishReason::ShuttingDown));
        engine.join().unwrap();
        assert_eq!(engine.process_id(), None);
    }
}

/// An engine whose front is gone, in this process.
#[test]
fn engine_notices_in_the_middle_of_a_step_that_its_front_is_gone() {
    for farewell in [&b""[..], b"no frame at all"] {
        let (mut front, socket) = UnixStream::pair().unwrap();
        let (gone_tx, gone) = channel();
        let end = EngineEnd::open(socket, move || gone_tx.send(()).unwrap()).unwrap();
        let (started_tx, started) = sync_channel(8);
        let (gate, waits) = channel();
        let executor = HashExecutor::new(VOCAB_SIZE, limits()).with_gate(started_tx, waits);
        let engine = Engine::start_observed(executor, EngineOptions::default(), end.observer()).unwrap();
        let held = engine.submit(request(1, vec![1], 5), |_| Ok(())).unwrap();
        started.recv_timeout(HANG).unwrap();
        let serving = engine.clone();
        let served = std::thread::spawn(move || end.serve(serving));
        front.write_all(farewell).unwrap();
        drop(front);
        gone.recv_timeout(HANG).expect("it is noticed while the step is held");
        drop(gate);
        engine.cancel(held);
        engine.shutdown(ShutdownMode::Now);
        served.join().unwrap().unwrap();
    }
}
