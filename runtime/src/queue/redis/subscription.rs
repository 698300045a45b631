//! One subscription of a stream: what its pulls, its reader and the heartbeat share; pulling from what was read, and settling.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Instant;

use ::redis::{Pipeline, cmd};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::answer::{Entry, id, millis, pack, positions};
use super::hold::{Checked, Hold, Plan};
use super::keys::GroupKeys;
use super::scripts::{self, Asker};
use super::shared::is_without_group;
use super::{Shared, entry, lock};
use crate::clock::Timestamp;
use crate::queue::{Delivery, Position, QueueError, Settle, Settlement, Start, Tries};

/// Settlements of one call of the script, which holds up the server while it runs: about a millisecond.
const SETTLE_MAX: usize = 500;

/// One subscription.
pub(super) struct Subscription {
    pub(super) name: String,
    /// The consumer group: the same name, unless the URL names another.
    pub(super) group: String,
    /// Where it begins; not set: it was found on the server, and is not made again.
    pub(super) start: OnceLock<Start>,
    pub(super) keys: GroupKeys,
    /// One process reads at a time.
    pub(super) ordered: bool,
    /// Whether its group was made, or was there.
    pub(super) made: AtomicBool,
    /// Whether its reader runs.
    pub(super) reading: AtomicBool,
    /// Something came back in this process: the reader looks at once.
    pub(super) came_back: AtomicBool,
    // std's mutex: held for a look or a change, never across an await; pulls, settlements, the reader and the heartbeat share it.
    hold: Mutex<Hold>,
    /// Ends its reader: the queue is closed, or the subscription removed.
    pub(super) ended: CancellationToken,
    /// Where tidying has got to.
    pub(super) swept: Mutex<String>,
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
    pub(super) fn new(name: &str, group: &str, keys: GroupKeys, ordered: bool, ended: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            group: group.to_owned(),
            start: OnceLock::new(),
            keys,
            ended,
            swept: Mutex::default(),
            ordered,
            made: AtomicBool::new(false),
            reading: AtomicBool::new(false),
            came_back: AtomicBool::new(true),
            hold: Mutex::new(Hold::new(ordered)),
            stirred: Notify::new(),
            came: Notify::new(),
            lapsing: Notify::new(),
        })
    }

    pub(super) fn hold(&self) -> MutexGuard<'_, Hold> {
        lock(&self.hold)
    }

    /// Who asks, for scripts.
    pub(super) fn asker<'a>(&'a self, shared: &'a Shared) -> Asker<'a> {
        let (stream, consumer) = (shared.keys.stream.as_str(), shared.consumer.as_str());
        Asker { stream, keys: &self.keys, group: &self.group, consumer, fenced: self.ordered }
    }

    /// Waits for events. Whatever is read for a pull that is dropped meanwhile is kept for the next.
    pub(super) async fn pull(&self, shared: &Shared, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        let seen = self.hold().failures();
        let mut waiting = None;
        loop {
            let came = self.came.notified();
            let mut came = std::pin::pin!(came);
            // Before looking, so that what comes between looking and waiting wakes as well.
            came.as_mut().enable();
            if shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
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
            waiting.get_or_insert_with(|| Waiting::new(self, max.get()));
            came.await;
        }
    }

    /// Takes in entries that were leased at that time; how many are new to us.
    pub(super) fn take_in(&self, shared: &Shared, mut entries: Vec<Entry>, leased: Instant) -> usize {
        entries.sort_by_key(|entry| entry.position);
        let mut came = Vec::with_capacity(entries.len());
        let largest = entries.iter().map(Entry::size).max();
        for Entry { position, fields, tries, kept } in entries {
            let event = Arc::new(entry::event(position, fields, &shared.wrapping));
            let first_seen = Timestamp(millis(position));
            came.push((Delivery { event, position, tries, first_seen }, kept));
        }
        let mut hold = self.hold();
        if let Some(largest) = largest {
            hold.weigh(largest);
        }
        let mut count = 0;
        for (delivery, kept) in came {
            // After a restart that lost the server's last second, it may give out what we still run.
            if !hold.holds(delivery.position, leased) {
                hold.take_in(delivery, kept, leased);
                count += 1;
            }
        }
        drop(hold);
        self.came.notify_waiters();
        count
    }

    /// Settles; answers what came too late.
    pub(super) async fn settle(&self, shared: &Shared, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        let plan = self.hold().begin_settle(batch, Instant::now(), shared.young());
        let (acked, checked) = tokio::join!(self.ack(shared, &plan), self.check(shared, &plan.checked));
        let mut hold = self.hold();
        let acks_only = acked.is_ok() && checked.is_err();
        match acked.and(checked) {
            Ok(mut late) => {
                hold.settled(&plan, false);
                drop(hold);
                if !plan.checked.is_empty() {
                    self.came_back.store(true, Ordering::Relaxed);
                    self.stirred.notify_one();
                }
                late.extend(plan.late);
                Ok(late)
            }
            Err(error) => {
                if acks_only {
                    hold.settled(&plan, true);
                }
                hold.unsettled(&plan);
                Err(error)
            }
        }
    }

    async fn ack(&self, shared: &Shared, plan: &Plan) -> Result<(), QueueError> {
        if plan.acks.is_empty() {
            return Ok(());
        }
        let mut commands = Pipeline::with_capacity(3);
        let ack = commands.cmd("XACK").arg(&shared.keys.stream).arg(&self.group);
        for position in &plan.acks {
            ack.arg(id(*position));
        }
        ack.ignore();
        if !plan.kept.is_empty() {
            let ids: Vec<String> = plan.kept.iter().map(|position| id(*position)).collect();
            commands.cmd("HDEL").arg(&self.keys.tries).arg(ids).ignore();
        }
        let is_first = shared.nothing_ended.load(Ordering::Relaxed);
        if is_first {
            commands.cmd("DEL").arg(&shared.keys.first).ignore();
        }
        let single = !is_first && plan.kept.is_empty();
        let answer = match commands.cmd_iter().next() {
            Some(ack) if single => shared.redis.query::<()>(ack).await,
            _ => shared.redis.pipeline::<()>(&commands).await,
        };
        if answer.is_ok() {
            shared.nothing_ended.store(false, Ordering::Relaxed);
            shared.to_trim.store(true, Ordering::Relaxed);
        }
        shared.explained(answer).await
    }

    /// Settles what has to be looked at first; answers what is no longer ours.
    pub(super) async fn check(&self, shared: &Shared, checked: &[Checked]) -> Result<Vec<Position>, QueueError> {
        let mut late = Vec::new();
        let asker = Asker { fenced: false, ..self.asker(shared) };
        for some in checked.chunks(SETTLE_MAX) {
            let mut call = asker.call(&scripts::SETTLE);
            for Checked { position, settle, tries } in some {
                let (what, due) = match settle {
                    Settle::Ack => ("ack", 0),
                    Settle::Retry { due, .. } => ("wait", due.0),
                    Settle::Return => ("wait", 0),
                };
                let packed = match tries {
                    None => "=".to_owned(),
                    Some(tries) if *tries == Tries::default() => String::new(),
                    Some(tries) => pack(*tries),
                };
                call.arg(what).arg(id(*position)).arg(due).arg(packed);
            }
            let answer: Result<Vec<Vec<u8>>, _> = shared.redis.script(&call).await;
            match answer {
                // Nothing is anybody's any more.
                Err(problem) if is_without_group(&problem) => late.extend(some.iter().map(|checked| checked.position)),
                answer => late.extend(positions(&shared.explained(answer).await?)),
            }
        }
        if checked.iter().any(|checked| checked.settle == Settle::Ack) {
            // An event has ended this way too.
            if shared.nothing_ended.swap(false, Ordering::Relaxed) {
                let forgotten = shared.redis.query::<()>(cmd("DEL").arg(&shared.keys.first)).await;
                shared.explained(forgotten).await?;
            }
            shared.to_trim.store(true, Ordering::Relaxed);
        }
        Ok(late)
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
