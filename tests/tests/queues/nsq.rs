//! `nsq://`, `nsq+lookup://`.

mod faults;
mod refusals;
mod servers;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use weir_runtime::clock;
use weir_runtime::event::Event;
use weir_runtime::queue::conformance::Place;
use weir_runtime::queue::{Delivery, Publish, Queue, Settle, Settlement, Start};
use weir_tests::brokers::nsq;
use weir_tests::brokers::server::Server;

use super::{Spot, fresh, opened};

/// Short, so that what a killed process held comes soon; long enough for a busy machine to renew.
const LEASE: Duration = Duration::from_secs(2);

/// Longest wait for something that must happen: an nsqd looks at a new channel's delays for the first time after five seconds, and for an
/// `nsqlookupd` that was away every fifteen.
const SOON: Duration = Duration::from_secs(40);

/// The subscription of tests that need only one.
const SUBSCRIPTION: &str = "weir-test";

/// What a server is started with so that it takes the largest events of the suite.
const LARGE: &str = "-max-msg-size=8388608 -max-body-size=16777216";

/// The server that the tests of this process share.
fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| nsq::start(LARGE))
}

/// A topic of its own, and where it is.
fn topic(server: &Server) -> Spot {
    Spot::new(url(server, "lease=2s")).lease(LEASE)
}

fn url(server: &Server, parameters: &str) -> String {
    let http = server.http().unwrap();
    format!("{}/{}?http=127.0.0.1:{http}&{parameters}", server.url(), fresh())
}

mod conformance {
    use super::*;

    fn adapter(_: u64) -> Box<dyn Place> {
        Box::new(topic(shared()))
    }

    weir_runtime::conformance_tests!(
        #[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
        adapter,
        skips: [
            "order_is_kept",
            "order_outlives_the_process",
            "order_is_taken_over",
            "order_is_given_up_at_close",
            "first_subscriptions_see_what_waited",
            "start_decides_where_to_begin",
            "subscriptions_outlive_the_process",
            "full_queue_refuses_and_recovers",
            "too_large_is_refused",
            "batch_is_all_or_none",
            "broker_restart_loses_nothing",
        ]
    );
}

/// The same with a server of its own. It is stopped, not killed: an nsqd has in memory what is in flight.
#[test]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
fn broker_restart_loses_nothing() {
    use weir_runtime::queue::conformance::{block_on, check};
    let adapter = |_| -> Box<dyn Place> {
        let server = nsq::start("");
        Box::new(Spot::new(url(&server, "lease=30s")).on_gently(server))
    };
    block_on(check(&adapter, "broker_restart_loses_nothing", &[])).unwrap();
}

fn event(number: u64) -> Arc<Event> {
    Arc::new(Event {
        id: format!("event-{number}"),
        source: "/test".to_owned(),
        kind: "test.event".to_owned(),
        data: Some(format!("{{\"number\":{number}}}").into()),
        ..Event::default()
    })
}

fn ids(numbers: Range<u64>) -> BTreeSet<String> {
    numbers.map(|number| format!("event-{number}")).collect()
}

fn at_once(number: u64) -> Publish {
    Publish { event: event(number), due: None }
}

async fn subscribed(url: &str) -> Arc<dyn Queue> {
    let queue = opened(url, None).await.unwrap();
    queue.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
    queue
}

