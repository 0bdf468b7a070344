//! The server over real HTTP on loopback, with the real engine and executors that follow a script or hash tokens.

mod chat;
mod client;
mod demo;
mod docs;
mod http;
mod lifecycle;
mod load;
mod metrics;
mod scripted;
