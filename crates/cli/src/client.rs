//! A small HTTP/1.1 client for one server: JSON in, JSON, text or events out. Each answer has a connection of its
//! own; dropping a response closes it, which is how an answer is cancelled.

mod connection;
mod sse;

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use self::connection::{Connection, Kept};
use self::sse::{EventTooLong, SseDecoder};
use crate::error::CliError;

/// Where a server is looked for unless told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// Environment variable with the key that the server wants.
pub(crate) const API_KEY_VARIABLE: &str = "SOSTENUTO_API_KEY";
/// Path of chat completions.
pub(crate) const CHAT_PATH: &str = "/v1/chat/completions";
/// Time until a connection stands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole answer that is not a stream.
const JSON_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a JSON answer that are read at most.
const MAX_JSON_BYTES: usize = 4 << 20;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The URL is not one that this client can use.
    #[error("{url:?} is not a usable URL: {rule}")]
    Url {
        /// As given.
        url: String,
        /// What would be right.
        rule: &'static str,
    },
    /// Nobody listens, or not in time.
    #[error("no server answers at {authority}: {reason}")]
    Connect {
        /// Host and port.
        authority: String,
        /// What the operating system says.
        reason: String,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("the connection to the server broke: {0}")]
    Http(#[from] hyper::Error),
    /// The server refused the request.
    #[error("the server refused the request ({status}): {message}")]
    Refused {
        /// HTTP status.
        status: StatusCode,
        /// The header `Retry-After`, as sent.
        retry_after: Option<String>,
        /// The server's message.
        message: String,
    },
    /// What came is not what a server of this kind sends.
    #[error("not an answer of an OpenAI-compatible server: {0}")]
    Unexpected(String),
    /// See [`EventTooLong`].
    #[error(transparent)]
    EventTooLong(#[from] EventTooLong),
}

/// A server's address and key.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    authority: String,
    base_path: String,
    api_key: Option<String>,
    kept: Kept,
}

impl Client {
    /// Reads `http://host[:port][/path]`; a `/v1` at the end of the path is dropped.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub(crate) fn new(url: &str, api_key: Option<String>) -> Result<Client, ClientError> {
        let wrong = |rule| ClientError::Url { url: url.to_owned(), rule };
        let uri: Uri = url.parse().map_err(|_| wrong("expected http://HOST:PORT"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("this client speaks http only, without TLS")),
            _ => return Err(wrong("expected http://HOST:PORT")),
        }
        let host = uri.host().ok_or_else(|| wrong("there is no host in it"))?;
        let base_path = uri.path().trim_end_matches('/').trim_end_matches("/v1").to_owned();
        Ok(Client {
            authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)),
            base_path,
            api_key,
            kept: Kept::default(),
        })
    }

    /// The server's address as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{}", self.authority, self.base_path)
    }

    /// `GET`, a JSON document back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn get_json(&self, path: &str) -> Result<Value, ClientError> {
        parse_json(&self.get(path).await?)
    }

    /// `GET`, text back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn get_text(&self, path: &str) -> Result<String, ClientError> {
        let bytes = self.get(path).await?;
        String::from_utf8(bytes.into()).map_err(|_| ClientError::Unexpected("it is not UTF-8".to_owned()))
    }

    /// The name of the first model that the server lists.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn model_name(&self) -> Result<String, ClientError> {
        let models = self.get_json("/v1/models").await?;
        models["data"][0]["id"]
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| ClientError::Unexpected(format!("{}/v1/models lists no model", self.url())))
    }

    async fn get(&self, path: &str) -> Result<Bytes, ClientError> {
        let exchange = async {
            let mut answer = self.send(Method::GET, path, Bytes::new()).await?;
            read_body(answer.response.body_mut()).await
        };
        tokio::time::timeout(JSON_TIMEOUT, exchange).await.unwrap_or_else(|_| {
            Err(ClientError::Connect {
                authority: self.authority.clone(),
                reason: format!("nothing came within {} s", JSON_TIMEOUT.as_secs()),
            })
        })
    }

    /// `POST` of a JSON document, a JSON document back, however long it takes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        let mut answer = self.send(Method::POST, path, Bytes::from(body.to_string())).await?;
        parse_json(&read_body(answer.response.body_mut()).await?)
    }

    /// `POST` of a JSON document, a stream of events back.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn post_events(&self, path: &str, body: &Value) -> Result<EventStream, ClientError> {
        let answer = self.send(Method::POST, path, Bytes::from(body.to_string())).await?;
        Ok(EventStream { answer, decoder: SseDecoder::default(), ready: VecDeque::new() })
    }

    /// The bytes of a `POST` whose connection ends with the answer, to be sent over [`Client::connect`].
    pub(crate) fn post_bytes(&self, path: &str, body: &Value) -> Vec<u8> {
        let body = body.to_string();
        let key = self.api_key.as_ref().map(|key| format!("authorization: Bearer {key}\r\n"));
        format!(
            "POST {}{path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\n{}content-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            self.base_path,
            self.authority,
            key.unwrap_or_default(),
            body.len()
        )
        .into_bytes()
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer, ClientError> {
        let (connection, mut response) = self.exchange(method, path, body).await?;
        if !response.status().is_success() {
            let status = response.status();
            let retry_after = response.headers().get(header::RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let body = read_body(response.body_mut()).await;
            if body.is_ok() {
                self.kept.put(connection);
            }
            let message = match body.and_then(|bytes| parse_json(&bytes)) {
                Ok(document) => error_message(&document),
                Err(_) => "it does not say why".to_owned(),
            };
            return Err(ClientError::Refused { status, retry_after, message });
        }
        Ok(Answer { response, _connection: connection })
    }

    fn request(&self, method: &Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base_path))
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(key) = &self.api_key {
            request = request.header(header::AUTHORIZATION, format!("Bearer {key}"));
        }
        request
            .body(Full::new(body))
            .map_err(|error| ClientError::Unexpected(format!("the request cannot be built: {error}")))
    }

    /// Sends a request over a connection that was kept, else over a new one.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(Connection, Response<Incoming>), ClientError> {
        while let Some(mut connection) = self.kept.take() {
            // One that fails was closed by the server, which may have crossed the request.
            if let Ok(response) = connection.send(self.request(&method, path, body.clone())?).await {
                return Ok((connection, response));
            }
        }
        let mut connection = Connection::over(self.connect().await?).await?;
        let response = connection.send(self.request(&method, path, body)?).await?;
        Ok((connection, response))
    }

    /// A connection for which the operating system keeps about so many bytes that were not read.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub(crate) async fn connect_with_buffer(&self, receive_bytes: u32) -> Result<TcpStream, ClientError> {
        let connect = async {
            let mut addresses = tokio::net::lookup_host(&self.authority).await?;
            let address = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.set_recv_buffer_size(receive_bytes)?;
            socket.connect(address).await
        };
        connect.await.map_err(|error: std::io::Error| ClientError::Connect {
            authority: self.authority.clone(),
            reason: error.to_string(),
        })
    }

    /// A connection to the server.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub(crate) async fn connect(&self) -> Result<TcpStream, ClientError> {
        let fail = |reason: String| ClientError::Connect { authority: self.authority.clone(), reason };
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.authority)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(fail(error.to_string())),
            Err(_) => Err(fail(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }
}

