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

/// What happens to a new connection, in the order in which it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// It is served until its client closes it.
    Open,
    /// It gets one answer, which is a refusal unless the request asks for the server's state.
    Draining,
    /// There is none.
    Closed,
}

/// Makes connections.
struct Acceptor<'a> {
    listener: Listener,
    router: Router,
    config: &'a ServerConfig,
    permits: Arc<Semaphore>,
    /// Shows the number of open connections.
    open: Gauge,
    phase: watch::Sender<Phase>,
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

/// Serves connections until `shutdown` ends; then lets answers in progress run for `drain`, meanwhile refuses new
/// requests, and cuts the rest.
///
/// `open` shows the number of open connections. Returns the number of connections that were cut.
pub(crate) async fn serve_connections(
    listener: Listener,
    router: Router,
    config: &ServerConfig,
    open: Gauge,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let permits = Arc::new(Semaphore::new(config.max_connections));
    let (phase, _) = watch::channel(Phase::Open);
    let acceptor = Acceptor { listener, router, config, permits, open, phase };
    let mut connections = JoinSet::new();
    tokio::select! {
        () = shutdown => {}
        () = acceptor.accept_into(&mut connections) => {}
    }
    acceptor.phase.send_replace(Phase::Draining);
    let mut late = JoinSet::new();
    let drained = async {
        tokio::select! {
            () = all_done(&mut connections) => {}
            () = acceptor.accept_into(&mut late) => {}
        }
        acceptor.phase.send_replace(Phase::Closed);
        all_done(&mut late).await;
    };
    // Too late or not, what is left is counted and cut.
    let _ = tokio::time::timeout(config.deadlines.drain, drained).await;
    while connections.try_join_next().is_some() {}
    let cut = connections.len();
    connections.shutdown().await;
    cut
}

async fn all_done(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

impl Acceptor<'_> {
    /// Accepts and serves for ever.
    async fn accept_into(&self, connections: &mut JoinSet<()>) {
        loop {
            // A connection beyond the cap waits in the kernel's queue, where it costs this process nothing.
            let accept = async {
                let permit =
                    Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
                (permit, self.listener.listener.accept().await)
            };
            tokio::select! {
                Some(_) = connections.join_next() => {}
                (permit, accepted) = accept => match accepted {
                    Ok((stream, _)) => {
                        let (router, phase) = (self.router.clone(), self.phase.subscribe());
                        let connection = serve_connection(stream, router, self.config.deadlines, phase);
                        let open = OpenConnection::count(&self.open);
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
    }
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
    mut phase: watch::Receiver<Phase>,
) {
    // Tokens are small and must leave at once. Without the option they only leave later.
    let _ = stream.set_nodelay(true);
    let opened_in = *phase.borrow();
    let io = TokioIo::new(StallGuard::new(stream, deadlines.write_stall));
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(deadlines.header)
        .max_headers(limits::HEADER_FIELDS.max as usize)
        .max_header_size(limits::HEADER_BYTES.max as usize)
        .max_buf_size(2 * limits::HEADER_BYTES.max as usize)
        .keep_alive(opened_in == Phase::Open);
    let mut connection = pin!(builder.serve_connection(io, TowerToHyperService::new(router)));
    let result = tokio::select! {
        result = &mut connection => result,
        () = later_than(&mut phase, opened_in) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended");
    }
}

/// Waits until the server goes on to a later phase.
async fn later_than(phase: &mut watch::Receiver<Phase>, opened_in: Phase) {
    // An error means that the sender is gone, and it goes when the server does.
    let _ = phase.wait_for(|phase| *phase > opened_in).await;
}
