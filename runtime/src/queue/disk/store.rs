//! The file itself: opened, written in whole commits, read, and opened anew after it failed. It decides nothing.
//!
//! redb refuses everything after an I/O error until it is opened again, and leaves open whether a commit that failed happened. The
//! writer finds that out from the number of the last commit (`writer.rs`).

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use redb::{Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};
use rustix::fs::{Advice, fadvise, statvfs};
use tokio::sync::Notify;

use super::load::{Loaded, load, prepare};
use super::plan::{Change, Plan, Settled, Written};
use super::tables::{self, DELAYED, EVENTS, KEPT, Numbers, SUBSCRIPTIONS};
use crate::clock::Timestamp;
use crate::queue::QueueError;

/// Memory that redb may use for pages: events that matter are in memory as events already (`recent.rs`).
const CACHE_BYTES: usize = 64 * 1024 * 1024;

/// Disk space that publishes leave free, so that what waits can still be settled, which needs some before it gives some back.
const RESERVE_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes of disk that a byte of events may take, pages and copies of the tree included.
const GROWTH: u64 = 3;

/// With more than this held, each commit also writes what lets redb skip the check of the whole file after a crash, at the price of
/// a second sync. Below it the check takes a second or two (measured: 5.7 s a gigabyte).
const QUICK_OPEN_BYTES: u64 = 256 * 1024 * 1024;

/// Most delayed publishes that arrive in one commit.
const ARRIVALS_MAX: usize = 1_000;

/// The database in a folder.
const DATABASE_FILE: &str = "events.redb";

/// Makes a database out of what a folder holds.
pub(super) type Opener = Box<dyn Fn(&Builder) -> Result<Database, redb::Error> + Send + Sync>;

pub(super) struct Store {
    folder: PathBuf,
    opener: Opener,
    // Readers hold it for one read; the writer takes it alone to close or to open anew, and so waits for them.
    database: RwLock<Option<Database>>,
    // Set by whoever meets a failure, cleared by the writer.
    broken: Mutex<Option<String>>,
    /// Tells the writer of a failure that it has not met itself.
    failed: Notify,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Opens the database file of a folder.
pub(super) fn file_opener(folder: &Path) -> Opener {
    let folder = folder.to_owned();
    Box::new(move |builder| {
        let path = folder.join(DATABASE_FILE);
        let made = !path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        // After a sync that failed, the kernel may hold pages as clean that never reached the disk: what is read must be what is there.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
        let database = builder.create_file(file)?;
        if made {
            File::open(&folder)?.sync_all()?;
        }
        Ok(database)
    })
}

impl Store {
    /// Opens or makes the database.
    pub(super) fn open(folder: &Path, opener: Opener) -> Result<(Self, Loaded), QueueError> {
        let store = Self {
            folder: folder.to_owned(),
            opener,
            database: RwLock::default(),
            broken: Mutex::default(),
            failed: Notify::new(),
        };
        let loaded = store.reopen().map_err(QueueError::Unavailable)?;
        Ok((store, loaded))
    }

    /// Closes the database, if it is open, opens it and reads everything but events.
    pub(super) fn reopen(&self) -> Result<Loaded, String> {
        self.close();
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE_BYTES);
        let database = (self.opener)(&builder).map_err(|error| self.failure("opening", &error))?;
        let loaded = prepare(&database).and_then(|()| load(&database.begin_read()?));
        let (loaded, format) = loaded.map_err(|error| self.failure("reading", &error))?;
        if format != tables::FORMAT {
            let known = tables::FORMAT;
            return Err(format!(
                "folder `{}` holds events in format {format}, this version reads {known}",
                self.folder.display()
            ));
        }
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(loaded)
    }

    /// Reads everything but events.
    pub(super) fn load(&self) -> Result<Loaded, String> {
        Ok(self.read(load)?.0)
    }

    /// Closes the database once no one reads any more.
    pub(super) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why it can't be used until it is opened again.
    pub(super) fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a read that fails.
    pub(super) async fn failed(&self) {
        self.failed.notified().await;
    }

