//! What one commit of the embedded store does, and the tables of mails and pauses. Time and bounds come in as arguments; no thread,
//! no clock. The other tables: `buckets.rs`, `dead.rs`, `duplicates.rs`.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::dead::{self, DeadRow};
use super::delays::{self, DelayDid, DelayWrite};
use super::notes::{self, NoteWrite};
use super::{buckets, duplicates};
use crate::clock::Timestamp;
use crate::dead::{DeadBounds, DeadCounts, DeadLetter};
use crate::keyvalue::{self, BucketError, Written};
use crate::store::{MailIdentity, Shelf, Sighting};

/// Identity → when it is forgotten, Message-ID.
pub(super) const MAILS: TableDefinition<&[u8; 32], (u64, &str)> = TableDefinition::new("mails");
/// The same by time, for forgetting without a scan.
pub(super) const MAILS_BY_EXPIRY: TableDefinition<(u64, &[u8; 32]), ()> = TableDefinition::new("mails-by-expiry");
/// Handlers that are paused by hand.
const PAUSES: TableDefinition<&str, ()> = TableDefinition::new("pauses");
/// Most old entries that one commit removes of each kind, so that a commit stays short whatever has gathered.
pub(super) const PRUNED_MAX: usize = 1_000;

/// One thing to write.
#[derive(Debug)]
pub(super) enum Write {
    Mail { identity: MailIdentity, message_id: String, expires: Timestamp },
    Dead(DeadRow),
    RemoveDead(String),
    Keep { handler: String, until: Timestamp, deliveries: Vec<Sighting> },
    Pause { handler: String, paused: bool },
    Bucket { bucket: keyvalue::Bucket, write: keyvalue::Write },
    Delays { shelf: Shelf, write: DelayWrite },
    Notes(NoteWrite),
}

impl Write {
    pub(super) fn dead(letter: &DeadLetter, bounds: DeadBounds) -> Result<Self, String> {
        DeadRow::new(letter, bounds).map(Self::Dead)
    }
}

/// What became of one write.
#[derive(Debug, Clone)]
pub(super) enum Did {
    /// Whether there was something to do.
    Something(bool),
    /// A bucket's own answer.
    Bucket(Result<Written, BucketError>),
    /// What became of items that wait for their time.
    Delays(DelayDid),
}

/// What a commit has done.
#[derive(Debug)]
pub(super) struct Applied {
    /// Of each write, in order.
    pub(super) did: Vec<Did>,
    /// Dead letters after it.
    pub(super) counts: DeadCounts,
    /// Handlers whose ended events were too many.
    pub(super) crowded: BTreeSet<String>,
}

/// What went wrong inside a transaction.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("{0}")]
    Storage(redb::Error),
    #[error("dead letter `{id}` can't be read ({reason}) [`weir dead drop {id}` removes it]")]
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

/// Makes the tables, forgets what is too old, and counts the dead letters that are there.
pub(super) fn prepare(database: &Database, bounds: &BTreeMap<String, DeadBounds>, now: Timestamp) -> Result<DeadCounts, Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(MAILS)?;
    transaction.open_table(MAILS_BY_EXPIRY)?;
    transaction.open_table(PAUSES)?;
    buckets::prepare(&transaction)?;
    delays::prepare(&transaction)?;
    notes::prepare(&transaction)?;
    duplicates::prepare(&transaction)?;
    let counts = dead::prepare(&transaction, bounds, now)?;
    forget_mails(&transaction, now)?;
    duplicates::sweep(&transaction, now)?;
    transaction.commit()?;
    Ok(counts)
}

/// What a commit needs to know.
pub(super) struct Facts<'a> {
    pub(super) bounds: &'a BTreeMap<String, DeadBounds>,
    pub(super) now: Timestamp,
    /// Dead letters before it.
    pub(super) counts: &'a DeadCounts,
    /// Whether old entries are looked for everywhere, not just beside what is written.
    pub(super) sweep: bool,
}

/// Applies a batch in one transaction, durable when it answers.
pub(super) fn apply(database: &Database, writes: &[&Write], facts: &Facts) -> Result<Applied, Error> {
    let mut applied = Applied { did: Vec::with_capacity(writes.len()), counts: facts.counts.clone(), crowded: BTreeSet::new() };
    let mut queues = BTreeSet::new();
    let transaction = database.begin_write()?;
    for write in writes {
        let did = match write {
            Write::Mail { identity, message_id, expires } => put_mail(&transaction, identity, message_id, *expires)?,
            Write::Dead(row) => {
                dead::put(&transaction, row, &mut applied.counts)?;
                queues.insert(row.queue().to_owned());
                true
            }
            Write::RemoveDead(id) => dead::remove(&transaction, id, &mut applied.counts)?,
            Write::Keep { handler, until, deliveries } => {
                if duplicates::keep(&transaction, handler, (*until, facts.now), deliveries)? {
                    applied.crowded.insert(handler.clone());
                }
                true
            }
            Write::Pause { handler, paused } => pause(&transaction, handler, *paused)?,
            Write::Bucket { bucket, write } => {
                applied.did.push(Did::Bucket(buckets::write(&transaction, bucket, write)?));
                continue;
            }
            Write::Delays { shelf, write } => {
                applied.did.push(Did::Delays(delays::write(&transaction, shelf, write)?));
                continue;
            }
            Write::Notes(write) => notes::write(&transaction, write, facts.now)?,
        };
        applied.did.push(Did::Something(did));
    }
    if facts.sweep {
        queues.extend(applied.counts.queues.keys().cloned());
        duplicates::sweep(&transaction, facts.now)?;
    }
    dead::prune(&transaction, &queues, facts.bounds, facts.now, &mut applied.counts)?;
    forget_mails(&transaction, facts.now)?;
    transaction.commit()?;
    Ok(applied)
}

fn put_mail(
    transaction: &WriteTransaction,
    identity: &MailIdentity,
    message_id: &str,
    expires: Timestamp,
) -> Result<bool, Error> {
    let before = transaction.open_table(MAILS)?.insert(identity, (expires.0, message_id))?.map(|before| before.value().0);
    let mut by_expiry = transaction.open_table(MAILS_BY_EXPIRY)?;
    if let Some(before) = before {
        by_expiry.remove((before, identity))?;
    }
    by_expiry.insert((expires.0, identity), ())?;
    Ok(true)
}

fn forget_mails(transaction: &WriteTransaction, now: Timestamp) -> Result<(), Error> {
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
    Ok(())
}

fn pause(transaction: &WriteTransaction, handler: &str, paused: bool) -> Result<bool, Error> {
    let mut pauses = transaction.open_table(PAUSES)?;
    let before = if paused { pauses.insert(handler, ())? } else { pauses.remove(handler)? };
    Ok(before.is_some() != paused)
}

/// Handlers that are paused by hand.
pub(super) fn pauses(transaction: &ReadTransaction) -> Result<BTreeSet<String>, Error> {
    transaction.open_table(PAUSES)?.iter()?.map(|row| Ok(row?.0.value().to_owned())).collect()
}

/// The Message-ID of a mail that was handed over and is not forgotten yet.
pub(super) fn mail(transaction: &ReadTransaction, identity: &MailIdentity, now: Timestamp) -> Result<Option<String>, Error> {
    let found = transaction.open_table(MAILS)?.get(identity)?;
    Ok(found.and_then(|row| {
        let (expires, message_id) = row.value();
        (expires > now.0).then(|| message_id.to_owned())
    }))
}
