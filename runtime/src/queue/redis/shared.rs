//! What the tasks of a queue share: the connection, the subscriptions, and how they are made, found and left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::redis::cmd;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::answer;
use super::keys::Keys;
use super::lock;
use super::scripts::{self, Asker};
use super::subscription::Subscription;
use super::url::StreamUrl;
use crate::dead::DeadBounds;
use crate::queue::wrapping::Wrapping;
use crate::queue::{Opening, Position, QueueError, Start, not_subscribed};
use crate::redis::{Redis, RedisProblem};

/// Entries that one call of a script takes away, which holds up the server while it runs: some milliseconds.
const EMPTY_MAX: usize = 10_000;

/// Such calls: a hundred million entries. What is left goes with the next group that is removed.
const EMPTY_CALLS: usize = 10_000;

/// What the tasks of a queue share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) wrapping: Wrapping,
    pub(super) redis: Arc<Redis>,
    pub(super) keys: Keys,
    pub(super) dead: DeadBounds,
    /// Our name in every group: `[server] name` and a number of this opening, so that what an earlier one held is not taken for ours.
    pub(super) consumer: String,
    pub(super) lease: Duration,
    pub(super) maxlen: Option<u64>,
    pub(super) group: Option<String>,
    pub(super) subscriptions: Mutex<BTreeMap<String, Arc<Subscription>>>,
    pub(super) ordered: Mutex<BTreeSet<String>>,
    pub(super) closed: CancellationToken,
    /// The connection over which all subscriptions were made last; 0: none.
    pub(super) made_over: AtomicU64,
    pub(super) making: tokio::sync::Mutex<()>,
    pub(super) connected_once: AtomicBool,
    /// What the last round of the upkeep failed with.
    pub(super) trouble: Mutex<Option<String>>,
    /// Nothing has ended since this queue was opened here.
    pub(super) nothing_ended: AtomicBool,
    pub(super) to_trim: AtomicBool,
    /// Wakes the upkeep: something was published with a delay.
    pub(super) delayed: Notify,
    /// Wakes the heartbeat: there are notes to write.
    pub(super) noted: Notify,
}

impl Shared {
    /// A stream that is not asked for anything yet.
    ///
    /// # Errors
    /// Certificates that can't be read.
    pub(super) fn new(url: &StreamUrl, opening: &Opening) -> Result<Self, QueueError> {
        let redis = Arc::new(Redis::new(&url.server)?);
        let wrapping = Wrapping::of(opening);
        Ok(Self {
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
        })
    }

    /// The age up to which a lease is certainly ours (delivery.md §3).
    pub(super) fn young(&self) -> Duration {
        self.lease * 2 / 3
    }

    /// How long something may block, so that what it brings is leased for long enough.
    pub(super) fn block(&self, most: Duration) -> Duration {
        most.min(self.lease / 4)
    }

