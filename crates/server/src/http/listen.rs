//! The accept loop. hyper is driven directly, since `axum::serve` offers none of these deadlines.

use std::{future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use prometheus_client::metrics::gauge::Gauge;
use sostenuto_api::limits;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::stall::StallGuard;
use crate::{Deadlines, ServerConfig, ServerError};

/// Pause after an accept that failed, for example for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Bytes that the operating system may hold for a client that does not read. Left to itself it holds megabytes.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// Connections that the operating system may hold until they are accepted.
const ACCEPT_BACKLOG: u32 = 1024;

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl Listener {
    /// Binds `config.bind`.
    pub(crate) async fn bind(config: &ServerConfig) -> Result<Listener, ServerError> {
        let address = config.bind;
        if !address.ip().is_loopback() && config.api_keys.is_empty() {
            return Err(ServerError::OpenToTheNetwork { address });
        }
        let failed = |source| ServerError::Bind { address, source };
        let listener = listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Listener { listener, address })
    }
}

/// Like [`TcpListener::bind`], but with a bounded send buffer, which connections inherit.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A server that is started again gets its address at once.
    socket.set_reuseaddr(cfg!(unix))?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_BACKLOG)
}

/// Serves connections until `shutdown` ends; then lets answers in progress run for `drain` and cuts the rest.
///
/// `open` shows the number of open connections. Returns the number of connections that were cut.
pub(crate) async fn serve_connections(
    listener: Listener,
    router: Router,
    config: &ServerConfig,
    open: Gauge,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let (closing, _) = watch::channel(false);
    let permits = Arc::new(Semaphore::new(config.max_connections));
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        // A connection beyond the cap waits in the kernel's queue, where it costs this process nothing.
        let accept = async {
            let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
            (permit, listener.listener.accept().await)
        };
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (permit, accepted) = accept => match accepted {
                Ok((stream, _)) => {
                    let connection =
                        serve_connection(stream, router.clone(), config.deadlines, closing.subscribe());
                    let open = OpenConnection::count(&open);
                    connections.spawn(async move {
                        connection.await;
                        drop((permit, open));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            },
        }
    }
    drop(listener);
    closing.send_replace(true);
    let all_done = async { while connections.join_next().await.is_some() {} };
    let in_time = tokio::time::timeout(config.deadlines.drain, all_done).await.is_ok();
    let cut = if in_time { 0 } else { connections.len() };
    connections.shutdown().await;
    cut
}

/// Counts one open connection until it is dropped, also when its task is cut.
struct OpenConnection(Gauge);

impl OpenConnection {
    fn count(open: &Gauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    deadlines: Deadlines,
    mut closing: watch::Receiver<bool>,
) {
    // Tokens are small and must leave at once. Without the option they only leave later.
    let _ = stream.set_nodelay(true);
    let io = TokioIo::new(StallGuard::new(stream, deadlines.write_stall));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.header)
        .max_headers(limits::HEADER_FIELDS.max as usize)
        .max_header_size(limits::HEADER_BYTES.max as usize)
        .max_buf_size(2 * limits::HEADER_BYTES.max as usize);
    let mut connection = pin!(builder.serve_connection(io, TowerToHyperService::new(router)));
    let result = tokio::select! {
        result = &mut connection => result,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

/// Waits until the server closes.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, and it goes when the server does.
    let _ = closing.wait_for(|closing| *closing).await;
}
