//! The HTTP front: what reaches the endpoints, and how long anything may take.

mod body;
mod gate;
mod listen;
mod log;
mod stall;

pub(crate) use body::read_json_body;
pub(crate) use gate::{Gate, gate};
pub(crate) use listen::{Listener, serve_connections};
pub(crate) use log::{RequestName, log};