    /// Notes the first failure; it is the one that tells the cause.
    pub(super) fn set_broken(&self, cause: Option<&str>) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        match cause {
            Some(cause) if broken.is_none() => *broken = Some(cause.to_owned()),
            Some(_) => {}
            None => *broken = None,
        }
    }

    /// Reads in one consistent view.
    pub(super) fn read<T>(&self, reading: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>) -> Result<T, String> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = guard.as_ref().ok_or_else(|| format!("queue in `{}` is not open", self.folder.display()))?;
        let result = database.begin_read().map_err(redb::Error::from).and_then(|txn| reading(&txn));
        result.map_err(|error| {
            let cause = self.failure("reading", &error);
            self.set_broken(Some(&cause));
            self.failed.notify_one();
            cause
        })
    }

    fn write(
        &self,
        held: u64,
        writing: impl FnOnce(&WriteTransaction) -> Result<Written, redb::Error>,
    ) -> Result<Written, String> {
        let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = guard.as_ref().ok_or_else(|| format!("queue in `{}` is not open", self.folder.display()))?;
        let commit = || {
            let mut txn = database.begin_write()?;
            txn.set_quick_repair(held > QUICK_OPEN_BYTES);
            let written = writing(&txn)?;
            txn.commit()?;
            Ok(written)
        };
        // A bug in there must not end the writer's thread, and with it the queue.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(commit));
        let result = result.unwrap_or_else(|_| Err(redb::Error::Corrupted("a commit panicked".to_owned())));
        result.map_err(|error| {
            let cause = self.failure("writing", &error);
            self.set_broken(Some(&cause));
            cause
        })
    }

    /// Writes a plan as one commit, and synchronises it.
    pub(super) fn commit(&self, plan: &mut Plan, now: Timestamp) -> Result<Written, String> {
        self.write(plan.before.bytes, |txn| {
            let mut numbers =
                Numbers { commit: plan.before.commit + 1, floor: plan.floor, first: plan.first.into(), ..plan.before };
            write_events(txn, plan, &mut numbers, now)?;
            write_subscriptions(txn, plan, &mut numbers)?;
            finish(txn, numbers, plan.before)
        })
    }

    /// Takes back what a commit published, whose publishers were told that it failed.
    pub(super) fn take_back(&self, plan: &Plan, before: Numbers) -> Result<Written, String> {
        self.write(before.bytes, |txn| {
            let mut numbers = Numbers { commit: before.commit + 1, ..before };
            if let Some(from) = plan.published_from {
                let mut events = txn.open_table(EVENTS)?;
                for seq in from..before.end {
                    numbers.free(events.remove(seq)?.map(|row| row.value().len()));
                }
                numbers.end = from;
            }
            let mut delayed = txn.open_table(DELAYED)?;
            for (order, row) in (plan.before.delayed_next..).zip(&plan.delayed) {
                numbers.free(delayed.remove((row.first_seen.0, order))?.map(|row| row.value().len()));
            }
            drop(delayed);
            finish(txn, numbers, before)
        })
    }

    /// Bytes of events that the disk has room for.
    pub(super) fn room(&self) -> Option<u64> {
        let space = statvfs(&self.folder).ok()?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        Some(free.saturating_sub(RESERVE_BYTES) / GROWTH)
    }

    fn failure(&self, doing: &str, error: &redb::Error) -> String {
        format!("{doing} the queue in `{}` failed: {error}", self.folder.display())
    }
}

/// Events that arrive, are published, and go.
fn write_events(txn: &WriteTransaction, plan: &mut Plan, numbers: &mut Numbers, now: Timestamp) -> Result<(), redb::Error> {
    let mut events = txn.open_table(EVENTS)?;
    let mut delayed = txn.open_table(DELAYED)?;
    let mut due = Vec::new();
    for entry in delayed.range(..=(now.0, u64::MAX))?.take(ARRIVALS_MAX) {
        let (key, row) = entry?;
        due.push((key.value(), row.value().to_owned()));
    }
    for (key, _) in &due {
        delayed.remove(key)?;
    }
    numbers.end = tables::append(&mut events, numbers.end, due.iter().map(|(_, row)| row.as_slice()))?;
    plan.published_from = Some(numbers.end);
    numbers.end = tables::append(&mut events, numbers.end, plan.published.iter().map(|row| row.bytes.as_slice()))?;
    for row in &plan.delayed {
        delayed.insert((row.first_seen.0, numbers.delayed_next), row.bytes.as_slice())?;
        numbers.delayed_next += 1;
    }
    numbers.bytes += plan.published.iter().chain(&plan.delayed).map(|row| row.bytes.len() as u64).sum::<u64>();
    for key in &plan.undelayed {
        numbers.free(delayed.remove(key)?.map(|row| row.value().len()));
    }
    for seq in &plan.freed {
        numbers.free(events.remove(seq)?.map(|row| row.value().len()));
    }
    if let Some(to) = plan.swept_to {
        // Gaps are skipped at once.
        numbers.sweep_from =
            events.range(to..numbers.sweep_to.max(to))?.next().transpose()?.map_or(numbers.sweep_to, |(seq, _)| seq.value());
    }
    Ok(())
}

fn write_subscriptions(txn: &WriteTransaction, plan: &Plan, numbers: &mut Numbers) -> Result<(), redb::Error> {
    if plan.settled.is_empty() && plan.change.is_none() {
        return Ok(());
    }
    let mut subscriptions = txn.open_table(SUBSCRIPTIONS)?;
    let mut kept = txn.open_table(KEPT)?;
    for (name, Settled { id, cursor, retried, dropped, passed, .. }) in &plan.settled {
        for (seq, tries) in passed {
            kept.insert((*id, *seq), tables::kept_value(Timestamp::default(), *tries))?;
        }
        for (seq, due, tries) in retried {
            kept.insert((*id, *seq), tables::kept_value(*due, *tries))?;
        }
        for seq in dropped {
            kept.remove((*id, *seq))?;
        }
        subscriptions.insert(name.as_str(), (*id, *cursor))?;
    }
    match &plan.change {
        Some(Change::Subscribe { subscription, reading }) => {
            subscriptions.insert(subscription.as_str(), (reading.id, reading.cursor))?;
            for seq in reading.pending.keys() {
                kept.insert((reading.id, *seq), tables::kept_value(Timestamp::default(), Default::default()))?;
            }
            numbers.subscription_next += 1;
        }
        Some(Change::Unsubscribe { subscription, id, sweep }) => {
            subscriptions.remove(subscription.as_str())?;
            kept.retain_in((*id, 0)..=(*id, u64::MAX), |_, _| false)?;
            if let Some((from, to)) = sweep {
                (numbers.sweep_from, numbers.sweep_to) = (*from, *to);
            }
        }
        None => {}
    }
    Ok(())
}

fn finish(txn: &WriteTransaction, numbers: Numbers, before: Numbers) -> Result<Written, redb::Error> {
    numbers.write(before, txn)?;
    let delayed = txn.open_table(DELAYED)?;
    let next_due = delayed.first()?.map(|(key, _)| Timestamp(key.value().0));
    Ok(Written { numbers, events: txn.open_table(EVENTS)?.len()?, delayed: delayed.len()?, next_due })
}
