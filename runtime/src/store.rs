//! What processes must share and what must outlive one, beside the queues (delivery.md §6): mails sent, duplicates, pauses, buckets, and
//! the dead letters that no broker holds. This page is its face; where it is kept: `store/embedded.rs`, `store/redis.rs`.
//!
//! A write is answered once it is durable. Nothing here decides what is a dead letter, a duplicate's end, or whether a mail may be
//! sent again.

mod buckets;
mod delays;
mod duplicates;
mod embedded;
mod notes;
#[cfg(feature = "redis")]
mod redis;
mod settings;
mod url;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use crate::dead::{
    DEAD_BYTES_MAX, DEAD_KEEP, DEAD_LETTER_BYTES_MAX, DEAD_LIST_MAX, DeadBounds, DeadCount, DeadCounts, DeadCursor, DeadFilter,
    DeadPage,
};

use crate::clock::{self, Timestamp};
use crate::config::Rate;
use crate::dead::{DeadLetter, DeadLetters};
use crate::queue::BoxFuture;
pub use delays::{
    DELAY_OVERHEAD_BYTES, DELAYS_BYTES_MAX, DELAYS_MAX, DelayChange, DelayError, DelayId, DelayLease, Delayed, DelayedCount, Due,
    Shelf,
};
pub use duplicates::{Claimed, DUPLICATES_MAX, EventKey, Sighting};
use embedded::Embedded;
pub use notes::{NOTES_KEPT, NOTES_MAX, Note, Noted};
#[cfg(feature = "redis")]
use redis::RedisStore;
pub use settings::Settings;
pub use url::StoreUrl;

/// SHA-256 that names a mail (delivery.md §9).
pub type MailIdentity = [u8; 32];

/// The store of one process, or of several.
#[derive(Debug)]
pub struct Store {
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Embedded(Embedded),
    #[cfg(feature = "redis")]
    Redis(RedisStore),
}

/// Why the store could not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{0}")]
    Owned(String),
    /// It is away, or its disk is full or broken: an outside failure, to be tried again.
    #[error("{0}")]
    Unavailable(String),
    /// It holds what this version can't read.
    #[error("{0}")]
    Damaged(String),
}

impl Store {
    /// Opens the embedded store in the folder `data` with default bounds. Blocks: call it at start.
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn open(data: &Path) -> Result<Arc<Self>, StoreError> {
        Self::open_with(&Settings { data: data.to_owned(), ..Settings::default() })
    }

    /// Opens a store. The embedded one makes its folder (mode 0700) and file (0600) and blocks: call it at start. One on a server
    /// connects when it is first asked.
    ///
    /// # Errors
    /// When another process has the embedded one open, when the disk fails, or when the file is not a store; when certificates for a
    /// server can't be read.
    pub fn open_with(settings: &Settings) -> Result<Arc<Self>, StoreError> {
        let backend = match &settings.url {
            StoreUrl::Disk => Backend::Embedded(Embedded::open(settings)?),
            #[cfg(feature = "redis")]
            StoreUrl::Redis(url) => {
                let server = crate::redis::Redis::new(url)?;
                Backend::Redis(RedisStore::new(Arc::new(server), settings))
            }
        };
        Ok(Arc::new(Self { backend }))
    }

    /// Keeps a dead letter; the same id replaces what stood there. Once it answers, the letter outlives the process. It is written even
    /// when the future is dropped.
    ///
    /// # Errors
    /// When it could not be made durable; then it is not kept.
    pub async fn put_dead(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.put(&[letter]).await
    }

