//! `?channel=` and `?pattern=` through the conformance suite against real servers, and what is their own.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::dead::DeadBounds;
use crate::event::Event;
use crate::queue::conformance::Place;
use crate::queue::url::QueueUrl;
use crate::redis::server::{Keeps, RedisServer, shared};

/// Longest wait for something that must happen.
const SOON: Duration = Duration::from_secs(20);

struct Spot(String);

impl Place for Spot {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async {
            let url = QueueUrl::parse(&self.0, Path::new("")).map_err(QueueError::Invalid)?;
            crate::queue::open(&url, opening()).await
        })
    }
}

fn adapter(_: u64) -> Box<dyn Place> {
    Box::new(Spot(format!("{}?channel={}", shared().url(0), fresh())))
}

mod conformance {
    use super::adapter;

    crate::conformance_tests!(adapter, skips: [
        "order_is_kept",
        "retry_waits_and_holds_up_nobody",
        "delayed_publish_waits",
        "first_subscriptions_see_what_waited",
        "start_decides_where_to_begin",
        "unsubscribe_frees",
        "depth_counts",
        "full_queue_refuses_and_recovers",
        "too_large_is_refused",
        "batch_is_all_or_none",
        "kill_keeps_what_was_not_settled",
        "close_gives_back",
        "acked_never_come_back",
        "retries_outlive_the_process",
        "delayed_outlive_the_process",
        "subscriptions_outlive_the_process",
        "order_outlives_the_process",
        "killed_tries_are_counted",
        "processes_share_a_subscription",
        "a_killed_process_is_replaced",
        "leases_are_kept_while_held",
        "order_is_taken_over",
        "order_is_given_up_at_close",
        "answered_publishes_outlive_a_kill",
        "broker_restart_loses_nothing",
    ]);
}

fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("channels:{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn opening() -> Opening {
    Opening {
        name: "orders".to_owned(),
        kind: "com.example.raw".to_owned(),
        max_size_bytes: 0,
        process: "tests".to_owned(),
        group: "weir".to_owned(),
        dead: DeadBounds::default(),
        key: None,
        map: None,
        store: None,
    }
}

async fn open(url: &str) -> Arc<ChannelQueue> {
    ChannelQueue::open(&ChannelUrl::parse(url, Path::new("")).unwrap(), &opening()).await.unwrap()
}

async fn pull(queue: &dyn Queue, name: &str) -> Delivery {
    let came = tokio::time::timeout(SOON, queue.pull(name, NonZeroUsize::MIN)).await;
    came.unwrap_or_else(|_| panic!("nothing came for {name}")).unwrap().remove(0)
}

