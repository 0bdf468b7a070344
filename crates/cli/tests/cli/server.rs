//! A server under test: started, waited for by its own words, ended by a signal.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::{arg, program};

/// A running `sostenuto serve` on a free port.
pub(crate) struct ServerUnderTest {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// What it printed until it listened.
    pub(crate) banner: String,
    /// `127.0.0.1:PORT`.
    pub(crate) address: String,
}

impl ServerUnderTest {
    /// Starts it and reads what it prints until the line that says where it listens.
    pub(crate) fn start(model: &Path, args: &[&str]) -> ServerUnderTest {
        ServerUnderTest::start_demo(&[&["--model", arg(model)], args].concat())
    }

    /// As [`ServerUnderTest::start`], with the demo model unless the arguments name another.
    pub(crate) fn start_demo(args: &[&str]) -> ServerUnderTest {
        let mut child = program()
            .args(["serve", "--port", "0"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let mut banner = String::new();
        let address = loop {
            let mut line = String::new();
            let read = stdout.read_line(&mut line).expect("the banner is text");
            assert_ne!(read, 0, "the server ended before it listened: {banner}");
            banner.push_str(&line);
            if let Some(url) = line.trim().strip_prefix("Listening on http://") {
                break url.to_owned();
            }
        };
        ServerUnderTest { child, stdout, banner, address }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it, and waits.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `GET path`: the whole answer as text.
    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the server listens");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer of text");
        answer
    }

    /// Sends a signal, waits for the end, and gives exit code, the rest of standard output, and standard error.
    pub(crate) fn end(mut self, name: &str) -> (Option<i32>, String, String) {
        signal(self.pid(), name);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("text");
        let mut stderr = String::new();
        self.child.stderr.take().expect("piped").read_to_string(&mut stderr).expect("text");
        let code = self.child.wait().expect("it ends").code();
        (code, rest, stderr)
    }
}

/// Sends a signal, as `-TERM`, to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status().expect("kill exists");
    assert!(sent.success(), "kill {name} {pid}");
}

impl Drop for ServerUnderTest {
    fn drop(&mut self) {
        // Of no effect on one that has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
