//! `redis://…?stream=k`: a Redis stream, read through a consumer group per subscription (delivery.md §13).
//!
//! Everything that is not ended stays pending in its group, whoever holds it; what waits for another try stands in a sorted set beside
//! it, under a consumer that nobody reads as. A lease is the idle time of a pending entry: it is renewed by a heartbeat, and what others
//! let lapse is taken. Whatever has to happen at once is a script (`redis/scripts/*.lua`).
//!
//! Tries are the deliveries that the server counts, from the read and not from the beginning of a run, as a note of each beginning would cost
//! a way to the server for each event, before it runs. So what was read, had not begun and was lost to a kill counts as a try; what waits for
//! longer than a beat of the heartbeat is noted not to have begun. What is left is at most what one handler may run at once, read within that beat.
//!
//! Clocks: leases and the lead are the server's time, and ours without a clock of the day. Due times are written and compared by processes,
//! first-seen times are the server's: clocks that differ make things early or late by that much, and lose nothing. Trusted: whoever may
//! write to the stream, with the attributes that are Weir's own elsewhere.
//!
//! Considered and left out: `XAUTOCLAIM`, which would also take what waits for its time, entry by entry; looking at each other
//! consumer's idle entries costs what is held, not what waits. Reading ahead: others may have room for it.
//!
//! The connection is not made anew here but in [`crate::redis`]; events that are published while the server is away are refused.

mod answer;
pub mod channel;
mod depth;
mod entry;
pub(in crate::queue) mod floor;
mod hold;
pub(crate) mod keys;
mod lease;
mod publish;
mod reader;
mod scripts;
mod shared;
mod subscription;
mod tail;
pub mod taken;
#[cfg(test)]
mod tests;
mod upkeep;
pub mod url;
mod waits;

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use self::reader::Reader;
use self::shared::Shared;
use self::url::StreamUrl;
use super::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start, Tries,
};
use crate::dead::DeadLetters;
use crate::dead::redis::RedisDead;
use crate::queue::waits::Waits;
use crate::redis::RedisProblem;

/// How long closing may take: what is not given back by then lapses.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A stream as a queue.
pub struct RedisQueue {
    shared: Arc<Shared>,
    /// Readers, one a subscription: they end by themselves when the queue is closed, and with it when it is dropped.
    readers: Mutex<JoinSet<()>>,
    /// Heartbeat and upkeep.
    tasks: Mutex<JoinSet<()>>,
    ended: OnceCell<()>,
}

impl RedisQueue {
    /// Opens a stream. The server may be away; then everything is made on the first connection.
    ///
    /// # Errors
    /// When the server refuses us, is too old, or has a key of another type in the stream's place.
    pub async fn open(url: &StreamUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let shared = Arc::new(Shared::new(url, opening)?);
        match shared.check_stream().await {
            Ok(()) | Err(QueueError::Unavailable(_)) => {}
            Err(refused) => return Err(refused),
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(lease::beat(Arc::clone(&shared)));
        tasks.spawn(upkeep::work(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared, readers: Mutex::default(), tasks: Mutex::new(tasks), ended: OnceCell::new() }))
    }

    async fn pull_now(&self, name: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let subscription = self.shared.find_or_adopt(name);
        if !subscription.reading.swap(true, Ordering::Relaxed) {
            let reader = Reader::new(Arc::clone(&self.shared), Arc::clone(&subscription));
            lock(&self.readers).spawn(reader.run());
        }
        subscription.pull(&self.shared, max).await
    }

    /// Ends readers, gives back what they hold, and leaves the groups.
    async fn end(&self) {
        self.shared.closed.cancel();
        let subscriptions = self.shared.subscriptions();
        for subscription in &subscriptions {
            subscription.came.notify_waiters();
        }
        let leaving = async {
            let mut readers = std::mem::take(&mut *lock(&self.readers));
            while readers.join_next().await.is_some() {}
            for subscription in &subscriptions {
                self.shared.leave(subscription).await?;
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
        lock(&self.tasks).abort_all();
    }
}

/// What a stream promises. Durable as far as the server is: with `appendfsync always`, or replicas, over its end too.
pub const FEATURES: Features = Features { bounded: false, shared: true, ..Features::LASTING };

impl Queue for RedisQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move { self.shared.publish(&batch).await })
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_now(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            self.shared.find_or_adopt(subscription).settle(&self.shared, &batch).await
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(self.shared.depth())
    }

    fn features(&self) -> Features {
        FEATURES
    }

    fn keep_order(&self, subscription: &str) -> Result<(), QueueError> {
        lock(&self.shared.ordered).insert(subscription.to_owned());
        // One that was only looked at is made anew with its order.
        lock(&self.shared.subscriptions).retain(|name, known| name != subscription || known.reading.load(Ordering::Relaxed));
        Ok(())
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        if self.shared.find_or_adopt(subscription).hold().note(position, tries) {
            self.shared.noted.notify_one();
        }
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(async move { self.shared.find_or_adopt(subscription).lapsed().await })
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        let subscription = self.shared.find_or_adopt(subscription);
        let (held, lapsed) = subscription.hold().keep(position, Instant::now(), self.shared.young());
        if lapsed {
            subscription.lapsing.notify_waiters();
        }
        held
    }

    fn health(&self) -> Health {
        let connected_once = self.shared.connected_once.load(Ordering::Relaxed);
        let away = self.shared.redis.problem().map(|problem| problem.to_string());
        Health { connected_once, error: away.or_else(|| lock(&self.shared.trouble).clone()), ..Health::default() }
    }

    fn waits(&self) -> Option<&dyn Waits> {
        Some(self)
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.subscribe(subscription, start))
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.unsubscribe(subscription))
    }

    fn dead_letters(&self) -> Option<Arc<dyn DeadLetters>> {
        let Shared { redis, keys, dead, .. } = &*self.shared;
        Some(Arc::new(RedisDead::new(Arc::clone(redis), &keys.dead, *dead)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.ended.get_or_init(|| self.end()).await;
        })
    }
}

impl From<RedisProblem> for QueueError {
    fn from(problem: RedisProblem) -> Self {
        match problem {
            RedisProblem::Refused(text) => Self::Invalid(text),
            RedisProblem::Away(text) | RedisProblem::Answered { text, .. } => Self::Unavailable(text),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
