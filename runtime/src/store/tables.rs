//! The store's tables and what one commit does to them. Time and bounds come in as arguments; no thread, no clock.

use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{DEAD_LETTER_BYTES_MAX, DEAD_LIST_BYTES_MAX, DEAD_LIST_MAX, DeadCounts, DeadFilter, MailIdentity};
use crate::clock::Timestamp;
use crate::dead::{DeadLetter, json};

/// Identity → when it is forgotten, Message-ID.
pub(super) const MAILS: TableDefinition<&[u8; 32], (u64, &str)> = TableDefinition::new("mails");
/// The same by time, for forgetting without a scan.
pub(super) const MAILS_BY_EXPIRY: TableDefinition<(u64, &[u8; 32]), ()> = TableDefinition::new("mails-by-expiry");
/// Id → version of what follows, and the letter.
const DEAD: TableDefinition<&str, &[u8]> = TableDefinition::new("dead");
/// (when it was given up, id) → queue, handler, bytes: lists and counts without reading letters.
const DEAD_BY_TIME: TableDefinition<(u64, &str), (&str, &str, u64)> = TableDefinition::new("dead-by-time");
/// First byte of a stored dead letter; what follows is its JSON.
const DEAD_VERSION: u8 = 1;
/// Most old entries that one commit removes of each kind, so that a commit stays short whatever has gathered.
const PRUNED_MAX: usize = 1_000;

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) dead_keep: Duration,
    pub(super) dead_bytes: u64,
}

/// One thing to write.
#[derive(Debug)]
pub(super) enum Write {
    Mail { identity: MailIdentity, message_id: String, expires: Timestamp },
    Dead(DeadRow),
}

#[derive(Debug)]
pub(super) struct DeadRow {
    id: String,
    queue: String,
    handler: String,
    dead_at: Timestamp,
    bytes: Vec<u8>,
}

/// What went wrong inside a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Storage(redb::Error),
    #[error("dead letter `{id}` can't be read ({reason})")]
    Unreadable { id: String, reason: String },
}

impl<E: Into<redb::Error>> From<E> for Error {
    fn from(error: E) -> Self {
        Self::Storage(error.into())
    }
}

impl Error {
    /// Whether redb has to be opened anew after it.
    pub(super) fn closes(&self) -> bool {
        matches!(self, Self::Storage(redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed))
    }
}

