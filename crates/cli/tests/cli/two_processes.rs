//! `serve` with its engine in a process of its own: killed, stopped, left alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{ServerUnderTest, signal};
use crate::support::{arg, checkpoint, program};

/// Long enough that only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a condition holds.
fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Fields of `/proc/PID/stat` behind the name: state, parent, …; none for a process that is gone.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Whether a process runs: neither gone nor waiting to be seen by its parent.
fn lives(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z")
}

/// The engine process of a front.
fn engine_of(front: u32) -> Option<u32> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|&pid| stat(pid).is_some_and(|fields| fields[1] == front.to_string() && fields[0] != "Z"))
}

/// A streaming answer in progress.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(server: &ServerUnderTest, request: &Value) -> Stream {
        let mut socket = TcpStream::connect(&server.address).expect("the server listens");
        let body = request.to_string();
        write!(
            socket,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            server.address,
            body.len()
        )
        .unwrap();
        Stream(BufReader::new(socket))
    }

    /// The next event, without what differs from answer to answer; none after the last.
    fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            assert_ne!(self.0.read_line(&mut line).expect("text"), 0, "the stream ends with [DONE]");
            match line.trim().strip_prefix("data: ") {
                Some("[DONE]") => return None,
                Some(data) => {
                    let mut event: Value = serde_json::from_str(data).expect("an event is JSON");
                    for varies in ["id", "created"] {
                        event[varies].take();
                    }
                    // A new engine process has an empty prefix cache.
                    if let Some(cached) = event.pointer_mut("/usage/prompt_tokens_details/cached_tokens") {
                        cached.take();
                    }
                    return Some(event);
                }
                None => {}
            }
        }
    }

    fn rest(mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

fn question(seed: u64) -> Value {
    let content =
        ["What is Sostenuto?", "How do I change the port?", "Что такое Sostenuto?"][seed as usize % 3];
    json!({
        "messages": [{"role": "user", "content": content}],
        "stream": true, "seed": seed, "max_tokens": 200, "logprobs": true,
        "stream_options": {"include_usage": true},
    })
}

#[test]
fn streams_outlive_their_engine_with_the_same_bytes() {
    let server = ServerUnderTest::start_demo(&["--date", "2026-11-23"]);
    let undisturbed: Vec<Vec<Value>> =
        (0..4).map(|seed| Stream::open(&server, &question(seed)).rest()).collect();
    for (restarts, how) in [(1, "-KILL"), (2, "-STOP"), (3, "-KILL")] {
        let mut streams: Vec<Stream> = (0..4).map(|seed| Stream::open(&server, &question(seed))).collect();
        let mut begun: Vec<Vec<Value>> =
            streams.iter_mut().map(|stream| stream.next().into_iter().collect()).collect();
        begun[0].extend(streams[0].next());
        let engine = engine_of(server.pid()).expect("an engine process runs");
        signal(engine, how);
        for ((begun, stream), expected) in begun.iter_mut().zip(streams).zip(&undisturbed) {
            begun.extend(stream.rest());
            assert_eq!(begun, expected, "{how}");
        }
        // All may have been sent when the signal came; the engine is replaced in any case.
        eventually("the engine is replaced", || {
            let answer = server.get("/ready");
            (answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("\"restarts\":{restarts}")))
                .then_some(())
        });
        assert!(!lives(engine), "{how}");
    }
    let (code, _, stderr) = server.end("-TERM");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("signal: 9"), "the log says why: {stderr}");
}

#[test]
fn metrics_show_the_memory_of_the_engine_process() {
    let server = ServerUnderTest::start(checkpoint(), &["--ctx", "256"]);
    let number = |page: &str, name: &str| -> f64 {
        let line = page.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim_end_matches("kB").trim().parse().unwrap()
    };
    let shown = number(&server.get("/metrics"), "sostenuto:engine_resident_memory_bytes ");
    let engine = engine_of(server.pid()).expect("an engine process runs");
    let status = std::fs::read_to_string(format!("/proc/{engine}/status")).unwrap();
    let resident = 1024.0 * number(&status, "VmRSS:");
    assert!((shown / resident - 1.0).abs() < 0.1, "{shown} of {resident} bytes");
}

