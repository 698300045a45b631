//! `disk:`, embedded and durable: events in a redb file in a folder that one process owns.
//!
//! A publish or a settlement is answered after the sync that holds it. Leases are in memory only, so that a pull writes nothing and
//! what was leased when a process ended is delivered again. `plan.rs` decides what a commit does, `writer.rs` when, `store.rs` writes
//! it; `ledger.rs`, shared with `memory:`, says who has ended what.
//!
//! Considered and left out: a row per acknowledgement above a cursor (`ended` rows). Instead the cursor goes to the newest event that
//! was settled, and what it passes gets a row: as many as are in hand, however long the slowest of them takes.

mod command;
mod live;
mod load;
mod lock;
mod lost;
mod plan;
mod pull;
mod recent;
mod row;
mod running;
mod settle;
mod store;
mod tables;
mod waits;
mod writer;

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};

use self::command::{Answer, Command};
use self::live::Live;
use self::lock::FolderLock;
use self::recent::Recent;
use self::row::Row;
use self::running::Running;
use self::store::{Opener, Store};
use self::writer::{Recovery, Writer};
use super::waits::Waits;
use super::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start, Tries,
};
use crate::clock;

/// Most bytes of events, in KiB, that wait for the next commits: beyond it publishers wait before their events are written down, so
/// that large events can't fill the memory. Sixty-four of the largest that HTTP takes by default.
const WAITING_KIB_MAX: u32 = 64 * 1024;

/// A durable queue in a folder.
#[derive(Debug)]
pub struct DiskQueue {
    shared: Arc<Shared>,
    /// None only while it is dropped.
    writer: Option<Handle>,
}

#[derive(Debug)]
struct Handle {
    commands: mpsc::Sender<Command>,
    thread: JoinHandle<()>,
    ended: watch::Receiver<()>,
}

/// What callers, the writer and readers of the file have in common.
#[derive(Debug)]
struct Shared {
    name: String,
    max_size: u64,
    store: Store,
    running: Running,
    // std's mutex: held for the work of one call or for planning one commit, never while the file is read or written.
    live: Mutex<Live>,
    /// Wakes waiting pulls, of all subscriptions, when there may be something for them.
    changed: Notify,
    /// KiB of events that may be handed to the writer.
    waiting: Arc<Semaphore>,
}

impl Shared {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Result<MutexGuard<'_, Live>, QueueError> {
        let live = self.live();
        if live.closed { Err(QueueError::Closed) } else { Ok(live) }
    }
}

/// Opens the queue in a folder, on a thread that may wait for the disk.
pub(super) async fn open(folder: PathBuf, opening: Opening) -> Result<Arc<DiskQueue>, QueueError> {
    let opened = move || DiskQueue::open(&folder, opening.name, opening.max_size_bytes);
    let opened = tokio::task::spawn_blocking(opened).await;
    opened.map_err(|error| QueueError::Unavailable(format!("opening the queue was stopped: {error}")))?
}

impl DiskQueue {
    /// Opens the queue in a folder, which is made if it is missing, and owns the folder until it is closed or dropped. At most
    /// `max_size` bytes of events are held; the file is somewhat larger. It blocks: after a crash the file is checked first.
    ///
    /// # Errors
    /// [`QueueError::Owned`] names the process that has the folder; others say what could not be made, read or written.
    pub fn open(folder: &Path, name: impl Into<String>, max_size: u64) -> Result<Arc<Self>, QueueError> {
        make_folder(folder)?;
        Self::open_with(folder, name.into(), max_size, store::file_opener(folder))
    }

