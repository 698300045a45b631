//! What waits in the store because a broker can't hold it (delivery.md §6): a queue around the queue of an adapter, which then knows
//! nothing of it. [`over`] puts it there; what goes to the store, [`Later`] says.
//!
//! A delayed publish is forwarded when it is due, by any process, confirmed before it leaves the store: at least once, with the same
//! source and id. A retry is durable in the store before the broker's delivery is acknowledged; from then on it is a delivery of the
//! store, merged into [`Queue::pull`], with a position of its own (its top bit is set) and a lease that is renewed while it is held.
//!
//! The store counts the tries of what it holds. Those of a delivery that the broker holds are the adapter's, as is its order: what
//! [`Queue::keep_order`] names is never taken from it.

mod known;
mod publish;
mod read;
mod settle;
mod side;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OnceCell};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::side::Side;
use super::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start, Tries,
};
use crate::dead::DeadLetters;
use crate::store::{DelayError, DelayLease, Shelf, Store, StoreError};

/// How long a claim of the store is ours without being renewed, where a queue has no `lease=` of its own.
pub const LEASE: Duration = Duration::from_secs(30);

/// How long closing may take to give back what is held: the rest lapses.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// What goes to the store rather than to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later {
    /// Delayed publishes that wait for at least this long; none: the broker keeps them all.
    pub publishes: Option<Duration>,
    /// Retries that wait for at least this long; zero: those that are due at once as well, so that their tries are kept. None: the
    /// broker keeps them all.
    pub retries: Option<Duration>,
    /// How long a claim of the store is ours without being renewed: the URL's `lease`.
    pub lease: Duration,
}

impl Later {
    /// For brokers that hold nothing back.
    pub const ALL: Self = Self { publishes: Some(Duration::ZERO), retries: Some(Duration::ZERO), lease: LEASE };

    /// For brokers whose retries wait by other means, but publishes can't.
    pub const PUBLISHES: Self = Self { publishes: Some(Duration::ZERO), retries: None, lease: LEASE };

    /// For brokers that hold back for at most this long.
    #[must_use]
    pub const fn beyond(longest: Duration) -> Self {
        Self { publishes: Some(longest), retries: Some(longest), lease: LEASE }
    }

    /// The same with a lease.
    #[must_use]
    pub const fn with_lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// What an adapter promises together with the store; `of` is what it promises alone.
    #[must_use]
    pub const fn features(self, of: Features) -> Features {
        Features {
            delay: of.delay || self.publishes.is_some() && self.retries.is_some(),
            // A retry from the store has another position than the broker's delivery had.
            stable_position: of.stable_position && !matches!(self.retries, Some(Duration::ZERO)),
            ..of
        }
    }
}

/// Puts the store beside a queue; where there is none, it stays as it is.
#[must_use]
pub fn over(inner: Arc<dyn Queue>, later: Later, opening: &Opening) -> Arc<dyn Queue> {
    let Some(store) = opening.store.clone() else { return inner };
    LaterQueue::new(inner, later, &opening.name, store)
}

/// See the module.
pub struct LaterQueue {
    shared: Arc<Shared>,
    /// The forwarder, and for each subscription a reader and a keeper of leases. They end when the queue is closed or dropped.
    tasks: Mutex<JoinSet<()>>,
    ended: OnceCell<()>,
}

/// What the queue and its tasks share.
struct Shared {
    inner: Arc<dyn Queue>,
    store: Arc<Store>,
    /// The queue's name.
    name: String,
    later: Later,
    /// Who claims, among all that share the store.
    holder: u64,
    // By subscription. Held for a look.
    sides: Mutex<HashMap<String, Arc<Side>>>,
    /// Wakes the forwarder: something was put on the shelf of publishes.
    stirred: Notify,
    closed: CancellationToken,
}

