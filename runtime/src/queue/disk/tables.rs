//! What stands in the file: its tables, and the numbers of the queue as a whole. Nothing here opens or commits.

use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, TableError, WriteTransaction};

use crate::clock::Timestamp;
use crate::queue::Tries;

/// Number of an event → its row (`row.rs`).
pub(super) const EVENTS: TableDefinition<u64, &[u8]> = TableDefinition::new("events");

/// (When it is due, order of arrival) of a delayed publish → its row.
pub(super) const DELAYED: TableDefinition<(u64, u64), &[u8]> = TableDefinition::new("delayed");

/// Name of a subscription → (its id, its cursor): what lies below the cursor has ended, unless `KEPT` has it.
pub(super) const SUBSCRIPTIONS: TableDefinition<&str, (u32, u64)> = TableDefinition::new("subscriptions");

/// (Id of a subscription, number of an event) that lies below the cursor and has not ended → (due, failed, outside, outside since).
pub(super) const KEPT: TableDefinition<(u32, u64), (u64, u32, u32, u64)> = TableDefinition::new("kept");

/// Numbers of the queue as a whole, by name.
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

/// The format that this version writes. A later one that reads differently counts up.
pub(super) const FORMAT: u64 = 1;

/// The numbers in `META`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Numbers {
    /// Counts commits, so that after a failed one it can be told whether it happened.
    pub(super) commit: u64,
    /// The next event's number.
    pub(super) end: u64,
    /// Where the first subscription begins.
    pub(super) floor: u64,
    /// Whether further subscriptions begin with what waited, too: 1 or 0.
    pub(super) first: u64,
    /// Bytes of all rows of `EVENTS` and `DELAYED`.
    pub(super) bytes: u64,
    /// The order of the next delayed publish.
    pub(super) delayed_next: u64,
    /// The next subscription's id.
    pub(super) subscription_next: u64,
    /// Events from here…
    pub(super) sweep_from: u64,
    /// …to before here are looked through for those that nobody holds, after a subscription was removed.
    pub(super) sweep_to: u64,
}

impl Numbers {
    fn named(&mut self) -> [(&'static str, &mut u64); 9] {
        [
            ("commit", &mut self.commit),
            ("end", &mut self.end),
            ("floor", &mut self.floor),
            ("first", &mut self.first),
            ("bytes", &mut self.bytes),
            ("delayed-next", &mut self.delayed_next),
            ("subscription-next", &mut self.subscription_next),
            ("sweep-from", &mut self.sweep_from),
            ("sweep-to", &mut self.sweep_to),
        ]
    }

    /// Counts a row that was removed, if it was there.
    pub(super) fn free(&mut self, row_bytes: Option<usize>) {
        self.bytes = self.bytes.saturating_sub(row_bytes.unwrap_or_default() as u64);
    }

    /// Writes those that changed.
    pub(super) fn write(mut self, mut before: Self, txn: &WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = txn.open_table(META)?;
        for ((name, value), (_, before)) in self.named().into_iter().zip(before.named()) {
            if *value != *before {
                meta.insert(name, *value)?;
            }
        }
        Ok(())
    }

    /// Reads them; the format beside them.
    pub(super) fn read(txn: &ReadTransaction) -> Result<(Self, u64), redb::Error> {
        let meta = txn.open_table(META)?;
        let mut numbers = Self::default();
        for (name, value) in numbers.named() {
            *value = meta.get(name)?.map(|stored| stored.value()).unwrap_or_default();
        }
        Ok((numbers, meta.get("format")?.map(|stored| stored.value()).unwrap_or_default()))
    }
}

/// Makes the tables of a new file, so that reading never meets one that is missing.
pub(super) fn create(txn: &WriteTransaction) -> Result<(), redb::Error> {
    txn.open_table(EVENTS)?;
    txn.open_table(DELAYED)?;
    txn.open_table(SUBSCRIPTIONS)?;
    txn.open_table(KEPT)?;
    let mut meta = txn.open_table(META)?;
    if meta.get("format")?.is_none() {
        meta.insert("format", FORMAT)?;
    }
    Ok(())
}

/// Whether `create` was done.
pub(super) fn exist(txn: &ReadTransaction) -> Result<bool, redb::Error> {
    match txn.open_table(META) {
        Ok(_) => Ok(true),
        Err(TableError::TableDoesNotExist(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What `KEPT` says of a delivery.
pub(super) fn kept_value(due: Timestamp, tries: Tries) -> (u64, u32, u32, u64) {
    (due.0, tries.failed, tries.outside, tries.outside_since.map_or(0, |since| since.0))
}

/// Reads what `kept_value` wrote.
pub(super) fn kept_from((due, failed, outside, since): (u64, u32, u32, u64)) -> (Timestamp, Tries) {
    (Timestamp(due), Tries { failed, outside, outside_since: (since > 0).then_some(Timestamp(since)) })
}

/// Appends rows at the end of the events; they come in ascending order, which a cursor inserts fastest.
pub(super) fn append<'r>(
    events: &mut Table<u64, &[u8]>,
    first: u64,
    rows: impl Iterator<Item = &'r [u8]>,
) -> Result<u64, redb::Error> {
    let mut seq = first;
    let mut cursor = events.upper_bound_mut(std::ops::Bound::<u64>::Unbounded)?;
    for bytes in rows {
        cursor.insert_before(seq, bytes)?;
        seq += 1;
    }
    cursor.close()?;
    Ok(seq)
}
