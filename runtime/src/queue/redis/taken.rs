//! `redis://…?list=k` and `?zset=k`: a list or a sorted set by due time, as existing programs write them, read reliably (delivery.md §13).
//!
//! A script takes messages out and keeps them beside it until they have ended: bodies and tries in hashes by the id that each gets then, and a
//! sorted set of ids by when their lease ends. What a process let lapse, another takes, with one more try behind it. What waits for another
//! try, and what a list gets with a delay, stands in a sorted set by when it is due. What is given back goes to its place: in a list to the
//! end that is taken from. So programs that add, count or take by themselves go on working beside Weir.
//!
//! Where order is kept, one process reads at a time, and says so in a key that it renews; the next one takes over all that it had, in order of
//! ids, before anything new. What is given back then waits beside the list, not in it.
//!
//! What was given back is told by its body when it is taken again, and has the id and the tries that it had; that is kept for a day.
//!
//! Tries are counted from the taking, as of streams: what was taken, had not begun and was lost to a kill counts as a try, unless the next
//! heartbeat could note that it had not begun. Leases are the server's time; due times are compared with ours.
//!
//! Considered and left out: a list for each process (`LMOVE`), as others do it: what a killed process held stays in a list that somebody has to
//! find, and tries have no place there. Envelopes around bodies: another program could not read what is given back.
//!
//! It has no groups: [`open`] puts [`Fanout`] over it.

mod keys;
mod lease;
mod reader;
mod scripts;
mod shared;
#[cfg(test)]
mod tests;
pub mod url;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tokio::task::JoinSet;

use self::reader::Reader;
use self::shared::Shared;
use self::url::{Kind, TakenUrl};
use super::lock;
use crate::dead::DeadLetters;
use crate::dead::redis::RedisDead;
use crate::queue::fanout::Fanout;
use crate::queue::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start, Tries,
};

/// How long closing may take: what is not given back by then lapses.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What a list promises. Durable as far as the server is: with `appendfsync always`, or replicas, over its end too.
pub const FEATURES: Features = Features { groups: false, bounded: false, shared: true, ..Features::LASTING };

/// What a sorted set promises: its order is that of due times, and of members that are due at once.
pub const SORTED_SET_FEATURES: Features = Features { ordered: false, ..FEATURES };

/// A list or a sorted set as a queue.
pub struct TakenQueue {
    shared: Arc<Shared>,
    reading: AtomicBool,
    reader: Mutex<JoinSet<()>>,
    /// Heartbeat.
    tasks: Mutex<JoinSet<()>>,
    ended: OnceCell<()>,
}

/// Opens a list or a sorted set, for several handlers.
///
/// # Errors
/// As [`TakenQueue::open`].
pub async fn open(url: &TakenUrl, opening: &Opening) -> Result<Arc<Fanout>, QueueError> {
    Ok(Fanout::over(TakenQueue::open(url, opening).await?, opening))
}

impl TakenQueue {
    /// Opens a list or a sorted set. The server may be away; then it is looked at on the first connection.
    ///
    /// # Errors
    /// When the server refuses us, is too old, or has a key of another type in its place.
    pub async fn open(url: &TakenUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let shared = Arc::new(Shared::new(url, opening)?);
        match shared.ensure().await {
            Ok(()) | Err(QueueError::Unavailable(_)) => {}
            Err(QueueError::Invalid(text)) => return Err(QueueError::Invalid(format!("`{}`: {text}", shared.url))),
            Err(refused) => return Err(refused),
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(lease::beat(Arc::clone(&shared)));
        Ok(Arc::new(Self {
            shared,
            reading: AtomicBool::new(false),
            reader: Mutex::default(),
            tasks: Mutex::new(tasks),
            ended: OnceCell::new(),
        }))
    }

    async fn pull_now(&self, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if !self.reading.swap(true, Ordering::Relaxed) {
            lock(&self.reader).spawn(Reader::new(Arc::clone(&self.shared)).run());
        }
        self.shared.inbox.pull(max).await
    }

    /// Ends the reader, and gives back what is held.
    async fn end(&self) {
        self.shared.closed.cancel();
        let leaving = async {
            let mut reader = std::mem::take(&mut *lock(&self.reader));
            while reader.join_next().await.is_some() {}
            self.shared.leave().await
        };
        match tokio::time::timeout(CLOSE_MAX, leaving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(queue = %self.shared.name, %error, "what is held could not be given back, it lapses");
            }
            Err(_) => tracing::warn!(queue = %self.shared.name, "what is held was not given back in time, it lapses"),
        }
        lock(&self.tasks).abort_all();
    }
}

impl Queue for TakenQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move { self.shared.publish(&batch).await })
    }

    fn pull<'a>(&'a self, _subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_now(max))
    }

    fn settle<'a>(&'a self, _subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            self.shared.settle(&batch).await
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(self.shared.depth())
    }

    fn features(&self) -> Features {
        match self.shared.kind {
            Kind::List { .. } => FEATURES,
            Kind::SortedSet { .. } => SORTED_SET_FEATURES,
        }
    }

    fn keep_order(&self, _subscription: &str) -> Result<(), QueueError> {
        if !self.features().ordered {
            return Err(QueueError::Unsupported("order"));
        }
        self.shared.ordered.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn note(&self, _subscription: &str, position: Position, tries: Tries) {
        self.shared.note(position, tries);
    }

    fn lapsed<'a>(&'a self, _subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(self.shared.inbox.lapsed())
    }

    fn holds(&self, _subscription: &str, position: Position) -> bool {
        self.shared.inbox.holds(position, Instant::now(), self.shared.young())
    }

    fn health(&self) -> Health {
        let connected_once = self.shared.connected_once.load(Ordering::Relaxed);
        let away = self.shared.redis.problem().map(|problem| problem.to_string());
        Health { connected_once, error: away.or_else(|| lock(&self.shared.trouble).clone()), ..Health::default() }
    }

    fn subscribe<'a>(&'a self, _subscription: &'a str, _start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async {
            match self.shared.ensure().await {
                // There is nothing to make: it begins with what waits.
                Err(QueueError::Unavailable(_)) => Ok(()),
                other => other,
            }
        })
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

impl TakenQueue {
    /// Which of them it is, as in `weir queues`.
    #[must_use]
    pub fn adapter(kind: Kind) -> &'static str {
        match kind {
            Kind::List { .. } => "redis-list",
            Kind::SortedSet { .. } => "redis-zset",
        }
    }
}
