//! `mqtt://host/topic`: a topic filter of an MQTT 5 broker, read through a shared subscription per handler (delivery.md §13).
//!
//! Each subscription is a session of its own at the broker, with QoS 1, under a client id that is the same at every start of a process:
//! what waits for a process that is away, and what it had not acknowledged, comes when it is back. A connection of its own publishes.
//!
//! MQTT knows no giving back, no trying again later and no count of deliveries. What is given back is handed out again from here, retries
//! wait in the store ([`later`]) or, where there is none, here; tries are counted in this process, and acknowledgements leave in order of arrival (`mqtt/acks.rs`): what ended behind something that
//! still runs comes again when the process is killed meanwhile.
//!
//! Trusted: whoever may publish to the topic. Considered and left out: acknowledging out of order, which some brokers take and the
//! protocol forbids; disconnecting to have something sent again, which repeats all that is open.

mod acks;
mod connect;
pub(super) mod floor;
mod link;
mod message;
mod outbox;
mod problem;
mod reader;
mod room;
mod shared;
mod subscription;
pub mod url;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use self::shared::Shared;
use self::url::MqttUrl;
use super::later::Later;
use super::{BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start};

/// How long closing may take: the broker finds out by itself that we are gone.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What a topic of a broker promises.
pub const FEATURES: Features = Features {
    at_least_once: true,
    durable: true,
    groups: true,
    ordered: false,
    // Without a store, retries wait here.
    delay: false,
    counts_tries: false,
    // A packet id is the same while a session lasts, and another message's after it.
    stable_position: false,
    depth: false,
    bounded: false,
    shared: true,
    hold: None,
    // Nobody keeps what no subscription was there for.
    history: false,
    acks_apart: false,
    // The broker deals messages out to sessions as they come, and a session waits for its process.
    hands_over: false,
};

/// What the store holds, as the broker holds nothing: a retry is written there, and then its message is acknowledged.
#[must_use]
pub const fn later(url: &MqttUrl) -> Later {
    Later::ALL.with_lease(url.lease)
}

/// A topic filter as a queue.
pub struct MqttQueue {
    shared: Arc<Shared>,
    /// Connections: they end by themselves when the queue is closed, and with it when it is dropped.
    tasks: Mutex<JoinSet<()>>,
    ended: OnceCell<()>,
}

impl MqttQueue {
    /// Opens a topic filter. The broker may be away; then everything is made on the first connection.
    ///
    /// # Errors
    /// When the broker refuses us, or can't do what we need.
    pub async fn open(url: &MqttUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let shared = Arc::new(Shared::new(url, opening).await?);
        let queue = Self { shared, tasks: Mutex::default(), ended: OnceCell::new() };
        queue.shared.start(&queue.tasks).await?;
        Ok(Arc::new(queue))
    }

    async fn end(&self) {
        self.shared.closed.cancel();
        let mut tasks = std::mem::take(&mut *lock(&self.tasks));
        let leaving = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_MAX, leaving).await.is_err() {
            tracing::warn!(queue = %self.shared.name, "the broker was not told in time that we leave");
        }
    }
}

impl Queue for MqttQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            self.shared.outbox.publish(&batch).await
        })
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.shared.outbox.too_large(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(async move { self.shared.connected(subscription, false, &self.tasks)?.inbox.pull(max).await })
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            self.shared.find_or_adopt(subscription)?.settle(&batch).await
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(async { Ok(self.shared.depth()) })
    }

    fn features(&self) -> Features {
        FEATURES
    }

    fn window(&self, subscription: &str, most: NonZeroUsize) {
        // A name that can't be one is refused by whoever subscribes.
        if let Ok(subscription) = self.shared.find_or_adopt(subscription) {
            subscription.set_window(most.get());
        }
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        self.shared.find_or_adopt(subscription).is_ok_and(|of| of.inbox.hold().get_mut(position).is_some())
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, _: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.subscribe(subscription, &self.tasks))
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
