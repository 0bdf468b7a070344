//! Connections: one for each request, but a refusal leaves its connection to the next request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// A connection that was idle for longer is not used again: servers close those, and a request could cross that.
const MAX_IDLE: Duration = Duration::from_secs(1);
/// Connections that are kept at most.
const MAX_KEPT: usize = 64;

/// A connection over which requests go one after the other. Dropping it closes it.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<()>,
}

impl Connection {
    /// Speaks HTTP over `stream`.
    pub(super) async fn over(stream: TcpStream) -> hyper::Result<Connection> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let task = tokio::spawn(async move {
            // What goes wrong here shows where the response is read.
            let _ = connection.await;
        });
        Ok(Connection { sender, task })
    }

    /// Sends a request when the answer before has been read.
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connections whose last answer was read to its end.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Mutex<Vec<(Connection, Instant)>>>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").finish_non_exhaustive()
    }
}

impl Kept {
    /// Keeps a connection for a while.
    pub(super) fn put(&self, connection: Connection) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_KEPT {
            kept.push((connection, Instant::now()));
        }
    }

    /// The connection that was kept last; drops those that were idle for too long.
    pub(super) fn take(&self) -> Option<Connection> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (connection, since) = kept.pop()?;
        if since.elapsed() > MAX_IDLE {
            // The others are older.
            kept.clear();
            return None;
        }
        Some(connection)
    }
}
