//! Notes of tries under the position of a delivery (delivery.md §2, "less what the store notes"): for brokers that count deliveries by
//! themselves, where Weir's count differs. The face over `embedded/notes.rs` and Redis.
//!
//! Best effort: a note that is lost makes fewer tries, or more where the broker's count stands for them, and nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Backend, Store, StoreError};
use crate::clock::{self, Timestamp};
use crate::queue::{Position, Tries};

/// How long a note is kept; longer than an event waits for its next try.
pub const NOTES_KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Most notes of the embedded store, over all queues; then those that expire first are forgotten early. Some 100 bytes each. In Redis
/// only time bounds them.
pub const NOTES_MAX: u64 = 1_000_000;

/// What went before, as it was known at a broker's count of deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Note {
    /// The broker's count when it was written: deliveries after the next one were lost.
    pub delivered: u32,
    /// The tries behind the next delivery.
    pub tries: Tries,
}

/// Whose notes: a queue, by name, and a subscription of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted<'a> {
    /// The queue.
    pub queue: &'a str,
    /// The subscription.
    pub subscription: &'a str,
}

impl Note {
    /// The tries behind a delivery with this count, from 1.
    #[must_use]
    pub fn behind(delivered: u32, note: Option<Self>) -> Tries {
        match note {
            None => Tries { failed: delivered.saturating_sub(1), ..Tries::default() },
            Some(note) => {
                let lost = delivered.saturating_sub(note.delivered).saturating_sub(1);
                Tries { failed: note.tries.failed.saturating_add(lost), ..note.tries }
            }
        }
    }

    /// What is to be noted, so that the delivery after the one with this count has these tries behind it; none: nothing, as the counts
    /// agree.
    #[must_use]
    pub fn needed(delivered: u32, tries: Tries, noted: Option<Self>) -> Option<Self> {
        (Self::behind(delivered.saturating_add(1), noted) != tries).then_some(Self { delivered, tries })
    }
}

impl Store {
    /// Writes notes, each for [`NOTES_KEPT`]. They outlive the process once it answers; nobody has to wait for that.
    ///
    /// # Errors
    /// When the store can't be asked: the broker's count then stands.
    pub async fn write_notes(&self, of: Noted<'_>, notes: &[(Position, Note)]) -> Result<(), StoreError> {
        self.write_notes_until(of, notes, clock::now().after(NOTES_KEPT)).await
    }

    pub(super) async fn write_notes_until(
        &self,
        of: Noted<'_>,
        notes: &[(Position, Note)],
        until: Timestamp,
    ) -> Result<(), StoreError> {
        if notes.is_empty() {
            return Ok(());
        }
        match &self.backend {
            Backend::Embedded(store) => store.write_notes(of, notes, until).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.write_notes(of, notes, until).await,
        }
    }

    /// Reads the notes of these positions, in order.
    ///
    /// # Errors
    /// When the store can't be asked.
    pub async fn notes(&self, of: Noted<'_>, positions: &[Position]) -> Result<Vec<Option<Note>>, StoreError> {
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        match &self.backend {
            Backend::Embedded(store) => store.notes(of, positions, clock::now()),
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.notes(of, positions).await,
        }
    }

    /// Removes notes; what stays is forgotten when its time is over.
    ///
    /// # Errors
    /// When the store can't be asked.
    pub async fn remove_notes(&self, of: Noted<'_>, positions: &[Position]) -> Result<(), StoreError> {
        if positions.is_empty() {
            return Ok(());
        }
        match &self.backend {
            Backend::Embedded(store) => store.remove_notes(of, positions).await,
            #[cfg(feature = "redis")]
            Backend::Redis(store) => store.remove_notes(of, positions).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(failed: u32) -> Tries {
        Tries { failed, ..Tries::default() }
    }

    #[test]
    fn counts_and_notes_agree() {
        // A first delivery, a retry, one whose process was killed.
        assert_eq!(Note::behind(1, None), failed(0));
        assert_eq!(Note::needed(1, failed(1), None), None);
        assert_eq!(Note::behind(2, None), failed(1));
        // Given back: the next delivery has no more behind it; and then killed once.
        let note = Note::needed(1, failed(0), None);
        assert_eq!(note, Some(Note { delivered: 1, tries: failed(0) }));
        assert_eq!(Note::behind(2, note), failed(0));
        assert_eq!(Note::behind(3, note), failed(1));
        assert_eq!(Note::needed(2, failed(1), note), None);
        // From outside: no attempt, and when the row began is kept.
        let outside = Tries { failed: 1, outside: 2, outside_since: Some(Timestamp(7)) };
        let note = Note::needed(4, outside, note);
        assert_eq!(Note::behind(5, note), outside);
    }
}
