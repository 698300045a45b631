//! What is JetStream's own, and its faults.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, consumer, stream};
use weir_runtime::clock::Timestamp;
use weir_runtime::event::Event;
use weir_runtime::queue::{Delivery, Publish, Queue, QueueError, Settle, Start};
use weir_tests::brokers::nats;

use super::shared;
use crate::{fresh, opened};

/// Longest wait for something that must happen.
pub(super) const SOON: Duration = Duration::from_secs(30);

pub(super) fn event(id: &str) -> Publish {
    let event = Event { id: id.to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    Publish { event: Arc::new(event), due: None }
}

pub(super) async fn pull(queue: &dyn Queue, count: usize) -> Vec<Delivery> {
    let mut came = Vec::new();
    while came.len() < count {
        let most = NonZeroUsize::new(count - came.len()).unwrap();
        let more = tokio::time::timeout(SOON, queue.pull("weir-it", most)).await.unwrap_or_else(|_| panic!("only {came:?}"));
        match more {
            Ok(more) => came.extend(more),
            // Away for a moment: asked again after a pause, as the dispatcher does.
            Err(QueueError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    came
}

pub(super) async fn ack(queue: &dyn Queue, came: Vec<Delivery>) {
    let batch = came.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
    assert_eq!(queue.settle("weir-it", batch).await.unwrap(), []);
}

/// Waits until something holds.
pub(super) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < SOON, "not within {SOON:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// What opening, or subscribing, is refused with: it names the queue, never the password.
pub(super) async fn refused(url: &str) -> String {
    let said = match opened(url, None).await {
        Err(QueueError::Invalid(said)) => said,
        Err(other) => panic!("{other:?}"),
        Ok(queue) => match queue.subscribe("weir-it", Start::New).await {
            Err(QueueError::Invalid(said)) => said,
            other => panic!("{other:?}"),
        },
    };
    assert!(!said.contains("s3cret"), "{said}");
    said
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn what_is_no_cloudevent_is_wrapped_and_a_second_copy_dropped() {
    let name = fresh();
    let queue = opened(&format!("{}/{name}.a?stream={name}", shared().url()), None).await.unwrap();
    queue.subscribe("weir-it", Start::New).await.unwrap();
    let client = async_nats::connect(shared().url()).await.unwrap();
    client.publish(format!("{name}.a"), "plain".into()).await.unwrap();
    client.flush().await.unwrap();
    let came = pull(&*queue, 1).await;
    let wrapped = &came[0].event;
    assert_eq!(
        (&*wrapped.id, &*wrapped.source, &*wrapped.kind),
        (&*format!("{name}/1"), "/weir/queue/orders", "com.example.raw")
    );
    ack(&*queue, came).await;
    queue.publish(vec![event("1"), event("2"), event("1")]).await.unwrap();
    // A copy for one handler has a number of its own.
    let mut copy = event("1");
    Arc::make_mut(&mut copy.event).set("weirhandler", "it".to_owned()).unwrap();
    queue.publish(vec![copy.clone(), copy]).await.unwrap();
    let came = pull(&*queue, 4).await;
    let ids: Vec<&str> = came.iter().map(|delivery| &*delivery.event.id).collect();
    assert_eq!(ids, ["1", "2", "1", "1"]);
    ack(&*queue, came).await;
    // A stream that Weir made keeps nothing that all have ended.
    queue.unsubscribe("weir-other").await.unwrap();
    let stream = jetstream::new(client).get_stream(&name).await.unwrap();
    assert_eq!(stream.get_info().await.unwrap().state.messages, 0);
    let large = vec![b'1'; 9 * 1024 * 1024];
    let mut large_event = event("3");
    Arc::make_mut(&mut large_event.event).data = Some(large.into());
    let answer = queue.publish(vec![large_event]).await;
    assert!(matches!(answer, Err(QueueError::TooLarge { bound: 8_000_000 | 8_388_608, .. })), "{answer:?}");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn what_cannot_be_used_is_named() {
    let server = nats::start(
        r#"authorization { users: [
            {user: ann, password: s3cret}
            {user: bob, password: s3cret, permissions: {publish: {deny: ["$JS.API.STREAM.CREATE.>", "$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.DURABLE.>"]}}}
        ] }"#,
    );
    let at = |user: &str, rest: &str| server.url().replace("nats://", &format!("nats://{user}@")) + "/" + rest;
    let plain = server.url();
    assert_eq!(
        refused(&at("ann:s3cret2", "a.b?stream=S")).await,
        format!("`{plain}/a.b?stream=S`: the server refuses this login: authorization violation")
    );
    let said = refused(&at("bob:s3cret", "a.b?stream=S")).await;
    let shown = "stream `S` is not there and can't be made: ";
    let missing = r#"Permissions Violation for Publish to "$JS.API.STREAM.CREATE.S""#;
    let how = "[make it: `nats stream add S --subjects='a.b' --defaults`]";
    assert!(
        said.starts_with(&format!("`{plain}/a.b?stream=S`: {shown}")) && said.contains(missing) && said.ends_with(how),
        "{said}"
    );
    // Ann may make it; then Bob may not make his consumer.
    let ann = opened(&at("ann:s3cret", "a.b?stream=S"), None).await.unwrap();
    ann.subscribe("weir-ann", Start::New).await.unwrap();
    let said = refused(&at("bob:s3cret", "a.b?stream=S")).await;
    assert!(said.contains("consumer `weir-it` can't be made or changed: ") && said.contains("$JS.API.CONSUMER."), "{said}");
    assert!(said.contains("[make it: `nats consumer add S weir-it --pull --ack=explicit"), "{said}");
    // Of the wrong kind.
    let said = refused(&at("ann:s3cret", "x.y?stream=S")).await;
    assert!(said.contains("stream `S` does not take `x.y` (it takes: `a.b`"), "{said}");
    let context = jetstream::new(
        async_nats::ConnectOptions::with_user_and_password("ann".to_owned(), "s3cret".to_owned()).connect(plain).await.unwrap(),
    );
    let pushed = consumer::push::Config {
        durable_name: Some("weir-it".to_owned()),
        deliver_subject: "somewhere".to_owned(),
        ..consumer::push::Config::default()
    };
    context.get_stream("S").await.unwrap().create_consumer(pushed).await.unwrap();
    let said = refused(&at("ann:s3cret", "a.b?stream=S")).await;
    assert!(
        said.contains("consumer `weir-it` of stream `S` can't be used: it is a push consumer [expected a pull consumer"),
        "{said}"
    );
    let work = stream::Config {
        name: "W".to_owned(),
        subjects: vec!["w".to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        ..stream::Config::default()
    };
    context.create_stream(work).await.unwrap();
    let one = opened(&at("ann:s3cret", "w?stream=W"), None).await.unwrap();
    one.subscribe("weir-one", Start::All).await.unwrap();
    let said = refused(&at("ann:s3cret", "w?stream=W")).await;
    assert!(said.contains("the stream is a work queue, which one handler alone can read"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn a_server_may_come_later_and_go() {
    let mut server = nats::start("");
    server.process().kill();
    let url = format!("{}/a.b?stream=S&lease=2s", server.url());
    let queue = opened(&url, None).await.unwrap();
    queue.subscribe("weir-it", Start::New).await.unwrap();
    let health = queue.health();
    assert!(!health.connected_once && health.error.is_some(), "{health:?}");
    assert!(matches!(queue.publish(vec![event("1")]).await, Err(QueueError::Unavailable(_))));
    server.start_again();
    eventually("it takes events", async || queue.publish(vec![event("1")]).await.is_ok()).await;
    assert_eq!(queue.health().error, None);
    let came = pull(&*queue, 1).await;
    // It goes and comes back while an event is handled: that one is ours still, and can be settled.
    server.process().kill();
    server.start_again();
    eventually("it can be settled", async || {
        let settlement = weir_runtime::queue::Settlement { position: came[0].position, settle: Settle::Ack };
        matches!(queue.settle("weir-it", vec![settlement]).await.as_deref(), Ok([]))
    })
    .await;
    eventually("it takes events again", async || queue.publish(vec![event("2")]).await.is_ok()).await;
    let came = pull(&*queue, 1).await;
    assert_eq!(came[0].event.id, "2");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn a_connection_that_is_cut_silently_costs_the_lease_and_no_more() {
    let mut server = nats::start("");
    let url = format!("{}/a.b?stream=S&lease=2s", server.url());
    let queue = opened(&url, None).await.unwrap();
    queue.subscribe("weir-it", Start::New).await.unwrap();
    queue.publish(vec![event("1")]).await.unwrap();
    let held = pull(&*queue, 1).await;
    server.process().freeze();
    // What is held can't be kept, and that is told before anybody else may have it.
    let lapsed = tokio::time::timeout(SOON, queue.lapsed("weir-it")).await.unwrap();
    assert_eq!(lapsed, [held[0].position]);
    assert!(!queue.holds("weir-it", held[0].position));
    assert!(queue.publish(vec![event("2")]).await.is_err());
    server.process().thaw();
    let came = pull(&*queue, 1).await;
    assert!(came[0].first_seen > Timestamp(0));
    eventually("it works again", async || queue.publish(vec![event("3")]).await.is_ok()).await;
    queue.close().await;
}
