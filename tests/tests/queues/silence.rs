//! Connections that are cut without a word: a proxy passes nothing on any more over what was connected, and closes nothing. Each adapter
//! notices within the time that its page in docs/queues says, connects anew and reads on; nothing that it promises to keep is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_runtime::event::Event;
use weir_runtime::queue::{Delivery, Position, Publish, Queue, QueueError, Settle, Settlement, Start};
use weir_tests::brokers::stall::Stall;
use weir_tests::brokers::{mosquitto, nats, nsq};
use weir_tests::redis;

use super::{fresh, opened};

const READS: &str = "weir-reads";

/// What the pages say.
const REDIS: Duration = Duration::from_secs(7);
const NATS: Duration = Duration::from_secs(20);
/// Half a lease of 8 s, and a new connection.
const NSQ: Duration = Duration::from_secs(5);
/// Twice a `keepalive` of 5 s, and a new connection.
const MQTT: Duration = Duration::from_secs(11);

/// What a busy machine may take longer.
const SLACK: Duration = Duration::from_secs(3);

/// Longest wait for all of it: until leases of those who are cut off are over.
const ALL: Duration = Duration::from_secs(90);

const MANY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);

fn ids(numbers: Range<u64>) -> BTreeSet<String> {
    numbers.map(|number| number.to_string()).collect()
}

async fn publish(queue: &dyn Queue, numbers: Range<u64>) {
    let event = |id| Event { id, source: "/test".to_owned(), kind: "test.event".to_owned(), ..Event::default() };
    let batch = numbers.map(|number| Publish { event: Arc::new(event(number.to_string())), due: None });
    queue.publish(batch.collect()).await.unwrap();
}

/// Pulls at least one, over failures; none: nothing came in time.
async fn pull(queue: &dyn Queue, until: Instant) -> Vec<Delivery> {
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match tokio::time::timeout(left, queue.pull(READS, MANY)).await {
            Ok(Ok(came)) => return came,
            // As the dispatcher does.
            Ok(Err(QueueError::Unavailable(_))) => tokio::time::sleep(Duration::from_millis(20)).await,
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => {}
        }
    }
    Vec::new()
}

/// What is in hand, and what has ended.
#[derive(Default)]
struct Book {
    in_hand: BTreeMap<Position, String>,
    ended: BTreeSet<String>,
}

impl Book {
    fn take(&mut self, came: Vec<Delivery>) {
        self.in_hand.extend(came.into_iter().map(|delivery| (delivery.position, delivery.event.id.clone())));
    }

    /// Acknowledges what is in hand, or what of it is one of these. What is late comes again.
    async fn end(&mut self, queue: &dyn Queue, which: &BTreeSet<String>) {
        let batch: Vec<Settlement> = self
            .in_hand
            .iter()
            .filter(|(_, id)| which.contains(*id))
            .map(|(position, _)| Settlement { position: *position, settle: Settle::Ack })
            .collect();
        let Ok(late) = queue.settle(READS, batch.clone()).await else { return };
        for Settlement { position, .. } in batch {
            let id = self.in_hand.remove(&position).unwrap();
            if !late.contains(&position) {
                self.ended.insert(id);
            }
        }
    }
}

/// Publishes one event after the other until one of them comes: the numbers of those that were published, and what came.
async fn until_it_reads(queue: &dyn Queue, other: &dyn Queue, first: u64, within: Duration) -> (Range<u64>, Vec<Delivery>) {
    let (begun, mut next, mut came) = (Instant::now(), first, Vec::new());
    while !came.iter().any(|delivery: &Delivery| ids(first..next).contains(&delivery.event.id)) {
        assert!(begun.elapsed() < within + SLACK, "nothing new has come within {within:?}: {:?}", queue.health());
        publish(other, next..next + 1).await;
        next += 1;
        came.extend(pull(queue, Instant::now() + Duration::from_millis(100)).await);
    }
    eprintln!("{:?}: reads on after {:.1} s", std::thread::current().name(), begun.elapsed().as_secs_f64());
    (first..next, came)
}

