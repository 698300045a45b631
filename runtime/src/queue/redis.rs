//! `redis://…?stream=k`: a Redis stream, read through a consumer group per subscription (delivery.md §13).
//!
//! Everything that is not ended stays pending in its group, whoever holds it; what waits for another try stands in a sorted set beside
//! it, under a consumer that nobody reads as. A lease is the idle time of a pending entry: it is renewed by a heartbeat, and what others
//! let lapse is taken. Whatever has to happen at once is a script (`redis/scripts/*.lua`).
//!
//! Considered and left out: `XAUTOCLAIM`, which would also take what waits for its time, entry by entry; looking at each other
//! consumer's idle entries costs what is held, not what waits. Reading ahead: others may have room for it.
//!
//! The connection is not made anew here but in [`crate::redis`]; events that are published while the server is away are refused.

mod answer;
mod depth;
mod entry;
pub mod floor;
mod hold;
pub(crate) mod keys;
mod lease;
mod publish;
mod reader;
mod scripts;
mod subscription;
mod tail;
#[cfg(test)]
mod tests;
mod upkeep;
pub mod url;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::redis::cmd;
use tokio::sync::{Notify, OnceCell};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::entry::Wrapping;
use self::keys::Keys;
use self::reader::Reader;
use self::scripts::Asker;
use self::subscription::Subscription;
use self::url::StreamUrl;
use super::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start, Tries,
    not_subscribed,
};
use crate::dead::redis::RedisDead;
use crate::dead::{DeadBounds, DeadLetters};
use crate::redis::{Redis, RedisProblem};
use crate::source::raw;

/// How long closing may take: what is not given back by then lapses.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// A stream as a queue.
pub struct RedisQueue {
    shared: Arc<Shared>,
    /// Readers, one a subscription: they end by themselves when the queue is closed, and with it when it is dropped.
    readers: Mutex<JoinSet<()>>,
    /// Heartbeat and upkeep.
    tasks: Mutex<JoinSet<()>>,
    ended: OnceCell<()>,
}

/// What the tasks of a queue share.
struct Shared {
    name: String,
    wrapping: Wrapping,
    redis: Arc<Redis>,
    keys: Keys,
    dead: DeadBounds,
    /// Our name in every group: `[server] name` and a number of this opening, so that what an earlier one held is not taken for ours.
    consumer: String,
    lease: Duration,
    maxlen: Option<u64>,
    group: Option<String>,
    subscriptions: Mutex<BTreeMap<String, Arc<Subscription>>>,
    ordered: Mutex<BTreeSet<String>>,
    closed: CancellationToken,
    /// The connection over which all subscriptions were made last; 0: none.
    made_over: AtomicU64,
    making: tokio::sync::Mutex<()>,
    connected_once: AtomicBool,
    /// What the last round of the upkeep failed with.
    trouble: Mutex<Option<String>>,
    /// Nothing has ended since this queue was opened here.
    nothing_ended: AtomicBool,
    to_trim: AtomicBool,
    /// Wakes the upkeep: something was published with a delay.
    delayed: Notify,
    /// Wakes the heartbeat: there are notes to write.
    noted: Notify,
}

impl RedisQueue {
    /// Opens a stream. The server may be away; then everything is made on the first connection.
    ///
    /// # Errors
    /// When the server refuses us, is too old, or has a key of another type in the stream's place.
    pub async fn open(url: &StreamUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let redis = Arc::new(Redis::new(&url.server)?);
        let wrapping = Wrapping { source: raw::source_of(&opening.name), kind: opening.kind.clone() };
        let shared = Arc::new(Shared {
            name: opening.name.clone(),
            wrapping,
            redis,
            keys: Keys::of(&url.stream),
            dead: opening.dead,
            consumer: format!("{}.{:08x}", opening.process, fastrand::u32(..)),
            lease: url.lease,
            maxlen: url.maxlen,
            group: url.group.clone(),
            subscriptions: Mutex::default(),
            ordered: Mutex::default(),
            closed: CancellationToken::new(),
            made_over: AtomicU64::new(0),
            making: tokio::sync::Mutex::default(),
            connected_once: AtomicBool::new(false),
            trouble: Mutex::default(),
            nothing_ended: AtomicBool::new(true),
            to_trim: AtomicBool::new(true),
            delayed: Notify::new(),
            noted: Notify::new(),
        });
        match shared.check_stream().await {
            Ok(()) | Err(QueueError::Unavailable(_)) => {}
            Err(refused) => return Err(refused),
        }
        let mut tasks = JoinSet::new();
        tasks.spawn(lease::beat(Arc::clone(&shared)));
        tasks.spawn(upkeep::work(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared, readers: Mutex::default(), tasks: Mutex::new(tasks), ended: OnceCell::new() }))
    }

    async fn pull_now(&self, name: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let subscription = self.shared.find_or_adopt(name);
        if !subscription.reading.swap(true, Ordering::Relaxed) {
            let reader = Reader::new(Arc::clone(&self.shared), Arc::clone(&subscription));
            lock(&self.readers).spawn(reader.run());
        }
        subscription.pull(&self.shared, max).await
    }

    /// Ends readers, gives back what they hold, and leaves the groups.
    async fn end(&self) {
        self.shared.closed.cancel();
        let subscriptions = self.shared.subscriptions();
        for subscription in &subscriptions {
            subscription.came.notify_waiters();
        }
        let leaving = async {
            let mut readers = std::mem::take(&mut *lock(&self.readers));
            while readers.join_next().await.is_some() {}
            for subscription in &subscriptions {
                self.shared.leave(subscription).await?;
            }
            Ok::<(), QueueError>(())
        };
        match tokio::time::timeout(CLOSE_MAX, leaving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(queue = %self.shared.name, %error, "what is held could not be given back, it lapses")
            }
            Err(_) => tracing::warn!(queue = %self.shared.name, "what is held was not given back in time, it lapses"),
        }
        lock(&self.tasks).abort_all();
    }
}

