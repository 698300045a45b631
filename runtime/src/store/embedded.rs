//! The embedded store: `store.redb` in the folder `data` of one process.
//!
//! One thread writes and shares commits: a commit starts as soon as the last one has ended and takes all that has gathered. A write
//! is answered after the sync that holds it. Claims of duplicates are in memory alone: they end with the process that holds them, and
//! so do the runs that they stand for.

mod buckets;
mod claims;
mod dead;
mod delays;
mod duplicates;
mod notes;
mod tables;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use futures_util::future::try_join_all;
use redb::{Database, DatabaseError, ReadableDatabase};

use super::{Claimed, MailIdentity, Settings, Sighting, StoreError};
use crate::clock::{self, Timestamp};
use crate::dead::{DeadBounds, DeadCounts, DeadFilter, DeadLetter, DeadPage};
use claims::Claims;
use delays::Leases;
use tables::Write;
use writer::Writer;

/// Pages that redb keeps in memory; its own default is 1 GiB.
const CACHE_BYTES: usize = 32 << 20;
/// The name of the file in `data`.
pub(super) const FILE: &str = "store.redb";

/// See the module.
#[derive(Debug)]
pub(super) struct Embedded {
    shared: Arc<Shared>,
    claims: Claims,
    // Looked at by those who claim what waits for its time, on threads for blocking work too.
    leases: Arc<Leases>,
    writer: Writer,
}

/// What the writer's thread and readers share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    // By queue.
    bounds: BTreeMap<String, DeadBounds>,
    // Empty after an I/O error: redb refuses everything from then on, so the file is opened anew by whoever needs it next. Readers and
    // the writer hold it shared for one transaction; only closing and opening take it alone.
    database: RwLock<Option<Database>>,
    // Written by the writer after each commit, copied by scrapes; held for a copy.
    counts: Mutex<DeadCounts>,
    // Since the process started; only ever goes up.
    commits: AtomicU64,
}

impl Embedded {
    pub(super) fn open(settings: &Settings) -> Result<Self, StoreError> {
        let data = &settings.data;
        DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|error| {
            StoreError::Unavailable(format!("folder `{}` can't be made ({error}) [`[server] data` names it]", data.display()))
        })?;
        let path = data.join(FILE);
        let database = open_file(&path)?;
        let counts = tables::prepare(&database, &settings.dead, clock::now()).map_err(|error| failed(&path, &error))?;
        let shared = Shared {
            path,
            bounds: settings.dead.clone(),
            database: RwLock::new(Some(database)),
            counts: Mutex::new(counts),
            commits: AtomicU64::new(0),
        };
        let shared = Arc::new(shared);
        let writer = Writer::start(Arc::clone(&shared))?;
        Ok(Self { shared, claims: Claims::default(), leases: Arc::default(), writer })
    }

    pub(super) async fn put_dead(&self, letters: &[&DeadLetter]) -> Result<(), StoreError> {
        let bounds = |queue: &str| self.shared.bounds.get(queue).copied().unwrap_or_default();
        let writes = letters.iter().map(|letter| Write::dead(letter, bounds(&letter.queue)));
        let writes = writes.collect::<Result<Vec<_>, _>>().map_err(StoreError::Damaged)?;
        try_join_all(writes.into_iter().map(|write| self.writer.write(write))).await.map(|_| ())
    }

    pub(super) async fn list_dead(&self, filter: DeadFilter) -> Result<DeadPage, StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.read(|transaction| dead::list(transaction, &filter))).await
    }

    pub(super) async fn get_dead(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        blocking(move || shared.read(|transaction| dead::get(transaction, &id))).await
    }

    pub(super) async fn remove_dead(&self, id: &str) -> Result<bool, StoreError> {
        self.writer.write(Write::RemoveDead(id.to_owned())).await
    }

    /// Looks before it writes: most of the ids name no letter. Where the queue has none, nothing is read.
    pub(super) async fn forget_dead(&self, queue: &str, ids: &[String]) -> Result<(), StoreError> {
        if self.dead_counts().queues.get(queue).is_none_or(|count| count.held == 0) {
            return Ok(());
        }
        let (shared, ids) = (Arc::clone(&self.shared), ids.to_vec());
        let known = blocking(move || shared.read(|transaction| dead::known(transaction, ids))).await?;
        let removed = known.into_iter().map(|id| self.writer.write(Write::RemoveDead(id)));
        try_join_all(removed).await.map(drop)
    }

    /// Nothing is read from disk.
    pub(super) fn dead_counts(&self) -> DeadCounts {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) async fn put_mail(&self, identity: MailIdentity, message_id: &str, expires: Timestamp) -> Result<(), StoreError> {
        self.writer.write(Write::Mail { identity, message_id: message_id.to_owned(), expires }).await.map(|_| ())
    }

    /// Reads one small page: fit for async code.
    pub(super) fn mail(&self, identity: &MailIdentity, now: Timestamp) -> Result<Option<String>, StoreError> {
        self.shared.read(|transaction| tables::mail(transaction, identity, now))
    }

    /// Reads a small page for each: fit for async code.
    pub(super) fn claim(
        &self,
        handler: &str,
        lease: Duration,
        deliveries: &[Sighting],
        now: Timestamp,
    ) -> Result<Vec<Claimed>, StoreError> {
        let until = now.after(lease);
        let seen = || self.shared.read(|transaction| duplicates::seen(transaction, handler, deliveries, now));
        self.claims.claim(handler, deliveries, (now, until), seen)
    }

    pub(super) async fn keep(&self, handler: &str, until: Timestamp, deliveries: &[Sighting]) -> Result<(), StoreError> {
        let write = Write::Keep { handler: handler.to_owned(), until, deliveries: deliveries.to_vec() };
        self.writer.write(write).await?;
        // Only now: in between, a copy must meet the claim.
        self.claims.end(handler, deliveries);
        Ok(())
    }

    pub(super) fn release(&self, handler: &str, deliveries: &[Sighting]) {
        self.claims.end(handler, deliveries);
    }

    pub(super) async fn set_pause(&self, handler: &str, paused: bool) -> Result<(), StoreError> {
        self.writer.write(Write::Pause { handler: handler.to_owned(), paused }).await.map(|_| ())
    }

    /// Reads one small page: fit for async code.
    pub(super) fn pauses(&self) -> Result<BTreeSet<String>, StoreError> {
        self.shared.read(tables::pauses)
    }
}

