//! What is Kafka's own, and faults.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use weir_runtime::event::Event;
use weir_runtime::queue::{Publish, Queue, QueueError, Settle, Start};

use super::super::opened;
use super::*;

const ONE: NonZeroUsize = NonZeroUsize::MIN;

const SOON: Duration = Duration::from_secs(20);

fn event(id: &str, key: Option<&str>) -> Publish {
    let extensions = key.map(|key| ("partitionkey".to_owned(), key.to_owned()));
    let event = Event {
        id: id.to_owned(),
        source: "/test".to_owned(),
        kind: "test.event".to_owned(),
        extensions: extensions.into_iter().collect(),
        ..Event::default()
    };
    Publish { event: Arc::new(event), due: None }
}

async fn pull(queue: &dyn Queue, max: usize) -> Vec<weir_runtime::queue::Delivery> {
    let max = NonZeroUsize::new(max).unwrap();
    tokio::time::timeout(SOON, queue.pull("h", max)).await.expect("events come").expect("pulling works")
}

async fn ack(queue: &dyn Queue, deliveries: Vec<weir_runtime::queue::Delivery>) {
    let batch = deliveries.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
    assert!(queue.settle("h", batch).await.unwrap().is_empty());
}

/// The URL of a topic of its own, with a consumer group of its own: a group belongs to the cluster.
fn topic(server: &Server, partitions: u32) -> String {
    format!("{}&group={}", super::topic(server, partitions), fresh())
}