#[test]
fn kill_of_the_front_ends_the_engine() {
    // One that is stopped can't see its socket close.
    for is_stopped in [false, true] {
        let mut server = ServerUnderTest::start(checkpoint(), &["--ctx", "256"]);
        let engine = engine_of(server.pid()).expect("an engine process runs");
        assert!(lives(engine));
        if is_stopped {
            signal(engine, "-STOP");
        }
        server.kill();
        eventually("the engine ends", || (!lives(engine)).then_some(()));
    }
}

/// A front that is killed takes its threads along.
#[test]
fn engine_process_ends_with_the_thread_that_started_it_though_its_socket_is_open() {
    let (mut front, socket) = UnixStream::pair().unwrap();
    let start = move || {
        let mut command = program();
        command.arg("engine").arg(format!("--parent={}", std::process::id())).arg("--quiet");
        command.args(["--pinned-ctx=256", "--pinned-kv-tokens=512", "--model", arg(checkpoint())]);
        command.stdin(OwnedFd::from(socket)).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("the program starts");
        // It speaks when it is tied to this thread.
        front.read_exact(&mut [0]).expect("the engine process says hello");
        (child, front)
    };
    let (mut child, _front) = std::thread::spawn(start).join().expect("the engine process started");
    let ending = eventually("the engine ends", || child.try_wait().expect("it is a child"));
    assert_eq!(ending.signal(), Some(9), "{ending}");
}

#[test]
fn every_engine_process_has_the_limits_of_the_command_line() {
    let server = ServerUnderTest::start(checkpoint(), &["--ctx", "256", "--kv-tokens", "512"]);
    for limit in ["256 tokens of context", "512 tokens of KV"] {
        assert!(server.banner.contains(limit), "{}", server.banner);
    }
    for restarts in 0..2 {
        eventually("the engine is there", || {
            let answer = server.get("/ready");
            (answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("\"restarts\":{restarts}")))
                .then_some(())
        });
        let models = server.get("/v1/models");
        assert!(models.contains("\"max_model_len\":256"), "{models}");
        signal(engine_of(server.pid()).expect("an engine process runs"), "-KILL");
    }
}

#[test]
fn signals_to_the_engine_process_are_left_to_the_front() {
    let server = ServerUnderTest::start(checkpoint(), &["--ctx", "256"]);
    let engine = engine_of(server.pid()).expect("an engine process runs");
    signal(engine, "-TERM");
    signal(engine, "-INT");
    let answer = Stream::open(
        &server,
        &json!({
            "messages": [{"role": "user", "content": "hi"}], "stream": true, "max_tokens": 5,
        }),
    );
    assert!(answer.rest().len() > 1);
    assert_eq!(engine_of(server.pid()), Some(engine));
    assert_eq!(server.end("-TERM").0, Some(0));
}

/// Requests that go on for as long as the context allows.
fn long(server: &ServerUnderTest) -> Vec<Stream> {
    let request = json!({
        "messages": [{"role": "user", "content": "hi"}], "stream": true, "seed": 1,
    });
    let mut streams: Vec<Stream> = (0..4).map(|_| Stream::open(server, &request)).collect();
    streams.iter_mut().for_each(|stream| assert!(stream.next().is_some()));
    streams
}

#[test]
fn first_signal_refuses_new_requests_and_a_second_ends_at_once() {
    let server = ServerUnderTest::start(checkpoint(), &["--ctx", "4k"]);
    let engine = engine_of(server.pid()).expect("an engine process runs");
    let _streams = long(&server);
    signal(server.pid(), "-TERM");
    eventually("it drains", || server.get("/health").contains("\"draining\"").then_some(()));
    assert!(server.get("/ready").starts_with("HTTP/1.1 503"));
    let (code, _, stderr) = server.end("-TERM");
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("Ended at once"), "{stderr}");
    eventually("the engine ends", || (!lives(engine)).then_some(()));
}

#[test]
fn engine_in_process_is_one_process() {
    let server = ServerUnderTest::start(checkpoint(), &["--ctx", "256", "--in-process"]);
    assert_eq!(engine_of(server.pid()), None);
    assert!(server.banner.contains("memory plan"), "{}", server.banner);
    assert!(server.get("/ready").starts_with("HTTP/1.1 200"));
    assert_eq!(server.end("-TERM").0, Some(0));
}
