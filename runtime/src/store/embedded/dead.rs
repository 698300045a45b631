//! Dead letters in the embedded store: tables and what one commit does to them. Time and bounds come in as arguments.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::Deserialize;

use super::tables::{Error, PRUNED_MAX};
use crate::clock::Timestamp;
use crate::dead::{DEAD_LIST_BYTES_MAX, DeadBounds, DeadCounts, DeadCursor, DeadFilter, DeadLetter, DeadPage, Unreadable, json};

/// Id → version of what follows, when it was given up, and the letter.
pub(super) const DEAD: TableDefinition<&str, &[u8]> = TableDefinition::new("dead");
/// (when it was given up, id) → queue, handler, bytes: lists and counts without reading letters.
const DEAD_BY_TIME: TableDefinition<(u64, &str), (&str, &str, u64)> = TableDefinition::new("dead-by-time");
/// (queue, when it was given up, id) → bytes: the oldest of a queue without a scan.
pub(super) const DEAD_BY_QUEUE: TableDefinition<(&str, u64, &str), u64> = TableDefinition::new("dead-by-queue");
/// First byte of a stored dead letter; then eight bytes of when it was given up, little-endian; what follows is its JSON.
const VERSION: u8 = 2;
/// The same without the time.
const VERSION_WITHOUT_TIME: u8 = 1;
/// Bytes before the JSON.
const HEAD: usize = 9;
/// Most bytes of letters that one page reads to find those with a reason: about a second. The next page goes on from there.
const READ_BYTES_MAX: u64 = 256 << 20;

/// A dead letter as it is stored.
#[derive(Debug)]
pub(super) struct DeadRow {
    id: String,
    queue: String,
    handler: String,
    dead_at: Timestamp,
    pub(super) bytes: Vec<u8>,
}

impl DeadRow {
    pub(super) fn new(letter: &DeadLetter, bounds: DeadBounds) -> Result<Self, String> {
        let text = json::stored(letter, bounds)?;
        let mut bytes = Vec::with_capacity(HEAD + text.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&letter.dead_at.0.to_le_bytes());
        bytes.extend_from_slice(&text);
        Ok(Self {
            id: letter.id.clone(),
            queue: letter.queue.clone(),
            handler: letter.handler.clone(),
            dead_at: letter.dead_at,
            bytes,
        })
    }

    pub(super) fn queue(&self) -> &str {
        &self.queue
    }
}

/// The JSON of what is stored, and when it was given up where that stands before it.
fn parts(bytes: &[u8]) -> Result<(&[u8], Option<Timestamp>), String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            let (time, text) = rest.split_first_chunk().ok_or("it is cut off")?;
            Ok((text, Some(Timestamp(u64::from_le_bytes(*time)))))
        }
        Some((&VERSION_WITHOUT_TIME, text)) => Ok((text, None)),
        Some((version, _)) => Err(format!("version {version}, expected {VERSION}: written by a newer Weir")),
        None => Err("empty".to_owned()),
    }
}

fn read(bytes: &[u8]) -> Result<DeadLetter, String> {
    json::read(parts(bytes)?.0)
}

/// What of a letter a filter asks for, read without the rest.
#[derive(Deserialize)]
struct Why<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
    #[serde(borrow)]
    outcome: Option<Cow<'a, str>>,
}

/// Makes the tables, forgets what is too old, and counts what is there.
pub(super) fn prepare(
    transaction: &WriteTransaction,
    bounds: &BTreeMap<String, DeadBounds>,
    now: Timestamp,
) -> Result<DeadCounts, Error> {
    transaction.open_table(DEAD)?;
    let mut counts = DeadCounts::default();
    {
        let by_time = transaction.open_table(DEAD_BY_TIME)?;
        let mut by_queue = transaction.open_table(DEAD_BY_QUEUE)?;
        let by_queue_is_new = by_queue.first()?.is_none();
        for row in by_time.iter()? {
            let (key, value) = row?;
            let ((dead_at, id), (queue, _, bytes)) = (key.value(), value.value());
            count(&mut counts, queue, bytes);
            if by_queue_is_new {
                by_queue.insert((queue, dead_at, id), bytes)?;
            }
        }
    }
    let queues: BTreeSet<String> = counts.queues.keys().cloned().collect();
    prune(transaction, &queues, bounds, now, &mut counts)?;
    Ok(counts)
}

