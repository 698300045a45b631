//! RabbitMQ: the distribution's own (3.10), and newer ones in a root of their own (`get-rabbitmq.sh`).

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::process::{Order, free_port, listens};
use super::server::Server;

/// Which one is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 3.10 of Debian 12.
    Old,
    /// 4.x of a newer Debian, run by `chroot`: needs root.
    New,
}

/// Who may what: `guest` everything; `reader` reads, and neither makes nor publishes anything; `writer` only publishes; `stranger` has no virtual host at all.
const DEFINITIONS: &str = r#"{
    "users": [
        {"name": "guest", "password": "guest", "tags": "administrator"},
        {"name": "reader", "password": "s3cret", "tags": ""},
        {"name": "writer", "password": "s3cret", "tags": ""},
        {"name": "stranger", "password": "s3cret", "tags": ""}
    ],
    "vhosts": [{"name": "/"}],
    "permissions": [
        {"user": "guest", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "reader", "vhost": "/", "configure": "", "write": "", "read": ".*"},
        {"user": "writer", "vhost": "/", "configure": "", "write": ".*", "read": ""}
    ]
}"#;

/// Starts a server; `more` is added to `rabbitmq.conf`. Its URL, `amqp://guest:guest@127.0.0.1:PORT`, lacks vhost and queue.
#[must_use]
pub fn start(release: Release, more: &str) -> Server {
    start_at(release, &[free_port()], |_| more.to_owned())
}

/// One that takes connections by TLS too, at the port that is answered, from who has a certificate of the authority's: `ca.pem`, `server.pem`
/// and `server.key` are in its folder, and good for both sides.
#[must_use]
pub fn start_tls() -> (Server, u16) {
    let tls = free_port();
    let server = start_at(Release::Old, &[free_port(), tls], |folder| {
        crate::redis::certificates(folder);
        let option = |name: &str, file: &str| format!("ssl_options.{name} = {}\n", folder.join(file).display());
        let files = [option("cacertfile", "ca.pem"), option("certfile", "server.pem"), option("keyfile", "server.key")].concat();
        format!(
            "listeners.ssl.1 = 127.0.0.1:{tls}\n{files}ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
        )
    });
    (server, tls)
}

/// The first port is the one of its URL; it is up when it listens on all of them.
fn start_at(release: Release, ports: &[u16], more: impl FnOnce(&Path) -> String) -> Server {
    let port = ports[0];
    let root = match release {
        Release::Old => PathBuf::from("/"),
        Release::New => super::cache().join("rabbitmq-trixie"),
    };
    // In its root, so that it can see it.
    let folder = tempfile::tempdir_in(root.join("tmp")).expect("a temporary folder can be made");
    let inside = Path::new("/").join(folder.path().strip_prefix(&root).unwrap_or(folder.path()));
    let (distribution, mapper) = (free_port(), free_port());
    let more = more(folder.path());
    write(&folder, "definitions.json", DEFINITIONS);
    let definitions = inside.join("definitions.json");
    write(
        &folder,
        "rabbitmq.conf",
        &format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nload_definitions = {}\nlog.console = true\ndisk_free_limit.absolute = 50MB\nvm_memory_high_watermark.relative = 0.2\n{more}\n",
            definitions.display()
        ),
    );
    write(&folder, "enabled_plugins", "[].");
    let order = |program: &str, arguments: &str, log: &str| {
        let log = folder.path().join(log);
        match release {
            Release::Old => Order::new(program, log).args(arguments),
            Release::New => Order::new("chroot", log).args(&format!("{} {program} {arguments}", root.display())),
        }
        .env("HOME", inside.display().to_string())
        .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
        .env("LANG", "C.UTF-8")
        .env("ERL_EPMD_PORT", mapper.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
    };
    // The server starts its Erlang port mapper if there is none, and that would outlive us.
    let mapping = order("/usr/bin/epmd", "", "epmd.log").start(|| listens(mapper));
    let server = order("/usr/lib/rabbitmq/bin/rabbitmq-server", "", "log")
        .env("RABBITMQ_NODENAME", format!("t{port}@localhost"))
        .env("RABBITMQ_DIST_PORT", distribution.to_string())
        .env("RABBITMQ_MNESIA_BASE", inside.join("mnesia").display().to_string())
        .env("RABBITMQ_LOG_BASE", inside.join("logs").display().to_string())
        .env("RABBITMQ_CONFIG_FILE", inside.join("rabbitmq").display().to_string())
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", inside.join("enabled_plugins").display().to_string())
        .env("RABBITMQ_PID_FILE", inside.join("pid").display().to_string())
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        // Its script becomes the server, rather than waiting for one.
        .env("RUNNING_UNDER_SYSTEMD", "true")
        // One scheduler that does not spin leaves the cores to the tests.
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none");
    Server::start("amqp://guest:guest@", ports, server, folder).beside(mapping)
}

fn write(folder: &TempDir, name: &str, text: &str) {
    std::fs::write(folder.path().join(name), text).expect("the folder can be written");
}
