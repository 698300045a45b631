//! The brokers that tests of queues talk to come up, end when they are asked to, and come back on the same port.

use weir_tests::brokers::kafka::Kafka;
use weir_tests::brokers::mosquitto::Mosquitto;
use weir_tests::brokers::nats::NatsServer;
use weir_tests::brokers::nsq::Nsq;
use weir_tests::brokers::process::listens;
use weir_tests::brokers::rabbitmq::{RabbitMq, Release};

/// Of a server of any kind: it ends by itself and by a kill, and comes back after each.
macro_rules! comes_and_goes {
    ($server:ident, $port:expr) => {
        let port = $port;
        let pid = $server.process().pid();
        $server.process().stop();
        assert!(!listens(port), "it still listens after its end");
        $server.start_again();
        assert_ne!($server.process().pid(), pid);
        $server.process().kill();
        assert!(!listens(port), "it still listens after it was killed");
        $server.start_again();
        assert!(listens(port));
        drop($server);
        assert!(!listens(port), "it outlives its test");
    };
}

#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make brokers")]
fn nats() {
    let mut server = NatsServer::start("");
    comes_and_goes!(server, server.port());
}

#[test]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make brokers")]
fn nsq() {
    let lookup = Nsq::start_lookup();
    let mut server = Nsq::start(&format!("-lookupd-tcp-address 127.0.0.1:{}", lookup.tcp()));
    comes_and_goes!(server, server.tcp());
}

#[test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make brokers")]
fn mosquitto() {
    let mut server = Mosquitto::start("");
    comes_and_goes!(server, server.port());
}

#[test]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make brokers")]
fn kafka() {
    let mut server = Kafka::start("");
    comes_and_goes!(server, server.port());
}

#[test]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make brokers")]
fn rabbitmq() {
    let mut server = RabbitMq::start(Release::New, "");
    comes_and_goes!(server, server.port());
}

#[test]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make brokers")]
fn rabbitmq_of_the_distribution() {
    let mut server = RabbitMq::start(Release::Old, "");
    comes_and_goes!(server, server.port());
}
