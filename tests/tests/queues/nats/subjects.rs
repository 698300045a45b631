//! What is core NATS's own, and its faults.

use std::time::{Duration, Instant};

use weir_runtime::event::Event;
use weir_runtime::queue::{Answer, Publish, QueueError, Start};
use weir_tests::brokers::nats;

use super::shared;
use super::streams::{SOON, ack, event, eventually, pull, refused};
use crate::{fresh, opened};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn a_request_is_answered_once() {
    let name = fresh();
    let queue = opened(&format!("{}/{name}.*?reply-within=20s", shared().url()), None).await.unwrap();
    queue.subscribe("weir-it", Start::New).await.unwrap();
    let client = async_nats::connect(shared().url()).await.unwrap();
    let asking = tokio::spawn({
        let (client, subject) = (client.clone(), format!("{name}.one"));
        async move { client.request(subject, "plain".into()).await }
    });
    let came = pull(&*queue, 1).await;
    assert_eq!((came[0].event.data.as_deref(), &*came[0].event.kind), (Some(&b"plain"[..]), "com.example.raw"));
    let by = queue.answer_by("weir-it", came[0].position).unwrap();
    assert!(by > Instant::now() && by <= Instant::now() + Duration::from_secs(20));
    let reply = Event { id: "r".to_owned(), source: "/s".to_owned(), kind: "answer".to_owned(), ..Event::default() };
    queue.answer("weir-it", came[0].position, Answer::Reply(reply.into())).await.unwrap();
    queue.answer("weir-it", came[0].position, Answer::Failed("too late".to_owned())).await.unwrap();
    assert_eq!(queue.answer_by("weir-it", came[0].position), None);
    let answer = tokio::time::timeout(SOON, asking).await.unwrap().unwrap().unwrap();
    let headers = answer.headers.unwrap();
    assert_eq!((headers.get("ce-type").unwrap().as_str(), headers.get("ce-id").unwrap().as_str()), ("answer", "r"));
    ack(&*queue, came).await;
    // A subject that stands for several is only read.
    assert!(matches!(queue.publish(vec![event("1")]).await, Err(QueueError::Invalid(_))));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn what_cannot_be_used_is_named() {
    let server = nats::start(
        r#"authorization { users: [
            {user: ann, password: s3cret}
            {user: bob, password: s3cret, permissions: {subscribe: {deny: "a.b"}, publish: {deny: "a.c"}}}
        ] }"#,
    );
    let at = |user: &str, rest: &str| server.url().replace("nats://", &format!("nats://{user}@")) + "/" + rest;
    let plain = server.url();
    assert_eq!(
        refused(&at("ann:s3cret2", "a.b")).await,
        format!("`{plain}/a.b`: the server refuses this login: authorization violation")
    );
    let said = refused(&at("bob:s3cret", "a.b")).await;
    assert!(
        said.starts_with(&format!("`{plain}/a.b`: the server refuses it: Permissions Violation for Subscription to \"a.b\"")),
        "{said}"
    );
    let queue = opened(&at("bob:s3cret", "a.c"), None).await.unwrap();
    let answer = queue.publish(vec![event("1")]).await;
    let Err(QueueError::Invalid(said)) = answer else { panic!("{answer:?}") };
    assert!(said.contains("Permissions Violation for Publish to \"a.c\""), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
async fn a_server_may_come_later_and_go() {
    let mut server = nats::start("");
    server.process().kill();
    let queue = opened(&format!("{}/a.b", server.url()), None).await.unwrap();
    queue.subscribe("weir-it", Start::New).await.unwrap();
    let health = queue.health();
    assert!(!health.connected_once && health.error.is_some(), "{health:?}");
    server.start_again();
    for number in 0..2 {
        eventually("it takes events", async || queue.publish(vec![event("1")]).await.is_ok()).await;
        let came = pull(&*queue, 1).await;
        assert_eq!((&*came[0].event.id, came[0].tries), ("1", Default::default()));
        ack(&*queue, came).await;
        if number == 0 {
            server.process().kill();
            server.start_again();
        }
    }
    let later = Publish { due: Some(weir_runtime::clock::now().after(SOON)), ..event("2") };
    assert!(matches!(queue.publish(vec![later]).await, Err(QueueError::Unsupported(_))));
    queue.close().await;
}
