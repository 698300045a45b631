//! What `duplicates` is about (delivery.md §8): events, deliveries of them, and what is said of one. Who keeps them: `embedded/claims.rs`,
//! `embedded/duplicates.rs`, `redis/*.lua`.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

/// Most events that are remembered as ended, of one handler (its `duplicates`); then the oldest are forgotten first. Ten minutes of
/// 1,600 events a second; some 100 bytes each in the store's file.
pub const DUPLICATES_MAX: u64 = 1_000_000;

/// An event as `duplicates` knows it: a hash of source and id, 128 bits, so that no two of them meet by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventKey(pub [u8; 16]);

/// A delivery of an event, for [`Store::claim`](super::Store::claim) and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The event.
    pub key: EventKey,
    /// The broker's position of the delivery; none where a redelivery has no stable one: then this process stands for it.
    pub position: Option<u128>,
}

/// What [`Store::claim`](super::Store::claim) says of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// Nobody else has the event: it may run. It is this delivery's for the length of the lease; claiming it again renews that.
    Mine,
    /// Another delivery of the event has it, until then at most: to be asked again.
    Taken {
        /// When that claim ends if it is not renewed.
        until: Timestamp,
    },
    /// Another delivery of the event has ended within the window: this one is a duplicate.
    Seen,
}

/// Handlers of whom more events end within their window than are remembered: each is told once, because it will be so from then on.
#[derive(Debug, Default)]
pub(super) struct Crowded(BTreeSet<String>);

impl Crowded {
    pub(super) fn say(&mut self, handler: &str) {
        if self.0.insert(handler.to_owned()) {
            let bound = DUPLICATES_MAX;
            tracing::warn!(%handler, bound, "more events end within `duplicates` than are remembered: the oldest are forgotten early");
        }
    }
}

impl EventKey {
    /// The key of the event with this source and id.
    #[must_use]
    pub fn of(source: &str, id: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update((source.len() as u64).to_le_bytes());
        hash.update(source);
        hash.update(id);
        let mut key = [0; 16];
        key.iter_mut().zip(hash.finalize()).for_each(|(byte, hashed)| *byte = hashed);
        Self(key)
    }
}
