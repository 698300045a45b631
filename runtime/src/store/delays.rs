//! What waits for its time and no broker holds (delivery.md §6): delayed publishes of a queue, and retries of one subscription. The face
//! over `embedded/delays.rs` and `redis/delays.rs`. What becomes of what is due: `queue/later.rs`.
//!
//! An item is durable once it was answered. Every process that shares the store may claim what is due; a claim is a lease, so what a
//! killed process had claimed comes back when that has ended. Each claim of a retry that was not followed by a settlement counts as a
//! try, unless a note says otherwise.

mod row;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::row::{DelayRow, tries_text};
use super::{Backend, Store, StoreError};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::Tries;

/// Most items of one shelf: some 100 bytes each in indexes that are read by time.
pub const DELAYS_MAX: u64 = 1_000_000;

/// Most bytes of the events of one shelf; each counts [`DELAY_OVERHEAD_BYTES`] more.
pub const DELAYS_BYTES_MAX: u64 = 1 << 30;

/// What an item takes beside its event: its row, its places in indexes.
pub const DELAY_OVERHEAD_BYTES: u64 = 400;

/// Most bytes of events of one claim, so that no answer is without bound. One event is always answered.
pub(super) const CLAIM_BYTES_MAX: usize = 4 << 20;

/// How often a store that several processes share is looked at for what the others have put there: it tells nobody.
const LOOK_SHARED: Duration = Duration::from_secs(1);

/// The same for a store of one process, which tells: the wall clock may be set meanwhile.
const LOOK_ALONE: Duration = Duration::from_secs(10);

/// What waits of one kind: the delayed publishes of a queue, or the retries of one of its subscriptions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shelf {
    /// The queue's name.
    pub queue: String,
    /// Whose retries; none: publishes.
    pub subscription: Option<String>,
}

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delayed {
    /// Its own number, unlike any other: [`DelayId::new`]. The same one again replaces what stood there.
    pub id: DelayId,
    /// The event.
    pub event: Arc<Event>,
    /// Not before this.
    pub due: Timestamp,
    /// When the queue had it first.
    pub first_seen: Timestamp,
    /// What went before.
    pub tries: Tries,
}

/// The number of an item. Its top bit is set, so that it can stand for a position beside those of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DelayId(pub u128);

/// For whom, and for how long, something is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DelayLease {
    /// Who: a number that nobody else has, such as one by chance.
    pub holder: u64,
    /// How long.
    pub length: Duration,
}

/// What a claim came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Due {
    /// What is claimed now, earliest first; tries include claims that were lost.
    pub items: Vec<Delayed>,
    /// When there may be more: the next one is due, or another's lease ends. In the past when there is more now.
    pub next: Option<Timestamp>,
}

/// What is done with an item that is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelayChange {
    /// It is done with.
    Remove,
    /// Given back: again, not before `due`, remembering `tries`.
    PutBack {
        /// Not before.
        due: Timestamp,
        /// What went before.
        tries: Tries,
    },
    /// It stays claimed; if it is never changed again, its next claim has these tries behind it.
    Note(Tries),
}

/// How much waits on a shelf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayedCount {
    /// Whose retries; none: publishes.
    pub subscription: Option<String>,
    /// How many.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them are claimed now.
    pub claimed: u64,
}

/// Why an item could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DelayError {
    /// There is no room: nothing was kept.
    #[error(
        "the store has no room for more that waits: {events} events with {bytes} bytes are held (at most {DELAYS_MAX} and {DELAYS_BYTES_MAX})"
    )]
    Full {
        /// Held now.
        events: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The event can't be written down.
    #[error("event `{id}` can't be kept: {reason}")]
    Event {
        /// Its id.
        id: String,
        /// Why not.
        reason: String,
    },
    /// The store could not do it: an outside failure.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Shelf {
    /// Of the delayed publishes of a queue.
    #[must_use]
    pub fn publishes(queue: &str) -> Self {
        Self { queue: queue.to_owned(), subscription: None }
    }

    /// Of the retries of a subscription.
    #[must_use]
    pub fn retries(queue: &str, subscription: &str) -> Self {
        Self { queue: queue.to_owned(), subscription: Some(subscription.to_owned()) }
    }
}

