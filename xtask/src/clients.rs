//! Official client libraries against the real server on the demo model.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::steps::{repository_root, run};

/// Starts `sostenuto serve` on a free port and runs the Python and Node suites of `tests/clients` against it.
pub(crate) fn run_suites() -> Result<(), String> {
    let root = repository_root();
    let suites = root.join("tests/clients");
    let python = python_tool("python")?;
    prepare_node(&suites)?;
    let server = Server::start(&root)?;
    let mut pytest = Command::new(python);
    pytest.args(["-m", "pytest", "-q", "."]).current_dir(suites.join("python"));
    run_against(&server, pytest)?;
    let mut node = Command::new("node");
    node.args(["--test"]).current_dir(suites.join("node"));
    run_against(&server, node)
}

fn run_against(server: &Server, mut suite: Command) -> Result<(), String> {
    suite.env("SOSTENUTO_URL", &server.url);
    run(suite)
}

/// A program of `.venv`, which is made and filled from the Python suite's requirements.
pub(crate) fn python_tool(name: &str) -> Result<PathBuf, String> {
    let root = repository_root();
    let programs = root.join(".venv/bin");
    let python = programs.join("python");
    if !python.exists() {
        let mut create = Command::new("python3");
        create.args(["-m", "venv"]).arg(root.join(".venv"));
        run(create)?;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    install.arg(root.join("tests/clients/python/requirements.txt"));
    run(install)?;
    Ok(programs.join(name))
}

fn prepare_node(suites: &Path) -> Result<(), String> {
    let mut install = Command::new("npm");
    install.args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(suites.join("node"));
    run(install)
}

/// A running server; ended when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    /// Waits for the line that says where it listens.
    fn start(root: &Path) -> Result<Self, String> {
        let mut child = Command::new(root.join("target/release/sostenuto"))
            .args(["serve", "--port", "0"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("sostenuto could not be started: {e}"))?;
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let url = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let start = line.find("http://127.0.0.1:")?;
            let url = line[start..].split(char::is_whitespace).next()?;
            Some(url.trim_end_matches(['/', '.', ',']).to_owned())
        });
        std::thread::spawn(move || lines.for_each(drop));
        match url {
            Some(url) => Ok(Self { child, url }),
            None => Err("sostenuto serve ended before it said where it listens".into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
