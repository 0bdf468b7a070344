//! The command as its users meet it: the built program, its arguments, streams and exit codes.

mod chat;
mod checkpoint;
mod debug;
mod load;
mod malformed;
mod plan;
mod serve;
mod server;
mod support;
#[cfg(target_os = "linux")]
mod two_processes;