    /// One page of the dead letters that match, newest first.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn list_dead(&self, filter: DeadFilter) -> Result<DeadPage, StoreError> {
        self.list(filter).await
    }

    /// The dead letter with this id.
    ///
    /// # Errors
    /// When the store can't be read, or the letter can't.
    pub async fn get_dead(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        self.get(id).await
    }

    /// Removes the dead letter with this id; whether there was one.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn remove_dead(&self, id: &str) -> Result<bool, StoreError> {
        self.remove(id).await
    }

    /// How many dead letters each queue has.
    ///
    /// # Errors
    /// When the store can't be asked; the embedded one always can.
    pub async fn dead_counts(&self) -> Result<DeadCounts, StoreError> {
        self.counts().await
    }

    /// Keeps that a mail was handed over, until `expires`. Durable once it answers.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn put_mail(&self, identity: MailIdentity, message_id: &str, expires: Timestamp) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.put_mail(identity, message_id, expires).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.put_mail(identity, message_id, expires).await,
        }
    }

    /// The Message-ID under which this mail was handed over before, if that is known.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn mail(&self, identity: &MailIdentity, now: Timestamp) -> Result<Option<String>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.mail(identity, now),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.mail(identity, now).await,
        }
    }

    /// Claims events for deliveries of one handler, before they run (delivery.md §8); one answer for each, in order. A claim is for
    /// `lease`, and claiming again renews it. A delivery is never a duplicate of itself: its own claim, and what was kept of its own
    /// position, is [`Claimed::Mine`].
    ///
    /// A claim of the embedded store ends with the process.
    ///
    /// # Errors
    /// When the store can't be asked: then nothing is known, and what was to run must wait.
    pub async fn claim(&self, handler: &str, lease: Duration, deliveries: &[Sighting]) -> Result<Vec<Claimed>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.claim(handler, lease, deliveries, clock::now()),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.claim(handler, lease, deliveries).await,
        }
    }

    /// Keeps for `window` that deliveries of one handler have ended done, whoever had claimed them; to be called before they are
    /// acknowledged. Durable once it answers. At most [`DUPLICATES_MAX`] of a handler.
    ///
    /// # Errors
    /// When it could not be made durable: the claim stands until its lease ends, and the call may be repeated.
    pub async fn keep(&self, handler: &str, window: Duration, deliveries: &[Sighting]) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.keep(handler, clock::now().after(window), deliveries).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.keep(handler, window, deliveries).await,
        }
    }

    /// Gives up the claims of deliveries that ended otherwise. What another delivery has claimed, and what was kept, stays.
    ///
    /// # Errors
    /// When the store can't be asked: the claims end with their leases.
    pub async fn release(&self, handler: &str, deliveries: &[Sighting]) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Embedded(store) => {
                store.release(handler, deliveries);
                Ok(())
            }
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.release(handler, deliveries).await,
        }
    }

    /// Takes the next turn of a handler's rate of mails, never more than `count` in any `per`, if it comes within `bound`: how far ahead
    /// it is. Else how far it would be, as the inner error, and takes nothing. None: this store is of one process, which counts itself.
    ///
    /// # Errors
    /// When the store can't be asked.
    pub async fn turn(
        &self,
        handler: &str,
        rate: Rate,
        bound: Duration,
    ) -> Result<Option<Result<Duration, Duration>>, StoreError> {
        #[cfg(not(feature = "redis"))]
        let _ = (handler, rate, bound);
        match &self.backend {
            Backend::Embedded(_) => Ok(None),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.turn(handler, rate, bound).await.map(Some),
        }
    }

    /// Pauses a handler by hand, or ends that pause, for every process that shares the store (delivery.md §11). Durable once it answers.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn set_pause(&self, handler: &str, paused: bool) -> Result<(), StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.set_pause(handler, paused).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.set_pause(handler, paused).await,
        }
    }

    /// The handlers that are paused by hand. Cheap enough to be asked every few seconds.
    ///
    /// # Errors
    /// When the store can't be asked.
    pub async fn pauses(&self) -> Result<BTreeSet<String>, StoreError> {
        match &self.backend {
            Backend::Embedded(store) => store.pauses(),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.pauses().await,
        }
    }
}

impl DeadLetters for Store {
    fn put<'a>(&'a self, letters: &'a [&'a DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>> {
        match &self.backend {
            Backend::Embedded(store) => Box::pin(store.put_dead(letters)),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => Box::pin(store.put_dead(letters)),
        }
    }

    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, StoreError>> {
        match &self.backend {
            Backend::Embedded(store) => Box::pin(store.get_dead(id)),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => Box::pin(store.get_dead(id)),
        }
    }

    fn list(&self, filter: DeadFilter) -> BoxFuture<'_, Result<DeadPage, StoreError>> {
        match &self.backend {
            Backend::Embedded(store) => Box::pin(store.list_dead(filter)),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => Box::pin(store.list_dead(filter)),
        }
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        match &self.backend {
            Backend::Embedded(store) => Box::pin(store.remove_dead(id)),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => Box::pin(store.remove_dead(id)),
        }
    }

    fn forget<'a>(&'a self, queue: &'a str, ids: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        match &self.backend {
            Backend::Embedded(store) => Box::pin(store.forget_dead(queue, ids)),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => Box::pin(store.forget_dead(queue, ids)),
        }
    }

    fn counts(&self) -> BoxFuture<'_, Result<DeadCounts, StoreError>> {
        match &self.backend {
            Backend::Embedded(store) => {
                let counts = store.dead_counts();
                Box::pin(async { Ok(counts) })
            }
            #[cfg(feature = "redis")]
            Backend::Redis(store) => Box::pin(store.dead_counts()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
