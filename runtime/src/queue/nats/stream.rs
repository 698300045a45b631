//! `nats://…/subject?stream=S`: a JetStream stream, read through a durable pull consumer per subscription (delivery.md §13).
//!
//! A lease is the consumer's `ack_wait`, renewed by "in progress"; a retry is a negative acknowledgement with its delay, so whichever
//! process is free gets it. Every settlement is confirmed. The server counts deliveries; where Weir's count differs (what was given back)
//! a note stands in a key-value bucket. With `order-by` one process reads, by a key of the same bucket.
//!
//! Left out: `term`. It acknowledges and raises an advisory; what Weir gives up has a dead letter, and is acknowledged after that is durable.

mod beat;
mod bucket;
mod depth;
mod lead;
mod making;
mod publish;
mod reader;
mod shared;
mod subscription;
mod tries;

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use self::lead::Lead;
use self::shared::Shared;
use super::lock;
use super::url::NatsUrl;
use crate::queue::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settle, Settlement, Start, Tries,
};

/// How long closing may take: what is not given back by then lapses.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What a stream promises.
pub const FEATURES: Features = Features {
    at_least_once: true,
    durable: true,
    groups: true,
    ordered: true,
    delay: true,
    counts_tries: true,
    stable_position: true,
    depth: true,
    bounded: false,
    shared: true,
    history: true,
    acks_apart: true,
    hands_over: true,
    hold: None,
};

/// A stream as a queue.
pub struct JetStreamQueue {
    shared: Arc<Shared>,
    /// Readers, one a subscription, and the heartbeat: they end by themselves when the queue is closed, and with it when it is dropped.
    tasks: Mutex<JoinSet<()>>,
    ended: OnceCell<()>,
}

impl JetStreamQueue {
    /// Opens a stream. The server may be away; then everything is made on the first connection.
    ///
    /// # Errors
    /// When the server refuses us, or the stream is not there and may not be made.
    pub async fn open(url: &NatsUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let shared = Arc::new(Shared::new(url, opening).await?);
        // So that a wrong name is an error at the start, not a warning later.
        if let Err(QueueError::Invalid(refused)) = shared.stream().await.map(drop) {
            return Err(QueueError::Invalid(refused));
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(beat::beat(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared, tasks: Mutex::new(tasks), ended: OnceCell::new() }))
    }

    async fn pull_now(&self, name: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let subscription = self.shared.find_or_adopt(name);
        if !subscription.reading.swap(true, Ordering::Relaxed) {
            lock(&self.tasks).spawn(reader::read(Arc::clone(&self.shared), Arc::clone(&subscription)));
        }
        subscription.inbox.pull(max).await
    }

    /// Ends readers, and gives back what they hold.
    async fn end(&self) {
        self.shared.closed.cancel();
        let leaving = async {
            let mut tasks = std::mem::take(&mut *lock(&self.tasks));
            while tasks.join_next().await.is_some() {}
            for subscription in self.shared.subscriptions() {
                self.shared.leave(&subscription).await?;
            }
            Ok::<(), QueueError>(())
        };
        match tokio::time::timeout(CLOSE_MAX, leaving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(queue = %self.shared.name, %error, "what is held could not be given back, it lapses")
            }
            Err(_) => tracing::warn!(queue = %self.shared.name, "what is held was not given back in time, it lapses"),
        }
    }
}

impl Queue for JetStreamQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move { self.shared.publish(&batch).await })
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.shared.server.too_large(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_now(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            let settled = self.shared.find_or_adopt(subscription).settle(&self.shared, &batch).await;
            if batch.iter().any(|settlement| settlement.settle == Settle::Ack) {
                self.shared.acked.store(true, Ordering::Relaxed);
            }
            settled
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(self.shared.depth())
    }

    fn features(&self) -> Features {
        FEATURES
    }

    fn keep_order(&self, subscription: &str) -> Result<(), QueueError> {
        let subscription = self.shared.find_or_adopt(subscription);
        let key = self.shared.bucket.reader_key(&subscription.consumer);
        subscription.lead.get_or_init(|| Lead::new(key, &self.shared.process));
        Ok(())
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        if self.shared.find_or_adopt(subscription).note(position, tries) {
            self.shared.noted.notify_one();
        }
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(async move { self.shared.find_or_adopt(subscription).inbox.lapsed().await })
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        let subscription = self.shared.find_or_adopt(subscription);
        subscription.leads(self.shared.young()) && subscription.inbox.hold().holds(position, Instant::now(), self.shared.young())
    }

    fn health(&self) -> Health {
        Health { connected_once: self.shared.connected_once(), error: self.shared.server.problem(), ..Health::default() }
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.subscribe(subscription, start))
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.unsubscribe(subscription))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.ended.get_or_init(|| self.end()).await;
        })
    }
}
