//! An adapter that holds nothing back: whoever asks it to is told so, and what it can't do otherwise can be set.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use crate::queue::{
    BoxFuture, Delivery, Depth, Features, Position, Publish, Queue, QueueError, Settle, Settlement, Start, Tries,
};

pub(super) struct Bare {
    inner: Arc<dyn Queue>,
    /// What the next publishes and settlements fail with.
    pub(super) fails: Mutex<Option<QueueError>>,
}

impl Bare {
    pub(super) fn over(inner: Arc<dyn Queue>) -> Arc<Self> {
        Arc::new(Self { inner, fails: Mutex::default() })
    }

    pub(super) fn fail(&self, error: Option<QueueError>) {
        *self.fails.lock().unwrap() = error;
    }

    fn check(&self) -> Result<(), QueueError> {
        self.fails.lock().unwrap().clone().map_or(Ok(()), Err)
    }
}

impl Queue for Bare {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async {
            if batch.iter().any(|publish| publish.due.is_some_and(|due| due > crate::clock::now())) {
                return Err(QueueError::Unsupported("delay"));
            }
            self.check()?;
            self.inner.publish(batch).await
        })
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.inner.too_large(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        self.inner.pull(subscription, max)
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        if batch.iter().any(|settlement| matches!(settlement.settle, Settle::Retry { .. })) {
            return Box::pin(async { Err(QueueError::Unsupported("delay")) });
        }
        match self.check() {
            Ok(()) => self.inner.settle(subscription, batch),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        self.inner.depth()
    }

    fn features(&self) -> Features {
        Features { delay: false, ..self.inner.features() }
    }

    fn keep_order(&self, subscription: &str) -> Result<(), QueueError> {
        self.inner.keep_order(subscription)
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        self.inner.note(subscription, position, tries);
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        self.inner.lapsed(subscription)
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        self.inner.holds(subscription, position)
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        self.inner.subscribe(subscription, start)
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        self.inner.unsubscribe(subscription)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }
}