/// `url` is that of a queue on a server that listens on this port.
async fn reads_on(port: u16, within: Duration, url: impl Fn(u16) -> String) {
    let stall = Stall::before(port);
    let queue = opened(&url(stall.port()), None).await.unwrap();
    let other = opened(&url(port), None).await.unwrap();
    queue.subscribe(READS, Start::New).await.unwrap();
    publish(&*other, 0..20).await;
    let mut book = Book::default();
    while book.in_hand.len() < 20 {
        book.take(pull(&*queue, Instant::now() + ALL).await);
    }
    // Some end before, some are held over it.
    book.end(&*queue, &ids(0..10)).await;
    assert_eq!(book.ended, ids(0..10));
    stall.cut();
    // All at once, into the silence, and one by one.
    publish(&*other, 20..30).await;
    let (new, came) = until_it_reads(&*queue, &*other, 30, within).await;
    book.take(came);
    // What the server had sent into it comes again when its lease is over.
    let (begun, all) = (Instant::now(), ids(0..new.end));
    while book.ended != all {
        assert!(begun.elapsed() < ALL, "{:?} have not ended", all.difference(&book.ended).collect::<Vec<_>>());
        book.end(&*queue, &all).await;
        if book.ended != all {
            book.take(pull(&*queue, Instant::now() + Duration::from_millis(200)).await);
        }
    }
    eprintln!("{:?}: all have ended after {:.1} s", std::thread::current().name(), begun.elapsed().as_secs_f64());
    while let Some(error) = queue.health().error {
        assert!(begun.elapsed() < ALL, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    queue.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_stream() {
    let key = fresh();
    reads_on(redis::shared().port(), REDIS, |port| format!("redis://127.0.0.1:{port}/0?stream={key}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_list() {
    let key = fresh();
    reads_on(redis::shared().port(), REDIS, |port| format!("redis://127.0.0.1:{port}/0?list={key}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_sorted_set() {
    let key = fresh();
    reads_on(redis::shared().port(), REDIS, |port| format!("redis://127.0.0.1:{port}/0?zset={key}")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn jetstream() {
    let (server, name) = (nats::start(""), fresh());
    reads_on(server.port(), NATS, |port| format!("nats://127.0.0.1:{port}/{name}.new?stream={name}")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn nsq_topic() {
    let (server, topic) = (nsq::start(""), fresh());
    reads_on(server.port(), NSQ, |port| format!("nsq://127.0.0.1:{port}/{topic}?lease=8s")).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn mqtt() {
    let (server, topic) = (mosquitto::start(""), fresh());
    reads_on(server.port(), MQTT, |port| format!("mqtt://127.0.0.1:{port}/{topic}?keepalive=5s")).await;
}

/// A subject keeps nothing: what is published before it is noticed is lost, and so is the share of those that the server goes on sending
/// into the connection until it notices too.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn nats_subject() {
    let (server, subject) = (nats::start("ping_interval: 1\nping_max: 1"), fresh());
    let stall = Stall::before(server.port());
    let queue = opened(&format!("nats://127.0.0.1:{}/{subject}", stall.port()), None).await.unwrap();
    let other = opened(&format!("{}/{subject}", server.url()), None).await.unwrap();
    queue.subscribe(READS, Start::New).await.unwrap();
    publish(&*other, 0..1).await;
    assert_eq!(pull(&*queue, Instant::now() + ALL).await.len(), 1);
    stall.cut();
    let (new, _) = until_it_reads(&*queue, &*other, 1, NATS).await;
    // This server has noticed long before.
    publish(&*other, new.end..new.end + 10).await;
    let (expected, mut came) = (ids(new.end..new.end + 10), BTreeSet::new());
    while !expected.is_subset(&came) {
        let some = pull(&*queue, Instant::now() + ALL).await;
        assert!(!some.is_empty(), "only {came:?}");
        came.extend(some.into_iter().map(|delivery| delivery.event.id.clone()));
    }
    queue.close().await;
    other.close().await;
}
