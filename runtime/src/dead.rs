//! A dead letter: an event that was given up, with all that is needed to understand why. Where they are kept: `store.rs`.

pub mod grave;
pub mod json;
mod place;
mod places;
#[cfg(feature = "redis")]
pub mod redis;
pub mod replay;

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::event::Event;
use crate::outcome::Limit;
use crate::queue::Delivery;

pub use place::{
    DEAD_BYTES_MAX, DEAD_KEEP, DEAD_LETTER_BYTES_MAX, DEAD_LIST_BYTES_MAX, DEAD_LIST_MAX, DeadBounds, DeadCount, DeadCounts,
    DeadCursor, DeadFilter, DeadLetters, DeadPage, Unreadable,
};
pub use places::DeadPlaces;

/// An event that was given up.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Names it: see [`DeadLetter::id_for`].
    pub id: String,
    /// The handler that gave up.
    pub handler: String,
    /// The queue it came from.
    pub queue: String,
    /// For people.
    pub reason: String,
    /// The outcome of the last try; none when it was not run.
    pub outcome: Option<&'static str>,
    /// The limit that fired.
    pub limit: Option<Limit>,
    /// Tries that counted, the last one included.
    pub attempts: u32,
    /// When the queue first had it.
    pub first_at: Timestamp,
    /// When it was given up.
    pub dead_at: Timestamp,
    /// The whole digest of the component that ran last: `sha256:…`.
    pub version: Option<String>,
    /// The event.
    pub event: Arc<Event>,
    /// What the last run logged.
    pub log: String,
    /// Frames of the trap, names demangled, innermost first.
    pub backtrace: Vec<String>,
}

impl DeadLetter {
    /// The id of a dead letter, 16 hex digits: derived from what was delivered to whom, so that the same delivery dead-lettered again
    /// after a crash replaces itself instead of standing twice.
    #[must_use]
    pub fn id_for(queue: &str, handler: &str, delivery: &Delivery) -> String {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        for part in [queue, handler, &delivery.event.source, &delivery.event.id] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(delivery.first_seen.0.to_le_bytes());
        hash.update(delivery.position.0.to_le_bytes());
        let mut id = hex::encode(hash.finalize());
        id.truncate(16);
        id
    }
}
