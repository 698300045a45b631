//! `fallback` of a queue: an embedded queue that takes publishes while the broker is away, and forwards them when it is back.
//!
//! A layer over any other queue. Only publishes are touched: pulls, settlements and all else go to the broker's own adapter. What was
//! taken is as durable as `disk:` is, and bounded by `max-size`. Order is not kept: what is published while the rest is still being
//! forwarded overtakes it. A broker that took a batch and whose answer was lost gets it again, under the same sources and ids; so it does
//! when the process is killed between the broker's answer and our note of it: at most one batch of the forwarder.
//!
//! Considered and left out: everything through the fallback until it is empty, which would keep the order of one process only, and make
//! every event wait for a disk that is there for bad times.

mod forward;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::forward::Forwarder;
use super::disk::DiskQueue;
use super::waits::Waits;
use super::{BoxFuture, Delivery, Depth, Features, Health, Position, Publish, Queue, QueueError, Settlement, Start, Tries};
use crate::dead::DeadLetters;

/// How long the broker may take to answer a publish before the fallback takes it: longer than any adapter's own time-out, shorter than
/// a publisher waits.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The one subscription of the fallback.
const SUBSCRIPTION: &str = "weir.forward";

/// A queue with a fallback.
pub struct FallbackQueue {
    main: Arc<dyn Queue>,
    fallback: Arc<Fallback>,
    closed: CancellationToken,
    forwarding: Mutex<Option<JoinHandle<()>>>,
}

/// What takes publishes while the broker is away.
pub struct Fallback {
    /// The name of the queue that it is for.
    name: String,
    folder: PathBuf,
    late: Arc<dyn Queue>,
    /// Events that it took, and that were forwarded, since the start.
    taken: AtomicU64,
    forwarded: AtomicU64,
    /// It holds something: said once, until it is empty again.
    in_use: AtomicBool,
    /// Why it did not take the last publish that it was asked to.
    refused: Mutex<Option<String>>,
    /// The broker took a publish: what is held can be forwarded.
    reached: Notify,
}

impl FallbackQueue {
    /// A layer over `main`, the queue `name`, with an embedded queue in `folder` of at most `max_size` bytes. What it holds from an earlier
    /// process is forwarded.
    ///
    /// # Errors
    /// When the folder can't be used, or another process has it.
    pub async fn open(main: Arc<dyn Queue>, name: &str, folder: PathBuf, max_size: u64) -> Result<Arc<Self>, QueueError> {
        let (path, late_name) = (folder.clone(), format!("{name} (fallback)"));
        let opened = tokio::task::spawn_blocking(move || DiskQueue::open(&path, late_name, max_size)).await;
        let late = opened.map_err(|error| QueueError::Unavailable(format!("opening the fallback was stopped: {error}")))??;
        Self::over(main, late, name, folder).await
    }

    async fn over(main: Arc<dyn Queue>, late: Arc<dyn Queue>, name: &str, folder: PathBuf) -> Result<Arc<Self>, QueueError> {
        late.subscribe(SUBSCRIPTION, Start::All).await?;
        let held = late.depth().await?.events.unwrap_or_default();
        if held > 0 {
            tracing::info!(queue = %name, held, "fallback holds events of an earlier process: they are forwarded");
        }
        let fallback = Arc::new(Fallback {
            name: name.to_owned(),
            folder,
            late,
            taken: AtomicU64::new(0),
            forwarded: AtomicU64::new(0),
            in_use: AtomicBool::new(held > 0),
            refused: Mutex::default(),
            reached: Notify::new(),
        });
        let closed = CancellationToken::new();
        let forwarder = Forwarder { main: Arc::clone(&main), fallback: Arc::clone(&fallback), closed: closed.clone() };
        let forwarding = Mutex::new(Some(tokio::spawn(forwarder.run())));
        Ok(Arc::new(Self { main, fallback, closed, forwarding }))
    }

    async fn publish_somewhere(&self, batch: Vec<Publish>) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        // What the broker could never hold would never leave the fallback.
        if let Some(refused) = self.main.too_large(&batch) {
            return Err(refused);
        }
        let away = match self.main.health().error {
            Some(away) => away,
            None => match tokio::time::timeout(ANSWER_MAX, self.main.publish(batch.clone())).await {
                Ok(Err(QueueError::Unavailable(away))) => away,
                Ok(answer) => {
                    if answer.is_ok() {
                        self.fallback.reached.notify_one();
                    }
                    return answer;
                }
                Err(_) => format!("no answer within {} s", ANSWER_MAX.as_secs()),
            },
        };
        self.fallback.take(batch, &away).await
    }

    async fn end(&self) {
        self.closed.cancel();
        let forwarding = lock(&self.forwarding).take();
        if let Some(forwarding) = forwarding {
            // It answers soon, and only a bug could make it fail.
            let _ = forwarding.await;
        }
        self.fallback.late.close().await;
        self.main.close().await;
    }
}

impl Fallback {
    /// Where it is, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("disk:{}", self.folder.display())
    }

    /// Events that it took since the start.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Events that were forwarded since the start.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// Why it can't take events now, as far as is known; none: it can.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.late.health().error.or_else(|| lock(&self.refused).clone())
    }

    /// What it holds.
    ///
    /// # Errors
    /// When its file can't be read.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        self.late.depth().await
    }

    async fn take(&self, batch: Vec<Publish>, away: &str) -> Result<(), QueueError> {
        let count = batch.len() as u64;
        let taken = self.late.publish(batch).await;
        *lock(&self.refused) = taken.as_ref().err().map(ToString::to_string);
        match taken {
            Ok(()) => {
                self.taken.fetch_add(count, Ordering::Relaxed);
                if !self.in_use.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        queue = %self.name, fallback = %self.url(), error = %away,
                        "broker is away: the fallback takes events, and forwards them in another order when it is back"
                    );
                }
                Ok(())
            }
            Err(QueueError::Full { held, bound, .. }) => Err(QueueError::Full { held, bound, blocker: None }),
            Err(QueueError::Unavailable(why)) => {
                Err(QueueError::Unavailable(format!("{away}; nor can its fallback take events: {why}")))
            }
            Err(other) => Err(other),
        }
    }
}

impl Queue for FallbackQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(self.publish_somewhere(batch))
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.main.too_large(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        self.main.pull(subscription, max)
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        self.main.settle(subscription, batch)
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        self.main.depth()
    }

    fn features(&self) -> Features {
        self.main.features()
    }

    fn keep_order(&self, subscription: &str) -> Result<(), QueueError> {
        self.main.keep_order(subscription)
    }

    fn window(&self, subscription: &str, most: NonZeroUsize) {
        self.main.window(subscription, most);
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        self.main.note(subscription, position, tries);
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        self.main.lapsed(subscription)
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        self.main.holds(subscription, position)
    }

    fn health(&self) -> Health {
        self.main.health()
    }

    fn fallback(&self) -> Option<&Fallback> {
        Some(&self.fallback)
    }

    fn waits(&self) -> Option<&dyn Waits> {
        self.main.waits()
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        self.main.subscribe(subscription, start)
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        self.main.unsubscribe(subscription)
    }

    fn dead_letters(&self) -> Option<Arc<dyn DeadLetters>> {
        self.main.dead_letters()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

/// Without [`Queue::close`], the forwarder ends with its queue.
impl Drop for FallbackQueue {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
