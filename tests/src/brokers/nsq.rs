//! `nsqd`, and `nsqlookupd` that knows which of them has a topic.

use std::path::PathBuf;

use tempfile::TempDir;

use super::process::{Order, Process, free_port, listens, read};

/// A running server, `nsqd` or `nsqlookupd`; stopped when dropped.
#[derive(Debug)]
pub struct Nsq {
    process: Process,
    order: Order,
    tcp: u16,
    http: u16,
    folder: TempDir,
}

impl Nsq {
    /// Starts an `nsqd` that keeps everything on disk; `more` is added to its command line, such as `-max-msg-timeout=2s`.
    #[must_use]
    pub fn start(more: &str) -> Self {
        Self::start_program("nsqd", |folder| format!("-data-path {folder} -mem-queue-size=0 -sync-every=1 {more}"))
    }

    /// Starts an `nsqlookupd`; an `nsqd` registers with `-lookupd-tcp-address 127.0.0.1:PORT`.
    #[must_use]
    pub fn start_lookup() -> Self {
        Self::start_program("nsqlookupd", |_| String::new())
    }

    fn start_program(name: &str, more: impl FnOnce(&str) -> String) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (tcp, http) = (free_port(), free_port());
        let more = more(&folder.path().display().to_string());
        let arguments =
            format!("-tcp-address 127.0.0.1:{tcp} -http-address 127.0.0.1:{http} -broadcast-address 127.0.0.1 {more}");
        let order = Order::new(folder_of_programs().join(name), folder.path().join("log")).args(&arguments);
        let process = order.start(|| listens(tcp) && listens(http));
        Self { process, order, tcp, http, folder }
    }

    /// Its URL, without topic: `nsq://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nsq://127.0.0.1:{}", self.tcp)
    }

    /// Where it speaks its own protocol.
    #[must_use]
    pub fn tcp(&self) -> u16 {
        self.tcp
    }

    /// Where it answers HTTP: statistics, and for a lookup `/lookup?topic=`.
    #[must_use]
    pub fn http(&self) -> u16 {
        self.http
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
        let (tcp, http) = (self.tcp, self.http);
        self.process = self.order.start(|| listens(tcp) && listens(http));
    }
}

fn folder_of_programs() -> PathBuf {
    super::cache().join("nsq-1.3.0")
}