    pub(super) fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        lock(&self.subscriptions).values().cloned().collect()
    }

    /// The subscription of this name; one that was made by an earlier process is found on the server.
    pub(super) fn find_or_adopt(&self, name: &str) -> Arc<Subscription> {
        let mut subscriptions = lock(&self.subscriptions);
        // Asked for each event: the name is copied only once.
        if let Some(known) = subscriptions.get(name) {
            return Arc::clone(known);
        }
        let made = self.subscription(name);
        subscriptions.insert(name.to_owned(), Arc::clone(&made));
        made
    }

    pub(super) fn subscription(&self, name: &str) -> Arc<Subscription> {
        let group = self.group.as_deref().unwrap_or(name);
        let ordered = lock(&self.ordered).contains(name);
        Subscription::new(name, group, self.keys.group(group), ordered, self.closed.child_token())
    }

    /// A group's name becomes that of the subscription that took it over.
    pub(super) fn rename(&self, group: &mut String) {
        if self.group.as_ref() == Some(group)
            && let Some(subscription) = self.subscriptions().first()
        {
            subscription.name.clone_into(group);
        }
    }

    pub(super) async fn check_stream(&self) -> Result<(), QueueError> {
        let found: Result<String, RedisProblem> = self.redis.query(cmd("TYPE").arg(&self.keys.stream)).await;
        match found?.as_str() {
            "none" | "stream" => Ok(()),
            _ => Err(self.redis.explain_type(&[(&self.keys.stream, "stream")]).await.into()),
        }
    }

    /// Connected, with all subscriptions made over this connection.
    pub(super) async fn ensure(&self) -> Result<(), QueueError> {
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

    pub(super) async fn make(&self, subscription: &Subscription) -> Result<(), QueueError> {
        let Some(start) = subscription.start.get() else { return Ok(()) };
        let mut call = scripts::SUBSCRIBE.prepare_invoke();
        call.key(&self.keys.stream).key(&self.keys.first).arg(&subscription.group);
        call.arg(if *start == Start::All { "all" } else { "new" }).arg(u8::from(self.maxlen.is_some()));
        let answer: String = self.explained(self.redis.script(&call).await).await?;
        let is_made = answer == "made";
        if is_made {
            // Of a stream that begins anew: what stands for that is taken away with the next end.
            self.nothing_ended.store(true, Ordering::Relaxed);
        }
        if subscription.made.swap(true, Ordering::Relaxed) && is_made {
            let (queue, group) = (&self.name, &subscription.group);
            tracing::warn!(%queue, %group, "group was gone and is made again: somebody removed it, or the server lost it");
        }
        Ok(())
    }

    /// A subscription whose group is gone is made again before anything else is asked of it, unless it was only found here.
    pub(super) fn group_is_gone(&self, subscription: &Subscription) {
        if subscription.start.get().is_some() {
            self.made_over.store(0, Ordering::Release);
        }
    }

    pub(super) async fn subscribe(&self, name: &str, start: Start) -> Result<(), QueueError> {
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

    pub(super) async fn unsubscribe(&self, name: &str) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let subscription = self.find_or_adopt(name);
        let mut call = scripts::UNSUBSCRIBE.prepare_invoke();
        let keys = &subscription.keys;
        call.key(&self.keys.stream).key(&keys.retry).key(&keys.tries).key(&keys.reader);
        call.arg(&subscription.group).arg(u8::from(self.maxlen.is_some()));
        let last: Result<String, RedisProblem> = self.redis.script(&call).await;
        let last = self.explained(last).await?;
        self.to_trim.store(true, Ordering::Relaxed);
        if let Some(last) = answer::position(last.as_bytes()) {
            self.empty(last).await?;
        }
        lock(&self.subscriptions).remove(name);
        subscription.ended.cancel();
        subscription.fail(not_subscribed(&self.name, name));
        Ok(())
    }

    /// Takes away what nobody waits for any more, up to this entry.
    async fn empty(&self, last: Position) -> Result<(), QueueError> {
        let after = answer::id(Position(last.0.saturating_add(1)));
        for _ in 0..EMPTY_CALLS {
            let mut call = scripts::EMPTY.prepare_invoke();
            call.key(&self.keys.stream).arg(&after).arg(EMPTY_MAX);
            let removed: u64 = self.explained(self.redis.script(&call).await).await?;
            if removed == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Gives back what is held of a subscription, and takes our consumer away.
    pub(super) async fn leave(&self, subscription: &Subscription) -> Result<(), QueueError> {
        let all = subscription.hold().everything();
        subscription.settle(self, &all).await?;
        let asker = Asker { fenced: true, ..subscription.asker(self) };
        let left: Result<(), RedisProblem> = self.redis.script(&asker.call(&scripts::LEAVE)).await;
        match left {
            // It was never made, or is gone.
            Err(problem) if is_without_group(&problem) => Ok(()),
            other => self.explained(other).await,
        }
    }

    /// Another process reads this group now.
    pub(super) fn lost_lead(&self, subscription: &Subscription) {
        let lapsed = subscription.hold().lapse_all();
        if lapsed {
            subscription.lapsing.notify_waiters();
        }
        subscription.stirred.notify_one();
    }

    /// A problem as one of the queue; a key of another type is named.
    pub(super) async fn explained<T>(&self, answer: Result<T, RedisProblem>) -> Result<T, QueueError> {
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

/// Whether the group, or its stream, is not there. Before Redis 7 a script's errors have the code of scripts.
pub(super) fn is_without_group(problem: &RedisProblem) -> bool {
    let text = problem.to_string();
    problem.is("NOGROUP") || text.contains("NOGROUP") || text.contains("no such key")
}
