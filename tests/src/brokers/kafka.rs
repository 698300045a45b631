//! Apache Kafka: one process, broker and controller in one, without ZooKeeper.

use std::path::PathBuf;

use super::process::{Order, free_port, read};
use super::server::Server;

/// Short times, so that tests need not wait: a group's first member, its heartbeats, the broker's own registration after a kill.
const SETTINGS: &str = "process.roles=broker,controller
node.id=1
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
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

/// Starts a broker; `more` is added to `server.properties`.
#[must_use]
pub fn start(more: &str) -> Server {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (port, controller) = (free_port(), free_port());
    let listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}");
    let text = format!(
        "{SETTINGS}controller.quorum.bootstrap.servers=127.0.0.1:{controller}\nlisteners={listeners}\nadvertised.listeners={listeners}\nlog.dirs={}/data\n{more}\n",
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
    let format = format!("kafka.tools.StorageTool format --standalone -t d2Vpci10ZXN0cy1rYWZrYQ -c {}", file.display());
    assert!(java(&format, "format.log").succeeds(), "{}", read(&folder.path().join("format.log")));
    let order = java(&format!("kafka.Kafka {}", file.display()), "log");
    Server::start("kafka://", &[port], order, folder)
}

fn jars() -> PathBuf {
    super::cache().join("kafka-4.3.1")
}
