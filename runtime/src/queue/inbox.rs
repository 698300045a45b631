//! What this process holds of one subscription of a broker: what has come and waits to be pulled, what is handed out, and until when it is
//! ours. The adapters of brokers share it; what a delivery is settled with is their own: the token `T`.
//!
//! It knows no broker and no time of its own. A reader puts in, pulls take out, settlements are planned here and sent by the adapter.

mod hold;

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(super) use self::hold::{Held, Hold};
use super::{Delivery, Position, QueueError};

/// The holding of one subscription, and who waits for it.
pub(super) struct Inbox<T> {
    // std's mutex: held for a look or a change, never across an await; pulls, settlements, the reader and the heartbeat share it.
    hold: Mutex<Hold<T>>,
    /// Wakes pulls.
    came: Notify,
    /// Wakes the reader: pulls ask for more.
    stirred: Notify,
    /// Wakes who waits for lapsed leases.
    lapsing: Notify,
    /// Ends pulls and the reader: the queue is closed, or the subscription removed.
    pub(super) ended: CancellationToken,
}

/// A pull that waits: what it asks for is read for as long as it does.
struct Waiting<'a, T> {
    inbox: &'a Inbox<T>,
    count: usize,
}

impl<T> Drop for Waiting<'_, T> {
    fn drop(&mut self) {
        self.inbox.hold().wanted -= self.count;
    }
}

impl<T> Inbox<T> {
    /// An empty one; `ended` ends it.
    pub(super) fn new(ended: CancellationToken) -> Self {
        Self { hold: Mutex::default(), came: Notify::new(), stirred: Notify::new(), lapsing: Notify::new(), ended }
    }

    /// Looks at what is held, or changes it. Not to be held across an await.
    pub(super) fn hold(&self) -> MutexGuard<'_, Hold<T>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for events. Whatever comes for a pull that is dropped meanwhile is kept for the next.
    pub(super) async fn pull(&self, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        let seen = self.hold().failures();
        let mut waiting = None;
        loop {
            let came = self.came.notified();
            let mut came = std::pin::pin!(came);
            // Before looking, so that what comes between looking and waiting wakes as well.
            came.as_mut().enable();
            {
                let mut hold = self.hold();
                let out = hold.hand_out(max.get());
                if !out.is_empty() {
                    return Ok(out);
                }
                if let Some(failure) = hold.failure_after(seen) {
                    return Err(failure);
                }
            }
            if self.ended.is_cancelled() {
                return Err(QueueError::Closed);
            }
            if waiting.is_none() {
                self.hold().wanted += max.get();
                waiting = Some(Waiting { inbox: self, count: max.get() });
                self.stirred.notify_one();
            }
            tokio::select! {
                () = came => {}
                () = self.ended.cancelled() => {}
            }
        }
    }

    /// Waits until pulls ask for more than has come: how many more. For one reader.
    pub(super) async fn missing(&self) -> usize {
        loop {
            let missing = self.hold().missing();
            if missing > 0 {
                return missing;
            }
            self.stirred.notified().await;
        }
    }

    /// Waits until pulls ask for more than before. For one reader.
    pub(super) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Puts in what has come.
    pub(super) fn put(&self, came: impl IntoIterator<Item = (Delivery, T)>) {
        self.put_since(Instant::now(), came);
    }

    /// Puts in what has come, and is certainly ours since that time.
    pub(super) fn put_since(&self, renewed: Instant, came: impl IntoIterator<Item = (Delivery, T)>) {
        drop(self.replace(renewed, came));
    }

    /// The same; answers the tokens of what was ours already, which are over.
    pub(super) fn replace(&self, renewed: Instant, came: impl IntoIterator<Item = (Delivery, T)>) -> Vec<T> {
        let mut hold = self.hold();
        let replaced = came.into_iter().filter_map(|(delivery, token)| hold.take_in(delivery, token, renewed)).collect();
        drop(hold);
        self.came.notify_waiters();
        replaced
    }

    /// Whether a delivery is certainly ours: it was renewed less than `young` ago. One that is too old is let go.
    pub(super) fn holds(&self, position: Position, now: Instant, young: Duration) -> bool {
        let mut hold = self.hold();
        let holds = hold.holds(position, now, young);
        let lapsed = hold.has_lapsed();
        drop(hold);
        if lapsed {
            self.lapsing.notify_waiters();
        }
        holds
    }

    /// Tells pulls that wait about a problem: they end with it.
    pub(super) fn fail(&self, problem: QueueError) {
        self.hold().fail(problem);
        self.came.notify_waiters();
    }

    /// Lets go of what is held for which `gone` says so: what is out is told by [`Inbox::lapsed`], the rest is forgotten.
    pub(super) fn lapse(&self, gone: impl Fn(&hold::Held<T>) -> bool) {
        if self.hold().lapse(gone) {
            self.lapsing.notify_waiters();
        }
    }

    /// Waits until something that is out has lapsed: what. Cancel-safe.
    pub(super) async fn lapsed(&self) -> Vec<Position> {
        loop {
            let lapsing = self.lapsing.notified();
            let mut lapsing = std::pin::pin!(lapsing);
            lapsing.as_mut().enable();
            let lapsed = self.hold().take_lapsed();
            if !lapsed.is_empty() {
                return lapsed;
            }
            lapsing.await;
        }
    }
}
