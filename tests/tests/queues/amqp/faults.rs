//! Servers and connections that fail.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use weir_runtime::clock;
use weir_runtime::queue::{Queue, QueueError, Settle, Start};
use weir_tests::brokers::process::free_port;
use weir_tests::brokers::stall::Stall;

use super::own::{SOON, failed, nothing_comes, publish, publish_id, pull, settle};
use super::*;
use crate::opened;

const HANDLER: &str = "weir-a";

/// Asks again, as the dispatcher does, until it is answered.
async fn again<T, F: Future<Output = Result<T, QueueError>>>(mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(SOON * 2, ask()).await.expect("it answers") {
            Ok(answer) => return answer,
            Err(QueueError::Unavailable(_)) if begun.elapsed() < SOON * 2 => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
    }
}

async fn until(queue: &dyn Queue, what: &str, is: impl Fn(&dyn Queue) -> bool) {
    let begun = Instant::now();
    while !is(queue) {
        assert!(begun.elapsed() < SOON * 2, "not {what} after {:?}: {:?}", begun.elapsed(), queue.health());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn a_connection_that_falls_silent_is_made_again() {
    silent(Release::New).await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn a_connection_that_falls_silent_is_made_again_on_old() {
    silent(Release::Old).await;
}

async fn silent(release: Release) {
    let stall = Stall::before(shared(release).port());
    let queue = opened(&format!("amqp://127.0.0.1:{}/%2F/{}?heartbeat=1s", stall.port(), fresh()), None).await.unwrap();
    queue.subscribe(HANDLER, Start::New).await.unwrap();
    for id in ["held", "next"] {
        publish(&*queue, id, None).await.unwrap();
    }
    let held = pull(&*queue, HANDLER).await;
    assert_eq!(held.event.id, "held");
    stall.silence();
    let says = "nothing was heard of the server for two heartbeats";
    until(&*queue, "away", |queue| queue.health().error.is_some_and(|error| error.contains(says))).await;
    let refused = publish(&*queue, "refused", None).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    stall.speak();
    until(&*queue, "back", |queue| queue.health().error.is_none()).await;
    // What ran over it is settled, once: it has come again, and was not handed out.
    let acks = vec![held.settle(Settle::Ack).1];
    let late = again(|| queue.settle(HANDLER, acks.clone())).await;
    assert!(late.is_empty(), "{late:?}");
    let next = again(|| queue.pull(HANDLER, NonZeroUsize::MIN)).await.pop().unwrap();
    assert_eq!(next.event.id, "next");
    settle(&*queue, HANDLER, next, Settle::Ack).await;
    nothing_comes(&*queue, HANDLER).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn a_server_that_is_stopped_in_the_middle_loses_nothing() {
    let mut server = rabbitmq::start(Release::Old, "");
    let queue = opened(&format!("{}/%2F?exchange=e", server.url()), None).await.unwrap();
    queue.subscribe(HANDLER, Start::New).await.unwrap();
    for id in 0..10 {
        publish_id(&*queue, id).await.unwrap();
    }
    let held = pull(&*queue, HANDLER).await;
    let waits = pull(&*queue, HANDLER).await;
    let due = clock::now().after(Duration::from_millis(1_200));
    let mut seen = vec![held.event.id.clone()];
    settle(&*queue, HANDLER, waits, Settle::Retry { due, tries: failed(1) }).await;
    server.process().stop();
    until(&*queue, "away", |queue| queue.health().error.is_some()).await;
    assert!(matches!(publish_id(&*queue, 10).await, Err(QueueError::Unavailable(_))));
    server.start_again();
    again(|| publish_id(&*queue, 10)).await;
    let acks = vec![held.settle(Settle::Ack).1];
    assert_eq!(again(|| queue.settle(HANDLER, acks.clone())).await, []);
    while seen.len() < 11 {
        for came in again(|| queue.pull(HANDLER, NonZeroUsize::new(20).unwrap())).await {
            seen.push(came.event.id.clone());
            settle(&*queue, HANDLER, came, Settle::Ack).await;
        }
    }
    seen.sort_by_key(|id| (id.len(), id.clone()));
    assert_eq!(seen, (0..11).map(|id| id.to_string()).collect::<Vec<_>>());
    nothing_comes(&*queue, HANDLER).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn a_process_joins_and_leaves() {
    const MOST: NonZeroUsize = NonZeroUsize::new(5).unwrap();
    let spot = exchange(shared(Release::Old));
    let one = spot.opened().await.unwrap();
    one.subscribe(HANDLER, Start::New).await.unwrap();
    for id in 0..20 {
        publish_id(&*one, id).await.unwrap();
    }
    let mut held = one.pull(HANDLER, MOST).await.unwrap();
    let other = spot.opened().await.unwrap();
    other.subscribe(HANDLER, Start::New).await.unwrap();
    let theirs = other.pull(HANDLER, MOST).await.unwrap();
    let mut seen: Vec<String> = held.iter().map(|held| held.event.id.clone()).collect();
    assert!(theirs.iter().all(|theirs| !seen.contains(&theirs.event.id)), "two processes have the same event");
    // What it has in hand when it leaves comes to the one that stays, without a try.
    other.close().await;
    while seen.len() < 20 {
        for held in held.drain(..) {
            settle(&*one, HANDLER, held, Settle::Ack).await;
        }
        let came = tokio::time::timeout(SOON, one.pull(HANDLER, MOST)).await.expect("something comes soon").unwrap();
        assert!(came.iter().all(|came| came.tries == failed(0)), "{came:?}");
        seen.extend(came.iter().map(|came| came.event.id.clone()));
        held = came;
    }
    for held in held {
        settle(&*one, HANDLER, held, Settle::Ack).await;
    }
    seen.sort_by_key(|id| (id.len(), id.clone()));
    assert_eq!(seen, (0..20).map(|id| id.to_string()).collect::<Vec<_>>());
    nothing_comes(&*one, HANDLER).await;
    one.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn a_server_that_comes_late_is_connected_to() {
    let mut server = rabbitmq::start(Release::Old, "");
    server.process().stop();
    let queue = opened(&format!("{}/%2F?exchange=e", server.url()), None).await.unwrap();
    queue.subscribe(HANDLER, Start::New).await.unwrap();
    let health = queue.health();
    assert!(!health.connected_once && health.error.is_some(), "{health:?}");
    assert!(matches!(publish(&*queue, "1", None).await, Err(QueueError::Unavailable(_))));
    server.start_again();
    until(&*queue, "connected", |queue| queue.health().connected_once && queue.health().error.is_none()).await;
    // The handler's queue is made before anything is taken.
    publish(&*queue, "1", None).await.unwrap();
    let came = again(|| queue.pull(HANDLER, NonZeroUsize::MIN)).await.pop().unwrap();
    assert_eq!(came.event.id, "1");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn nobody_there_is_no_error_at_the_start() {
    let queue = opened(&format!("amqp://u:s3cret@127.0.0.1:{}/%2F/q", free_port()), None).await.unwrap();
    let error = queue.health().error.unwrap();
    assert!(error.contains("Connection refused") && !error.contains("s3cret"), "{error}");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn a_queue_that_is_deleted_is_made_again() {
    let (server, name) = (shared(Release::Old), fresh());
    let queue = opened(&format!("{}/%2F/{name}", server.url()), None).await.unwrap();
    nothing_comes(&*queue, HANDLER).await;
    bare(server).await.queue_delete(name.as_str().into(), Default::default()).await.unwrap();
    // Whoever reads makes it.
    let pulling = async { again(|| queue.pull(HANDLER, NonZeroUsize::MIN)).await };
    let publishing = async { again(|| publish(&*queue, "1", None)).await };
    let (mut came, ()) = tokio::join!(pulling, publishing);
    assert_eq!(came.pop().unwrap().event.id, "1");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn certificates_of_both_sides_are_checked() {
    let (server, port) = rabbitmq::start_tls();
    let file = |name: &str| server.folder().join(name).display().to_string();
    let url = format!("amqps://guest:guest@localhost:{port}/%2F/q?ca={}", file("ca.pem"));
    let queue = opened(&format!("{url}&cert={}&key={}", file("server.pem"), file("server.key")), None).await.unwrap();
    assert_eq!(queue.health().error, None);
    publish(&*queue, "1", None).await.unwrap();
    let came = pull(&*queue, HANDLER).await;
    settle(&*queue, HANDLER, came, Settle::Ack).await;
    queue.close().await;
    let without = opened(&url, None).await.unwrap();
    assert!(without.health().error.is_some(), "a server that asks for a certificate took none");
    without.close().await;
    let strange = opened(&format!("amqps://guest:guest@localhost:{port}/%2F/q"), None).await;
    let error = match strange {
        Ok(queue) => queue.health().error.unwrap_or_default(),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("certificate") || error.contains("UnknownIssuer"), "{error}");
}
