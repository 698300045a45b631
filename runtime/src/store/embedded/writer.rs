//! The store's one writing thread: gathers what was asked while the last commit was synced, and commits it together.
//!
//! A thread of its own, because a sync blocks for as long as the disk likes; async callers only wait for their answer.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::Shared;
use super::tables::{self, Applied, Did, Facts, Write};
use crate::clock::{self, Alarm};
use crate::dead::DeadCounts;
use crate::keyvalue::{BucketError, Written};
use crate::store::StoreError;
use crate::store::duplicates::Crowded;

/// Most writes that wait or are being committed; callers beyond it wait without taking memory here.
const WAITING_MAX: usize = 1_024;
/// Most writes of one commit: keeps a commit short enough for those who wait for the next one.
const COMMIT_MAX: usize = 1_000;
/// How often old entries are looked for, where nothing is written too.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// The way to the writing thread, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Writer {
    // None only while it is being dropped.
    requests: Option<SyncSender<Request>>,
    places: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Request {
    write: Write,
    answer: oneshot::Sender<Result<Did, StoreError>>,
    // Held until it is answered: at most `WAITING_MAX` exist, so the channel below is never full.
    _place: OwnedSemaphorePermit,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, StoreError> {
        let (requests, inbox) = mpsc::sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("weir-store".to_owned())
            .spawn(move || run(&shared, &inbox))
            .map_err(|error| StoreError::Unavailable(format!("no thread for the store ({error})")))?;
        Ok(Self { requests: Some(requests), places: Arc::new(Semaphore::new(WAITING_MAX)), thread: Some(thread) })
    }

    /// Answers after the sync that holds it, with whether there was something to do.
    pub(super) async fn write(&self, write: Write) -> Result<bool, StoreError> {
        self.ask(write).await.map(|did| matches!(did, Did::Something(true)))
    }

    /// The same for a write of a bucket, which has an answer of its own.
    pub(super) async fn write_bucket(&self, write: Write) -> Result<Result<Written, BucketError>, StoreError> {
        match self.ask(write).await? {
            Did::Bucket(written) => Ok(written),
            _ => Err(StoreError::Unavailable("the store's writing thread mixed up its answers".to_owned())),
        }
    }

    /// Answers after the sync that holds it, with what became of it.
    pub(super) async fn ask(&self, write: Write) -> Result<Did, StoreError> {
        let ended = || StoreError::Unavailable("the store's writing thread has ended".to_owned());
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| ended())?;
        let (answer, answered) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(ended)?;
        requests.try_send(Request { write, answer, _place: place }).map_err(|_| ended())?;
        answered.await.map_err(|_| ended())?
    }
}

/// Waits for what was asked to be written: the file is closed once this has returned, so that it can be opened again.
impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has answered its callers by dropping their channels; there is nothing more to do here.
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, inbox: &Receiver<Request>) {
    let mut sweep_at = Alarm::new(None, SWEEP_EVERY);
    let mut said = Crowded::default();
    loop {
        let mut batch = match inbox.recv_timeout(sweep_at.look()) {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) if !sweep_at.rings() => continue,
            Err(RecvTimeoutError::Timeout) => Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        while batch.len() < COMMIT_MAX
            && let Ok(request) = inbox.try_recv()
        {
            batch.push(request);
        }
        let sweep = sweep_at.rings();
        if sweep {
            sweep_at = Alarm::new(None, SWEEP_EVERY);
        }
        let writes: Vec<&Write> = batch.iter().map(|request| &request.write).collect();
        let result = commit(shared, &writes, sweep);
        match &result {
            Ok(applied) => applied.crowded.iter().for_each(|handler| said.say(handler)),
            Err(error) if batch.is_empty() => tracing::warn!(%error, "old entries could not be removed from the store"),
            Err(_) => {}
        }
        for (at, request) in batch.into_iter().enumerate() {
            let answer = result.as_ref().map(|applied| applied.did.get(at).cloned().unwrap_or(Did::Something(false)));
            // A caller that has gone does not want its answer.
            let _ = request.answer.send(answer.map_err(StoreError::clone));
        }
    }
}

fn commit(shared: &Shared, writes: &[&Write], sweep: bool) -> Result<Applied, StoreError> {
    let before = shared.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let facts = Facts { bounds: &shared.bounds, now: clock::now(), counts: &before, sweep };
    let applied = shared.with_database(|database| tables::apply(database, writes, &facts))?;
    let number = shared.commits.fetch_add(1, Ordering::Relaxed) + 1;
    tracing::trace!(number, writes = writes.len(), "store committed");
    let dropped = |counts: &DeadCounts| counts.queues.values().map(|count| count.dropped).sum::<u64>();
    let gone = dropped(&applied.counts) - dropped(&before);
    if gone > 0 {
        tracing::warn!(count = gone, "the oldest dead letters were dropped: too old or too many");
    }
    *shared.counts.lock().unwrap_or_else(PoisonError::into_inner) = applied.counts.clone();
    Ok(applied)
}
