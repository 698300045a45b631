//! Tries that began and never reported, because their process was killed: counted when the queue is opened, before anything is delivered.

use std::collections::BTreeMap;

use super::load::Loaded;
use super::plan::{Plan, Settled};
use super::running::{Key, Note};
use super::store::Store;
use crate::clock::Timestamp;
use crate::queue::ledger::{Ledger, PENDING_MAX, Reading};
use crate::queue::{QueueError, Tries};

/// Writes down what the notes of a killed process add to the tries of its events; what is then loaded, and whether all stands. Where it
/// can't be written, the queue is opened all the same, and the notes are left for the next start.
pub(super) fn count(store: &Store, loaded: Loaded, notes: &[Note], name: &str) -> Result<(Loaded, bool), QueueError> {
    let settled = settled(&loaded.ledger, notes);
    if settled.is_empty() {
        return Ok((loaded, true));
    }
    let Loaded { ledger, written } = loaded;
    let events: usize = settled.values().map(|settled| settled.retried.len()).sum();
    let mut plan = Plan { before: written.numbers, floor: ledger.floor, first: ledger.first, settled, ..Plan::default() };
    // Nothing that is delayed arrives with it: that is for the writer.
    match store.commit(&mut plan, Timestamp::default()).and_then(|_| store.load()) {
        Ok(loaded) => {
            tracing::warn!(queue = name, events, "process was ended while events ran: a try of each is counted");
            Ok((loaded, true))
        }
        Err(error) => {
            tracing::error!(queue = name, events, %error, "process was ended while events ran, and their tries can't be written");
            let loaded = store.reopen().map_err(QueueError::Unavailable)?;
            store.set_broken(None);
            Ok((loaded, false))
        }
    }
}

/// What changes for each subscription. Pure.
fn settled(ledger: &Ledger, notes: &[Note]) -> BTreeMap<String, Settled> {
    let mut noted: BTreeMap<Key, Tries> = BTreeMap::new();
    for Note { key, tries } in notes {
        let most = noted.entry(*key).or_insert(*tries);
        if gone_by(*tries) > gone_by(*most) {
            *most = *tries;
        }
    }
    let one = |(name, reading): (&String, &Reading)| {
        let (id, cursor) = (reading.id, reading.cursor);
        let lost =
            noted.range((id, 0)..=(id, u64::MAX)).filter_map(|((_, seq), tries)| Some((*seq, counted(reading, *seq, *tries)?)));
        let retried: Vec<_> = lost.filter(|(seq, _)| *seq < ledger.end).map(|(seq, (due, tries))| (seq, due, tries)).collect();
        let last = retried.last()?.0;
        let cursor = cursor.max(last + 1);
        // What lies beside them was in hand as well, and nothing of it has ended.
        let beside = (reading.cursor..cursor).filter(|seq| retried.binary_search_by_key(seq, |(seq, ..)| *seq).is_err());
        let passed = beside.map(|seq| (seq, Tries::default())).collect();
        Some((name.clone(), Settled { id, cursor, retried, passed, ..Settled::default() }))
    };
    ledger.readings.iter().filter_map(one).collect()
}

/// When an event is due and what tries it has, if it has not ended and the note tells more than its row.
fn counted(reading: &Reading, seq: u64, tries: Tries) -> Option<(Timestamp, Tries)> {
    if seq >= reading.cursor {
        // No more than that was ever in hand.
        return (seq - reading.cursor < PENDING_MAX as u64).then_some((Timestamp::default(), tries));
    }
    let pending = reading.pending.get(&seq)?;
    (gone_by(tries) > gone_by(pending.tries)).then_some((pending.due(), tries))
}

/// Over the life of an event this only rises: a counted failure ends a row of outside failures.
fn gone_by(tries: Tries) -> (u32, u32) {
    (tries.failed, tries.outside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(failed: u32, outside: u32) -> Tries {
        Tries { failed, outside, outside_since: None }
    }

    /// One subscription with the id 3, its cursor at 10, and rows for 4, due at 99, and for 8.
    fn ledger() -> Ledger {
        let mut reading = Reading::from(10, []);
        reading.id = 3;
        reading.restore(4, Timestamp(99), tries(2, 5));
        reading.restore(8, Timestamp(0), tries(0, 0));
        Ledger { end: 20, readings: [("a".to_owned(), reading)].into(), ..Ledger::default() }
    }

    fn check(notes: &[(Key, Tries)], cursor: u64, retried: &[(u64, u64, Tries)], passed: &[u64]) {
        let notes: Vec<Note> = notes.iter().map(|(key, tries)| Note { key: *key, tries: *tries }).collect();
        let settled = settled(&ledger(), &notes);
        let Some(a) = settled.get("a") else { return assert!(retried.is_empty(), "{notes:?} change nothing") };
        let retried: Vec<_> = retried.iter().map(|(seq, due, tries)| (*seq, Timestamp(*due), *tries)).collect();
        let passed: Vec<_> = passed.iter().map(|seq| (*seq, Tries::default())).collect();
        assert_eq!((a.id, a.cursor, &a.retried, &a.passed), (3, cursor, &retried, &passed), "{notes:?}");
        assert!(a.ended.is_empty() && a.dropped.is_empty());
    }

    #[test]
    fn notes_count_for_what_has_not_ended() {
        check(&[], 10, &[], &[]);
        check(&[((3, 8), tries(1, 0))], 10, &[(8, 0, tries(1, 0))], &[]);
        check(&[((3, 4), tries(3, 0))], 10, &[(4, 99, tries(3, 0))], &[]);
        check(&[((3, 10), tries(1, 0))], 11, &[(10, 0, tries(1, 0))], &[]);
        check(&[((3, 12), tries(1, 0)), ((3, 8), tries(1, 0))], 13, &[(8, 0, tries(1, 0)), (12, 0, tries(1, 0))], &[10, 11]);
        // Ended; of another subscription; beyond the end.
        check(&[((3, 5), tries(1, 0)), ((3, 9), tries(1, 0))], 10, &[], &[]);
        check(&[((2, 8), tries(1, 0)), ((4, 8), tries(1, 0))], 10, &[], &[]);
        check(&[((3, 20), tries(1, 0)), ((3, u64::MAX), tries(1, 0))], 10, &[], &[]);
    }

    #[test]
    fn the_most_that_is_known_holds() {
        check(&[((3, 4), tries(2, 5))], 10, &[], &[]);
        check(&[((3, 4), tries(1, 9))], 10, &[], &[]);
        check(&[((3, 4), tries(2, 6))], 10, &[(4, 99, tries(2, 6))], &[]);
        let two = [((3, 8), tries(2, 0)), ((3, 8), tries(1, 7))];
        check(&two, 10, &[(8, 0, tries(2, 0))], &[]);
        check(&[two[1], two[0]], 10, &[(8, 0, tries(2, 0))], &[]);
    }
}