    fn open_with(folder: &Path, name: String, max_size: u64, opener: Opener) -> Result<Arc<Self>, QueueError> {
        let lock = FolderLock::take(folder)?;
        let (running, notes) = Running::open(folder)?;
        let (store, loaded) = Store::open(folder, opener)?;
        let (loaded, counted) = lost::count(&store, loaded, &notes, &name)?;
        let load::Loaded { ledger, written } = loaded;
        let live = Live {
            ledger,
            numbers: written.numbers,
            events: written.events,
            delayed: written.delayed,
            recent: Recent::tail(),
            ahead: std::collections::BTreeMap::new(),
            slots: running.begin(counted),
            closed: false,
        };
        let waiting = Arc::new(Semaphore::new(WAITING_KIB_MAX as usize));
        let shared = Arc::new(Shared { name, max_size, store, running, live: Mutex::new(live), changed: Notify::new(), waiting });
        let (commands, receiver) = mpsc::channel(writer::COMMANDS_MAX);
        let (ended_sender, ended) = watch::channel(());
        let writer = Writer {
            shared: Arc::clone(&shared),
            commands: receiver,
            next_due: written.next_due,
            lock,
            ended: ended_sender,
            waiting: VecDeque::new(),
            recovery: Recovery::default(),
            sweeps: Vec::new(),
        };
        let unavailable = |error: std::io::Error| QueueError::Unavailable(format!("starting the queue's writer failed: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(unavailable)?;
        let thread = std::thread::Builder::new().name("weir-disk".to_owned()).spawn(move || writer.run(&runtime));
        let handle = Handle { commands, thread: thread.map_err(unavailable)?, ended };
        Ok(Arc::new(Self { shared, writer: Some(handle) }))
    }

    /// The name that it was opened with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Hands a command to the writer and waits for its answer.
    async fn ask(&self, command: impl FnOnce(Answer) -> Command) -> Result<(), QueueError> {
        drop(self.shared.open()?);
        let Some(writer) = &self.writer else { return Err(QueueError::Closed) };
        let (answer, answered) = oneshot::channel();
        let sent = writer.commands.send(command(answer)).await;
        match (sent, answered.await) {
            (Ok(()), Ok(answer)) => answer,
            // The writer drops what it has not begun when the queue is closed.
            _ if self.shared.live().closed => Err(QueueError::Closed),
            _ => Err(QueueError::Unavailable(format!(
                "writer of the queue `{}` has ended, which is a bug (restart)",
                self.shared.name
            ))),
        }
    }

    fn refuses(&self, size: u64) -> Option<QueueError> {
        (size > self.shared.max_size).then_some(QueueError::TooLarge { size, bound: self.shared.max_size })
    }

    async fn publish_batch(&self, batch: Vec<Publish>) -> Result<(), QueueError> {
        drop(self.shared.open()?);
        if batch.is_empty() {
            return Ok(());
        }
        let size = size_of(&batch);
        if let Some(refused) = self.refuses(size) {
            return Err(refused);
        }
        let kib = u32::try_from(size / 1024).unwrap_or(u32::MAX).clamp(1, WAITING_KIB_MAX);
        let weight = Arc::clone(&self.shared.waiting).acquire_many_owned(kib).await.map_err(|_| QueueError::Closed)?;
        let now = clock::now();
        let (mut rows, mut delayed) = (Vec::with_capacity(batch.len()), Vec::new());
        for Publish { event, due } in batch {
            match due {
                Some(due) if due > now => delayed.push(Row::new(event, due)?),
                _ => rows.push(Row::new(event, now)?),
            }
        }
        self.ask(|answer| Command::Publish { rows, delayed, weight, answer }).await
    }

    async fn end(&self) {
        self.shared.live().closed = true;
        self.shared.changed.notify_waiters();
        let Some(writer) = &self.writer else { return };
        // It fails only when the writer has ended already.
        let _ = writer.commands.send(Command::Close).await;
        let _ = writer.ended.clone().changed().await;
    }
}

/// Makes the folder, and its name durable.
fn make_folder(folder: &Path) -> Result<(), QueueError> {
    let failed = |path: &Path, error: &std::io::Error| {
        QueueError::Unavailable(format!(
            "making the folder `{}` failed: {error} (check its path and permissions)",
            path.display()
        ))
    };
    let missing: Vec<PathBuf> = folder.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
    std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
    for parent in missing.iter().filter_map(|path| path.parent()) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| failed(parent, &error))?;
    }
    Ok(())
}

fn size_of(batch: &[Publish]) -> u64 {
    batch.iter().map(|publish| publish.event.size() as u64).sum()
}

/// Without [`Queue::close`], the writer still ends what it began, and the folder is free afterwards.
impl Drop for DiskQueue {
    fn drop(&mut self) {
        if let Some(Handle { commands, thread, .. }) = self.writer.take() {
            drop(commands);
            // A panic in there has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// What it promises.
pub const FEATURES: Features = Features::LASTING;

impl Queue for DiskQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(self.publish_batch(batch))
    }

    /// As far as the events themselves tell: on disk they are a little larger.
    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.refuses(size_of(batch))
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_one_or_more(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(self.settle_batch(subscription, batch))
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(self.ask_depth())
    }

    fn features(&self) -> Features {
        FEATURES
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        self.note_tries(subscription, position, tries);
    }

    fn health(&self) -> Health {
        Health { connected_once: true, error: self.shared.store.broken(), ..Health::default() }
    }

    fn waits(&self) -> Option<&dyn Waits> {
        Some(self)
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        let subscription = subscription.to_owned();
        Box::pin(self.ask(move |answer| Command::Subscribe { subscription, start, answer }))
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        let subscription = subscription.to_owned();
        Box::pin(self.ask(move |answer| Command::Unsubscribe { subscription, answer }))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

#[cfg(test)]
mod tests;
