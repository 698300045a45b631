//! Tries of an event on NSQ: the server's count of deliveries, corrected by what Weir notes beside it where the two differ (delivery.md §2),
//! and when it is due, where the server can't wait so long or forgets. Pure.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::queue::Tries;

/// What went before, as it was known at a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    /// The count of deliveries when it was written: deliveries after the next one were lost.
    pub(super) delivered: u16,
    /// The tries behind the next delivery.
    pub(super) tries: Tries,
    /// Not to be run before.
    pub(super) due: Option<Timestamp>,
}

/// What a delivery that came is: how it is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It runs, with these tries behind it.
    Runs(Tries),
    /// It came early: back for so long, with these tries behind the next delivery.
    Waits(Duration, Note),
}

/// The tries behind a delivery with this count, from 1.
pub(super) fn behind(delivered: u16, note: Option<Note>) -> Tries {
    match note {
        None => Tries { failed: u32::from(delivered.saturating_sub(1)), ..Tries::default() },
        Some(note) => {
            let lost = delivered.saturating_sub(note.delivered).saturating_sub(1);
            Tries { failed: note.tries.failed.saturating_add(u32::from(lost)), ..note.tries }
        }
    }
}

/// What is to be noted, so that the delivery after the one with this count has these tries behind it; none: nothing.
pub(super) fn to_note(delivered: u16, tries: Tries, noted: Option<Note>) -> Option<Note> {
    (behind(delivered.saturating_add(1), noted) != tries).then_some(Note { delivered, tries, due: None })
}

/// What a delivery comes to that is due at `due`, or by its note.
pub(super) fn arrival(delivered: u16, note: Option<Note>, due: Option<Timestamp>, now: Timestamp) -> Arrival {
    let tries = behind(delivered, note);
    let due = due.max(note.and_then(|note| note.due));
    match due.filter(|due| *due > now) {
        Some(due) => Arrival::Waits(due.since(now), Note { delivered, tries, due: Some(due) }),
        None => Arrival::Runs(tries),
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
        assert_eq!(behind(1, None), failed(0));
        assert_eq!(to_note(1, failed(1), None), None);
        assert_eq!(behind(2, None), failed(1));
        // Given back: the next delivery has no more behind it; and then killed once.
        let note = to_note(1, failed(0), None);
        assert_eq!(note, Some(Note { delivered: 1, tries: failed(0), due: None }));
        assert_eq!((behind(2, note), behind(3, note)), (failed(0), failed(1)));
        assert_eq!(to_note(2, failed(1), note), None);
        // From outside: no attempt, and when the row began is kept.
        let outside = Tries { failed: 1, outside: 2, outside_since: Some(Timestamp(7)) };
        assert_eq!(behind(5, to_note(4, outside, note)), outside);
        // The server's count ends at 65,535.
        assert_eq!(behind(u16::MAX, None), failed(65_534));
    }

    #[test]
    fn what_comes_early_goes_back_without_a_try() {
        let (now, due) = (Timestamp(1_000), Timestamp(5_000));
        assert_eq!(arrival(1, None, None, now), Arrival::Runs(failed(0)));
        assert_eq!(arrival(1, None, Some(now), now), Arrival::Runs(failed(0)));
        let waits = arrival(1, None, Some(due), now);
        let note = Note { delivered: 1, tries: failed(0), due: Some(due) };
        assert_eq!(waits, Arrival::Waits(Duration::from_secs(4), note));
        assert_eq!(arrival(2, Some(note), Some(due), due), Arrival::Runs(failed(0)));
        // A retry that waits for longer than the server can.
        let retry = Note { delivered: 3, tries: failed(3), due: Some(due) };
        assert_eq!(
            arrival(4, Some(retry), None, Timestamp(2_000)),
            Arrival::Waits(Duration::from_secs(3), Note { delivered: 4, ..retry })
        );
    }
}
