//! The tables of what waits for its time, and what one commit does to them. No claims, no clock.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use crate::clock::Timestamp;
use crate::store::delays::{CLAIM_BYTES_MAX, DELAY_OVERHEAD_BYTES, DelayRow, tries_text};
use crate::store::embedded::tables::Error;
use crate::store::{DelayChange, DelayId, DelayedCount, Due, Shelf};

/// Queue, subscription (empty: publishes).
type Of = (&'static str, &'static str);

/// The same, and the number of an item.
type Item = (&'static str, &'static str, u128);

/// When it is due, when its event was first seen, claims since its tries were written, its tries.
type State = (u64, u64, u32, &'static str);

/// An item → its state.
const STATES: TableDefinition<Item, State> = TableDefinition::new("delayed");
/// An item → its event.
const EVENTS: TableDefinition<Item, &[u8]> = TableDefinition::new("delayed-events");
/// Items by when they are due.
const BY_DUE: TableDefinition<(&str, &str, u64, u128), ()> = TableDefinition::new("delayed-by-due");
/// How many there are, and their bytes.
const COUNTS: TableDefinition<Of, (u64, u64)> = TableDefinition::new("delayed-counts");

/// One thing to write.
#[derive(Debug)]
pub(in crate::store::embedded) enum DelayWrite {
    Put { rows: Vec<DelayRow>, bounds: (u64, u64) },
    Claim(Vec<DelayId>),
    Change(Vec<(DelayId, DelayChange)>),
    Forget,
}

/// What became of it: how many items it was about, or what is held where there is no room.
pub(in crate::store::embedded) type DelayDid = Result<u64, (u64, u64)>;

/// Makes the tables.
pub(in crate::store::embedded) fn prepare(transaction: &WriteTransaction) -> Result<(), Error> {
    transaction.open_table(STATES)?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(BY_DUE)?;
    transaction.open_table(COUNTS)?;
    Ok(())
}

/// Makes one change.
pub(in crate::store::embedded) fn write(
    transaction: &WriteTransaction,
    shelf: &Shelf,
    write: &DelayWrite,
) -> Result<DelayDid, Error> {
    let of = of(shelf);
    let mut counts = transaction.open_table(COUNTS)?;
    let (mut events, mut bytes) = counts.get(of)?.map(|row| row.value()).unwrap_or_default();
    let mut count = 0;
    match write {
        DelayWrite::Put { rows, bounds } => {
            let size: u64 = rows.iter().map(DelayRow::size).sum();
            if events + rows.len() as u64 > bounds.0 || bytes + size > bounds.1 {
                return Ok(Err((events, bytes)));
            }
            for row in rows {
                if let Some(gone) = remove(transaction, of, row.id)? {
                    (events, bytes) = (events.saturating_sub(1), bytes.saturating_sub(gone));
                }
                put(transaction, of, row)?;
                (events, bytes, count) = (events + 1, bytes + row.size(), count + 1);
            }
        }
        DelayWrite::Claim(ids) => {
            for id in ids {
                count += u64::from(rewrite(transaction, of, *id, Rewrite::Claimed)?);
            }
        }
        DelayWrite::Change(changes) => {
            for (id, change) in changes {
                let rewritten = match change {
                    DelayChange::Remove => {
                        if let Some(gone) = remove(transaction, of, *id)? {
                            (events, bytes, count) = (events.saturating_sub(1), bytes.saturating_sub(gone), count + 1);
                        }
                        continue;
                    }
                    DelayChange::PutBack { due, tries } => Rewrite::Tries(Some(*due), tries_text(*tries)),
                    DelayChange::Note(tries) => Rewrite::Tries(None, tries_text(*tries)),
                };
                count += u64::from(rewrite(transaction, of, *id, rewritten)?);
            }
        }
        DelayWrite::Forget => {
            let (from, to) = ((of.0, of.1, 0), (of.0, of.1, u128::MAX));
            transaction.open_table(STATES)?.retain_in(from..=to, |_, _| false)?;
            transaction.open_table(EVENTS)?.retain_in(from..=to, |_, _| false)?;
            transaction.open_table(BY_DUE)?.retain_in((of.0, of.1, 0, 0)..=(of.0, of.1, u64::MAX, u128::MAX), |_, ()| false)?;
            (count, events, bytes) = (events, 0, 0);
        }
    }
    match events {
        0 => drop(counts.remove(of)?),
        _ => drop(counts.insert(of, (events, bytes))?),
    }
    Ok(Ok(count))
}

fn of(shelf: &Shelf) -> (&str, &str) {
    (&shelf.queue, shelf.subscription.as_deref().unwrap_or_default())
}

fn put(transaction: &WriteTransaction, of: (&str, &str), row: &DelayRow) -> Result<(), Error> {
    let key = (of.0, of.1, row.id.0);
    transaction.open_table(STATES)?.insert(key, (row.due.0, row.first_seen.0, 0, row.tries.as_str()))?;
    transaction.open_table(EVENTS)?.insert(key, row.event.as_slice())?;
    transaction.open_table(BY_DUE)?.insert((of.0, of.1, row.due.0, row.id.0), ())?;
    Ok(())
}

/// Removes an item; what it counted for.
fn remove(transaction: &WriteTransaction, of: (&str, &str), id: DelayId) -> Result<Option<u64>, Error> {
    let key = (of.0, of.1, id.0);
    let Some(due) = transaction.open_table(STATES)?.remove(key)?.map(|row| row.value().0) else { return Ok(None) };
    transaction.open_table(BY_DUE)?.remove((of.0, of.1, due, id.0))?;
    let bytes = transaction.open_table(EVENTS)?.remove(key)?.map_or(0, |event| event.value().len() as u64);
    Ok(Some(bytes + DELAY_OVERHEAD_BYTES))
}

enum Rewrite {
    Claimed,
    Tries(Option<Timestamp>, String),
}

/// Changes an item's state; whether it is there.
fn rewrite(transaction: &WriteTransaction, of: (&str, &str), id: DelayId, rewrite: Rewrite) -> Result<bool, Error> {
    let mut states = transaction.open_table(STATES)?;
    let key = (of.0, of.1, id.0);
    let Some((before, first_seen, claims, tries)) = states.get(key)?.map(|row| {
        let (due, first_seen, claims, tries) = row.value();
        (due, first_seen, claims, tries.to_owned())
    }) else {
        return Ok(false);
    };
    let (due, claims, tries) = match rewrite {
        Rewrite::Claimed => (before, claims.saturating_add(1), tries),
        Rewrite::Tries(due, tries) => (due.map_or(before, |due| due.0), 0, tries),
    };
    states.insert(key, (due, first_seen, claims, tries.as_str()))?;
    if due != before {
        let mut by_due = transaction.open_table(BY_DUE)?;
        by_due.remove((of.0, of.1, before, id.0))?;
        by_due.insert((of.0, of.1, due, id.0), ())?;
    }
    Ok(true)
}

/// What is due and not claimed, and when more is.
pub(super) fn due(
    transaction: &ReadTransaction,
    shelf: &Shelf,
    (now, max): (Timestamp, usize),
    is_claimed: impl Fn(DelayId) -> bool,
) -> Result<Due, Error> {
    let of = of(shelf);
    let (states, events) = (transaction.open_table(STATES)?, transaction.open_table(EVENTS)?);
    let (mut answer, mut bytes) = (Due::default(), 0);
    for row in transaction.open_table(BY_DUE)?.range((of.0, of.1, 0, 0)..=(of.0, of.1, u64::MAX, u128::MAX))? {
        let (due, id) = row.map(|(key, _)| (Timestamp(key.value().2), DelayId(key.value().3)))?;
        if is_claimed(id) {
            continue;
        }
        if due > now || answer.items.len() >= max || bytes >= CLAIM_BYTES_MAX {
            answer.next = Some(due);
            break;
        }
        let key = (of.0, of.1, id.0);
        let (Some(state), Some(event)) = (states.get(key)?, events.get(key)?) else { continue };
        let (_, first_seen, claims, tries) = state.value();
        let event = event.value().to_vec();
        bytes += event.len();
        let row = DelayRow { id, due, first_seen: Timestamp(first_seen), tries: tries.to_owned(), event };
        match row.read(claims) {
            Ok(item) => answer.items.push(item),
            Err(error) => {
                tracing::error!(queue = %shelf.queue, id = %id.0, error, "an event that waits in the store can't be read")
            }
        }
    }
    Ok(answer)
}

/// How much is on each shelf of a queue.
pub(super) fn counts(transaction: &ReadTransaction, queue: &str) -> Result<Vec<DelayedCount>, Error> {
    let table = transaction.open_table(COUNTS)?;
    let mut counts = Vec::new();
    for row in table.range((queue, "")..)? {
        let (key, value) = row?;
        let (of, subscription) = key.value();
        if of != queue {
            break;
        }
        let (events, bytes) = value.value();
        let subscription = Some(subscription.to_owned()).filter(|name| !name.is_empty());
        counts.push(DelayedCount { subscription, events, bytes, claimed: 0 });
    }
    Ok(counts)
}