impl LaterQueue {
    fn new(inner: Arc<dyn Queue>, later: Later, name: &str, store: Arc<Store>) -> Arc<Self> {
        let shared = Arc::new(Shared {
            inner,
            store,
            name: name.to_owned(),
            later,
            holder: fastrand::u64(..),
            sides: Mutex::default(),
            stirred: Notify::new(),
            closed: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        if later.publishes.is_some() {
            tasks.spawn(publish::forward(Arc::clone(&shared)));
        }
        Arc::new(Self { shared, tasks: Mutex::new(tasks), ended: OnceCell::new() })
    }

    /// The side of a subscription whose retries may wait in the store; its tasks run from now on. None: nothing of it does.
    fn side(&self, subscription: &str) -> Option<Arc<Side>> {
        self.shared.later.retries?;
        let mut sides = lock(&self.shared.sides);
        if let Some(side) = sides.get(subscription) {
            return Some(Arc::clone(side));
        }
        if self.shared.closed.is_cancelled() {
            return None;
        }
        let side = Arc::new(Side::new(Shelf::retries(&self.shared.name, subscription), self.shared.closed.child_token()));
        sides.insert(subscription.to_owned(), Arc::clone(&side));
        let mut tasks = lock(&self.tasks);
        tasks.spawn(read::read(Arc::clone(&self.shared), Arc::clone(&side)));
        tasks.spawn(read::keep(Arc::clone(&self.shared), Arc::clone(&side)));
        Some(side)
    }

    async fn pull_both(&self, subscription: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        let Some(side) = self.side(subscription) else { return self.shared.inner.pull(subscription, max).await };
        side.ask(max.get());
        // Whichever is dropped here loses nothing.
        tokio::select! {
            came = side.inbox.pull(max) => came,
            came = self.shared.inner.pull(subscription, max) => {
                let came = came?;
                side.hand_out(&came);
                Ok(came)
            }
        }
    }

    /// Ends the tasks, and gives back what they hold.
    async fn end(&self) {
        self.shared.closed.cancel();
        let leaving = async {
            let mut tasks = std::mem::take(&mut *lock(&self.tasks));
            while tasks.join_next().await.is_some() {}
            for side in self.shared.sides() {
                self.shared.leave(&side).await?;
            }
            Ok::<(), StoreError>(())
        };
        let problem = match tokio::time::timeout(CLOSE_MAX, leaving).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("the store did not answer within {CLOSE_MAX:?}")),
        };
        if let Some(error) = problem {
            tracing::warn!(queue = %self.shared.name, error, "what is held of the store could not be given back, it lapses");
        }
        self.shared.inner.close().await;
    }
}

impl Shared {
    fn lease(&self) -> DelayLease {
        DelayLease { holder: self.holder, length: self.later.lease }
    }

    /// How old a lease may be to be certain (delivery.md §3).
    fn young(&self) -> Duration {
        self.later.lease * 2 / 3
    }

    fn sides(&self) -> Vec<Arc<Side>> {
        lock(&self.sides).values().cloned().collect()
    }

    fn known(&self, subscription: &str) -> Option<Arc<Side>> {
        lock(&self.sides).get(subscription).cloned()
    }
}

impl Queue for LaterQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(self.shared.publish(batch))
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.shared.inner.too_large(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_both(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move {
            match self.shared.known(subscription) {
                Some(side) => self.shared.settle(subscription, &side, batch).await,
                None => self.shared.inner.settle(subscription, batch).await,
            }
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(self.shared.depth())
    }

    fn features(&self) -> Features {
        self.shared.later.features(self.shared.inner.features())
    }

    fn keep_order(&self, subscription: &str) -> Result<(), QueueError> {
        self.shared.inner.keep_order(subscription)?;
        if let Some(side) = self.side(subscription) {
            side.keep_order();
        }
        Ok(())
    }

    fn window(&self, subscription: &str, most: NonZeroUsize) {
        self.shared.inner.window(subscription, most);
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        let noted = self.shared.known(subscription).is_some_and(|side| side.note(position, tries));
        if !noted {
            self.shared.inner.note(subscription, position, tries);
        }
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(async move {
            let Some(side) = self.side(subscription) else { return self.shared.inner.lapsed(subscription).await };
            tokio::select! {
                lapsed = side.inbox.lapsed() => lapsed,
                lapsed = self.shared.inner.lapsed(subscription) => {
                    side.let_go(lapsed.iter());
                    lapsed
                }
            }
        })
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        let kept = self.shared.known(subscription).and_then(|side| side.holds(position, self.shared.young()));
        kept.unwrap_or_else(|| self.shared.inner.holds(subscription, position))
    }

    fn health(&self) -> Health {
        self.shared.inner.health()
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        self.shared.inner.subscribe(subscription, start)
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.unsubscribe(subscription))
    }

    fn dead_letters(&self) -> Option<Arc<dyn DeadLetters>> {
        self.shared.inner.dead_letters()
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

fn away(error: StoreError) -> QueueError {
    QueueError::Unavailable(error.to_string())
}

fn refused(error: DelayError) -> QueueError {
    match error {
        DelayError::Full { .. } => QueueError::NoRoom(error.to_string()),
        DelayError::Event { .. } => QueueError::Invalid(error.to_string()),
        DelayError::Store(error) => away(error),
    }
}
