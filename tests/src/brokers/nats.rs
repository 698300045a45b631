//! `nats-server` with JetStream.

use std::path::PathBuf;

use super::process::{Order, free_port};
use super::server::Server;

/// Starts a server; `more` is added to its configuration file.
#[must_use]
pub fn start(more: &str) -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let port = free_port();
    let jetstream = folder.path().join("js");
    // An event of a mebibyte needs room for its headers.
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\nmax_payload: 8MB\njetstream {{ store_dir: {jetstream:?}, sync_interval: always }}\n{more}\n"
    );
    let file = folder.path().join("nats.conf");
    std::fs::write(&file, text).expect("the folder can be written");
    let order = Order::new(program(), folder.path().join("log")).args(&format!("-c {}", file.display()));
    Server::start("nats://", &[port], order, folder)
}

fn program() -> PathBuf {
    super::cache().join("nats-2.15.1/nats-server")
}
