//! `kafka://host:9092/topic`: a topic of Apache Kafka, read through a consumer group per subscription (delivery.md §13).
//!
//! Kafka acknowledges no single record: a group commits one offset of each partition. What is committed here is the lowest offset that has
//! not ended, with what has ended above it, and the tries of what waits, in the commit's metadata (`kafka/window.rs`): a new owner goes on from there. A lease is
//! the membership: a commit that is confirmed was ours.
//!
//! A short retry waits in this process, its tries and time in the commit; a long one goes as a copy to a topic of its own, read by this
//! group alone. Delayed publishes are not Kafka's: the store has them.
//!
//! Starts of runs are noted with the next commit, within milliseconds. What may be handed out at all is reserved by a commit before, so a next owner knows
//! what may have run when there is no note; each event of that, until it has ended, is run with its start committed first.
//!
//! Considered and left out: transactions, which would make a batch of publishes one, for two more ways to the cluster each; share groups (KIP-932), which
//! count and redeliver on the broker, but keep no order and are in the newest brokers only.

mod client;
mod cluster;
mod depth;
mod desk;
mod keeper;
mod making;
mod message;
mod native;
mod publish;
mod reader;
mod retry;
mod shared;
mod subscription;
pub mod url;
mod waker;
mod window;

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use self::shared::Shared;
use self::subscription::Subscription;
use self::url::TopicUrl;
use super::later::Later;
use super::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start, Tries,
};

/// What a topic promises.
pub const FEATURES: Features = Features {
    at_least_once: true,
    durable: true,
    groups: true,
    // Of a partition: what has the same key.
    ordered: true,
    // Together with the store, which has delayed publishes.
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

/// What the store has in place of the cluster: delayed publishes. Retries wait here, or in a topic of their own.
pub const LATER: Later = Later::PUBLISHES;

/// How long closing may take: what is not given back by then lapses.
const CLOSE_MAX: Duration = Duration::from_secs(6);

/// Longest wait for the first connection when the queue is opened; later ones are made in the background.
const FIRST_CONNECTION: Duration = Duration::from_secs(2);

/// A topic as a queue.
pub struct KafkaQueue {
    shared: Arc<Shared>,
    /// Looks after the cluster until the queue is closed or dropped.
    tasks: Mutex<JoinSet<()>>,
    ended: OnceCell<()>,
    /// Whether there is a store beside it.
    has_store: bool,
}

impl KafkaQueue {
    /// Opens a topic. The cluster may be away; then everything is made on the first connection.
    ///
    /// # Errors
    /// When the cluster refuses us, or the topic is not there and may not be made.
    pub async fn open(url: &TopicUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let shared = Arc::new(Shared::new(url, opening)?);
        // So that a wrong name is an error at the start, not a warning later.
        match shared.topic(FIRST_CONNECTION).await {
            Err(QueueError::Unavailable(_)) => {}
            opened => drop(opened?),
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper::keep(Arc::clone(&shared)));
        let has_store = opening.store.is_some();
        Ok(Arc::new(Self { shared, tasks: Mutex::new(tasks), ended: OnceCell::new(), has_store }))
    }

    async fn pull_now(&self, name: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let subscription = self.shared.find_or_adopt(name);
        self.shared.make(&subscription).await?;
        if !subscription.reading.swap(true, Ordering::Relaxed) {
            self.start_reader(&subscription)?;
        }
        subscription.pull(max).await
    }

    fn start_reader(&self, subscription: &Arc<Subscription>) -> Result<(), QueueError> {
        let (shared, read) = (Arc::clone(&self.shared), Arc::clone(subscription));
        let started = std::thread::Builder::new().name("weir-kafka".to_owned()).spawn(move || reader::read(&shared, &read));
        match started {
            Ok(_) => Ok(()),
            Err(error) => {
                subscription.reading.store(false, Ordering::Relaxed);
                Err(QueueError::Unavailable(format!(
                    "no thread could be started to read topic `{}`: {error}",
                    self.shared.url.topic
                )))
            }
        }
    }

    /// Ends readers, which give back what they hold.
    async fn end(&self) {
        let subscriptions = self.shared.subscriptions();
        self.shared.closed.cancel();
        lock(&self.tasks).abort_all();
        subscriptions.iter().for_each(|subscription| subscription.end());
        let leaving = async {
            for subscription in subscriptions.iter().filter(|subscription| subscription.reading.load(Ordering::Relaxed)) {
                subscription.left.cancelled().await;
            }
            // Its end waits for its threads.
            let producer = self.shared.publisher.close();
            let _ = tokio::task::spawn_blocking(move || drop(producer)).await;
        };
        if tokio::time::timeout(CLOSE_MAX, leaving).await.is_err() {
            tracing::warn!(queue = %self.shared.name, "what is held was not given back in time, it lapses");
        }
    }
}

impl Drop for KafkaQueue {
    fn drop(&mut self) {
        self.shared.drop_all();
    }
}

impl Queue for KafkaQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move { self.shared.publish(&batch).await })
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.shared.too_large(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_now(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            self.shared.settle(&self.shared.find_or_adopt(subscription), batch).await
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(self.shared.depth())
    }

    fn features(&self) -> Features {
        Features { delay: self.has_store, ..FEATURES }
    }

    fn window(&self, subscription: &str, most: NonZeroUsize) {
        self.shared.find_or_adopt(subscription).desk().most = most.get();
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        let subscription = self.shared.find_or_adopt(subscription);
        if subscription.desk().note(position, tries) {
            subscription.waker.wake();
        }
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(async move { self.shared.find_or_adopt(subscription).lapsed().await })
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        self.shared.find_or_adopt(subscription).holds(position, self.shared.young())
    }

    fn health(&self) -> Health {
        Health { connected_once: self.shared.connected_once(), error: self.shared.problem(), ..Health::default() }
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
