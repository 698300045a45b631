//! The brokers that tests of queues talk to come up, end when they are asked to, and come back on the same port.

use weir_tests::brokers::process::listens;
use weir_tests::brokers::rabbitmq::Release;
use weir_tests::brokers::server::Server;
use weir_tests::brokers::{kafka, mosquitto, nats, nsq, rabbitmq};

/// Of a server of any kind: it ends by itself and by a kill, and comes back after each.
fn comes_and_goes(mut server: Server) {
    let port = server.port();
    let pid = server.process().pid();
    server.process().stop();
    assert!(!listens(port), "it still listens after its end");
    server.start_again();
    assert_ne!(server.process().pid(), pid);
    server.process().kill();
    assert!(!listens(port), "it still listens after it was killed");
    server.start_again();
    assert!(listens(port));
    drop(server);
    assert!(!listens(port), "it outlives its test");
}

#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
fn a_nats_server() {
    comes_and_goes(nats::start(""));
}

#[test]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
fn an_nsqd() {
    let lookup = nsq::start_lookup();
    comes_and_goes(nsq::start(&format!("-lookupd-tcp-address 127.0.0.1:{}", lookup.port())));
}

#[test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
fn a_mosquitto() {
    comes_and_goes(mosquitto::start(""));
}

#[test]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
fn a_kafka() {
    comes_and_goes(kafka::start(""));
}

#[test]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
fn a_rabbitmq() {
    comes_and_goes(rabbitmq::start(Release::New, ""));
}

#[test]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
fn a_rabbitmq_of_the_distribution() {
    comes_and_goes(rabbitmq::start(Release::Old, ""));
}
