//! What must outlive this process beside the queues: dead letters and mails sent (delivery.md §6). Embedded, in `data`.
//!
//! One thread writes and shares commits: a commit starts as soon as the last one has ended and takes all that has gathered. A write
//! is answered after the sync that holds it. Nothing here decides what is a dead letter or whether a mail may be sent again.

mod tables;
mod writer;

use std::collections::BTreeMap;
use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redb::{Database, DatabaseError, ReadableDatabase};

use crate::clock::{self, Timestamp};
use crate::dead::DeadLetter;
use tables::{Bounds, Write};
use writer::Writer;

/// How long dead letters are kept: the default of `dead-keep` (surface.md §1).
pub const DEAD_KEEP: Duration = Duration::from_secs(30 * 24 * 3600);
/// Most bytes of dead letters kept: the default of `dead-max` (surface.md §1).
pub const DEAD_BYTES_MAX: u64 = 1 << 30;
/// A dead letter larger than this loses log and backtrace, never the event: four of the largest events by default.
pub const DEAD_LETTER_BYTES_MAX: usize = 4 << 20;
/// Most dead letters that one list returns, unless asked for fewer: a page for people, and a bound on the answer's memory.
pub const DEAD_LIST_MAX: usize = 1_000;
/// Most bytes of dead letters that one list returns; the same bound for letters that hold large events.
const DEAD_LIST_BYTES_MAX: usize = 64 << 20;
/// Pages that redb keeps in memory; its own default is 1 GiB.
const CACHE_BYTES: usize = 32 << 20;
/// The name of the file in `data`.
const FILE: &str = "store.redb";

/// SHA-256 that names a mail (delivery.md §9).
pub type MailIdentity = [u8; 32];

/// The embedded store of one process.
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
    writer: Writer,
}

/// What the writer's thread and readers share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    bounds: Bounds,
    // Empty after an I/O error: redb refuses everything from then on, so the file is opened anew by whoever needs it next. Readers and
    // the writer hold it shared for one transaction; only closing and opening take it alone.
    database: RwLock<Option<Database>>,
    // Written by the writer after each commit, copied by scrapes; held for a copy.
    counts: Mutex<DeadCounts>,
    // Since the process started; only ever goes up.
    commits: AtomicU64,
}

/// Dead letters of the store, by queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadCounts {
    /// By queue.
    pub queues: BTreeMap<String, DeadCount>,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Dead letters of one queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadCount {
    /// Held now.
    pub held: u64,
    /// Gone since the process started because they were too old or too many.
    pub dropped: u64,
}

/// Which dead letters to list. All that is given must hold.
#[derive(Debug, Clone, Default)]
pub struct DeadFilter {
    /// Of this handler.
    pub handler: Option<String>,
    /// Of this queue.
    pub queue: Option<String>,
    /// Its reason contains this text.
    pub reason: Option<String>,
    /// Given up before this.
    pub older_than: Option<Timestamp>,
    /// At most so many; none: [`DEAD_LIST_MAX`].
    pub max: Option<usize>,
}

/// Why the store could not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{0}")]
    Owned(String),
    /// Its disk is full or broken: an outside failure, to be tried again.
    #[error("{0}")]
    Unavailable(String),
    /// It holds what this version can't read.
    #[error("{0}")]
    Damaged(String),
}

impl Store {
    /// Opens `store.redb` in the folder `data`, making both (the folder with mode 0700, the file 0600). Blocks: call it at start.
    ///
    /// # Errors
    /// When another process has it open, when the disk fails, or when the file is not a store.
    pub fn open(data: &Path) -> Result<Arc<Self>, StoreError> {
        Self::open_with(data, Bounds { dead_keep: DEAD_KEEP, dead_bytes: DEAD_BYTES_MAX })
    }

    fn open_with(data: &Path, bounds: Bounds) -> Result<Arc<Self>, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(|error| {
            StoreError::Unavailable(format!("folder `{}` can't be made ({error}) [`[server] data` names it]", data.display()))
        })?;
        let path = data.join(FILE);
        let database = open_file(&path)?;
        let counts = tables::prepare(&database, bounds, clock::now()).map_err(|error| failed(&path, &error))?;
        let shared = Shared {
            path,
            bounds,
            database: RwLock::new(Some(database)),
            counts: Mutex::new(counts),
            commits: AtomicU64::new(0),
        };
        let shared = Arc::new(shared);
        let writer = Writer::start(Arc::clone(&shared))?;
        Ok(Arc::new(Self { shared, writer }))
    }

    /// Keeps a dead letter; the same id replaces what stood there. Once it answers, the letter outlives the process. It is written even
    /// when the future is dropped.
    ///
    /// # Errors
    /// When it could not be made durable; then it is not kept.
    pub async fn put_dead(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let write = Write::dead(letter).map_err(StoreError::Damaged)?;
        self.writer.write(write).await
    }

    /// Dead letters that match, newest first. Bounded by `filter.max` and by bytes; the flag says that there are more.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn list_dead(&self, filter: DeadFilter) -> Result<(Vec<DeadLetter>, bool), StoreError> {
        let shared = Arc::clone(&self.shared);
        blocking(move || shared.read(|transaction| tables::list(transaction, &filter))).await
    }

    /// The dead letter with this id.
    ///
    /// # Errors
    /// When the store can't be read.
    pub async fn get_dead(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        blocking(move || shared.read(|transaction| tables::get(transaction, &id))).await
    }

    /// How many dead letters each queue has; nothing is read from disk.
    #[must_use]
    pub fn dead_counts(&self) -> DeadCounts {
        self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps that a mail was handed over, until `expires`. Durable once it answers.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn put_mail(&self, identity: MailIdentity, message_id: &str, expires: Timestamp) -> Result<(), StoreError> {
        self.writer.write(Write::Mail { identity, message_id: message_id.to_owned(), expires }).await
    }

    /// The Message-ID under which this mail was handed over before, if that is known. Reads one small page: fit for async code.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn mail(&self, identity: &MailIdentity, now: Timestamp) -> Result<Option<String>, StoreError> {
        self.shared.read(|transaction| tables::mail(transaction, identity, now))
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
