//! Mosquitto, an MQTT 5 broker.

use std::path::Path;

use super::process::{Order, free_port};
use super::server::Server;

/// Starts a broker that lets anybody in, unless `more` of its configuration says otherwise. What it holds survives an orderly stop.
#[must_use]
pub fn start(more: &str) -> Server {
    start_as("mqtt://", |_| more.to_owned())
}

/// The same with TLS only, and a certificate that `ca.pem` in its folder signed; whoever connects needs one of that too.
#[must_use]
pub fn start_with_tls() -> Server {
    start_as("mqtts://", |folder| {
        crate::redis::certificates(folder);
        let at = folder.display();
        format!("cafile {at}/ca.pem\ncertfile {at}/server.pem\nkeyfile {at}/server.key\nrequire_certificate true")
    })
}

/// The same with one user, who may read and write a single topic; `more` as in [`start`].
#[must_use]
pub fn start_with_login(user: &str, password: &str, topic: &str, more: &str) -> Server {
    start_as("mqtt://", |folder| {
        let (passwords, rights) = (folder.join("passwords"), folder.join("rights"));
        std::fs::write(&passwords, format!("{user}:{password}\n")).expect("the folder can be written");
        let hashed = Order::new("mosquitto_passwd", folder.join("out")).args(&format!("-U {}", passwords.display()));
        assert!(hashed.succeeds(), "mosquitto_passwd writes what it reads");
        std::fs::write(&rights, format!("user {user}\ntopic readwrite {topic}\n")).expect("the folder can be written");
        let more = more.to_owned();
        format!("allow_anonymous false\npassword_file {}\nacl_file {}\n{more}", passwords.display(), rights.display())
    })
}

fn start_as(scheme: &str, more: impl FnOnce(&Path) -> String) -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let port = free_port();
    let more = more(folder.path());
    let at = folder.path().display();
    // Unlimited queues: its own default of 1,000 messages silently drops what a slow subscriber has not taken.
    let text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {at}/\nlog_dest file {at}/log\nuser root\nmax_queued_messages 0\nmax_inflight_messages 1000\n{more}\n"
    );
    let file = folder.path().join("mosquitto.conf");
    std::fs::write(&file, text).expect("the folder can be written");
    let order = Order::new("mosquitto", folder.path().join("out")).args(&format!("-c {}", file.display()));
    Server::start(scheme, &[port], order, folder)
}
