//! Apache Kafka: one process, broker and controller in one, without ZooKeeper.

use std::path::PathBuf;

use tempfile::TempDir;

use super::process::{Order, free_port, read};
use super::server::Server;
use super::stall::Stall;
use crate::redis::certificates;

/// Short times, so that tests need not wait: a group's first member, its heartbeats, the broker's own registration after a kill.
const SETTINGS: &str = "process.roles=broker,controller
node.id=1
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,THROUGH:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
num.network.threads=2
num.io.threads=2
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=200
broker.heartbeat.interval.ms=200
broker.session.timeout.ms=1000
";

/// Who may log in to [`start_guarded`]: `ann` to everything, `bob` to nothing.
const GUARDED: &str = "listener.security.protocol.map=PLAINTEXT:PROTOCOL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username=\"ann\" password=\"s3cret\" user_ann=\"s3cret\" user_bob=\"s3cret\";
listener.name.plaintext.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ann;User:ANONYMOUS
";

/// Starts a broker; `more` is added to `server.properties`.
#[must_use]
pub fn start(more: &str) -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    start_in(folder, more, "", None)
}

/// Starts a broker that also tells its clients to come through a proxy, if that is how they came; and the proxy.
#[must_use]
pub fn start_behind_stall() -> (Server, Stall) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let port = free_port();
    let stall = Stall::before(port);
    (start_in(folder, "", "", Some((port, stall.port()))), stall)
}

/// Starts a broker with users: `ann` may do everything, `bob` nothing; both have the password `s3cret`, by PLAIN and SCRAM-SHA-512.
/// With TLS it has a certificate for 127.0.0.1, signed by `ca.pem` in its folder.
#[must_use]
pub fn start_guarded(tls: bool) -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let mut more = GUARDED.replace("PROTOCOL", if tls { "SASL_SSL" } else { "SASL_PLAINTEXT" });
    if tls {
        certificates(folder.path());
        let both = ["server.key", "server.pem"].map(|name| read(&folder.path().join(name))).concat();
        std::fs::write(folder.path().join("both.pem"), both).expect("the folder can be written");
        more += &format!(
            "ssl.keystore.type=PEM\nssl.keystore.location={0}/both.pem\nssl.truststore.type=PEM\nssl.truststore.location={0}/ca.pem\n",
            folder.path().display()
        );
    }
    let users = ["ann", "bob"].map(|name| format!(" --add-scram SCRAM-SHA-512=[name={name},password=s3cret]"));
    start_in(folder, &more, &users.concat(), None)
}

/// `through` is where it listens too, and where clients are told to go that come there.
fn start_in(folder: TempDir, more: &str, users: &str, through: Option<(u16, u16)>) -> Server {
    let (port, controller) = (free_port(), free_port());
    let own = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    let (listeners, advertised) = match through {
        None => (own.clone(), own),
        Some((port, told)) => (format!("{own},THROUGH://127.0.0.1:{port}"), format!("{own},THROUGH://127.0.0.1:{told}")),
    };
    let text = format!(
        "{SETTINGS}controller.quorum.bootstrap.servers=127.0.0.1:{controller}\nlisteners={listeners}\nadvertised.listeners={advertised}\nlog.dirs={}/data\n{more}\n",
        folder.path().display()
    );
    let file = folder.path().join("server.properties");
    std::fs::write(&file, text).expect("the folder can be written");
    let java = |class: &str, log: &str| {
        Order::new("java", folder.path().join(log))
            .args("-Xms128m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+PerfDisableSharedMem")
            .args("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .args(class)
            .env("CLASSPATH", format!("{}/*", jars().display()))
    };
    // The name of a cluster is 16 bytes in base64; each of ours has its own folder, so that they may share one.
    let format = format!("kafka.tools.StorageTool format --standalone -t d2Vpci10ZXN0cy1rYWZrYQ -c {}{users}", file.display());
    assert!(java(&format, "format.log").succeeds(), "{}", read(&folder.path().join("format.log")));
    let order = java(&format!("kafka.Kafka {}", file.display()), "log");
    Server::start("kafka://", &[port], order, folder)
}

fn jars() -> PathBuf {
    super::cache().join("kafka-4.3.1")
}