/// The events of one answer.
pub(crate) struct EventStream {
    answer: Answer,
    decoder: SseDecoder,
    ready: VecDeque<String>,
}

impl EventStream {
    /// The data of the next event; `None` at the end of the stream. Dropping the future loses no event.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(frame) = self.answer.response.body_mut().frame().await else { return Ok(None) };
            let mut events = Vec::new();
            if let Some(bytes) = frame?.data_ref() {
                self.decoder.push(bytes, &mut events)?;
            }
            self.ready.extend(events);
        }
    }
}

struct Answer {
    response: Response<Incoming>,
    _connection: Connection,
}

async fn read_body(body: &mut Incoming) -> Result<Bytes, ClientError> {
    let read = Limited::new(body, MAX_JSON_BYTES).collect().await;
    Ok(read.map_err(|error| ClientError::Unexpected(error.to_string()))?.to_bytes())
}

fn parse_json(bytes: &[u8]) -> Result<Value, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::Unexpected(error.to_string()))
}

/// The first key in `file`, else the one in the environment, if there is one.
///
/// # Errors
/// The file can't be read.
pub(crate) fn read_api_key(file: Option<&Path>) -> Result<Option<String>, CliError> {
    let Some(path) = file else {
        return Ok(std::env::var(API_KEY_VARIABLE).ok().filter(|key| !key.is_empty()));
    };
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::new(format!("cannot read the API key in {}: {error}", path.display())))?;
    let mut lines = text.lines().map(str::trim);
    Ok(lines.find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned))
}

/// The message of an error object in OpenAI's form.
pub(crate) fn error_message(document: &Value) -> String {
    match document["error"]["message"].as_str() {
        Some(message) => message.to_owned(),
        None => document.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn url_is_read_with_and_without_port_and_version() {
        let url = |text| Client::new(text, None).map(|client| client.url());
        assert_eq!(url("http://127.0.0.1:8080").unwrap(), "http://127.0.0.1:8080");
        assert_eq!(url("http://localhost:9/v1/").unwrap(), "http://localhost:9");
        assert_eq!(url("http://[::1]:81/proxy/v1").unwrap(), "http://[::1]:81/proxy");
        assert_eq!(url("http://box").unwrap(), "http://box:80");
    }

    /// A server that refuses everything and closes each connection after so many answers, and its count of connections.
    fn refusing(answers_each: usize) -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                let mut stream = BufReader::new(stream.unwrap());
                for _ in 0..answers_each {
                    let mut line = String::new();
                    while stream.read_line(&mut line).unwrap() > 2 {
                        line.clear();
                    }
                    let answer = "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}";
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        (client, connections)
    }

    #[tokio::test]
    async fn refusal_leaves_its_connection_to_the_next_request_unless_the_server_closed_it() {
        for (answers_each, expected) in [(6, 1), (3, 2), (1, 6)] {
            let (client, connections) = refusing(answers_each);
            for _ in 0..6 {
                let refused = client.get_text("/").await;
                assert!(matches!(refused, Err(ClientError::Refused { .. })), "{refused:?}");
            }
            assert_eq!(connections.load(Ordering::Relaxed), expected, "{answers_each} answers each");
        }
    }

    #[test]
    fn unusable_url_is_refused_with_the_rule() {
        for (text, rule) in [
            ("https://example.org", "TLS"),
            ("127.0.0.1:8080", "http://HOST:PORT"),
            ("ftp://x", "http://"),
            ("", "http"),
        ] {
            let error = Client::new(text, None).unwrap_err().to_string();
            assert!(error.contains(rule), "{text}: {error}");
        }
    }
}
