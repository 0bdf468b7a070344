//! One engine process and the socket to it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Time between two looks at a process that is about to end.
const LOOK: Duration = Duration::from_millis(2);
/// Signal that nothing survives.
const SIGKILL: i32 = 9;

/// A running engine process.
pub(crate) struct EngineProcess {
    child: Child,
    /// The front's end.
    pub(crate) stream: UnixStream,
}

impl EngineProcess {
    /// Runs the command with its end of a new socket pair as standard input. It gets a process group of its own, so that
    /// a terminal's signals go to the front alone.
    pub(crate) fn spawn(mut command: Command) -> io::Result<EngineProcess> {
        let (stream, engine_end) = UnixStream::pair()?;
        let child = command.stdin(Stdio::from(OwnedFd::from(engine_end))).process_group(0).spawn()?;
        Ok(EngineProcess { child, stream })
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Closes the socket, upon which the process ends; kills it if that takes longer than `patience`.
    pub(crate) fn end(&mut self, patience: Duration) -> Ending {
        // An error means that it is closed already.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ending { status: Some(status), killed: false };
            }
            std::thread::sleep(LOOK);
        }
        // An error means that it has ended.
        let _ = self.child.kill();
        Ending { status: self.child.wait().ok(), killed: true }
    }
}

/// How an engine process ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    status: Option<ExitStatus>,
    /// By [`EngineProcess::end`].
    killed: bool,
}

impl Ending {
    /// Somebody else's SIGKILL says nothing about what the engine was doing: it is the operator's, or the kernel's for want
    /// of memory, all of which an engine takes before it is ready.
    pub(crate) fn is_kill_from_outside(&self) -> bool {
        !self.killed && self.status.is_some_and(|status| status.signal() == Some(SIGKILL))
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.killed, self.status) {
            (false, Some(status)) => write!(f, "the engine process ended: {status}"),
            _ => f.write_str("the engine process closed its socket"),
        }
    }
}