impl Shared {
    /// The age up to which a lease is certainly ours (delivery.md §3).
    fn young(&self) -> Duration {
        self.lease * 2 / 3
    }

    /// How long something may block, so that what it brings is leased for long enough.
    fn block(&self, most: Duration) -> Duration {
        most.min(self.lease / 4)
    }

    fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        lock(&self.subscriptions).values().cloned().collect()
    }

    /// The subscription of this name; one that was made by an earlier process is found on the server.
    fn find_or_adopt(&self, name: &str) -> Arc<Subscription> {
        let mut subscriptions = lock(&self.subscriptions);
        let known = subscriptions.entry(name.to_owned()).or_insert_with(|| self.subscription(name));
        Arc::clone(known)
    }

    fn subscription(&self, name: &str) -> Arc<Subscription> {
        let group = self.group.as_deref().unwrap_or(name);
        let ordered = lock(&self.ordered).contains(name);
        Subscription::new(name, group, self.keys.group(group), ordered, self.closed.child_token())
    }

    /// A group's name becomes that of the subscription that took it over.
    fn rename(&self, group: &mut String) {
        if self.group.as_ref() == Some(group)
            && let Some(subscription) = self.subscriptions().first()
        {
            subscription.name.clone_into(group);
        }
    }

    async fn check_stream(&self) -> Result<(), QueueError> {
        let found: Result<String, RedisProblem> = self.redis.query(cmd("TYPE").arg(&self.keys.stream)).await;
        match found?.as_str() {
            "none" | "stream" => Ok(()),
            _ => Err(self.redis.explain_type(&[(&self.keys.stream, "stream")]).await.into()),
        }
    }

    /// Connected, with all subscriptions made over this connection.
    async fn ensure(&self) -> Result<(), QueueError> {
        let connection = self.redis.connect().await?;
        if self.made_over.load(Ordering::Acquire) == connection {
            return Ok(());
        }
        let _turn = self.making.lock().await;
        if self.made_over.load(Ordering::Acquire) == connection {
            return Ok(());
        }
        for subscription in self.subscriptions() {
            self.make(&subscription).await?;
            // Whatever we hold is looked at again.
            subscription.came_back.store(true, Ordering::Relaxed);
        }
        self.made_over.store(connection, Ordering::Release);
        self.connected_once.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn make(&self, subscription: &Subscription) -> Result<(), QueueError> {
        let Some(start) = subscription.start.get() else { return Ok(()) };
        let mut call = scripts::SUBSCRIBE.prepare_invoke();
        call.key(&self.keys.stream).key(&self.keys.first).arg(&subscription.group);
        call.arg(if *start == Start::All { "all" } else { "new" }).arg(u8::from(self.maxlen.is_some()));
        let _: String = self.explained(self.redis.script(&call).await).await?;
        Ok(())
    }

    async fn subscribe(&self, name: &str, start: Start) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if let Some(group) = &self.group
            && let Some(other) = self.subscriptions().iter().find(|other| other.name != name)
        {
            return Err(QueueError::Invalid(format!(
                "`group={group}` is for one handler only, and `{}` and `{name}` both read this queue (leave it out)",
                other.name
            )));
        }
        let subscription = self.find_or_adopt(name);
        subscription.start.get_or_init(|| start);
        let made = match self.ensure().await {
            Ok(()) => self.make(&subscription).await,
            Err(error) => Err(error),
        };
        match made {
            // It is made on the first connection.
            Err(QueueError::Unavailable(_)) => {
                self.made_over.store(0, Ordering::Release);
                Ok(())
            }
            other => other,
        }
    }

    async fn unsubscribe(&self, name: &str) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let subscription = self.find_or_adopt(name);
        let mut call = scripts::UNSUBSCRIBE.prepare_invoke();
        let keys = &subscription.keys;
        call.key(&self.keys.stream).key(&keys.retry).key(&keys.tries).key(&keys.reader);
        call.arg(&subscription.group).arg(u8::from(self.maxlen.is_some()));
        let removed: Result<u64, RedisProblem> = self.redis.script(&call).await;
        self.explained(removed).await?;
        lock(&self.subscriptions).remove(name);
        subscription.ended.cancel();
        subscription.fail(not_subscribed(&self.name, name));
        Ok(())
    }

    /// Gives back what is held of a subscription, and takes our consumer away.
    async fn leave(&self, subscription: &Subscription) -> Result<(), QueueError> {
        let all = subscription.hold().everything();
        subscription.settle(self, &all).await?;
        let asker = Asker { fenced: true, ..subscription.asker(self) };
        let left: Result<(), RedisProblem> = self.redis.script(&asker.call(&scripts::LEAVE)).await;
        match left {
            // It was never made, or is gone.
            Err(problem) if problem.is("NOGROUP") => Ok(()),
            other => self.explained(other).await,
        }
    }

    /// Another process reads this group now.
    fn lost_lead(&self, subscription: &Subscription) {
        let lapsed = subscription.hold().lapse_all();
        if lapsed {
            subscription.lapsing.notify_waiters();
        }
        subscription.stirred.notify_one();
    }

    /// A problem as one of the queue; a key of another type is named.
    async fn explained<T>(&self, answer: Result<T, RedisProblem>) -> Result<T, QueueError> {
        match answer {
            Err(problem) if problem.is("WRONGTYPE") => {
                let groups: Vec<_> = self.subscriptions();
                let mut keys = vec![(self.keys.stream.as_str(), "stream"), (&self.keys.delayed, "zset")];
                for subscription in &groups {
                    let of = &subscription.keys;
                    keys.extend([(of.retry.as_str(), "zset"), (&of.tries, "hash"), (&of.reader, "string")]);
                }
                Err(self.redis.explain_type(&keys).await.into())
            }
            other => Ok(other?),
        }
    }
}

