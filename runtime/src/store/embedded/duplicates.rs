//! Events that have ended, for `duplicates`: tables and what one commit does to them. Who has an event now: `claims.rs`.

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::tables::{Error, PRUNED_MAX};
use crate::clock::Timestamp;
use crate::store::{DUPLICATES_MAX, Sighting};

/// Handler, and the key of an event.
type Of = (&'static str, &'static [u8; 16]);

/// An event of a handler → the position that ended, when it is forgotten.
const ENDED: TableDefinition<Of, (Option<u128>, u64)> = TableDefinition::new("ended");
/// (handler, when it is forgotten, event): the oldest first, without a scan.
const ENDED_BY_TIME: TableDefinition<(&str, u64, &[u8; 16]), ()> = TableDefinition::new("ended-by-time");
/// Handler → how many there are.
const ENDED_COUNTS: TableDefinition<&str, u64> = TableDefinition::new("ended-counts");

/// Makes the tables.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), Error> {
    transaction.open_table(ENDED)?;
    transaction.open_table(ENDED_BY_TIME)?;
    transaction.open_table(ENDED_COUNTS)?;
    Ok(())
}

/// Of each delivery, whether another one of its event has ended and is not forgotten.
pub(super) fn seen(
    transaction: &ReadTransaction,
    handler: &str,
    deliveries: &[Sighting],
    now: Timestamp,
) -> Result<Vec<bool>, Error> {
    let ended = transaction.open_table(ENDED)?;
    let seen = deliveries.iter().map(|delivery| {
        let Some(row) = ended.get((handler, &delivery.key.0))? else { return Ok(false) };
        let (position, until) = row.value();
        let itself = position.is_some() && position == delivery.position;
        Ok(until > now.0 && !itself)
    });
    seen.collect()
}

/// Keeps that these have ended. Answers whether some were forgotten before their time, because there are too many.
pub(super) fn keep(
    transaction: &WriteTransaction,
    handler: &str,
    (until, now): (Timestamp, Timestamp),
    deliveries: &[Sighting],
) -> Result<bool, Error> {
    keep_within(transaction, handler, (until, now), deliveries, DUPLICATES_MAX)
}

pub(super) fn keep_within(
    transaction: &WriteTransaction,
    handler: &str,
    (until, now): (Timestamp, Timestamp),
    deliveries: &[Sighting],
    bound: u64,
) -> Result<bool, Error> {
    let mut ended = transaction.open_table(ENDED)?;
    let mut by_time = transaction.open_table(ENDED_BY_TIME)?;
    let mut new = 0;
    for delivery in deliveries {
        let key = &delivery.key.0;
        let before = ended.insert((handler, key), (delivery.position, until.0))?.map(|before| before.value().1);
        match before {
            Some(before) => drop(by_time.remove((handler, before, key))?),
            None => new += 1,
        }
        by_time.insert((handler, until.0, key), ())?;
    }
    drop((ended, by_time));
    prune(transaction, handler, new, now, bound)
}

/// Forgets what has lapsed, of every handler.
pub(super) fn sweep(transaction: &WriteTransaction, now: Timestamp) -> Result<(), Error> {
    let handlers: Vec<String> = {
        let counts = transaction.open_table(ENDED_COUNTS)?;
        let handlers = counts.iter()?.map(|row| Ok(row?.0.value().to_owned())).collect::<Result<_, Error>>();
        handlers?
    };
    for handler in handlers {
        prune(transaction, &handler, 0, now, DUPLICATES_MAX)?;
    }
    Ok(())
}

/// Counts `new` ones and forgets the oldest that have lapsed or are too many; whether some of the latter had not lapsed.
fn prune(transaction: &WriteTransaction, handler: &str, new: u64, now: Timestamp, bound: u64) -> Result<bool, Error> {
    let mut ended = transaction.open_table(ENDED)?;
    let mut by_time = transaction.open_table(ENDED_BY_TIME)?;
    let mut counts = transaction.open_table(ENDED_COUNTS)?;
    let mut count = counts.get(handler)?.map_or(0, |count| count.value()) + new;
    let mut early = false;
    // As many again as came, so that what has gathered goes and a commit stays short.
    for _ in 0..PRUNED_MAX.saturating_add(usize::try_from(new).unwrap_or(usize::MAX)) {
        let (from, to) = ((handler, 0, &[0; 16]), (handler, u64::MAX, &[u8::MAX; 16]));
        let oldest = by_time.range(from..=to)?.next().transpose()?;
        let Some((until, key)) = oldest.map(|(key, _)| (key.value().1, *key.value().2)) else { break };
        if until > now.0 && count <= bound {
            break;
        }
        early |= until > now.0;
        by_time.remove((handler, until, &key))?;
        ended.remove((handler, &key))?;
        count -= 1;
    }
    match count {
        0 => drop(counts.remove(handler)?),
        _ => drop(counts.insert(handler, count)?),
    }
    Ok(early)
}

/// How many are kept of a handler.
#[cfg(test)]
pub(super) fn count(transaction: &WriteTransaction, handler: &str) -> Result<u64, Error> {
    Ok(transaction.open_table(ENDED_COUNTS)?.get(handler)?.map_or(0, |count| count.value()))
}
