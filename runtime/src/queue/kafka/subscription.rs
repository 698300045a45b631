//! One subscription of a topic, a consumer group: pulls and settlements, on the side of tokio. Its records come from a thread (`reader.rs`).

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::client::ANSWER_MAX;
use super::desk::Desk;
use super::lock;
use super::waker::Waker;
use crate::clock;
use crate::queue::{Delivery, Position, QueueError, Settlement, Start};

pub(super) struct Subscription {
    pub(super) name: String,
    /// The consumer group: the same name, unless the URL names another.
    pub(super) group: String,
    /// Up to what age a lease is certainly ours.
    young: Duration,
    /// Where it begins; not set: it was found on the broker, and is not made again.
    pub(super) start: OnceLock<Start>,
    /// It is there.
    pub(super) made: AtomicBool,
    /// Its reader runs, or did.
    pub(super) reading: AtomicBool,
    // std's mutex: held for a look or a change, never across an await; pulls, settlements and the reader share it.
    desk: Mutex<Desk>,
    /// Wakes pulls.
    came: Notify,
    /// Wakes who waits for lapsed leases.
    lapsing: Notify,
    /// Wakes the reader.
    pub(super) waker: Arc<Waker>,
    /// Ends pulls and the reader: the queue is closed, or the subscription removed.
    pub(super) ended: CancellationToken,
    /// It was removed, and not the queue closed.
    pub(super) removed: AtomicBool,
    /// The reader has ended, and left the group.
    pub(super) left: CancellationToken,
    /// There is a topic of long waits.
    pub(super) has_retries: AtomicBool,
    /// It is not there, and may not be made.
    pub(super) no_retries: AtomicBool,
    /// When the last commit was sent that the broker took as ours: how old our lease is. The reader writes it, pulls and the dispatcher look.
    confirmed: Mutex<Instant>,
}

/// A pull that waits: what it asks for is read for as long as it does.
struct Waiting<'a>(&'a Subscription, usize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.desk().wanted -= self.1;
    }
}

impl Subscription {
    pub(super) fn new(name: &str, group: &str, young: Duration, ended: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            young,
            name: name.to_owned(),
            group: group.to_owned(),
            start: OnceLock::new(),
            made: AtomicBool::new(false),
            reading: AtomicBool::new(false),
            desk: Mutex::default(),
            came: Notify::new(),
            lapsing: Notify::new(),
            waker: Arc::default(),
            ended,
            removed: AtomicBool::new(false),
            left: CancellationToken::new(),
            has_retries: AtomicBool::new(false),
            no_retries: AtomicBool::new(false),
            confirmed: Mutex::new(Instant::now()),
        })
    }

    /// Looks at what is held, or changes it. Not to be held across an await, or a call that blocks.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        lock(&self.desk)
    }

    /// Waits for events. Whatever comes for a pull that is dropped meanwhile is kept for the next.
    pub(super) async fn pull(&self, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        let seen = self.desk().failures();
        let mut waiting = None;
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            // Before looking, so that what comes between looking and waiting wakes as well.
            came.as_mut().enable();
            if self.ended.is_cancelled() {
                return Err(self.desk().failure_after(seen).unwrap_or(QueueError::Closed));
            }
            {
                let mut desk = self.desk();
                // With a lease that is too old nothing begins; who renews it wakes us.
                let out = if self.age() <= self.young { desk.hand_out(max.get()) } else { Vec::new() };
                if !out.is_empty() {
                    return Ok(out);
                }
                if let Some(failure) = desk.failure_after(seen) {
                    return Err(failure);
                }
            }
            if waiting.is_none() {
                self.desk().wanted += max.get();
                waiting = Some(Waiting(self, max.get()));
                self.waker.wake();
            }
            tokio::select! {
                () = came => {}
                () = self.ended.cancelled() => {}
            }
        }
    }

    /// Settles; answers once it is committed, with what came too late.
    pub(super) async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        let settled = self.desk().settle(batch, clock::now());
        self.waker.wake();
        // What needs no commit is there again at once.
        self.came.notify_waiters();
        let mut late = settled.late;
        let confirmed = async {
            for (positions, confirmed) in settled.waits {
                match confirmed.await {
                    Ok(answer) => answer?,
                    Err(_) => late.extend(positions),
                }
            }
            Ok(())
        };
        let answer = tokio::time::timeout(ANSWER_MAX, confirmed).await;
        answer.unwrap_or_else(|_| {
            Err(QueueError::Unavailable(format!("consumer group `{}` answered no commit within {ANSWER_MAX:?}", self.group)))
        })?;
        Ok(late)
    }

    /// Waits until something that is out has lapsed: what. Cancel-safe.
    pub(super) async fn lapsed(&self) -> Vec<Position> {
        loop {
            let mut lapsing = std::pin::pin!(self.lapsing.notified());
            lapsing.as_mut().enable();
            let lapsed = self.desk().take_lapsed();
            if !lapsed.is_empty() {
                return lapsed;
            }
            lapsing.await;
        }
    }

    /// Wakes pulls.
    pub(super) fn wake_pulls(&self) {
        self.came.notify_waiters();
    }

    /// Wakes who waits for lapsed leases.
    pub(super) fn tell_lapsed(&self) {
        self.lapsing.notify_waiters();
    }

    /// Tells pulls that wait about a problem: they end with it.
    pub(super) fn fail(&self, problem: QueueError) {
        self.desk().fail(problem);
        self.came.notify_waiters();
    }

    /// Ends pulls and the reader.
    pub(super) fn end(&self) {
        self.ended.cancel();
        self.waker.wake();
    }

    /// The broker has taken a commit as ours that was sent then.
    pub(super) fn is_confirmed(&self, sent: Instant) {
        *lock(&self.confirmed) = sent;
    }

    /// How old our lease is.
    pub(super) fn age(&self) -> Duration {
        lock(&self.confirmed).elapsed()
    }

    /// Lets go of what is out, as our lease is too old.
    pub(super) fn lapse(&self) {
        if self.desk().lapse_all() {
            self.tell_lapsed();
        }
    }

    /// Whether a delivery is certainly ours. One that may not be is let go.
    pub(super) fn holds(&self, position: Position) -> bool {
        let sure = self.age() <= self.young;
        let mut desk = self.desk();
        if !sure && desk.lapse(position) {
            drop(desk);
            self.tell_lapsed();
            return false;
        }
        sure && desk.holds(position)
    }

    /// Whether its reader is to end.
    pub(super) fn is_over(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Whether it was removed.
    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    /// Whether it has to be made before anything is published.
    pub(super) fn is_to_be_made(&self) -> bool {
        self.start.get().is_some() && !self.made.load(Ordering::Relaxed)
    }
}