fn count(counts: &mut DeadCounts, queue: &str, bytes: u64) {
    let count = counts.queues.entry(queue.to_owned()).or_default();
    count.held += 1;
    count.bytes += bytes;
}

pub(super) fn put(transaction: &WriteTransaction, row: &DeadRow, counts: &mut DeadCounts) -> Result<(), Error> {
    remove(transaction, &row.id, counts)?;
    transaction.open_table(DEAD)?.insert(row.id.as_str(), row.bytes.as_slice())?;
    let bytes = row.bytes.len() as u64;
    let (queue, dead_at, id) = (row.queue.as_str(), row.dead_at.0, row.id.as_str());
    transaction.open_table(DEAD_BY_TIME)?.insert((dead_at, id), (queue, row.handler.as_str(), bytes))?;
    transaction.open_table(DEAD_BY_QUEUE)?.insert((queue, dead_at, id), bytes)?;
    count(counts, queue, bytes);
    Ok(())
}

/// Those of these ids that name a letter.
pub(super) fn known(transaction: &ReadTransaction, ids: Vec<String>) -> Result<Vec<String>, Error> {
    let letters = transaction.open_table(DEAD)?;
    let mut known = Vec::new();
    for id in ids {
        if letters.get(id.as_str())?.is_some() {
            known.push(id);
        }
    }
    Ok(known)
}

/// Removes a letter, readable or not; whether there was one.
pub(super) fn remove(transaction: &WriteTransaction, id: &str, counts: &mut DeadCounts) -> Result<bool, Error> {
    let dead_at = {
        let mut letters = transaction.open_table(DEAD)?;
        let Some(before) = letters.remove(id)? else { return Ok(false) };
        parts(before.value()).ok().and_then(|(_, time)| time)
    };
    // What does not say when it was given up is looked for: rare, and the rows are small.
    let Some(dead_at) = dead_at.map_or_else(|| time_of(transaction, id), |time| Ok(Some(time)))? else { return Ok(true) };
    forget(transaction, dead_at.0, id, counts)?;
    Ok(true)
}

fn time_of(transaction: &WriteTransaction, id: &str) -> Result<Option<Timestamp>, Error> {
    for row in transaction.open_table(DEAD_BY_TIME)?.iter()? {
        let key = row?.0;
        if key.value().1 == id {
            return Ok(Some(Timestamp(key.value().0)));
        }
    }
    Ok(None)
}

/// Takes a letter out of the indexes and the counts; answers its queue.
fn forget(transaction: &WriteTransaction, dead_at: u64, id: &str, counts: &mut DeadCounts) -> Result<(), Error> {
    let mut by_time = transaction.open_table(DEAD_BY_TIME)?;
    let Some(row) = by_time.remove((dead_at, id))? else { return Ok(()) };
    let (queue, _, bytes) = row.value();
    transaction.open_table(DEAD_BY_QUEUE)?.remove((queue, dead_at, id))?;
    if let Some(count) = counts.queues.get_mut(queue) {
        count.held = count.held.saturating_sub(1);
        count.bytes = count.bytes.saturating_sub(bytes);
    }
    Ok(())
}

