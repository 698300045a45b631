//! What these tests do over and over.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_runtime::dead::DeadBounds;
use weir_runtime::event::Event;
use weir_runtime::queue::url::QueueUrl;
use weir_runtime::queue::{Delivery, Opening, Publish, Queue, QueueError, Settle, Settlement, Start, open};
use weir_tests::brokers::server::Server;

use super::fresh;

pub(super) const ONE: NonZeroUsize = NonZeroUsize::MIN;

/// Longest wait for something that must happen.
pub(super) const SOON: Duration = Duration::from_secs(20);

/// How long something that must not happen is looked for.
pub(super) const QUIET: Duration = Duration::from_millis(200);

/// The URL of a topic of its own, with a consumer group of its own: a group belongs to the cluster.
pub(super) fn topic(server: &Server, partitions: u32) -> String {
    format!("{}&group={}", super::topic(server, partitions), fresh())
}

/// Opens a queue as the process of this name, without a store.
pub(super) async fn opened_as(url: &str, process: &str) -> Result<Arc<dyn Queue>, QueueError> {
    opened_with(url, process, None).await
}

/// The same with an attribute that keys are taken from.
pub(super) async fn opened_with(url: &str, process: &str, key: Option<&str>) -> Result<Arc<dyn Queue>, QueueError> {
    let url = QueueUrl::parse(url, std::path::Path::new("")).map_err(QueueError::Invalid)?;
    let opening = Opening {
        name: "orders".to_owned(),
        kind: "com.example.raw".to_owned(),
        max_size_bytes: 0,
        process: process.to_owned(),
        group: "weir".to_owned(),
        dead: DeadBounds::default(),
        key: key.map(str::to_owned),
        map: None,
        store: None,
    };
    open(&url, opening).await
}

/// Opens a queue as a process of its own, and reads it.
pub(super) async fn subscribed(url: &str) -> Arc<dyn Queue> {
    let queue = opened_as(url, &fresh()).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    queue
}

pub(super) fn event(id: &str, key: Option<&str>) -> Publish {
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

pub(super) async fn publish(queue: &dyn Queue, ids: &[&str]) {
    queue.publish(ids.iter().map(|id| event(id, None)).collect()).await.unwrap();
}

/// What comes first, at most so many.
pub(super) async fn pull(queue: &dyn Queue, max: usize) -> Vec<Delivery> {
    let max = NonZeroUsize::new(max).unwrap();
    tokio::time::timeout(SOON, queue.pull("h", max)).await.expect("events come").expect("pulling works")
}

/// So many.
pub(super) async fn pull_all(queue: &dyn Queue, count: usize) -> Vec<Delivery> {
    let mut came = Vec::new();
    while came.len() < count {
        came.extend(pull(queue, count - came.len()).await);
    }
    came
}

pub(super) async fn nothing_comes(queue: &dyn Queue) {
    let came = tokio::time::timeout(QUIET, queue.pull("h", ONE)).await;
    assert!(came.is_err(), "{came:?}");
}

pub(super) fn acks(deliveries: &[Delivery]) -> Vec<Settlement> {
    deliveries.iter().map(|delivery| Settlement { position: delivery.position, settle: Settle::Ack }).collect()
}

pub(super) async fn ack(queue: &dyn Queue, deliveries: Vec<Delivery>) {
    assert!(queue.settle("h", acks(&deliveries)).await.unwrap().is_empty());
}

pub(super) fn ids(deliveries: &[Delivery]) -> BTreeSet<String> {
    deliveries.iter().map(|delivery| delivery.event.id.clone()).collect()
}

pub(super) fn set<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.map(str::to_owned).into()
}

/// Asks again for as long as the broker is away.
pub(super) async fn again<T, F: Future<Output = Result<T, QueueError>>>(mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        match tokio::time::timeout(SOON * 2, ask()).await.expect("it is answered") {
            Ok(answer) => return answer,
            Err(QueueError::Unavailable(error)) => assert!(begun.elapsed() < SOON * 2, "the broker is back: {error}"),
            Err(error) => panic!("{error}"),
        }
        // Nobody tells when it is back.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
