//! What the tasks and threads of a queue share: the cluster, the topic, the subscriptions, and how they are made, found and removed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::client::ANSWER_MAX;
use super::cluster::Cluster;
use super::lock;
use super::making::{Made, find_or_begin, find_or_make};
use super::message::KEY;
use super::publish::Publisher;
use super::subscription::Subscription;
use super::url::TopicUrl;
use crate::queue::wrapping::Wrapping;
use crate::queue::{Opening, QueueError, Start, not_subscribed};

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) url: TopicUrl,
    pub(super) process: String,
    pub(super) wrapping: Wrapping,
    /// The attribute that the keys of records are taken from.
    pub(super) key: String,
    pub(super) cluster: Arc<Cluster>,
    pub(super) publisher: Publisher,
    subscriptions: Mutex<BTreeMap<String, Arc<Subscription>>>,
    /// Other groups of this topic whose commits Weir wrote.
    pub(super) orphans: Mutex<BTreeSet<String>>,
    /// When those were last looked for.
    pub(super) looked: Mutex<Option<Instant>>,
    /// One is made after the other: where one begins depends on whether others have ended something.
    making: tokio::sync::Mutex<()>,
    /// Its partitions; none: nobody has seen it yet.
    partitions: Mutex<Option<Vec<i32>>>,
    /// The largest message that it takes.
    pub(super) message_bytes: AtomicU64,
    pub(super) closed: CancellationToken,
    /// The queue was dropped, not closed.
    dropped: AtomicBool,
    /// Everything has been made once.
    made_once: AtomicBool,
    /// Why the cluster can't be used now.
    problem: Mutex<Option<String>>,
    /// Wakes who looks after the cluster.
    stirred: Notify,
}

impl Shared {
    pub(super) fn new(url: &TopicUrl, opening: &Opening) -> Result<Self, QueueError> {
        let cluster = Cluster::new(url, &opening.name, &opening.process, &format!("{}-{}", opening.group, opening.process))?;
        Ok(Self {
            name: opening.name.clone(),
            url: url.clone(),
            process: opening.process.clone(),
            wrapping: Wrapping::of(opening),
            key: opening.key.clone().unwrap_or_else(|| KEY.to_owned()),
            cluster: Arc::new(cluster),
            publisher: Publisher::default(),
            subscriptions: Mutex::default(),
            orphans: Mutex::default(),
            looked: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            partitions: Mutex::default(),
            message_bytes: AtomicU64::new(0),
            closed: CancellationToken::new(),
            dropped: AtomicBool::new(false),
            made_once: AtomicBool::new(false),
            problem: Mutex::new(Some(format!("`{url}`: not connected yet"))),
            stirred: Notify::new(),
        })
    }

    /// The age up to which a lease is certainly ours (delivery.md §3).
    fn young(&self) -> Duration {
        self.url.lease * 2 / 3
    }

    /// How many partitions the topic has, as far as we know.
    pub(super) fn partition_count(&self) -> usize {
        lock(&self.partitions).as_ref().map_or(1, Vec::len)
    }

    pub(super) fn connected_once(&self) -> bool {
        self.made_once.load(Ordering::Relaxed)
    }

    pub(super) fn problem(&self) -> Option<String> {
        lock(&self.problem).clone()
    }

    /// Whether the queue was dropped, not closed.
    pub(super) fn is_dropped(&self) -> bool {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Ends everything without asking anybody.
    pub(super) fn drop_all(&self) {
        self.dropped.fetch_or(!self.closed.is_cancelled(), Ordering::Relaxed);
        self.closed.cancel();
        self.subscriptions().iter().for_each(|subscription| subscription.end());
    }

    /// Something is wrong with the cluster: it is looked at.
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    pub(super) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    pub(super) fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        lock(&self.subscriptions).values().cloned().collect()
    }

    /// The subscription of this name; one that was made by an earlier process is found on the broker.
    pub(super) fn find_or_adopt(&self, name: &str) -> Arc<Subscription> {
        let mut subscriptions = lock(&self.subscriptions);
        if let Some(known) = subscriptions.get(name) {
            return Arc::clone(known);
        }
        let group = self.url.group.as_deref().unwrap_or(name);
        let made = Subscription::new(name, group, self.young(), self.closed.child_token());
        subscriptions.insert(name.to_owned(), Arc::clone(&made));
        made
    }

