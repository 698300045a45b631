//! What is given back, or is to be tried again at once, may come again before the answer to that does. It is then another delivery: it is
//! handed out, and does not wait for its lease to end.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use weir_runtime::clock;
use weir_runtime::event::Event;
use weir_runtime::queue::{Publish, Queue, Settle, Settlement, Start, Tries};
use weir_tests::brokers::{mosquitto, nats, nsq};
use weir_tests::redis;

use super::{Spot, fresh};

const READS: &str = "weir-reads";

/// Events that go round.
const EVENTS: usize = 64;

/// Pulls at once.
const HANDS: usize = 8;

/// How often something is given back.
const ROUNDS: usize = 1_000;

/// Longest wait for all to be there at the end, and for the rounds: far less than the leases here, which are a minute.
const SOON: Duration = Duration::from_secs(30);

async fn round(queue: Arc<dyn Queue>, done: Arc<AtomicUsize>, retry: bool) {
    while done.load(Ordering::Relaxed) < ROUNDS {
        let most = NonZeroUsize::new(EVENTS / HANDS / 2).unwrap();
        let Ok(came) = tokio::time::timeout(Duration::from_millis(100), queue.pull(READS, most)).await else { continue };
        let batch: Vec<Settlement> = came
            .unwrap()
            .into_iter()
            .map(|delivery| {
                let tries = Tries { failed: delivery.tries.failed + 1, ..delivery.tries };
                delivery.settle(if retry { Settle::Retry { due: clock::now(), tries } } else { Settle::Return }).1
            })
            .collect();
        done.fetch_add(batch.len(), Ordering::Relaxed);
        assert_eq!(queue.settle(READS, batch).await, Ok(vec![]));
    }
}

/// With retries, or given back.
async fn goes_round(url: String, retry: bool) {
    let spot = Spot::new(url);
    let queue = spot.opened().await.unwrap();
    queue.subscribe(READS, Start::New).await.unwrap();
    let event = |id: usize| Event { id: id.to_string(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    let all = (0..EVENTS).map(|id| Publish { event: Arc::new(event(id)), due: None });
    queue.publish(all.collect()).await.unwrap();
    let (begun, done) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let hands: Vec<_> = (0..HANDS).map(|_| tokio::spawn(round(Arc::clone(&queue), Arc::clone(&done), retry))).collect();
    for hand in hands {
        tokio::time::timeout(SOON, hand).await.unwrap().unwrap();
    }
    let mut there = BTreeSet::new();
    while there.len() < EVENTS {
        let most = NonZeroUsize::new(EVENTS).unwrap();
        let came = tokio::time::timeout(SOON, queue.pull(READS, most)).await;
        let came = came.unwrap_or_else(|_| panic!("{} of {EVENTS} are there, after {:?}", there.len(), begun.elapsed()));
        there.extend(came.unwrap().into_iter().map(|delivery| delivery.event.id.clone()));
    }
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stream() {
    goes_round(format!("{}?stream={}&lease=60s", redis::shared().url(0), fresh()), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_list() {
    goes_round(format!("{}?list={}&lease=60s", redis::shared().url(0), fresh()), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_sorted_set() {
    goes_round(format!("{}?zset={}&lease=60s", redis::shared().url(0), fresh()), true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn jetstream() {
    let (server, name) = (nats::start(""), fresh());
    let url = |name: &str| format!("{}/{name}.new?stream={name}&lease=60s", server.url());
    goes_round(url(&name), false).await;
    goes_round(url(&fresh()), true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn nsq_topic() {
    let server = nsq::start("");
    goes_round(format!("{}/{}?lease=60s", server.url(), fresh()), false).await;
    goes_round(format!("{}/{}?lease=60s", server.url(), fresh()), true).await;
}

/// Its retries are in the store.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn mqtt() {
    let server = mosquitto::start("");
    goes_round(format!("{}/{}?lease=60s", server.url(), fresh()), false).await;
    goes_round(format!("{}/{}?lease=60s", server.url(), fresh()), true).await;
}
