//! The adapters: a broker for each, and the URL of a queue on it.

use weir_tests::brokers::rabbitmq::{self, Release};
use weir_tests::brokers::{kafka, mosquitto, nats, nsq, server};
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
fn redis_list() {
    let redis = RedisServer::start(Keeps::Always, &[]);
    let url = format!("{}?list=soak&lease=5s", redis.url(0));
    Soak::new("redis list", &url).run(redis);
}

#[test]
fn redis_sorted_set() {
    let redis = RedisServer::start(Keeps::Always, &[]);
    let url = format!("{}?zset=soak&lease=5s", redis.url(0));
    Soak::new("redis sorted set", &url).run(redis);
}

#[test]
fn redis_channel() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let url = format!("{}?channel=soak", redis.url(0));
    Soak::at_most_once("redis channel", &url).run(redis);
}

#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
fn nats_subject() {
    let nats = nats::start("");
    let url = format!("{}/soak.new", nats.url());
    Soak::at_most_once("nats", &url).run(nats);
}

#[test]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
fn nsq_topic() {
    let nsqd = nsq::start("");
    let url = format!("{}/soak?lease=5s", nsqd.url());
    Soak::new("nsq", &url).run(nsqd);
}

#[test]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
fn kafka_topic() {
    let kafka = kafka::start("");
    let url = format!("{}/soak?partitions=4&lease=5s", kafka.url());
    Soak::new("kafka", &url).run(kafka);
}

#[test]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
fn rabbitmq_old_queue() {
    let rabbitmq = rabbitmq::start(Release::Old, "");
    let url = format!("{}/%2F/soak", rabbitmq.url());
    Soak::new("rabbitmq 3.10 queue", &url).run(rabbitmq);
}

#[test]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
fn rabbitmq_exchange() {
    let rabbitmq = rabbitmq::start(Release::New, "");
    let url = format!("{}/%2F?exchange=soak", rabbitmq.url());
    Soak::new("rabbitmq 4 exchange", &url).run(rabbitmq);
}
