//! The adapters: a broker for each, and the URL of a queue on it.

use weir_tests::brokers::{kafka, mosquitto, nats, server};
use weir_tests::redis::{Keeps, RedisServer};

use super::run::{Broker, Soak};

impl Broker for server::Server {
    fn restart(&mut self) {
        self.process().stop();
        self.start_again();
    }
}

impl Broker for RedisServer {
    fn restart(&mut self) {
        self.stop();
        self.start_again();
    }
}

#[test]
pub(crate) fn redis_stream() {
    let redis = RedisServer::start(Keeps::Always, &[]);
    let url = format!("{}?stream=soak&lease=5s", redis.url(0));
    Soak::new("redis stream", &url).run(redis);
}

#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
fn jetstream() {
    let nats = nats::start("");
    let url = format!("{}/soak.new?stream=soak&lease=5s", nats.url());
    Soak::new("jetstream", &url).run(nats);
}

#[test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
fn mqtt() {
    let mosquitto = mosquitto::start("");
    let url = format!("{}/soak/new", mosquitto.url());
    Soak::new("mqtt", &url).run(mosquitto);
}

#[test]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
fn kafka_topic() {
    let kafka = kafka::start("");
    let url = format!("{}/soak?partitions=4&lease=5s", kafka.url());
    Soak::new("kafka", &url).run(kafka);
}
