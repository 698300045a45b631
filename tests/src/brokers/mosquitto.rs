//! Mosquitto, an MQTT 5 broker.

use tempfile::TempDir;

use super::process::{Order, Process, free_port, listens, read};

/// A running broker; stopped when dropped.
#[derive(Debug)]
pub struct Mosquitto {
    process: Process,
    order: Order,
    port: u16,
    folder: TempDir,
}

impl Mosquitto {
    /// Starts a broker that lets anybody in, unless `more` of its configuration says otherwise. What it holds survives an orderly stop.
    #[must_use]
    pub fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let port = free_port();
        let at = folder.path().display();
        // Unlimited queues: its own default of 1,000 messages silently drops what a slow subscriber has not taken.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {at}/\nlog_dest file {at}/log\nuser root\nmax_queued_messages 0\nmax_inflight_messages 1000\n{more}\n"
        );
        let file = folder.path().join("mosquitto.conf");
        std::fs::write(&file, text).expect("the folder can be written");
        let order = Order::new("mosquitto", folder.path().join("out")).args(&format!("-c {}", file.display()));
        let process = order.start(|| listens(port));
        Self { process, order, port, folder }
    }

    /// Its URL, without login and topic: `mqtt://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
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

    /// Its process: to stop, kill, freeze it. Killed, it loses what it has not saved.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again on the same port with what it kept.
    pub fn start_again(&mut self) {
        let port = self.port;
        self.process = self.order.start(|| listens(port));
    }
}
