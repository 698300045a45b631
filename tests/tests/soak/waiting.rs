//! Backpressure: handlers that do not end, and ten times as many events waiting as there were. What this process holds unacknowledged is at
//! most what runs and what may be parked, and its memory does not grow with what waits.
//!
//! `WEIR_TEST_EVENTS` sets how many wait in the end.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::runtime::Builder;
use weir_tests::brokers::{mosquitto, nats, nsq};
use weir_tests::guests;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site};

use super::run::{number, publish, turn};

/// Events that wait unless `WEIR_TEST_EVENTS` says otherwise.
const EVENTS: usize = 20_000;

const CONCURRENCY: u64 = 8;
const PARKED: u64 = 40;

/// What resident memory may grow by, whatever waits: what allocators keep, and what one read of a broker brings.
const GROWS_MAX: u64 = 16 << 20;

/// Between two looks at a process that has nothing to do.
const LATER: Duration = Duration::from_secs(3);

/// Longest wait until everything is held that may be.
const SOON: Duration = Duration::from_secs(60);

/// A queue, and how to ask its broker what is not acknowledged; none: it can't say.
struct Waiting<'a> {
    name: &'static str,
    url: String,
    unacknowledged: Option<&'a dyn Fn() -> u64>,
}

impl Waiting<'_> {
    /// `order`: one event runs and the others of its lane are parked.
    fn check(&self, order: bool) {
        let _turn = turn();
        let count = number("WEIR_TEST_EVENTS").map_or(EVENTS, |count| usize::try_from(count).unwrap());
        let store = RedisServer::start(Keeps::Nothing, &[]);
        let site = Site::new(&self.config(&store, order));
        let server = site.try_start_saying("info").unwrap_or_else(|ran| panic!("the server did not start: {ran:?}"));
        let expected = if order { (1, PARKED) } else { (CONCURRENCY, 0) };
        publish(&self.url, 0..count / 10, 0);
        let begun = Instant::now();
        while self.held(&server) != expected {
            assert!(begun.elapsed() < SOON, "{}: {:?} are held, expected {expected:?}", self.name, self.held(&server));
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut seen = vec![self.look(&server)];
        std::thread::sleep(LATER);
        seen.push(self.look(&server));
        publish(&self.url, count / 10..count, 0);
        std::thread::sleep(LATER);
        seen.push(self.look(&server));
        let told: Vec<String> = seen
            .iter()
            .zip([count / 10, count / 10, count])
            .map(|((memory, unacknowledged), waits)| {
                format!("{waits} waiting: {:.1} MiB, {unacknowledged} unacknowledged", *memory as f64 / f64::from(1 << 20))
            })
            .collect();
        eprintln!("{}{}: {}", self.name, if order { ", in order" } else { "" }, told.join("; "));
        let first = seen[0].0;
        assert!(seen.iter().all(|(memory, _)| *memory <= first + GROWS_MAX), "it grows with what waits: {told:?}");
        assert!(seen.iter().all(|(_, unacknowledged)| *unacknowledged <= CONCURRENCY + PARKED), "too much is held: {told:?}");
        let _ = server.kill9();
    }

    fn config(&self, store: &RedisServer, order: bool) -> String {
        format!(
            "server.store = \"{}\"\n\
             [queue.events]\nurl = \"{}\"\nstart = \"all\"\n\
             [handler.it]\ncomponent = \"{}\"\nqueue = \"events\"\nconcurrency = {CONCURRENCY}\nparked = {PARKED}\n{}\
             limits.deadline = \"5m\"\n",
            store.url(0),
            self.url,
            guests::LIMIT_SLEEP,
            if order { "order-by = \"source\"\n" } else { "" }
        )
    }

    /// What runs, and what is parked.
    fn held(&self, server: &Server) -> (u64, u64) {
        let metrics = server.metrics();
        (metrics.sum("weir_events_in_flight", &[]), metrics.sum("weir_events_parked", &[]))
    }

    /// Resident memory, and what is not acknowledged.
    fn look(&self, server: &Server) -> (u64, u64) {
        let (runs, parked) = self.held(server);
        assert!(runs + parked <= CONCURRENCY + PARKED, "{}: {runs} run, {parked} are parked", self.name);
        (resident(server.pid()), self.unacknowledged.map_or(runs + parked, |ask| ask()))
    }
}

/// Bytes of memory of a process.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes << 10
}

/// The first number in an answer of Redis.
fn first(answer: &str) -> u64 {
    answer.lines().find_map(|line| line.strip_prefix(':')).unwrap().parse().unwrap()
}

#[test]
fn redis_stream() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let ask = || first(&redis.ask(&["XPENDING", "soak", "weir-it"]));
    let url = format!("{}?stream=soak", redis.url(0));
    Waiting { name: "redis stream", url, unacknowledged: Some(&ask) }.check(false);
}

#[test]
fn redis_list() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    for (key, order) in [("one", false), ("two", true)] {
        let ask = || first(&redis.ask(&["ZCARD", &format!("{{{key}}}.leases")]));
        let url = format!("{}?list={key}", redis.url(0));
        Waiting { name: "redis list", url, unacknowledged: Some(&ask) }.check(order);
    }
}

#[test]
fn redis_sorted_set() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let ask = || first(&redis.ask(&["ZCARD", "{soak}.leases"]));
    let url = format!("{}?zset=soak", redis.url(0));
    Waiting { name: "redis sorted set", url, unacknowledged: Some(&ask) }.check(false);
}

#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
fn jetstream() {
    use async_nats::jetstream::consumer::PullConsumer;
    let nats = nats::start("");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for (stream, order) in [("one", false), ("two", true)] {
        let ask = || {
            runtime.block_on(async {
                let context = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
                let mut consumer: PullConsumer = context.get_consumer_from_stream("weir-it", stream).await.unwrap();
                consumer.info().await.unwrap().num_ack_pending as u64
            })
        };
        let url = format!("{}/{stream}.new?stream={stream}", nats.url());
        Waiting { name: "jetstream", url, unacknowledged: Some(&ask) }.check(order);
    }
}

#[test]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
fn nsq_topic() {
    let nsqd = nsq::start("");
    let http = nsqd.http().unwrap();
    let ask = || {
        let mut stats = ureq::get(format!("http://127.0.0.1:{http}/stats?format=json&topic=soak")).call().unwrap();
        let stats: Value = serde_json::from_str(&stats.body_mut().read_to_string().unwrap()).unwrap();
        stats["topics"][0]["channels"][0]["in_flight_count"].as_u64().unwrap()
    };
    let url = format!("{}/soak", nsqd.url());
    Waiting { name: "nsq", url, unacknowledged: Some(&ask) }.check(false);
}

/// Mosquitto says of nobody what is not acknowledged.
#[test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
fn mqtt() {
    let mosquitto = mosquitto::start("");
    let url = format!("{}/soak/new", mosquitto.url());
    Waiting { name: "mqtt", url, unacknowledged: None }.check(false);
}
