//! `?list=` and `?zset=` through the conformance suite against real servers, and what is their own.

mod beside;
mod faults;

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::dead::DeadBounds;
use crate::event::Event;
use crate::queue::conformance::{Place, block_on, check};
use crate::queue::url::QueueUrl;
use crate::queue::{BoxFuture, Delivery, Opening, Publish, Queue, QueueError, Settle, Settlement, Start, Tries};
use crate::redis::server::{Keeps, RedisServer, shared};

/// Short, so that what a killed process held comes soon; long enough for a busy machine to renew.
const LEASE: Duration = Duration::from_secs(2);

/// Longest wait for something that must happen.
const SOON: Duration = Duration::from_secs(20);

/// The subscription of tests that need only one.
const SUBSCRIPTION: &str = "weir-tests";

/// A key of its own on the server that the tests of this process share, or on one that can be restarted.
struct Spot {
    /// `list=` and its like, before the key.
    kind: &'static str,
    key: String,
    server: Option<Mutex<RedisServer>>,
}

impl Spot {
    fn shared(kind: &'static str) -> Box<dyn Place> {
        Box::new(Self { kind, key: fresh(), server: None })
    }

    fn alone(kind: &'static str) -> Box<dyn Place> {
        let server = Some(Mutex::new(RedisServer::start(Keeps::Always, &[])));
        Box::new(Self { kind, key: fresh(), server })
    }
}

impl Place for Spot {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        let server = self.server.as_ref().map_or_else(|| shared().url(0), |server| server.lock().unwrap().url(0));
        Box::pin(async move { open(&format!("{server}?{}{}&lease=2s", self.kind, self.key)).await })
    }

    fn lease(&self) -> Option<Duration> {
        Some(LEASE)
    }

    fn has_broker(&self) -> bool {
        self.server.is_some()
    }

    fn restart_broker(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(server) = &self.server {
                let mut server = server.lock().unwrap();
                server.kill();
                server.start_again();
            }
        })
    }
}

fn right(_: u64) -> Box<dyn Place> {
    Spot::shared("list=")
}

fn left(_: u64) -> Box<dyn Place> {
    Spot::shared("take=left&list=")
}

fn seconds(_: u64) -> Box<dyn Place> {
    Spot::shared("zset=")
}

macro_rules! conformance {
    ($($name:ident [$($more:literal),*])*) => {
        $(mod $name {
            use super::$name;

            crate::conformance_tests!($name, skips: [
                "each_subscription_sees_all",
                "first_subscriptions_see_what_waited",
                "start_decides_where_to_begin",
                "unsubscribe_frees",
                "subscriptions_outlive_the_process",
                "full_queue_refuses_and_recovers",
                "too_large_is_refused",
                "batch_is_all_or_none",
                "broker_restart_loses_nothing"
                $(, $more)*
            ]);
        })*
    };
}

conformance! {
    right []
    left []
    seconds ["order_is_kept", "order_outlives_the_process", "order_is_taken_over", "order_is_given_up_at_close"]
}

/// The suite's scenarios about a broker that is restarted, each with a server of its own.
#[test]
fn a_restart_loses_nothing() {
    for kind in ["list=", "zset="] {
        let adapter = |_: u64| Spot::alone(kind);
        for scenario in ["broker_restart_loses_nothing", "answered_publishes_outlive_a_kill"] {
            block_on(check(&adapter, scenario, &[])).unwrap_or_else(|failure| panic!("{kind} {scenario}: {failure}"));
        }
    }
}

/// A key that no other test has.
fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("taken:{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn open(url: &str) -> Result<Arc<dyn Queue>, QueueError> {
    let opening = Opening {
        name: "orders".to_owned(),
        kind: "com.example.raw".to_owned(),
        max_size_bytes: 0,
        process: "tests".to_owned(),
        group: "weir".to_owned(),
        dead: DeadBounds::default(),
        key: None,
        map: None,
        store: None,
    };
    crate::queue::open(&QueueUrl::parse(url, Path::new("")).unwrap(), opening).await
}

/// A fresh key of the shared server, read by one handler.
async fn subscribed(kind: &str) -> (Arc<dyn Queue>, String) {
    let key = fresh();
    let queue = open(&format!("{}?{kind}{key}&lease=2s", shared().url(0))).await.unwrap();
    queue.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
    (queue, key)
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

async fn pull(queue: &dyn Queue, name: &str, count: usize) -> Vec<Delivery> {
    let mut came = Vec::new();
    while came.len() < count {
        let max = NonZeroUsize::new(count - came.len()).unwrap();
        let more = tokio::time::timeout(SOON, queue.pull(name, max)).await;
        let more = more.unwrap_or_else(|_| panic!("{} of {count} came within {SOON:?}", came.len()));
        came.extend(more.unwrap());
    }
    came
}

async fn one(queue: &dyn Queue) -> Delivery {
    pull(queue, SUBSCRIPTION, 1).await.remove(0)
}

async fn nothing_comes(queue: &dyn Queue, name: &str) {
    let came = tokio::time::timeout(Duration::from_millis(100), queue.pull(name, NonZeroUsize::MIN)).await;
    assert!(came.is_err(), "{came:?}");
}

async fn settle(queue: &dyn Queue, name: &str, delivery: Delivery, how: Settle) {
    assert_eq!(queue.settle(name, vec![delivery.settle(how).1]).await.unwrap(), []);
}

fn again(failed: u32) -> Settle {
    Settle::Retry { due: crate::clock::Timestamp(0), tries: Tries { failed, ..Tries::default() } }
}

fn data(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.event.data.as_deref().unwrap_or_default()).unwrap()
}

/// Waits on a condition.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
