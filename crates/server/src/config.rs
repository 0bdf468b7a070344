//! What the operator chooses.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use sostenuto_api::limits;

use crate::auth::ApiKeys;

/// Port that the server listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 8080;

/// How the server listens and whom it answers.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Address to listen on. An address other than loopback needs at least one API key.
    pub bind: SocketAddr,
    /// Host names that requests may be addressed to, beside `localhost` and loopback addresses. Names only, no port.
    /// When `bind` is not loopback, any IP address is accepted as well: a rebound DNS name is never one.
    pub allowed_hosts: Vec<String>,
    /// Origins (`https://chat.example`) whose pages may use the server, beside pages of the server itself.
    pub allowed_origins: Vec<String>,
    /// Keys that open `/v1`; none leaves it open to all who may connect.
    pub api_keys: ApiKeys,
    /// Open connections at most.
    pub max_connections: usize,
    /// How long things may take.
    pub deadlines: Deadlines,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// From the connection's opening, or the end of an answer, to the end of a request's header.
    pub header: Duration,
    /// From there to the end of the body.
    pub body: Duration,
    /// A client that reads nothing while there is something to send.
    pub write_stall: Duration,
    /// Between two signs of life on a stream that has nothing to say yet.
    pub keep_alive: Duration,
    /// From the shutdown signal to the end of answers in progress; what is left then is cancelled.
    pub drain: Duration,
}

impl Default for ServerConfig {
    /// Loopback, port 8080, no key, the limits of [`sostenuto_api::limits`].
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT),
            allowed_hosts: Vec::new(),
            allowed_origins: Vec::new(),
            api_keys: ApiKeys::default(),
            max_connections: limits::CONNECTIONS.max as usize,
            deadlines: Deadlines::default(),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(limits::HEADER_SECONDS.max),
            body: Duration::from_secs(limits::BODY_SECONDS.max),
            write_stall: Duration::from_secs(limits::WRITE_STALL_SECONDS.max),
            keep_alive: Duration::from_secs(15),
            drain: Duration::from_secs(30),
        }
    }
}
