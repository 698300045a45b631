//! Mosquitto, an MQTT 5 broker.

use super::process::{Order, free_port};
use super::server::Server;

/// Starts a broker that lets anybody in, unless `more` of its configuration says otherwise. What it holds survives an orderly stop.
#[must_use]
pub fn start(more: &str) -> Server {
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
    Server::start("mqtt://", &[port], order, folder)
}
