//! Tries of an event on JetStream: the consumer's delivery count, corrected by what Weir notes beside it where the two differ
//! (delivery.md §2).
//!
//! Notes stand in a key-value bucket of the same server, a key each: `<stream>.<consumer>.<sequence>`.

use serde::{Deserialize, Serialize};

use crate::queue::Tries;

/// What went before, as it was known at a delivery count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// The delivery count when it was written: deliveries after the next one were lost.
    pub(super) delivered: u32,
    /// The tries behind the next delivery.
    pub(super) tries: Tries,
}

/// The tries behind a delivery with this count, from 1.
pub(super) fn behind(delivered: u32, note: Option<Note>) -> Tries {
    match note {
        None => Tries { failed: delivered.saturating_sub(1), ..Tries::default() },
        Some(note) => {
            let lost = delivered.saturating_sub(note.delivered).saturating_sub(1);
            Tries { failed: note.tries.failed.saturating_add(lost), ..note.tries }
        }
    }
}

/// What is to be noted, so that the delivery after the one with this count has these tries behind it; none: nothing.
pub(super) fn to_note(delivered: u32, tries: Tries, noted: Option<Note>) -> Option<Note> {
    (behind(delivered + 1, noted) != tries).then_some(Note { delivered, tries })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    fn failed(failed: u32) -> Tries {
        Tries { failed, ..Tries::default() }
    }

    #[test]
    fn counts_and_notes_agree() {
        // A first delivery, a retry, one whose process was killed.
        assert_eq!(behind(1, None), failed(0));
        assert_eq!(to_note(1, failed(1), None), None);
        assert_eq!(behind(2, None), failed(1));
        // Given back: the next delivery has no more behind it.
        let note = to_note(1, failed(0), None);
        assert_eq!(note, Some(Note { delivered: 1, tries: failed(0) }));
        assert_eq!(behind(2, note), failed(0));
        // And then killed once.
        assert_eq!(behind(3, note), failed(1));
        assert_eq!(to_note(2, failed(1), note), None);
        // From outside: no attempt, and when the row began is kept.
        let outside = Tries { failed: 1, outside: 2, outside_since: Some(Timestamp(7)) };
        let note = to_note(4, outside, note);
        assert_eq!(behind(5, note), outside);
        // Tried again in the process, at the same delivery: if that is killed now, it has three behind it.
        let note = to_note(1, failed(3), None);
        assert_eq!(behind(2, note), failed(3));
    }
}
