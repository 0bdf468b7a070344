//! The owner thread: commands in, events out, shutdown, failures.

use sostenuto_engine::testing::HashExecutor;
use sostenuto_engine::{Engine, EngineOptions, FinishReason, GenerateRequest, ShutdownMode};

use crate::support::{finish_reason, read_to_end, submit, tokens};

#[test]
fn submitted_request_streams_its_tokens_and_ends_once() {
    let executor = HashExecutor::new(50, HashExecutor::small_limits());
    let engine = Engine::start(executor, EngineOptions::default()).unwrap();
    let (_, rx) = submit(&engine, GenerateRequest::greedy(vec![1, 2, 3], 5));
    let events = read_to_end(&rx);
    assert_eq!(tokens(&events).len(), 5);
    assert_eq!(finish_reason(&events), Some(FinishReason::Length));
    engine.shutdown(ShutdownMode::Now);
    engine.join().unwrap();
}