/// Drops the oldest letters of these queues that are too old or too many.
pub(super) fn prune(
    transaction: &WriteTransaction,
    queues: &BTreeSet<String>,
    bounds: &BTreeMap<String, DeadBounds>,
    now: Timestamp,
    counts: &mut DeadCounts,
) -> Result<(), Error> {
    for queue in queues {
        let bounds = bounds.get(queue).copied().unwrap_or_default();
        for _ in 0..PRUNED_MAX {
            let oldest = {
                let by_queue = transaction.open_table(DEAD_BY_QUEUE)?;
                let first = by_queue.range((queue.as_str(), 0, "")..)?.next().transpose()?;
                first.and_then(|(key, _)| {
                    let (of, dead_at, id) = key.value();
                    (of == queue).then(|| (dead_at, id.to_owned()))
                })
            };
            let Some((dead_at, id)) = oldest else { break };
            let fits = counts.queues.get(queue).is_none_or(|count| count.bytes <= bounds.bytes || count.held <= 1);
            if now.since(Timestamp(dead_at)) <= bounds.keep && fits {
                break;
            }
            forget(transaction, dead_at, &id, counts)?;
            transaction.open_table(DEAD)?.remove(id.as_str())?;
            counts.queues.entry(queue.clone()).or_default().dropped += 1;
        }
    }
    Ok(())
}

/// The dead letter with this id.
pub(super) fn get(transaction: &ReadTransaction, id: &str) -> Result<Option<DeadLetter>, Error> {
    let found = transaction.open_table(DEAD)?.get(id)?;
    let letter = found.map(|row| read(row.value())).transpose();
    letter.map_err(|reason| Error::Unreadable { id: id.to_owned(), reason })
}

/// One page of the letters that match, newest first.
pub(super) fn list(transaction: &ReadTransaction, filter: &DeadFilter) -> Result<DeadPage, Error> {
    let letters = transaction.open_table(DEAD)?;
    let mut page = Page { filter, found: DeadPage::default(), bytes: 0, read: 0 };
    let end = filter.end();
    for row in transaction.open_table(DEAD_BY_TIME)?.range((0, "")..(end.dead_at.0, end.id.as_str()))?.rev() {
        let (key, value) = row?;
        let ((dead_at, id), (queue, handler, bytes)) = (key.value(), value.value());
        if !filter.is_of(queue, handler) {
            continue;
        }
        if page.is_full() {
            return Ok(page.found);
        }
        let at = DeadCursor { dead_at: Timestamp(dead_at), id: id.to_owned() };
        if let Some(stored) = letters.get(id)? {
            page.look_at(&at, queue, stored.value());
        }
        page.read = page.read.saturating_add(bytes);
        page.found.next = Some(at);
    }
    page.found.next = None;
    Ok(page.found)
}

/// A page while it is filled.
struct Page<'f> {
    filter: &'f DeadFilter,
    found: DeadPage,
    // Of letters found.
    bytes: usize,
    // Of letters looked at.
    read: u64,
}

impl Page<'_> {
    fn is_full(&self) -> bool {
        let found = self.found.letters.len() + self.found.unreadable.len();
        found >= self.filter.page() || self.bytes > DEAD_LIST_BYTES_MAX || self.read > READ_BYTES_MAX
    }

    fn look_at(&mut self, at: &DeadCursor, queue: &str, stored: &[u8]) {
        match self.read(stored) {
            Ok(Some(letter)) => {
                self.bytes += stored.len();
                self.found.letters.push(letter);
            }
            Ok(None) => {}
            Err(reason) => {
                let (id, queue) = (at.id.clone(), queue.to_owned());
                self.found.unreadable.push(Unreadable { id, queue, dead_at: at.dead_at, reason });
            }
        }
    }

    fn read(&self, stored: &[u8]) -> Result<Option<DeadLetter>, String> {
        let (text, _) = parts(stored)?;
        if self.filter.reason.is_some() {
            let why: Why = serde_json::from_slice(text).map_err(|error| error.to_string())?;
            if !self.filter.is_because(why.outcome.as_deref(), &why.reason) {
                return Ok(None);
            }
        }
        json::read(text).map(Some)
    }
}
