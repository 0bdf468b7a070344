//! A server inside this process, for a chat without one.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use sostenuto_engine::{EngineHandle, ShutdownMode};
use sostenuto_server::{Server, ServerConfig};
use tokio::sync::oneshot;

use crate::error::CliError;
use crate::model_args::ModelArgs;
use crate::serving::Serving;
use crate::{demo, output};

/// A server on a free loopback port, with its engine, until [`LocalServer::stop`].
pub(crate) struct LocalServer {
    address: SocketAddr,
    engine: EngineHandle,
    shutdown: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl LocalServer {
    /// Loads the model and listens.
    pub(crate) fn start(args: &ModelArgs) -> Result<LocalServer, CliError> {
        let serving = Serving::start(args, None, &[], None, args.engine_options())?;
        let engine = serving.engine.clone();
        eprintln!(
            "Loaded {}; {} of memory planned.",
            serving.facts.model_line(),
            output::bytes(serving.facts.plan.total_bytes() as u64)
        );
        if serving.facts.is_demo {
            eprintln!("{}", demo::NOTICE);
        }
        let config = ServerConfig { bind: (Ipv4Addr::LOCALHOST, 0).into(), ..ServerConfig::default() };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let server = runtime.block_on(Server::bind(config, serving.state))?;
        let address = server.local_addr();
        let (shutdown, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("server".to_owned()).spawn(move || {
            runtime.block_on(server.run(async {
                // Either way it is the end: the sender is gone.
                let _ = stopped.await;
            }));
        })?;
        Ok(LocalServer { address, engine, shutdown, thread })
    }

    /// Where it listens.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends engine and server.
    pub(crate) fn stop(self) {
        self.engine.shutdown(ShutdownMode::Now);
        // A server that has ended by itself needs no signal.
        let _ = self.shutdown.send(());
        if self.thread.join().is_err() {
            eprintln!("sostenuto: the server's thread panicked");
        }
    }
}