/// Asks again for as long as the broker is away.
async fn again<T, F: Future<Output = Result<T, QueueError>>>(mut ask: impl FnMut() -> F) -> T {
    let asked = async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(QueueError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(50)).await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(SOON * 2, asked).await.expect("the broker comes back")
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_key_is_in_one_partition_and_in_order() {
    let queue = opened(&topic(shared(), 4), None).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    let keys = ["a", "b", "c", "d", "e", "f"];
    let all = (0..60).map(|number| event(&number.to_string(), Some(keys[number % keys.len()])));
    queue.publish(all.collect()).await.unwrap();
    let mut came = Vec::new();
    while came.len() < 60 {
        came.extend(pull(&*queue, 60).await);
    }
    let mut partitions = std::collections::BTreeSet::new();
    for key in keys {
        let of_key: Vec<_> = came.iter().filter(|delivery| delivery.event.extension("partitionkey") == Some(key)).collect();
        let ids: Vec<u32> = of_key.iter().map(|delivery| delivery.event.id.parse().unwrap()).collect();
        assert!(ids.is_sorted() && ids.len() == 10, "{key}: {ids:?}");
        let of: std::collections::BTreeSet<_> = of_key.iter().map(|delivery| delivery.position.0 >> 64).collect();
        assert_eq!(of.len(), 1, "{key} is in several partitions");
        partitions.extend(of);
    }
    assert!(partitions.len() > 1);
    ack(&*queue, came).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_second_process_takes_partitions_and_gives_them_back() {
    let url = topic(shared(), 4);
    let one = opened(&url, None).await.unwrap();
    one.subscribe("h", Start::New).await.unwrap();
    one.publish((0..40).map(|number| event(&number.to_string(), None)).collect()).await.unwrap();
    let first = pull(&*one, 4).await;
    let other = opened(&url, None).await.unwrap();
    // What runs may finish: so its partition goes over only then.
    let mut ids: Vec<String> = first.iter().map(|delivery| delivery.event.id.clone()).collect();
    let joining = {
        let other = Arc::clone(&other);
        tokio::spawn(async move { pull(&*other, 100).await })
    };
    ack(&*one, first).await;
    // The second gets some only when the first has given partitions up; published one by one until then.
    let mut number = 40;
    while !joining.is_finished() {
        one.publish(vec![event(&number.to_string(), None)]).await.unwrap();
        number += 1;
        if let Ok(Ok(some)) = tokio::time::timeout(Duration::from_millis(20), one.pull("h", ONE)).await {
            ids.extend(some.iter().map(|delivery| delivery.event.id.clone()));
            ack(&*one, some).await;
        }
    }
    let some = joining.await.unwrap();
    ids.extend(some.iter().map(|delivery| delivery.event.id.clone()));
    ack(&*other, some).await;
    other.close().await;
    while ids.len() < number {
        let some = pull(&*one, 100).await;
        ids.extend(some.iter().map(|delivery| delivery.event.id.clone()));
        ack(&*one, some).await;
    }
    ids.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(ids, (0..number).map(|number| number.to_string()).collect::<Vec<_>>());
    one.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_broker_that_is_away_at_the_start_is_no_error() {
    let mut server = kafka::start("");
    let url = topic(&server, 2);
    server.process().stop();
    let queue = opened(&url, None).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    let health = queue.health();
    assert!(!health.connected_once && health.error.is_some(), "{health:?}");
    let refused = queue.publish(vec![event("0", None)]).await.unwrap_err();
    assert!(matches!(refused, QueueError::Unavailable(_)), "{refused}");
    server.start_again();
    again(|| queue.publish(vec![event("1", None)])).await;
    let came = again(|| queue.pull("h", ONE)).await;
    assert_eq!(came[0].event.id, "1");
    ack(&*queue, came).await;
    assert_eq!((queue.health().connected_once, queue.health().error), (true, None));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_frozen_broker_comes_back() {
    let mut server = kafka::start("");
    let queue = opened(&topic(&server, 1), None).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    queue.publish(vec![event("0", None), event("1", None)]).await.unwrap();
    let held = pull(&*queue, 1).await;
    server.process().freeze();
    let refused = queue.publish(vec![event("2", None)]).await.unwrap_err();
    assert!(matches!(refused, QueueError::Unavailable(_)), "{refused}");
    server.process().thaw();
    // What was not confirmed may have been taken all the same.
    again(|| queue.publish(vec![event("2", None)])).await;
    let batch: Vec<_> = held.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
    let late = again(|| queue.settle("h", batch.clone())).await;
    let mut missing = vec!["1", "2"];
    if !late.is_empty() {
        missing.push("0");
    }
    while !missing.is_empty() {
        let some = again(|| queue.pull("h", ONE)).await;
        missing.retain(|id| some.iter().all(|delivery| delivery.event.id != *id));
        let batch: Vec<_> = some.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
        again(|| queue.settle("h", batch.clone())).await;
    }
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_topic_that_is_missing_is_named() {
    let url = format!("{}/nowhere", shared().url());
    let error = opened(&url, None).await.err().unwrap();
    let expected = format!(
        "`{}/nowhere`: topic `nowhere` is not there [make it, or let Weir do so with `partitions=N` in the URL]",
        shared().url()
    );
    assert_eq!(error, QueueError::Invalid(expected));
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn an_event_that_is_too_large_is_refused_and_the_others_are_not() {
    let queue = opened(&topic(shared(), 1), None).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    let mut large = (*event("large", None).event).clone();
    large.data = Some(vec![b'x'; 17 * 1024 * 1024].into());
    large.datacontenttype = Some("text/plain".to_owned());
    let batch = vec![event("before", None), Publish { event: Arc::new(large), due: None }];
    assert!(matches!(queue.too_large(&batch), Some(QueueError::TooLarge { .. })));
    assert!(matches!(queue.publish(batch).await, Err(QueueError::TooLarge { bound: 16_777_216, .. })));
    queue.publish(vec![event("after", None)]).await.unwrap();
    let came = pull(&*queue, 9).await;
    assert_eq!(came.iter().map(|delivery| delivery.event.id.as_str()).collect::<Vec<_>>(), ["after"]);
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_handler_that_stands_still_holds_no_more_than_its_window() {
    let queue = opened(&topic(shared(), 2), None).await.unwrap();
    queue.window("h", NonZeroUsize::new(10).unwrap());
    queue.subscribe("h", Start::New).await.unwrap();
    queue.publish((0..500).map(|number| event(&number.to_string(), None)).collect()).await.unwrap();
    let mut held = Vec::new();
    while held.len() < 10 {
        held.extend(pull(&*queue, 100).await);
    }
    assert_eq!(held.len(), 10);
    assert!(tokio::time::timeout(Duration::from_millis(200), queue.pull("h", ONE)).await.is_err());
    ack(&*queue, held).await;
    assert!(!pull(&*queue, 100).await.is_empty());
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn users_log_in_and_the_others_are_told_why_not() {
    let server = kafka::start_guarded(false);
    let at = |login: &str, topic: &str| server.url().replace("//", &format!("//{login}@")) + topic;
    for (login, mechanism) in [("ann:s3cret", "plain"), ("ann:s3cret", "scram-sha-512")] {
        let queue = opened(&at(login, &format!("/{}?partitions=1&sasl={mechanism}", fresh())), None).await.unwrap();
        queue.subscribe("h", Start::New).await.unwrap();
        queue.publish(vec![event("1", None)]).await.unwrap();
        ack(&*queue, pull(&*queue, 1).await).await;
        queue.close().await;
    }
    let port = server.port();
    for (login, query, says) in [
        ("ann:wr0ng", "?partitions=1", "[check user, password and `sasl=` of the URL]"),
        ("ann:wr0ng", "?partitions=1&sasl=scram-sha-512", "[check user, password and `sasl=` of the URL]"),
        ("ann:s3cret", "?partitions=1&sasl=scram-sha-256", "sasl"),
        ("bob:s3cret", "", "topic `orders`"),
    ] {
        let error = opened(&at(login, &format!("/orders{query}")), None).await.err();
        let Some(QueueError::Invalid(text)) = &error else { panic!("{login}{query}: {error:?}") };
        let named = text.starts_with(&format!("`kafka://127.0.0.1:{port}/orders`: ")) && text.to_lowercase().contains(says);
        assert!(named && !text.contains("s3cret") && !text.contains("wr0ng"), "{login}{query}: {text}");
        println!("{login}{query}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn connections_are_secured() {
    let server = kafka::start_guarded(true);
    let ca = server.folder().join("ca.pem");
    let url = server.url().replace("kafka://", "kafka+ssl://ann:s3cret@");
    let queue = opened(&format!("{url}/{}?partitions=1&ca={}", fresh(), ca.display()), None).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    queue.publish(vec![event("1", None)]).await.unwrap();
    ack(&*queue, pull(&*queue, 1).await).await;
    queue.close().await;
    let stranger = opened(&format!("{url}/{}?partitions=1", fresh()), None).await.err();
    assert!(matches!(&stranger, Some(QueueError::Invalid(text)) if text.contains("check `ca=`")), "{stranger:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_long_wait_holds_no_watermark_and_outlives_the_process() {
    let url = topic(shared(), 1);
    let queue = opened(&url, None).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    queue.publish(vec![event("long", None), event("other", None)]).await.unwrap();
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(pull(&*queue, 2).await);
    }
    let tries = weir_runtime::queue::Tries { failed: 3, outside: 2, outside_since: Some(weir_runtime::clock::Timestamp(7)) };
    let due = weir_runtime::clock::now().after(Duration::from_secs(63));
    let first_seen = came[0].first_seen;
    let batch: Vec<_> = came
        .into_iter()
        .map(|delivery| {
            let settle = if delivery.event.id == "long" { Settle::Retry { due, tries } } else { Settle::Ack };
            delivery.settle(settle).1
        })
        .collect();
    assert!(queue.settle("h", batch).await.unwrap().is_empty());
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.events, depth.subscriptions.len()), (Some(1), 1), "{depth:?}");
    queue.close().await;
    let queue = opened(&url, None).await.unwrap();
    let came = tokio::time::timeout(Duration::from_secs(90), queue.pull("h", ONE)).await.unwrap().unwrap();
    assert!(weir_runtime::clock::now() >= due);
    assert_eq!((came[0].event.id.as_str(), came[0].tries, came[0].first_seen), ("long", tries, first_seen));
    ack(&*queue, came).await;
    assert_eq!(queue.depth().await.unwrap().events, Some(0));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_handler_may_read_two_topics_of_one_cluster() {
    let group = fresh();
    let url = || format!("{}&group={group}", super::topic(shared(), 1));
    let (old, new) = (opened(&url(), None).await.unwrap(), opened(&url(), None).await.unwrap());
    old.subscribe("h", Start::New).await.unwrap();
    old.publish(vec![event("1", None)]).await.unwrap();
    // The consumer group has a member by now, so that another's commit is refused.
    let held = pull(&*old, 1).await;
    new.subscribe("h", Start::New).await.unwrap();
    new.publish(vec![event("2", None)]).await.unwrap();
    let came = pull(&*new, 1).await;
    assert_eq!(came[0].event.id, "2");
    ack(&*new, came).await;
    ack(&*old, held).await;
    new.unsubscribe("h").await.unwrap();
    assert_eq!(new.depth().await.unwrap().subscriptions, []);
    old.publish(vec![event("3", None)]).await.unwrap();
    let came = pull(&*old, 1).await;
    assert_eq!(came[0].event.id, "3");
    ack(&*old, came).await;
    old.close().await;
    new.close().await;
}
