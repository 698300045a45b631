//! What these tests do over and over.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_runtime::event::Event;
use weir_runtime::queue::{Delivery, Publish, Queue, QueueError, Settle, Start};

use super::SOON;

/// The subscription of tests that need only one.
pub(super) const READS: &str = "weir-reads";

/// How long something that must not happen is looked for.
const QUIET: Duration = Duration::from_millis(100);

pub(super) fn event(id: &str) -> Publish {
    let event = Event { id: id.to_owned(), source: "/test".to_owned(), kind: "test.event".to_owned(), ..Event::default() };
    Publish { event: Arc::new(event), due: None }
}

pub(super) async fn publish(queue: &dyn Queue, ids: &[&str]) {
    queue.publish(ids.iter().map(|id| event(id)).collect()).await.unwrap();
}

/// Publishes as soon as it can be.
pub(super) async fn publish_at_last(queue: &dyn Queue, id: &str) {
    let begun = Instant::now();
    loop {
        match queue.publish(vec![event(id)]).await {
            Ok(()) => return,
            Err(QueueError::Unavailable(error)) => {
                assert!(begun.elapsed() < SOON, "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

pub(super) async fn subscribed(queue: Result<Arc<dyn Queue>, QueueError>) -> Arc<dyn Queue> {
    let queue = queue.unwrap();
    queue.subscribe(READS, Start::New).await.unwrap();
    queue
}

/// Pulls so many, over failures of the connection.
pub(super) async fn pull(queue: &dyn Queue, count: usize) -> Vec<Delivery> {
    let mut came = Vec::new();
    let begun = Instant::now();
    while came.len() < count {
        let most = NonZeroUsize::new(count - came.len()).unwrap();
        match tokio::time::timeout(SOON, queue.pull(READS, most)).await {
            Ok(Ok(some)) => came.extend(some),
            Ok(Err(QueueError::Unavailable(error))) => assert!(begun.elapsed() < SOON * 2, "{error}"),
            Ok(Err(error)) => panic!("{error}"),
            Err(_) => panic!("{:?} came, {count} were to", ids(&came)),
        }
    }
    came
}

pub(super) fn ids(came: &[Delivery]) -> Vec<&str> {
    let mut ids: Vec<&str> = came.iter().map(|delivery| delivery.event.id.as_str()).collect();
    ids.sort_unstable();
    ids
}

pub(super) async fn nothing_comes(queue: &dyn Queue) {
    match tokio::time::timeout(QUIET, queue.pull(READS, NonZeroUsize::MIN)).await {
        Err(_) => {}
        Ok(came) => panic!("{came:?} came"),
    }
}

/// Acknowledges, over failures of the connection.
pub(super) async fn ack(queue: &dyn Queue, came: Vec<Delivery>) {
    let batch: Vec<_> = came.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
    let begun = Instant::now();
    loop {
        match queue.settle(READS, batch.clone()).await {
            Ok(late) => return assert_eq!(late, []),
            Err(error) => assert!(begun.elapsed() < SOON, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until what is wrong with a queue is this, or nothing.
pub(super) async fn health_says(queue: &dyn Queue, says: Option<&str>) {
    let begun = Instant::now();
    loop {
        let error = queue.health().error;
        let fits = match (says, &error) {
            (None, None) => true,
            (Some(says), Some(error)) => error.contains(says),
            _ => false,
        };
        if fits {
            return;
        }
        assert!(begun.elapsed() < SOON, "health is {error:?}, expected {says:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
