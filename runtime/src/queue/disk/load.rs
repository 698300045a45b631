//! What is read when a queue is opened: everything but events.

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::plan::Written;
use super::tables::{self, DELAYED, EVENTS, KEPT, Numbers, SUBSCRIPTIONS};
use crate::clock::Timestamp;
use crate::queue::ledger::{Ledger, Reading};

/// What is read at the start.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) ledger: Ledger,
    pub(super) written: Written,
}

/// Makes the tables of a new file.
pub(super) fn prepare(database: &Database) -> Result<(), redb::Error> {
    if tables::exist(&database.begin_read()?)? {
        return Ok(());
    }
    let txn = database.begin_write()?;
    tables::create(&txn)?;
    Ok(txn.commit()?)
}

/// Reads everything but events; the format beside it.
pub(super) fn load(txn: &ReadTransaction) -> Result<(Loaded, u64), redb::Error> {
    let (numbers, format) = Numbers::read(txn)?;
    let mut ledger = Ledger { end: numbers.end, floor: numbers.floor, first: numbers.first > 0, ..Ledger::default() };
    let kept = txn.open_table(KEPT)?;
    for entry in txn.open_table(SUBSCRIPTIONS)?.iter()? {
        let (name, value) = entry?;
        let (id, cursor) = value.value();
        let mut reading = Reading::from(cursor, []);
        reading.id = id;
        for entry in kept.range((id, 0)..=(id, u64::MAX))? {
            let (key, value) = entry?;
            let (due, tries) = tables::kept_from(value.value());
            reading.restore(key.value().1, due, tries);
        }
        ledger.readings.insert(name.value().to_owned(), reading);
    }
    let delayed = txn.open_table(DELAYED)?;
    let next_due = delayed.first()?.map(|(key, _)| Timestamp(key.value().0));
    let written = Written { numbers, events: txn.open_table(EVENTS)?.len()?, delayed: delayed.len()?, next_due };
    Ok((Loaded { ledger, written }, format))
}
