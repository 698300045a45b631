//! What scenarios do over and over, with failures in words. It knows the contract, no adapter.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{Adapter, Failure, Place, ROOMY_BYTES};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::{BoxFuture, Delivery, Publish, Queue, QueueError, Settle, Settlement, Start};

/// The subscription of scenarios that need only one.
pub(super) const SUBSCRIPTION: &str = "weir-conformance";

/// Longest wait for something that must happen.
pub(super) const SOON: Duration = Duration::from_secs(10);

/// How long something that must not happen is looked for. A failure may slip through when a machine is slower than this, a queue
/// that behaves never fails by it.
pub(super) const QUIET: Duration = Duration::from_millis(60);

/// Ends a scenario with a failure's text unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
pub(super) use ensure;

/// A queue just opened in a fresh place, with one subscription.
pub(super) async fn open(adapter: &dyn Adapter) -> Result<Arc<dyn Queue>, Failure> {
    let queue = open_place(&*adapter.place(ROOMY_BYTES)).await?;
    subscribe(&*queue, SUBSCRIPTION, Start::New).await?;
    Ok(queue)
}

pub(super) async fn open_place(place: &dyn Place) -> Result<Arc<dyn Queue>, Failure> {
    within("open", place.open()).await
}

/// Bounds a call that must succeed.
pub(super) async fn within<T>(what: &str, call: impl Future<Output = Result<T, QueueError>>) -> Result<T, Failure> {
    match tokio::time::timeout(SOON, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("`{what}` failed: {error}")),
        Err(_) => Err(format!("`{what}` did not answer within {SOON:?}")),
    }
}

pub(super) async fn subscribe(queue: &dyn Queue, subscription: &str, start: Start) -> Result<(), Failure> {
    within("subscribe", queue.subscribe(subscription, start)).await
}

/// A small event with this number in its id.
pub(super) fn event(number: u64) -> Arc<Event> {
    Arc::new(Event {
        id: format!("event-{number}"),
        source: "/conformance".to_owned(),
        kind: "conformance.event".to_owned(),
        data: Some(format!("{{\"number\":{number}}}").into()),
        ..Event::default()
    })
}

pub(super) fn at_once(event: Arc<Event>) -> Publish {
    Publish { event, due: None }
}

pub(super) fn ids(numbers: Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("event-{number}")).collect()
}

pub(super) fn ids_of(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.event.id.clone()).collect()
}

/// Publishes events with these numbers as one batch.
pub(super) async fn publish(queue: &dyn Queue, numbers: Range<u64>) -> Result<(), Failure> {
    within("publish", queue.publish(numbers.map(|number| at_once(event(number))).collect())).await
}

/// Pulls once; checks that at least one and not more than `max` came.
pub(super) async fn pull(queue: &dyn Queue, subscription: &str, max: usize) -> Result<Vec<Delivery>, Failure> {
    let bound = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
    let deliveries = within("pull", queue.pull(subscription, bound)).await?;
    ensure!(!deliveries.is_empty(), "`pull` returned nothing, expected to wait for at least one event");
    ensure!(deliveries.len() <= max, "`pull` returned {} events, more than the {max} asked for", deliveries.len());
    Ok(deliveries)
}

/// Pulls until `count` events are in hand.
pub(super) async fn pull_exactly(queue: &dyn Queue, subscription: &str, count: usize) -> Result<Vec<Delivery>, Failure> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        let more = pull(queue, subscription, count - deliveries.len()).await;
        let more = more.map_err(|why| format!("{why} (with {} of {count} events in hand)", deliveries.len()))?;
        deliveries.extend(more);
    }
    Ok(deliveries)
}

/// Checks that nothing can be pulled for a short while.
pub(super) async fn nothing_comes(queue: &dyn Queue, subscription: &str, why: &str) -> Result<(), Failure> {
    match tokio::time::timeout(QUIET, queue.pull(subscription, NonZeroUsize::MIN)).await {
        Err(_) => Ok(()),
        Ok(Ok(deliveries)) => Err(format!("{:?} came, although {why}", ids_of(&deliveries))),
        Ok(Err(error)) => Err(format!("`pull` failed: {error}")),
    }
}

/// Settles all of these in the same way.
pub(super) async fn settle(queue: &dyn Queue, subscription: &str, deliveries: Vec<Delivery>, how: Settle) -> Result<(), Failure> {
    let batch: Vec<Settlement> = deliveries.into_iter().map(|delivery| delivery.settle(how).1).collect();
    match within("settle", queue.settle(subscription, batch)).await?.as_slice() {
        [] => Ok(()),
        late => Err(format!("`settle` says that it came too late for {late:?}, although their leases were kept")),
    }
}

pub(super) async fn ack(queue: &dyn Queue, subscription: &str, deliveries: Vec<Delivery>) -> Result<(), Failure> {
    settle(queue, subscription, deliveries, Settle::Ack).await
}

/// The wall clock, as queues read it.
pub(super) fn now() -> Timestamp {
    crate::clock::now()
}

/// Polls once, without waiting.
pub(super) async fn poll_once<T>(future: &mut BoxFuture<'_, T>) -> Poll<T> {
    std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
}
