//! A running broker with its folder, whichever it is.

use std::path::Path;

use tempfile::TempDir;

use super::process::{Order, Process, listens, read};

/// A running server; stopped when dropped.
#[derive(Debug)]
pub struct Server {
    /// Without path: `nats://127.0.0.1:PORT`.
    url: String,
    /// The first is the one of its URL.
    ports: Vec<u16>,
    order: Order,
    process: Process,
    /// What it needs beside it, over restarts; only kept, to end with it.
    _beside: Option<Process>,
    folder: TempDir,
}

impl Server {
    /// Starts a server and waits until it listens on all its ports. Its output goes to `log` in its folder, if the order says so.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub(super) fn start(scheme: &str, ports: &[u16], order: Order, folder: TempDir) -> Self {
        let port = ports.first().expect("a server has a port");
        let process = order.start(|| ports.iter().all(|port| listens(*port)));
        Self { url: format!("{scheme}127.0.0.1:{port}"), ports: ports.to_vec(), order, process, _beside: None, folder }
    }

    /// The same with what it needs beside it; ends with it.
    #[must_use]
    pub(super) fn beside(mut self, process: Process) -> Self {
        self._beside = Some(process);
        self
    }

    /// Its URL without a path: `nats://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: a server has a port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.ports[0]
    }

    /// Where it answers HTTP, if it does (NSQ).
    #[must_use]
    pub fn http(&self) -> Option<u16> {
        self.ports.get(1).copied()
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
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

    /// Starts it again on the same ports with what it kept.
    pub fn start_again(&mut self) {
        let ports = &self.ports;
        self.process = self.order.start(|| ports.iter().all(|port| listens(*port)));
    }
}
