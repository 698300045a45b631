//! `nsqd`, and `nsqlookupd` that knows which of them has a topic.

use std::path::PathBuf;

use super::process::{Order, free_port};
use super::server::Server;

/// Starts an `nsqd` that keeps everything on disk; `more` is added to its command line, such as `-max-msg-timeout=2s`.
#[must_use]
pub fn start(more: &str) -> Server {
    start_program("nsqd", |folder| format!("-data-path {folder} -mem-queue-size=0 -sync-every=1 {more}"))
}

/// Starts an `nsqlookupd`; an `nsqd` registers with `-lookupd-tcp-address 127.0.0.1:PORT`.
#[must_use]
pub fn start_lookup() -> Server {
    start_program("nsqlookupd", |_| String::new())
}

fn start_program(name: &str, more: impl FnOnce(&str) -> String) -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (tcp, http) = (free_port(), free_port());
    let more = more(&folder.path().display().to_string());
    let arguments = format!("-tcp-address 127.0.0.1:{tcp} -http-address 127.0.0.1:{http} -broadcast-address 127.0.0.1 {more}");
    let order = Order::new(folder_of_programs().join(name), folder.path().join("log")).args(&arguments);
    Server::start("nsq://", &[tcp, http], order, folder)
}

fn folder_of_programs() -> PathBuf {
    super::cache().join("nsq-1.3.0")
}
