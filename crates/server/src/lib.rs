//! HTTP, streaming, admission, and the mapping between api, harmony and engine.
//!
//! ```text
//! connection ─ deadlines ─ log ─ gate (host, origin, key) ─ route
//!   body → api::ChatRequest → ValidChatRequest → harmony::Conversation → ids → engine
//!   engine events → harmony::StreamParser → deltas → SSE chunks, or one answer
//! ```
//!
//! [`Server::bind`] takes the address, [`Server::local_addr`] says which it is, [`Server::run`] serves until a future
//! of the caller ends. `docs/api.md` lists what clients may send and what they get.
//!
//! The server never shuts the engine down: whoever started it does, after [`Server::run`] returned.

mod app;
mod auth;
mod chat;
mod clock;
mod config;
mod error;
mod http;
mod metrics;
mod routes;

use std::{future::Future, net::SocketAddr, sync::Arc};

pub use app::{AppState, ServedModel};
pub use auth::ApiKeys;
pub use clock::{Clock, SystemClock, utc_date};
pub use config::{DEFAULT_PORT, Deadlines, ServerConfig};
pub use error::ServerError;

use self::{
    app::App,
    http::{Listener, serve_connections},
    routes::router,
};

/// A server that listens and does not serve yet.
pub struct Server {
    listener: Listener,
    app: Arc<App>,
    config: ServerConfig,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.listener.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Listens on `config.bind`; port 0 takes a free one.
    ///
    /// # Errors
    /// [`ServerError`]: the address is taken, or open to the network without an API key, or the tokenizer lacks
    /// Harmony's control tokens.
    pub async fn bind(config: ServerConfig, state: AppState) -> Result<Server, ServerError> {
        let app = Arc::new(App::new(state, &config)?);
        let listener = Listener::bind(&config).await?;
        Ok(Server { listener, app, config })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.address
    }

    /// Serves until `shutdown` ends. Then new requests are refused with 503, answers in progress run on for at most
    /// [`Deadlines::drain`], and what is left is cut and its sequences cancelled.
    ///
    /// Returns the number of connections that were cut.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> usize {
        let router = router(Arc::clone(&self.app), &self.config);
        let app = Arc::clone(&self.app);
        let closing = async move {
            shutdown.await;
            app.close();
        };
        let open = self.app.metrics.open_connections.clone();
        serve_connections(self.listener, router, &self.config, open, closing).await
    }
}
