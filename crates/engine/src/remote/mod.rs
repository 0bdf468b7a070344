//! An engine in a process of its own: one protocol beside the handle, a second transport.
//!
//! ```text
//! front process                                   engine process
//! RemoteEngine: EngineClient                      EngineEnd
//!   submit, cancel → Journal → writer ══ frames ══▶ reader → EngineHandle
//!   sinks ◀ Journal ◀ supervisor ◀═════ frames ═══ writer ◀ outbox ◀ sinks, StepObserver
//! ```
//!
//! **Nothing lost, nothing twice.** The front's journal holds every live request with the tokens delivered so far. When
//! the engine process fails, the front starts another and sends each request again with its tokens; since a row does
//! not depend on its company, the tokens that follow are those of an undisturbed run. The front takes a token only at the
//! index that is next, and treats any other as a failure of the engine process. The events of each half of a step come in one frame,
//! whole or not at all: a request that had its last token but not its end would be sent again and go on beyond it.
//!
//! **What counts as a failure.** The process ends, sends what is no frame, or makes no progress for longer than the watchdog
//! allows: its owner thread announces every step, and comes by twice a second when idle. Any of these ends in SIGKILL
//! and a new process, at once the first time and after growing pauses while failures follow each other.
//!
//! **Requests that end the engine.** One that the process had in [`MAX_CRASHES`] failures in a row without getting a token
//! fails with [`crate::EngineError::Crashes`]; before the last it is sent alone. A SIGKILL from outside blames nobody.
//!
//! **No orphans.** The engine process ends when its socket closes, whatever it is doing, and on Linux when the front's thread
//! that started it ends.

mod engine_end;
mod frame;
mod front;
mod fuzzing;
mod journal;
mod message;
mod process;
mod supervisor;
mod watchdog;

#[cfg(target_os = "linux")]
pub use engine_end::tie_to_parent;
pub use engine_end::{EngineEnd, MAX_SEQUENCE_TOKENS};
pub use frame::{FrameError, FrameReader, MAX_PAYLOAD_BYTES, Received, encode};
pub use front::{FrontOptions, RemoteEngine};
pub use fuzzing::fuzz_frames;
pub use journal::{EventViolation, MAX_CRASHES};
pub use message::{PROTOCOL_VERSION, ToEngine, ToFront, WireEvent, WireFailure};
pub use watchdog::{Hang, WatchdogOptions};