fn data(delivery: &Delivery) -> &str {
    std::str::from_utf8(delivery.event.data.as_deref().unwrap_or_default()).unwrap()
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_handler_hears_all_that_matches() {
    let name = fresh();
    let queue = open(&format!("{}?pattern={name}.*", shared().url(0))).await;
    for handler in ["weir-a", "weir-b"] {
        queue.subscribe(handler, Start::New).await.unwrap();
    }
    assert_eq!(shared().ask(&["PUBLISH", &format!("{name}.x"), "hello"]), ":1\r\n");
    assert_eq!(shared().ask(&["PUBLISH", &name, "no match"]), ":0\r\n");
    for handler in ["weir-a", "weir-b"] {
        let came = pull(&*queue, handler).await;
        assert_eq!((data(&came), came.event.kind.as_str()), ("hello", "com.example.raw"));
    }
    let refused = queue.publish(vec![Publish { event: Arc::new(Event::default()), due: None }]).await.unwrap_err();
    assert!(refused.to_string().contains("is a pattern: publish to one channel"), "{refused}");
    queue.close().await;
    eventually("nobody listens any more", async || shared().ask(&["PUBLISH", &format!("{name}.x"), "late"]) == ":0\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_listened_on_again_and_counted() {
    let mut server = RedisServer::start(Keeps::Nothing, &[]);
    let queue = open(&format!("{}?channel=k", server.url(0))).await;
    queue.subscribe("weir-a", Start::New).await.unwrap();
    assert_eq!(queue.health(), Health { connected_once: true, error: None, dropped: Some(0) });
    server.kill();
    eventually("it is noticed", async || queue.health().error.is_some()).await;
    let error = queue.health().error.unwrap();
    assert!(error.contains("the 1. connection that is lost"), "{error}");
    server.start_again();
    eventually("it listens again", async || queue.health().error.is_none()).await;
    assert_eq!(server.ask(&["PUBLISH", "k", "hello"]), ":1\r\n");
    assert_eq!(data(&pull(&*queue, "weir-a").await), "hello");
    assert_eq!(queue.listener.lost.load(Ordering::Relaxed), 1);
    // A connection that was cut says so as well.
    let cut = server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert_eq!(cut, ":1\r\n");
    eventually("it is counted", async || queue.listener.lost.load(Ordering::Relaxed) == 2).await;
    eventually("it listens again", async || queue.health().error.is_none()).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_waited_for() {
    let mut server = RedisServer::start(Keeps::Nothing, &[]);
    server.kill();
    let queue = open(&format!("{}?channel=k", server.url(0))).await;
    queue.subscribe("weir-a", Start::New).await.unwrap();
    assert!(!queue.health().connected_once && queue.health().error.is_some());
    server.start_again();
    eventually("it listens", async || queue.health() == Health { connected_once: true, error: None, dropped: Some(0) }).await;
    assert_eq!(server.ask(&["PUBLISH", "k", "hello"]), ":1\r\n");
    assert_eq!(data(&pull(&*queue, "weir-a").await), "hello");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_is_noticed() {
    let server = RedisServer::start(Keeps::Nothing, &[]);
    let queue = open(&format!("{}?channel=k", server.url(0))).await;
    queue.subscribe("weir-a", Start::New).await.unwrap();
    server.freeze();
    eventually("it is noticed", async || queue.health().error.is_some()).await;
    server.thaw();
    eventually("it listens again", async || queue.health().error.is_none()).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_no_room_for_is_counted() {
    let name = fresh();
    let queue = open(&format!("{}?channel={name}", shared().url(0))).await;
    queue.subscribe("weir-slow", Start::New).await.unwrap();
    let large = "x".repeat(1 << 20);
    for count in 1..=70 {
        assert_eq!(shared().ask(&["PUBLISH", &name, &large]), ":1\r\n");
        // One after the other: a client that is behind by 32 MiB is cut off by the server.
        let come = async || queue.depth().await.unwrap().events.unwrap() + queue.health().dropped.unwrap() == count;
        eventually("it waits or was dropped", come).await;
    }
    assert!(queue.health().dropped > Some(0), "there is no room for 70 MiB");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_us_is_an_error_at_once() {
    let acl = "--user weir on >s3cret &orders +@all -@dangerous";
    let server = RedisServer::start(Keeps::Nothing, &["--requirepass other", acl]);
    let refused = |url: String| async move {
        let queue = ChannelQueue::open(&ChannelUrl::parse(&url, Path::new("")).unwrap(), &opening()).await;
        let refused = match queue {
            Ok(queue) => queue.subscribe("weir-a", Start::New).await,
            Err(refused) => Err(refused),
        };
        refused.unwrap_err()
    };
    let at = |login: &str, channel: &str| format!("redis://{login}127.0.0.1:{}/0?channel={channel}", server.port());
    let text = refused(at("", "orders")).await.to_string();
    assert!(text.contains("asks for a login"), "{text}");
    let text = refused(at("weir:wr0ng@", "orders")).await.to_string();
    assert!(text.contains("does not take this user and password") && !text.contains("wr0ng"), "{text}");
    let lacking = refused(at("weir:s3cret@", "other")).await;
    let text = lacking.to_string();
    assert!(
        matches!(lacking, QueueError::Invalid(_)) && text.contains("lacks a permission") && !text.contains("s3cret"),
        "{text}"
    );
    assert!(text.contains("?channel=other"), "{text}");
    let queue = open(&at("weir:s3cret@", "orders")).await;
    queue.subscribe("weir-a", Start::New).await.unwrap();
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_and_in_another_database() {
    let server = RedisServer::start_with_tls(Keeps::Nothing);
    let queue = open(&format!("{}?channel=orders&ca={}", server.url(4), server.authority().display())).await;
    queue.subscribe("weir-a", Start::New).await.unwrap();
    let event = Event { id: "1".to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    queue.publish(vec![Publish { event: Arc::new(event), due: None }]).await.unwrap();
    assert_eq!(pull(&*queue, "weir-a").await.event.id, "1");
    queue.close().await;
}
