//! What is Kafka's own: keys and partitions, long waits, what others write, how batches are written.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use weir_runtime::clock;
use weir_runtime::queue::{Publish, QueueError, Settle, Start, Tries};

use super::rig::{ONE, SOON, ack, event, opened_as, opened_with, pull, pull_all, subscribed, topic};
use super::{fresh, shared};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_key_is_in_one_partition_and_in_order() {
    let queue = opened_as(&topic(shared(), 4), &fresh()).await.unwrap();
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
async fn an_event_that_is_too_large_is_refused_and_the_others_are_not() {
    let queue = opened_as(&topic(shared(), 1), &fresh()).await.unwrap();
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
    let queue = opened_as(&topic(shared(), 2), &fresh()).await.unwrap();
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
async fn a_long_wait_holds_no_watermark_and_outlives_the_process() {
    let url = topic(shared(), 1);
    let queue = opened_as(&url, &fresh()).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    queue.publish(vec![event("long", None), event("other", None)]).await.unwrap();
    let mut came = Vec::new();
    while came.len() < 2 {
        came.extend(pull(&*queue, 2).await);
    }
    let tries = Tries { failed: 3, outside: 2, outside_since: Some(clock::Timestamp(7)) };
    let due = clock::now().after(Duration::from_secs(63));
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
    let queue = opened_as(&url, &fresh()).await.unwrap();
    let came = tokio::time::timeout(Duration::from_secs(90), queue.pull("h", ONE)).await.unwrap().unwrap();
    assert!(clock::now() >= due);
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
    let (old, new) = (opened_as(&url(), &fresh()).await.unwrap(), opened_as(&url(), &fresh()).await.unwrap());
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

/// The name of a URL's topic.
fn name(url: &str) -> &str {
    url.rsplit_once('/').and_then(|(_, rest)| rest.split('?').next()).unwrap()
}

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", shared().url().trim_start_matches("kafka://"));
    config
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn what_others_write_comes_and_what_we_write_is_by_the_binding() {
    let url = topic(shared(), 1);
    let queue = subscribed(&url).await;
    let producer: BaseProducer = client().create().unwrap();
    let cloud = |name, value| Header { key: name, value: Some(value) };
    let binary = OwnedHeaders::new()
        .insert(cloud("ce_specversion", "1.0"))
        .insert(cloud("ce_id", "7"))
        .insert(cloud("ce_source", "/others"))
        .insert(cloud("ce_type", "paid"))
        .insert(cloud("content-type", "application/json"));
    let structured = OwnedHeaders::new().insert(cloud("content-type", "application/cloudevents+json"));
    let text = r#"{"specversion":"1.0","id":"8","source":"/others","type":"paid","data":{"n":1}}"#;
    let records = [
        BaseRecord::<str, str>::to(name(&url)).payload("{\"a\":1}"),
        BaseRecord::to(name(&url)).payload("no JSON \u{1}"),
        BaseRecord::to(name(&url)).key("a tombstone"),
        BaseRecord::to(name(&url)).payload("{\"n\":1}").headers(binary),
        BaseRecord::to(name(&url)).payload(text).headers(structured),
    ];
    for record in records {
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(SOON).unwrap();
    let came = pull_all(&*queue, 5).await;
    let shown: Vec<_> = came
        .iter()
        .map(|delivery| {
            let event = &delivery.event;
            let data = event.data.as_deref().map(|data| String::from_utf8_lossy(data).into_owned());
            (event.id.clone(), event.source.clone(), event.kind.clone(), event.datacontenttype.clone(), data)
        })
        .collect();
    let raw = |offset: u32| (format!("{}/0/{offset}", name(&url)), "/weir/queue/orders".to_owned(), "com.example.raw".to_owned());
    let json = || Some("application/json".to_owned());
    let expected = [
        (raw(0).0, raw(0).1, raw(0).2, json(), Some("{\"a\":1}".to_owned())),
        (raw(1).0, raw(1).1, raw(1).2, Some("application/octet-stream".to_owned()), Some("no JSON \u{1}".to_owned())),
        (raw(2).0, raw(2).1, raw(2).2, None, None),
        ("7".to_owned(), "/others".to_owned(), "paid".to_owned(), json(), Some("{\"n\":1}".to_owned())),
        ("8".to_owned(), "/others".to_owned(), "paid".to_owned(), None, Some("{\"n\":1}".to_owned())),
    ];
    assert_eq!(shown, expected);
    let keys: Vec<_> = came.iter().filter_map(|delivery| delivery.event.extension("partitionkey")).collect();
    assert_eq!(keys, ["a tombstone"]);
    ack(&*queue, came).await;
    queue.publish(vec![event("9", Some("a key"))]).await.unwrap();
    let came = pull(&*queue, 1).await;
    ack(&*queue, came).await;
    queue.close().await;

    let reads: BaseConsumer = client().set("group.id", fresh()).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(name(&url), 0, rdkafka::Offset::Offset(5)).unwrap();
    reads.assign(&list).unwrap();
    let record = tokio::task::block_in_place(|| reads.poll(SOON)).unwrap().unwrap();
    assert_eq!((record.offset(), record.key(), record.payload()), (5, Some(&b"a key"[..]), None));
    let headers = record.headers().unwrap();
    let mut headers: Vec<_> = headers.iter().map(|header| (header.key, String::from_utf8_lossy(header.value.unwrap()))).collect();
    headers.sort();
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_ref())).collect();
    let expected = [
        ("ce_id", "9"),
        ("ce_partitionkey", "a key"),
        ("ce_source", "/test"),
        ("ce_specversion", "1.0"),
        ("ce_type", "test.event"),
    ];
    assert_eq!(headers, expected);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_key_is_of_the_attribute_that_the_queue_names() {
    let url = topic(shared(), 1);
    let queue = opened_with(&url, &fresh(), Some("subject")).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    let mut about = (*event("1", Some("not this")).event).clone();
    about.subject = Some("order 7".to_owned());
    queue.publish(vec![Publish { event: Arc::new(about.clone()), due: None }]).await.unwrap();
    let came = pull(&*queue, 1).await;
    assert_eq!(*came[0].event, about);
    ack(&*queue, came).await;
    queue.close().await;
    let reads: BaseConsumer = client().set("group.id", fresh()).create().unwrap();
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(name(&url), 0, rdkafka::Offset::Beginning).unwrap();
    reads.assign(&list).unwrap();
    let record = tokio::task::block_in_place(|| reads.poll(SOON)).unwrap().unwrap();
    assert_eq!(record.key(), Some(&b"order 7"[..]));
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn batches_are_compressed_as_the_url_says() {
    let data = "what is said over and over is small, ".repeat(1_000);
    for (codec, small) in [("none", false), ("gzip", true), ("snappy", true), ("lz4", true), ("zstd", true)] {
        let url = format!("{}&compression={codec}", topic(shared(), 1));
        let queue = subscribed(&url).await;
        let mut large = (*event("large", None).event).clone();
        large.data = Some(data.clone().into());
        large.datacontenttype = Some("text/plain".to_owned());
        queue.publish(vec![Publish { event: Arc::new(large), due: None }]).await.unwrap();
        let came = pull(&*queue, 1).await;
        assert_eq!(came[0].event.data.as_deref(), Some(data.as_bytes()), "{codec}");
        ack(&*queue, came).await;
        queue.close().await;
        let log = shared().folder().join(format!("data/{}-0/00000000000000000000.log", name(&url)));
        let bytes = std::fs::metadata(log).unwrap().len();
        assert_eq!(bytes < data.len() as u64 / 2, small, "{codec}: {bytes} bytes");
    }
}