impl Shared {
    fn read<T>(&self, read: impl FnOnce(&redb::ReadTransaction) -> Result<T, tables::Error>) -> Result<T, StoreError> {
        self.with_database(|database| {
            let transaction = database.begin_read().map_err(redb::Error::from)?;
            read(&transaction)
        })
    }

    /// Runs with the open database, opening it first where an I/O error has closed it.
    fn with_database<T>(&self, run: impl FnOnce(&Database) -> Result<T, tables::Error>) -> Result<T, StoreError> {
        let mut guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            drop(guard);
            self.reopen()?;
            guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
        }
        let Some(database) = guard.as_ref() else {
            return Err(StoreError::Unavailable(format!("store `{}` was closed by an I/O error", self.path.display())));
        };
        match run(database) {
            Ok(value) => Ok(value),
            Err(error) => {
                drop(guard);
                if error.closes() {
                    // redb answers nothing more after an I/O error; dropping it lets the next caller open the file anew.
                    *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Err(failed(&self.path, &error))
            }
        }
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut guard = self.database.write().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            *guard = Some(open_file(&self.path)?);
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(run: impl FnOnce() -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Unavailable(format!("store: {error}"))),
    }
}

fn open_file(path: &Path) -> Result<Database, StoreError> {
    let shown = path.display();
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|error| StoreError::Unavailable(format!("store `{shown}` can't be opened ({error})")))?;
    match Database::builder().set_cache_size(CACHE_BYTES).create_file(file) {
        Ok(database) => Ok(database),
        Err(DatabaseError::DatabaseAlreadyOpen) => {
            let owner = owner(path);
            Err(StoreError::Owned(format!(
                "store `{shown}` is open in another process{owner} [stop it, or give this one a `[server] data` of its own]"
            )))
        }
        Err(DatabaseError::Storage(redb::StorageError::Io(error))) if error.kind() != std::io::ErrorKind::InvalidData => {
            Err(StoreError::Unavailable(format!("store `{shown}` can't be opened ({error})")))
        }
        Err(error) => Err(StoreError::Damaged(format!(
            "store `{shown}` can't be read ({error}) [move it away to begin with an empty one; dead letters and mails sent are then forgotten]"
        ))),
    }
}

/// Who serves from this data folder, as `server.json` beside the store says; empty when it says nothing.
fn owner(path: &Path) -> String {
    let server = path.with_file_name("server.json");
    let said = std::fs::read(server).ok().and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    match said {
        Some(said) => format!(" (pid {}, {})", said["pid"], said["url"].as_str().unwrap_or("no address")),
        None => String::new(),
    }
}

fn failed(path: &Path, error: &tables::Error) -> StoreError {
    let text = format!("store `{}`: {error}", path.display());
    match error {
        tables::Error::Unreadable { .. } => StoreError::Damaged(text),
        tables::Error::Storage(_) => StoreError::Unavailable(text),
    }
}

#[cfg(test)]
mod tests;