impl Queue for RedisQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move { self.shared.publish(&batch).await })
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_now(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            self.shared.find_or_adopt(subscription).settle(&self.shared, &batch).await
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(self.shared.depth())
    }

    fn features(&self) -> Features {
        // Durable as far as the server is: with `appendfsync always`, or replicas, over its end too.
        Features {
            at_least_once: true,
            durable: true,
            groups: true,
            ordered: true,
            delay: true,
            counts_tries: true,
            stable_position: true,
            depth: true,
            bounded: false,
            shared: true,
            hold: None,
        }
    }

    fn keep_order(&self, subscription: &str) -> Result<(), QueueError> {
        lock(&self.shared.ordered).insert(subscription.to_owned());
        // One that was only looked at is made anew with its order.
        lock(&self.shared.subscriptions).retain(|name, known| name != subscription || known.reading.load(Ordering::Relaxed));
        Ok(())
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        if self.shared.find_or_adopt(subscription).hold().note(position, tries) {
            self.shared.noted.notify_one();
        }
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(async move { self.shared.find_or_adopt(subscription).lapsed().await })
    }

    fn health(&self) -> Health {
        let connected_once = self.shared.connected_once.load(Ordering::Relaxed);
        let away = self.shared.redis.problem().map(|problem| problem.to_string());
        Health { connected_once, error: away.or_else(|| lock(&self.shared.trouble).clone()) }
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.subscribe(subscription, start))
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.unsubscribe(subscription))
    }

    fn dead_letters(&self) -> Option<Arc<dyn DeadLetters>> {
        let Shared { redis, keys, dead, .. } = &*self.shared;
        Some(Arc::new(RedisDead::new(Arc::clone(redis), &keys.dead, *dead)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.ended.get_or_init(|| self.end()).await;
        })
    }
}

impl From<RedisProblem> for QueueError {
    fn from(problem: RedisProblem) -> Self {
        match problem {
            RedisProblem::Refused(text) => Self::Invalid(text),
            RedisProblem::Away(text) | RedisProblem::Answered { text, .. } => Self::Unavailable(text),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
