//! Places whose subscriptions nobody else has: a consumer group belongs to the cluster, not to a topic, and scenarios name theirs alike.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use weir_runtime::dead::DeadLetters;
use weir_runtime::queue::conformance::Place;
use weir_runtime::queue::{
    BoxFuture, Delivery, Depth, Features, Health, Position, Publish, Queue, QueueError, Settlement, Start, Tries,
};

use super::super::{Spot, fresh};

/// A place with a prefix before the names of its subscriptions.
pub(super) struct Apart {
    spot: Spot,
    prefix: String,
}

impl Apart {
    pub(super) fn place(spot: Spot) -> Box<dyn Place> {
        Box::new(Self { spot, prefix: format!("{}-", fresh()) })
    }
}

impl Place for Apart {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async move {
            let queue: Arc<dyn Queue> = Arc::new(Renamed { inner: self.spot.opened().await?, prefix: self.prefix.clone() });
            Ok(queue)
        })
    }

    fn lease(&self) -> Option<Duration> {
        Place::lease(&self.spot)
    }

    fn has_broker(&self) -> bool {
        self.spot.has_broker()
    }

    fn restart_broker(&self) -> BoxFuture<'_, ()> {
        self.spot.restart_broker()
    }
}

/// The queue itself, its subscriptions named otherwise.
struct Renamed {
    inner: Arc<dyn Queue>,
    prefix: String,
}

impl Renamed {
    fn name(&self, subscription: &str) -> String {
        format!("{}{subscription}", self.prefix)
    }
}

impl Queue for Renamed {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        self.inner.publish(batch)
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.inner.too_large(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(async move { self.inner.pull(&self.name(subscription), max).await })
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move { self.inner.settle(&self.name(subscription), batch).await })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(async move {
            let mut depth = self.inner.depth().await?;
            for subscription in &mut depth.subscriptions {
                if let Some(name) = subscription.name.strip_prefix(&self.prefix) {
                    subscription.name = name.to_owned();
                }
            }
            Ok(depth)
        })
    }

    fn features(&self) -> Features {
        self.inner.features()
    }

    fn keep_order(&self, subscription: &str) -> Result<(), QueueError> {
        self.inner.keep_order(&self.name(subscription))
    }

    fn window(&self, subscription: &str, most: NonZeroUsize) {
        self.inner.window(&self.name(subscription), most);
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        self.inner.note(&self.name(subscription), position, tries);
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(async move { self.inner.lapsed(&self.name(subscription)).await })
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        self.inner.holds(&self.name(subscription), position)
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move { self.inner.subscribe(&self.name(subscription), start).await })
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move { self.inner.unsubscribe(&self.name(subscription)).await })
    }

    fn dead_letters(&self) -> Option<Arc<dyn DeadLetters>> {
        self.inner.dead_letters()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