/// Publishes again while the servers are away, as the dispatcher does.
async fn publish(queue: &dyn Queue, numbers: Range<u64>) {
    let batch: Vec<Publish> = numbers.map(at_once).collect();
    let begun = Instant::now();
    while let Err(error) = queue.publish(batch.clone()).await {
        assert!(begun.elapsed() < SOON, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Pulls until so many are in hand.
async fn take(queue: &dyn Queue, count: usize) -> Vec<Delivery> {
    let mut came = Vec::new();
    let begun = Instant::now();
    while came.len() < count {
        let max = NonZeroUsize::new(count - came.len()).unwrap();
        match tokio::time::timeout(SOON, queue.pull(SUBSCRIPTION, max)).await {
            Ok(Ok(some)) => came.extend(some),
            // Away; whoever pulls waits and pulls again.
            Ok(Err(_)) if begun.elapsed() < SOON => tokio::time::sleep(Duration::from_millis(20)).await,
            other => panic!("with {} of {count} in hand: {other:?}", came.len()),
        }
    }
    came
}

fn ids_of(came: &[Delivery]) -> BTreeSet<String> {
    came.iter().map(|delivery| delivery.event.id.clone()).collect()
}

async fn settle(queue: &dyn Queue, came: Vec<Delivery>, how: Settle) {
    let batch: Vec<Settlement> = came.into_iter().map(|delivery| delivery.settle(how).1).collect();
    assert_eq!(queue.settle(SUBSCRIPTION, batch).await, Ok(vec![]));
}

async fn nothing_comes(queue: &dyn Queue) {
    let pulled = tokio::time::timeout(Duration::from_millis(100), queue.pull(SUBSCRIPTION, NonZeroUsize::MIN)).await;
    assert!(pulled.is_err(), "{pulled:?}");
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A retry, and a delayed event, that wait for longer than the server holds anything: in steps, without a try.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn long_waits_go_in_steps() {
    let server = nsq::start("-max-req-timeout=700ms");
    let queue = subscribed(&url(&server, "lease=2s")).await;
    let due = clock::now().after(Duration::from_millis(2_500));
    queue.publish(vec![Publish { event: event(0), due: Some(due) }]).await.unwrap();
    publish(&*queue, 1..2).await;
    let came = take(&*queue, 1).await;
    assert_eq!(ids_of(&came), ids(1..2));
    let mut tries = came[0].tries;
    tries.failed = 1;
    settle(&*queue, came, Settle::Retry { due, tries }).await;
    let mut came = take(&*queue, 2).await;
    assert!(clock::now() >= due, "early by {:?}", due.since(clock::now()));
    came.sort_by_key(|delivery| delivery.event.id.clone());
    let failed: Vec<u32> = came.iter().map(|delivery| delivery.tries.failed).collect();
    assert_eq!((ids_of(&came), failed), (ids(0..2), vec![0, 1]));
    assert!(came[0].first_seen >= due && came[0].event.extensions.is_empty(), "{:?}", came[0]);
    settle(&*queue, came, Settle::Ack).await;
    queue.close().await;
}

/// What others publish, plain and not.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn messages_of_others_become_events() {
    let server = shared();
    let url = url(server, "lease=2s");
    let queue = subscribed(&url).await;
    let topic = url.split(['/', '?']).nth(3).unwrap().to_owned();
    let http = format!("http://127.0.0.1:{}/pub?topic={topic}", server.http().unwrap());
    for body in [&b"{\"order\":7}"[..], &[255, 0, 1]] {
        ureq::post(&http).send(body).unwrap();
        let came = take(&*queue, 1).await;
        let event = &came[0].event;
        let server = server.url().trim_start_matches("nsq://");
        assert!(event.id.starts_with(&format!("{server}/")) && event.id.len() == server.len() + 17, "{}", event.id);
        assert_eq!((event.source.as_str(), event.kind.as_str()), ("/weir/queue/orders", "com.example.raw"));
        assert_eq!(event.data.as_deref(), Some(body));
        settle(&*queue, came, Settle::Ack).await;
    }
    queue.close().await;
}

/// A channel holds at most what the window says, whoever waits.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn no_more_is_held_than_the_window() {
    let queue = subscribed(&url(shared(), "lease=30s")).await;
    queue.window(SUBSCRIPTION, NonZeroUsize::new(7).unwrap());
    publish(&*queue, 0..50).await;
    let in_flight = async || queue.depth().await.unwrap().subscriptions[0].in_flight.unwrap();
    let mut ended = BTreeSet::new();
    while ended.len() < 50 {
        let came = queue.pull(SUBSCRIPTION, NonZeroUsize::new(100).unwrap()).await.unwrap();
        let held = in_flight().await;
        assert!(held <= 7 && !came.is_empty(), "{held} in flight");
        ended.extend(ids_of(&came));
        settle(&*queue, came, Settle::Ack).await;
    }
    assert_eq!(ended, ids(0..50));
    // Nothing is asked for, so nothing is held.
    publish(&*queue, 50..60).await;
    assert_eq!(take(&*queue, 2).await.len(), 2);
    assert_eq!(in_flight().await, 2);
    queue.close().await;
}

/// `group=` reads on where another client stopped, under its name.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn a_channel_is_taken_over() {
    let url = url(shared(), "lease=2s");
    let old = opened(&url, None).await.unwrap();
    old.subscribe("workers", Start::New).await.unwrap();
    publish(&*old, 0..3).await;
    old.close().await;
    let queue = subscribed(&format!("{url}&group=workers")).await;
    let depth = queue.depth().await.unwrap();
    let names: Vec<&str> = depth.subscriptions.iter().map(|known| known.name.as_str()).collect();
    assert_eq!(names, [SUBSCRIPTION]);
    assert_eq!(ids_of(&take(&*queue, 3).await), ids(0..3));
    queue.close().await;
}