#[cfg(test)]
impl DeadRow {
    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl Write {
    /// A dead letter as it is stored: without log and backtrace when it would be too large.
    pub(super) fn dead(letter: &DeadLetter) -> Result<Self, String> {
        let mut bytes = written(letter)?;
        if bytes.len() > DEAD_LETTER_BYTES_MAX {
            bytes = written(&DeadLetter { log: String::new(), backtrace: Vec::new(), ..letter.clone() })?;
        }
        Ok(Self::Dead(DeadRow {
            id: letter.id.clone(),
            queue: letter.queue.clone(),
            handler: letter.handler.clone(),
            dead_at: letter.dead_at,
            bytes,
        }))
    }
}

fn written(letter: &DeadLetter) -> Result<Vec<u8>, String> {
    let mut bytes = vec![DEAD_VERSION];
    serde_json::to_writer(&mut bytes, letter).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn read(id: &str, bytes: &[u8]) -> Result<DeadLetter, Error> {
    let unreadable = |reason| Error::Unreadable { id: id.to_owned(), reason };
    match bytes.split_first() {
        Some((&DEAD_VERSION, text)) => json::read(text).map_err(unreadable),
        Some((version, _)) => Err(unreadable(format!("version {version}, expected {DEAD_VERSION}: written by a newer Weir"))),
        None => Err(unreadable("empty".to_owned())),
    }
}

/// Makes the tables, forgets what is too old, and counts what is there.
pub(super) fn prepare(database: &Database, bounds: Bounds, now: Timestamp) -> Result<DeadCounts, Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(MAILS)?;
    transaction.open_table(MAILS_BY_EXPIRY)?;
    transaction.open_table(DEAD)?;
    let mut counts = DeadCounts::default();
    for row in transaction.open_table(DEAD_BY_TIME)?.iter()? {
        let (_, value) = row?;
        let (queue, _, bytes) = value.value();
        counts.queues.entry(queue.to_owned()).or_default().held += 1;
        counts.bytes += bytes;
    }
    prune(&transaction, bounds, now, &mut counts)?;
    transaction.commit()?;
    Ok(counts)
}

/// Applies a batch in one transaction, durable when it answers; returns the counts after it.
pub(super) fn apply(
    database: &Database,
    writes: &[&Write],
    bounds: Bounds,
    now: Timestamp,
    counts: &DeadCounts,
) -> Result<DeadCounts, Error> {
    let mut counts = counts.clone();
    let transaction = database.begin_write()?;
    for write in writes {
        match write {
            Write::Mail { identity, message_id, expires } => put_mail(&transaction, identity, message_id, *expires)?,
            Write::Dead(row) => put_dead(&transaction, row, &mut counts)?,
        }
    }
    prune(&transaction, bounds, now, &mut counts)?;
    transaction.commit()?;
    Ok(counts)
}

fn put_mail(transaction: &WriteTransaction, identity: &MailIdentity, message_id: &str, expires: Timestamp) -> Result<(), Error> {
    let before = transaction.open_table(MAILS)?.insert(identity, (expires.0, message_id))?.map(|before| before.value().0);
    let mut by_expiry = transaction.open_table(MAILS_BY_EXPIRY)?;
    if let Some(before) = before {
        by_expiry.remove((before, identity))?;
    }
    by_expiry.insert((expires.0, identity), ())?;
    Ok(())
}

fn put_dead(transaction: &WriteTransaction, row: &DeadRow, counts: &mut DeadCounts) -> Result<(), Error> {
    remove_dead(transaction, &row.id, counts, false)?;
    transaction.open_table(DEAD)?.insert(row.id.as_str(), row.bytes.as_slice())?;
    let bytes = row.bytes.len() as u64;
    let value = (row.queue.as_str(), row.handler.as_str(), bytes);
    transaction.open_table(DEAD_BY_TIME)?.insert((row.dead_at.0, row.id.as_str()), value)?;
    counts.queues.entry(row.queue.clone()).or_default().held += 1;
    counts.bytes += bytes;
    Ok(())
}

fn remove_dead(transaction: &WriteTransaction, id: &str, counts: &mut DeadCounts, dropped: bool) -> Result<(), Error> {
    let mut letters = transaction.open_table(DEAD)?;
    let Some(before) = letters.remove(id)? else { return Ok(()) };
    let dead_at = read(id, before.value()).map(|letter| letter.dead_at);
    drop(before);
    let mut by_time = transaction.open_table(DEAD_BY_TIME)?;
    // A letter that can't be read has no time of its own: its row goes when its turn comes, and finds no letter.
    let Ok(dead_at) = dead_at else { return Ok(()) };
    if let Some(row) = by_time.remove((dead_at.0, id))? {
        let (queue, _, bytes) = row.value();
        uncount(counts, queue, bytes, dropped);
    }
    Ok(())
}

fn uncount(counts: &mut DeadCounts, queue: &str, bytes: u64, dropped: bool) {
    let count = counts.queues.entry(queue.to_owned()).or_default();
    count.held = count.held.saturating_sub(1);
    count.dropped += u64::from(dropped);
    counts.bytes = counts.bytes.saturating_sub(bytes);
}

/// Forgets mails past their time, and the oldest dead letters that are too old or too many.
fn prune(transaction: &WriteTransaction, bounds: Bounds, now: Timestamp, counts: &mut DeadCounts) -> Result<(), Error> {
    let mut by_expiry = transaction.open_table(MAILS_BY_EXPIRY)?;
    let mut mails = transaction.open_table(MAILS)?;
    for _ in 0..PRUNED_MAX {
        let Some((expires, identity)) = by_expiry.first()?.map(|(key, _)| (key.value().0, *key.value().1)) else { break };
        if expires > now.0 {
            break;
        }
        by_expiry.remove((expires, &identity))?;
        mails.remove(&identity)?;
    }
    let mut by_time = transaction.open_table(DEAD_BY_TIME)?;
    let mut letters = transaction.open_table(DEAD)?;
    for _ in 0..PRUNED_MAX {
        let Some((dead_at, id)) = by_time.first()?.map(|(key, _)| (key.value().0, key.value().1.to_owned())) else { break };
        if now.since(Timestamp(dead_at)) <= bounds.dead_keep && counts.bytes <= bounds.dead_bytes {
            break;
        }
        if let Some(row) = by_time.remove((dead_at, id.as_str()))? {
            let (queue, _, bytes) = row.value();
            uncount(counts, queue, bytes, true);
        }
        letters.remove(id.as_str())?;
    }
    Ok(())
}

/// The Message-ID of a mail that was handed over and is not forgotten yet.
pub(super) fn mail(transaction: &ReadTransaction, identity: &MailIdentity, now: Timestamp) -> Result<Option<String>, Error> {
    let found = transaction.open_table(MAILS)?.get(identity)?;
    Ok(found.and_then(|row| {
        let (expires, message_id) = row.value();
        (expires > now.0).then(|| message_id.to_owned())
    }))
}

/// The dead letter with this id.
pub(super) fn get(transaction: &ReadTransaction, id: &str) -> Result<Option<DeadLetter>, Error> {
    let found = transaction.open_table(DEAD)?.get(id)?;
    found.map(|row| read(id, row.value())).transpose()
}

/// Dead letters that match, newest first, and whether there are more.
pub(super) fn list(transaction: &ReadTransaction, filter: &DeadFilter) -> Result<(Vec<DeadLetter>, bool), Error> {
    let max = filter.max.unwrap_or(DEAD_LIST_MAX);
    let letters = transaction.open_table(DEAD)?;
    let by_time = transaction.open_table(DEAD_BY_TIME)?;
    let end = filter.older_than.map_or(u64::MAX, |time| time.0);
    let (mut found, mut bytes) = (Vec::new(), 0);
    for row in by_time.range((0, "")..(end, ""))?.rev() {
        let (key, value) = row?;
        let ((_, id), (queue, handler, size)) = (key.value(), value.value());
        let other = |wanted: &Option<String>, is: &str| wanted.as_deref().is_some_and(|wanted| wanted != is);
        if other(&filter.queue, queue) || other(&filter.handler, handler) {
            continue;
        }
        let Some(stored) = letters.get(id)? else { continue };
        let letter = read(id, stored.value())?;
        if filter.reason.as_ref().is_some_and(|part| !letter.reason.contains(part.as_str())) {
            continue;
        }
        bytes += usize::try_from(size).unwrap_or(usize::MAX);
        if found.len() >= max || (bytes > DEAD_LIST_BYTES_MAX && !found.is_empty()) {
            return Ok((found, true));
        }
        found.push(letter);
    }
    Ok((found, false))
}
