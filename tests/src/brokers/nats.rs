//! `nats-server` with JetStream.

use std::path::PathBuf;

use tempfile::TempDir;

use super::process::{Order, Process, free_port, listens, read};

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct NatsServer {
    process: Process,
    order: Order,
    port: u16,
    folder: TempDir,
}

impl NatsServer {
    /// Starts a server; `more` is added to its configuration file.
    #[must_use]
    pub fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = free_port();
        let jetstream = folder.path().join("js");
        let text =
            format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {jetstream:?}, sync_interval: always }}\n{more}\n");
        let file = folder.path().join("nats.conf");
        std::fs::write(&file, text).expect("the folder can be written");
        let order = Order::new(program(), folder.path().join("log")).args(&format!("-c {}", file.display()));
        let process = order.start(|| listens(port));
        Self { process, order, port, folder }
    }

    /// Its URL, without login and subject: `nats://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }

    /// Its process: to stop, kill, freeze it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again on the same port with what it kept.
    pub fn start_again(&mut self) {
        let port = self.port;
        self.process = self.order.start(|| listens(port));
    }
}

fn program() -> PathBuf {
    super::cache().join("nats-2.15.1/nats-server")
}
