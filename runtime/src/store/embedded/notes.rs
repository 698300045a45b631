//! Notes of tries in the embedded store: tables, and what one commit does to them. The face: `store/notes.rs`.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction};

use super::Embedded;
use super::tables::{Error, PRUNED_MAX, Write};
use crate::clock::Timestamp;
use crate::queue::Position;
use crate::store::{NOTES_MAX, Note, Noted, StoreError};

/// Queue, subscription and position → when it is forgotten, the note.
const NOTES: TableDefinition<(&str, &str, u128), (u64, &[u8])> = TableDefinition::new("notes");
/// The same by time, for forgetting without a scan.
const NOTES_BY_EXPIRY: TableDefinition<(u64, &str, &str, u128), ()> = TableDefinition::new("notes-by-expiry");

/// Notes to write, or (none) to remove.
#[derive(Debug)]
pub(super) struct NoteWrite {
    queue: String,
    subscription: String,
    until: Timestamp,
    notes: Vec<(Position, Option<Vec<u8>>)>,
}

/// Makes the tables.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), Error> {
    transaction.open_table(NOTES)?;
    transaction.open_table(NOTES_BY_EXPIRY)?;
    Ok(())
}

/// Writes and removes, and forgets what is too old or too much.
pub(super) fn write(transaction: &WriteTransaction, write: &NoteWrite, now: Timestamp) -> Result<bool, Error> {
    write_within(transaction, write, now, NOTES_MAX)
}

fn write_within(transaction: &WriteTransaction, write: &NoteWrite, now: Timestamp, bound: u64) -> Result<bool, Error> {
    let mut notes = transaction.open_table(NOTES)?;
    let mut by_expiry = transaction.open_table(NOTES_BY_EXPIRY)?;
    let (queue, subscription) = (write.queue.as_str(), write.subscription.as_str());
    for (position, note) in &write.notes {
        let key = (queue, subscription, position.0);
        let before = match note {
            Some(note) => notes.insert(key, (write.until.0, note.as_slice()))?.map(|row| row.value().0),
            None => notes.remove(key)?.map(|row| row.value().0),
        };
        if let Some(before) = before {
            by_expiry.remove((before, queue, subscription, position.0))?;
        }
        if note.is_some() {
            by_expiry.insert((write.until.0, queue, subscription, position.0), ())?;
        }
    }
    // As many again as came, so that what has gathered goes and a commit stays short.
    for _ in 0..PRUNED_MAX + write.notes.len() {
        let over = notes.len()? > bound;
        let Some(oldest) = by_expiry.first()?.filter(|(key, _)| over || key.value().0 <= now.0).map(|(key, _)| {
            let (until, queue, subscription, position) = key.value();
            (until, queue.to_owned(), subscription.to_owned(), position)
        }) else {
            break;
        };
        let (until, queue, subscription, position) = (oldest.0, oldest.1.as_str(), oldest.2.as_str(), oldest.3);
        by_expiry.remove((until, queue, subscription, position))?;
        notes.remove((queue, subscription, position))?;
    }
    Ok(true)
}

fn read(
    transaction: &ReadTransaction,
    of: Noted<'_>,
    positions: &[Position],
    now: Timestamp,
) -> Result<Vec<Option<Note>>, Error> {
    let table = transaction.open_table(NOTES)?;
    let read = positions.iter().map(|position| {
        let row = table.get((of.queue, of.subscription, position.0))?;
        let kept = row.filter(|row| row.value().0 > now.0);
        Ok(kept.and_then(|row| serde_json::from_slice(row.value().1).ok()))
    });
    read.collect()
}

impl Embedded {
    pub(in crate::store) async fn write_notes(
        &self,
        of: Noted<'_>,
        notes: &[(Position, Note)],
        until: Timestamp,
    ) -> Result<(), StoreError> {
        // Numbers alone: there is no error case.
        let text = |note: &Note| serde_json::to_vec(note).unwrap_or_default();
        let notes = notes.iter().map(|(position, note)| (*position, Some(text(note)))).collect();
        self.write_some(of, until, notes).await
    }

    pub(in crate::store) async fn remove_notes(&self, of: Noted<'_>, positions: &[Position]) -> Result<(), StoreError> {
        // Looks before it writes: most of the positions have none.
        let known = self.notes(of, positions, Timestamp::default())?;
        let known: Vec<_> = positions.iter().zip(known).filter_map(|(position, note)| note.map(|_| (*position, None))).collect();
        if known.is_empty() {
            return Ok(());
        }
        self.write_some(of, Timestamp::default(), known).await
    }

    async fn write_some(
        &self,
        of: Noted<'_>,
        until: Timestamp,
        notes: Vec<(Position, Option<Vec<u8>>)>,
    ) -> Result<(), StoreError> {
        let write = NoteWrite { queue: of.queue.to_owned(), subscription: of.subscription.to_owned(), until, notes };
        self.writer.write(Write::Notes(write)).await.map(drop)
    }

    /// Reads a small page for each: fit for async code.
    pub(in crate::store) fn notes(
        &self,
        of: Noted<'_>,
        positions: &[Position],
        now: Timestamp,
    ) -> Result<Vec<Option<Note>>, StoreError> {
        self.shared.read(|transaction| read(transaction, of, positions, now))
    }
}

#[cfg(test)]
mod tests {
    use redb::{Database, ReadableDatabase};

    use super::*;

    #[test]
    fn what_is_old_or_too_much_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::create(folder.path().join("notes")).unwrap();
        let note = |position: u128, until| NoteWrite {
            queue: "q".to_owned(),
            subscription: "s".to_owned(),
            until: Timestamp(until),
            notes: vec![(Position(position), Some(serde_json::to_vec(&Note::default()).unwrap()))],
        };
        let of = Noted { queue: "q", subscription: "s" };
        let change = |write: NoteWrite, now| {
            let transaction = database.begin_write().unwrap();
            write_within(&transaction, &write, Timestamp(now), 2).unwrap();
            transaction.commit().unwrap();
        };
        let there = || {
            let positions = [1, 2, 3, 4].map(Position);
            let notes = read(&database.begin_read().unwrap(), of, &positions, Timestamp(0)).unwrap();
            notes.iter().map(Option::is_some).collect::<Vec<_>>()
        };
        change(note(1, 10), 0);
        change(note(1, 30), 0);
        change(note(2, 20), 0);
        assert_eq!(there(), [true, true, false, false]);
        change(note(3, 40), 0);
        assert_eq!(there(), [true, false, true, false], "the one that expires first is forgotten");
        change(note(4, 50), 40);
        assert_eq!(there(), [false, false, false, true]);
    }
}
