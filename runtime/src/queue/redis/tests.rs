//! `redis:` through the conformance suite against real servers, and what is its own.

mod entries;
mod faults;
mod gone;
mod keys;
mod leases;
mod outages;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::RedisQueue;
use super::url::StreamUrl;
use crate::dead::DeadBounds;
use crate::event::Event;
use crate::queue::conformance::Place;
use crate::queue::{BoxFuture, Delivery, Opening, Position, Publish, Queue, QueueError, Settle, Settlement, Start};
use crate::redis::server::{Keeps, RedisServer, shared};

/// Short, so that what a killed process held comes soon; long enough for a busy machine to renew.
const LEASE: Duration = Duration::from_secs(2);

/// Longest wait for something that must happen.
const SOON: Duration = Duration::from_secs(20);

/// The subscription of tests that need only one.
const SUBSCRIPTION: &str = "weir-tests";

/// A stream of its own on the server that the tests of this process share, or on one that can be restarted.
struct Stream {
    key: String,
    server: Option<(Mutex<RedisServer>, Keeps)>,
}

impl Stream {
    fn url(&self) -> String {
        let server = self.server.as_ref().map_or_else(|| shared().url(0), |(server, _)| server.lock().unwrap().url(0));
        format!("{server}?stream={}&lease=2s", self.key)
    }
}

impl Place for Stream {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async { Ok(open(&self.url()).await? as Arc<dyn Queue>) })
    }

    fn lease(&self) -> Option<Duration> {
        Some(LEASE)
    }

    fn has_broker(&self) -> bool {
        self.server.is_some()
    }

    fn restart_broker(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some((server, keeps)) = &self.server {
                let mut server = server.lock().unwrap();
                // With every write on disk before it is answered, it may as well be killed.
                if *keeps == Keeps::Always {
                    server.kill()
                } else {
                    server.stop()
                }
                server.start_again();
            }
        })
    }
}

fn adapter(_: u64) -> Box<dyn Place> {
    Box::new(Stream { key: fresh(), server: None })
}

mod conformance {
    use super::adapter;

    crate::conformance_tests!(adapter, skips: [
        "full_queue_refuses_and_recovers",
        "too_large_is_refused",
        "batch_is_all_or_none",
        "broker_restart_loses_nothing",
    ]);
}

/// The suite's scenarios about a broker that is restarted, each with a server of its own.
#[test]
fn a_restart_loses_nothing() {
    for keeps in [Keeps::EverySecond, Keeps::Always] {
        let adapter = |_: u64| {
            let server = Some((Mutex::new(RedisServer::start(keeps, &[])), keeps));
            Box::new(Stream { key: fresh(), server }) as Box<dyn Place>
        };
        let check = crate::queue::conformance::check(&adapter, "broker_restart_loses_nothing", &[]);
        crate::queue::conformance::block_on(check).unwrap_or_else(|failure| panic!("{keeps:?}: {failure}"));
    }
}

/// A key that no other test has.
fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("tests:{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn open(url: &str) -> Result<Arc<RedisQueue>, QueueError> {
    let opening = Opening {
        name: "test".to_owned(),
        kind: "com.example.raw".to_owned(),
        key: None,
        map: None,
        max_size_bytes: 0,
        process: "tests".to_owned(),
        group: "weir".to_owned(),
        dead: DeadBounds::default(),
        store: None,
    };
    RedisQueue::open(&StreamUrl::parse(url, Path::new("")).unwrap(), &opening).await
}

/// A fresh stream on the shared server, with one subscription; and its key.
async fn subscribed() -> (Arc<RedisQueue>, String) {
    let key = fresh();
    (subscribed_at(&format!("{}?stream={key}&lease=2s", shared().url(0))).await, key)
}

async fn subscribed_at(url: &str) -> Arc<RedisQueue> {
    let queue = open(url).await.unwrap();
    queue.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
    queue
}

fn event(number: u64) -> Publish {
    let event = Event {
        id: format!("event-{number}"),
        source: "/tests".to_owned(),
        kind: "tests.event".to_owned(),
        data: Some(format!("{number}").into()),
        ..Event::default()
    };
    Publish { event: Arc::new(event), due: None }
}

async fn publish(queue: &RedisQueue, numbers: Range<u64>) {
    queue.publish(numbers.map(event).collect()).await.unwrap();
}

/// Pulls until `count` events are in hand.
async fn pull(queue: &RedisQueue, count: usize) -> Vec<Delivery> {
    let mut came = Vec::new();
    while came.len() < count {
        let max = NonZeroUsize::new(count - came.len()).unwrap();
        let more = tokio::time::timeout(SOON, queue.pull(SUBSCRIPTION, max)).await;
        let more = more.unwrap_or_else(|_| panic!("{} of {count} events came within {SOON:?}", came.len()));
        came.extend(more.unwrap());
    }
    came
}

async fn nothing_comes(queue: &RedisQueue) {
    let came = tokio::time::timeout(Duration::from_millis(100), queue.pull(SUBSCRIPTION, NonZeroUsize::MIN)).await;
    assert!(came.is_err(), "{came:?}");
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.event.id.as_str()).collect()
}

async fn settle(queue: &RedisQueue, deliveries: Vec<Delivery>, how: Settle) -> Vec<Position> {
    let batch: Vec<Settlement> = deliveries.into_iter().map(|delivery| delivery.settle(how).1).collect();
    queue.settle(SUBSCRIPTION, batch).await.unwrap()
}

async fn ack(queue: &RedisQueue, deliveries: Vec<Delivery>) {
    assert_eq!(settle(queue, deliveries, Settle::Ack).await, []);
}

/// Waits on a condition.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
