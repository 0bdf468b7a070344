//! A running server and a plain HTTP/1.1 client for it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use sostenuto_engine::{
    Engine, EngineClient, EngineHandle, EngineOptions, Executor, SamplingParams, ShutdownMode,
    testing::HashExecutor,
};
use sostenuto_server::{AppState, Clock, ServedModel, Server, ServerConfig};
use sostenuto_tokenizer::Tokenizer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// Longer than anything here takes; a test that waits for this long hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// 2026-11-23.
struct FixedClock;

impl Clock for FixedClock {
    fn unix_seconds(&self) -> u64 {
        1_795_392_000
    }
}

/// A server on a free port of loopback.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) engine: EngineHandle,
    state: AppState,
    shutdown: Option<oneshot::Sender<()>>,
    running: JoinHandle<usize>,
}

impl TestServer {
    pub(crate) async fn start(executor: impl Executor) -> TestServer {
        TestServer::with(executor, ServerConfig::default(), crate::scripted::options()).await
    }

    pub(crate) async fn with(
        executor: impl Executor,
        config: ServerConfig,
        options: EngineOptions,
    ) -> TestServer {
        TestServer::with_tokenizer(executor, Tokenizer::o200k_harmony(), config, options).await
    }

    pub(crate) async fn with_tokenizer(
        executor: impl Executor,
        tokenizer: Arc<Tokenizer>,
        config: ServerConfig,
        options: EngineOptions,
    ) -> TestServer {
        let engine = Engine::start(executor, options).unwrap();
        let client = Arc::new(engine.clone());
        TestServer::serve(engine, client, tokenizer, config).await
    }

    /// A server of an engine elsewhere. The engine in [`TestServer::engine`] has nothing to do.
    pub(crate) async fn with_client(client: Arc<dyn EngineClient>) -> TestServer {
        let idle = HashExecutor::new(1, HashExecutor::small_limits());
        let engine = Engine::start(idle, EngineOptions::default()).unwrap();
        TestServer::serve(engine, client, Tokenizer::o200k_harmony(), ServerConfig::default()).await
    }

    async fn serve(
        engine: EngineHandle,
        client: Arc<dyn EngineClient>,
        tokenizer: Arc<Tokenizer>,
        config: ServerConfig,
    ) -> TestServer {
        let state = AppState {
            engine: client,
            tokenizer,
            model: ServedModel {
                name: "toy".into(),
                aliases: vec!["org/toy".into()],
                system_fingerprint: "fp_toy".into(),
            },
            sampling: SamplingParams::default(),
            current_date: None,
            clock: Arc::new(FixedClock),
            seed: 1,
        };
        let bind = "127.0.0.1:0".parse().unwrap();
        let server = Server::bind(ServerConfig { bind, ..config }, state.clone()).await.unwrap();
        let address = server.local_addr();
        let (shutdown, signal) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async {
            let _ = signal.await;
        }));
        TestServer { address, engine, state, shutdown: Some(shutdown), running }
    }

    /// What it serves, to serve it again.
    pub(crate) fn state(&self) -> AppState {
        self.state.clone()
    }

    /// Signals the shutdown.
    pub(crate) fn signal_shutdown(&mut self) {
        if let Some(signal) = self.shutdown.take() {
            let _ = signal.send(());
        }
    }

    /// Shuts down and returns the number of connections that were cut.
    pub(crate) async fn stop(mut self) -> usize {
        self.signal_shutdown();
        let cut = tokio::time::timeout(PATIENCE, self.running).await.unwrap().unwrap();
        self.engine.shutdown(ShutdownMode::Now);
        cut
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are and reads until the server closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect().await;
        // The server may answer and close before everything is sent.
        let _ = stream.write_all(bytes).await;
        read_answer(&mut stream).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.raw(&post_bytes(path, "application/json", body.as_bytes())).await
    }

    pub(crate) async fn chat(&self, request: Value) -> Answer {
        self.post("/v1/chat/completions", &request.to_string()).await
    }
}

/// A POST request that asks for the connection to be closed.
pub(crate) fn post_bytes(path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The data of all events of a stream but the last, which must be `[DONE]`.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        let mut data: Vec<&str> =
            self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"), "{self:?}");
        data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
    }

    /// Status, and the error object's code, after checking its form.
    #[track_caller]
    pub(crate) fn error(&self) -> (u16, String) {
        let error = &self.json()["error"];
        for key in ["message", "type", "param", "code"] {
            assert!(error.get(key).is_some(), "{self:?}");
        }
        (self.status, error["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// Reads until the end of the connection.
pub(crate) async fn read_answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer in time");
    parse_answer(&bytes)
}

/// Reads until `pattern` has arrived, and returns everything so far.
pub(crate) async fn read_until(stream: &mut TcpStream, pattern: &str) -> String {
    let mut bytes = Vec::new();
    let read = async {
        while !String::from_utf8_lossy(&bytes).contains(pattern) {
            let count = stream.read_buf(&mut bytes).await.unwrap();
            assert_ne!(count, 0, "ended before {pattern:?}: {}", String::from_utf8_lossy(&bytes));
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the pattern arrives in time");
    String::from_utf8_lossy(&bytes).into_owned()
}

pub(crate) fn parse_answer(bytes: &[u8]) -> Answer {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Answer { status: 0, head: String::from_utf8_lossy(bytes).into_owned(), body: String::new() };
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = &bytes[end + 4..];
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if is_chunked { dechunk(body) } else { body.to_vec() };
    Answer { status, head, body: String::from_utf8(body).unwrap() }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        let Some(chunk) = bytes.get(end + 2..end + 2 + size) else { break };
        body.extend_from_slice(chunk);
        bytes = bytes.get(end + 4 + size..).unwrap_or_default();
    }
    body
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(mut condition: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let wait = async {
        while !condition() {
            tick.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the condition holds in time");
}