impl DelayId {
    /// A new one; those of one process sort in the order in which they were made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        Self(crate::clock::id().as_u128() | 1 << 127)
    }
}

impl Store {
    /// Keeps items until they are due, all or none. Durable once it answers.
    ///
    /// # Errors
    /// [`DelayError::Full`] beyond the bounds. When the store fails it is not known whether they are kept: they may be put again.
    pub async fn delay(&self, shelf: &Shelf, items: &[Delayed]) -> Result<(), DelayError> {
        let rows = items.iter().map(DelayRow::new).collect::<Result<Vec<_>, _>>()?;
        match &self.backend {
            Backend::Embedded(store) => store.delay(shelf, rows, (DELAYS_MAX, DELAYS_BYTES_MAX)).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.delay(shelf, &rows, (DELAYS_MAX, DELAYS_BYTES_MAX)).await,
        }
    }

    /// Claims at most `max` of what is due, earliest first, and says when to look again. Dropping the future may leave some claimed: they
    /// come back when the lease ends.
    ///
    /// # Errors
    /// When the store can't be asked.
    pub async fn claim_delayed(&self, shelf: &Shelf, lease: DelayLease, max: usize) -> Result<Due, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.claim_delayed(shelf, lease, max).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.claim_delayed(shelf, lease, max).await,
        }
    }

    /// Renews the leases of claimed items; answers those that are not the holder's any more.
    ///
    /// # Errors
    /// When the store can't be asked: nothing is renewed, as far as is known.
    pub async fn renew_delayed(&self, shelf: &Shelf, lease: DelayLease, ids: &[DelayId]) -> Result<Vec<DelayId>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => Ok(store.renew_delayed(shelf, lease, ids)),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.renew_delayed(shelf, lease, ids).await,
        }
    }

    /// Changes items, durable once it answers; answers those that it came too late for, because another holder has claimed them. What
    /// nobody has claimed is changed too, and what is not there any more is left: a call may be repeated.
    ///
    /// # Errors
    /// When it is not known whether it was done.
    pub async fn change_delayed(
        &self,
        shelf: &Shelf,
        holder: u64,
        changes: &[(DelayId, DelayChange)],
    ) -> Result<Vec<DelayId>, StoreError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        match &self.backend {
            Backend::Embedded(store) => store.change_delayed(shelf, holder, changes).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.change_delayed(shelf, holder, changes).await,
        }
    }

    /// Removes everything from a shelf: how many.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn forget_delayed(&self, shelf: &Shelf) -> Result<u64, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.forget_delayed(shelf).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.forget_delayed(shelf).await,
        }
    }

    /// What waits for a queue, by shelf; empty shelves are left out. Cheap enough for every scrape.
    ///
    /// # Errors
    /// When the store can't be asked.
    pub async fn delayed(&self, queue: &str) -> Result<Vec<DelayedCount>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.delayed(queue),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.delayed(queue).await,
        }
    }

    /// Waits until this process has put something on this shelf, or back, since the call. For ever where the store is shared:
    /// [`Store::look_for_delayed`] says how often to look.
    pub fn delays_changed(&self, shelf: &Shelf) -> impl Future<Output = ()> + Send + use<> {
        let notified = match &self.backend {
            Backend::Embedded(store) => Some(store.delays_changed(shelf)),
            #[cfg(feature = "redis")]
            Backend::Redis(_) => None,
        };
        async move {
            match notified {
                Some(notified) => notified.await,
                None => std::future::pending().await,
            }
        }
    }

    /// The longest time between two looks for what is due.
    #[must_use]
    pub fn look_for_delayed(&self) -> Duration {
        match &self.backend {
            Backend::Embedded(_) => LOOK_ALONE,
            #[cfg(feature = "redis")]
            Backend::Redis(_) => LOOK_SHARED,
        }
    }
}