    /// Asks the cluster, away from tokio's own threads.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Cluster) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let cluster = Arc::clone(&self.cluster);
        let asked = tokio::task::spawn_blocking(move || question(&cluster)).await;
        asked.map_err(|error| QueueError::Unavailable(format!("asking the cluster was stopped: {error}")))?
    }

    /// The topic's partitions; it is made if it is not there, and may be. Waits for the cluster for so long.
    pub(super) async fn topic(&self, most: Duration) -> Result<Vec<i32>, QueueError> {
        if let Some(known) = lock(&self.partitions).clone() {
            return Ok(known);
        }
        let asked = self.ask(move |cluster| find_or_make(cluster, most)).await;
        let (partitions, bytes) = asked.map_err(|error| self.named(error))?;
        self.message_bytes.store(bytes, Ordering::Relaxed);
        *lock(&self.partitions) = Some(partitions.clone());
        Ok(partitions)
    }

    /// An error with the queue's URL.
    fn named(&self, error: QueueError) -> QueueError {
        match error {
            QueueError::Invalid(text) => QueueError::Invalid(format!("`{}`: {text}", self.url)),
            QueueError::Unavailable(text) => QueueError::Unavailable(format!("`{}`: {text}", self.url)),
            other => other,
        }
    }

    /// Looks whether the cluster can be used, and at its partitions.
    pub(super) async fn look(&self) -> Result<(), QueueError> {
        let topic = self.url.topic.clone();
        let looked = self.ask(move |cluster| cluster.partitions(&topic, ANSWER_MAX)).await;
        let looked = match looked {
            Ok(None) => {
                // It was removed, or was never there: it is looked for, or made, as at the start.
                *lock(&self.partitions) = None;
                self.topic(ANSWER_MAX).await.map(drop)
            }
            Ok(Some(partitions)) => {
                let mut known = lock(&self.partitions);
                if known.is_some() {
                    *known = Some(partitions);
                }
                Ok(())
            }
            Err(error) => Err(self.named(error)),
        };
        *lock(&self.problem) = looked.as_ref().err().map(ToString::to_string);
        looked
    }

    /// The topic and everything that was subscribed to is there, made if need be.
    pub(super) async fn ready(&self) -> Result<(), QueueError> {
        let to_be_made = |subscription: &Arc<Subscription>| subscription.is_to_be_made();
        let subscriptions: Vec<_> = self.subscriptions().into_iter().filter(to_be_made).collect();
        self.topic(ANSWER_MAX / 2).await?;
        for subscription in subscriptions {
            self.make(&subscription).await?;
        }
        *lock(&self.problem) = None;
        self.made_once.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Makes a subscription that is not there, if it was made by us.
    pub(super) async fn make(&self, subscription: &Subscription) -> Result<(), QueueError> {
        if subscription.made.load(Ordering::Relaxed) {
            return Ok(());
        }
        let partitions = self.topic(ANSWER_MAX / 2).await?;
        let _turn = self.making.lock().await;
        if subscription.made.load(Ordering::Relaxed) {
            return Ok(());
        }
        let (group, start) = (subscription.group.clone(), subscription.start.get().copied());
        let asked = self.ask(move |cluster| find_or_begin(cluster, &group, &partitions, start)).await;
        let Made { is_there, has_retries, others } = asked.map_err(|error| self.named(error))?;
        if !is_there {
            return Err(not_subscribed(&self.name, &subscription.name));
        }
        lock(&self.orphans).extend(others);
        subscription.has_retries.fetch_or(has_retries, Ordering::Relaxed);
        subscription.made.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn subscribe(&self, name: &str, start: Start) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if let Some(group) = &self.url.group
            && let Some(other) = self.subscriptions().iter().find(|other| other.name != name)
        {
            return Err(QueueError::Invalid(format!(
                "`group={group}` is for one handler only, and `{}` and `{name}` both read this queue (leave it out)",
                other.name
            )));
        }
        self.find_or_adopt(name).start.get_or_init(|| start);
        match self.ready().await {
            // It is made on the first connection.
            Ok(()) | Err(QueueError::Unavailable(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn unsubscribe(&self, name: &str) -> Result<(), QueueError> {
        let subscription = self.find_or_adopt(name);
        subscription.removed.store(true, Ordering::Relaxed);
        subscription.fail(not_subscribed(&self.name, name));
        subscription.end();
        lock(&self.subscriptions).remove(name);
        if subscription.reading.load(Ordering::Relaxed) {
            // A group that somebody is in can't be removed.
            let left = tokio::time::timeout(ANSWER_MAX, subscription.left.cancelled()).await;
            left.map_err(|_| QueueError::Unavailable(format!("consumer group `{}` was not left in time", subscription.group)))?;
        }
        let (group, retries) = (subscription.group.clone(), self.url.retry_topic(&subscription.group));
        let removed = self.ask(move |cluster| {
            cluster.forget(&group, &[&cluster.url.topic, &retries])?;
            match cluster.partitions(&retries, ANSWER_MAX)? {
                Some(_) => cluster.remove(&retries),
                None => Ok(()),
            }
        });
        removed.await.map_err(|error| self.named(error))?;
        lock(&self.orphans).remove(&subscription.group);
        Ok(())
    }
}
