//! One subscription of a stream, a durable pull consumer: pulling from what has come, and settling.

use std::num::NonZeroUsize;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use async_nats::jetstream::consumer::PullConsumer;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::hold::{Hold, Planned};
use super::shared::Shared;
use super::{lock, tries};
use crate::clock;
use crate::queue::{Delivery, Position, QueueError, Settle, Settlement, Start};

/// Answers to settlements that are waited for at once.
const SETTLING_MAX: usize = 256;

/// One subscription.
pub(super) struct Subscription {
    pub(super) name: String,
    /// The durable consumer: the same name, unless the URL names another.
    pub(super) consumer: String,
    /// Where it begins; not set: it was found on the server, and is not made again.
    pub(super) start: OnceLock<Start>,
    /// As it is on the server; none: to be looked for.
    pub(super) made: Mutex<Option<PullConsumer>>,
    /// Whether its reader runs.
    pub(super) reading: AtomicBool,
    // std's mutex: held for a look or a change, never across an await; pulls, settlements, the reader and the heartbeat share it.
    hold: Mutex<Hold>,
    /// Ends its reader: the queue is closed, or the subscription removed.
    pub(super) ended: CancellationToken,
    /// Wakes the reader.
    pub(super) stirred: Notify,
    /// Wakes pulls.
    pub(super) came: Notify,
    /// Wakes who waits for lapsed leases.
    pub(super) lapsing: Notify,
}

/// A pull that waits: what it asks for is read for as long as it does.
struct Waiting<'a> {
    subscription: &'a Subscription,
    count: usize,
}

impl<'a> Waiting<'a> {
    fn new(subscription: &'a Subscription, count: usize) -> Self {
        subscription.hold().want(count);
        subscription.stirred.notify_one();
        Self { subscription, count }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.subscription.hold().want_no_more(self.count);
    }
}

impl Subscription {
    pub(super) fn new(name: &str, consumer: &str, ended: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            consumer: consumer.to_owned(),
            start: OnceLock::new(),
            made: Mutex::default(),
            reading: AtomicBool::new(false),
            hold: Mutex::default(),
            ended,
            stirred: Notify::new(),
            came: Notify::new(),
            lapsing: Notify::new(),
        })
    }

    pub(super) fn hold(&self) -> MutexGuard<'_, Hold> {
        lock(&self.hold)
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
            waiting.get_or_insert_with(|| Waiting::new(self, max.get()));
            came.await;
        }
    }

    /// Settles, each confirmed by the server; answers what came too late.
    pub(super) async fn settle(&self, shared: &Shared, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        shared.server.check()?;
        let (planned, late) = self.hold().plan(batch, Instant::now(), shared.young());
        let sent = stream::iter(planned).map(|planned| self.settle_one(shared, planned)).buffer_unordered(SETTLING_MAX);
        let failed = sent.filter_map(|sent| std::future::ready(sent.err()));
        match failed.collect::<Vec<_>>().await.pop() {
            Some(error) => Err(error),
            None => Ok(late),
        }
    }

    async fn settle_one(&self, shared: &Shared, planned: Planned) -> Result<(), QueueError> {
        let Planned { settlement: Settlement { position, settle }, lease } = planned;
        let answer = match settle {
            Settle::Ack => Bytes::from_static(b"+ACK"),
            Settle::Return => Bytes::from_static(b"-NAK"),
            Settle::Retry { due, .. } => match due.since(clock::now()).as_nanos() {
                0 => Bytes::from_static(b"-NAK"),
                nanos => Bytes::from(format!("-NAK {{\"delay\": {nanos}}}")),
            },
        };
        let tries = match settle {
            Settle::Ack => None,
            Settle::Retry { tries, .. } => Some(tries),
            Settle::Return => Some(tries::behind(lease.delivered, lease.noted)),
        };
        if let Some(note) = tries.and_then(|tries| tries::to_note(lease.delivered, tries, lease.noted)) {
            shared.notes.write(&self.consumer, position, note).await;
        }
        let confirmed = shared.server.client.request(lease.reply, answer).await;
        confirmed.map_err(|error| QueueError::Unavailable(format!("a settlement was not confirmed: {error}")))?;
        self.hold().settled(position);
        if settle == Settle::Ack && lease.noted.is_some() {
            shared.notes.remove(&self.consumer, position).await;
        }
        Ok(())
    }

    /// Waits until leases lapse.
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

    /// A problem of the reader, for the pulls that wait.
    pub(super) fn fail(&self, problem: QueueError) {
        self.hold().fail(problem);
        self.came.notify_waiters();
    }
}
