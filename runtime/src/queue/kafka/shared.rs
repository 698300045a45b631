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
use super::publish::Publisher;
use super::subscription::Subscription;
use super::url::TopicUrl;
use super::waker::Waker;
use super::window::Window;
use crate::queue::wrapping::Wrapping;
use crate::queue::{Opening, QueueError, Start, not_subscribed};

/// Consumer groups that are looked at, for where a new one begins and for orphans.
const GROUPS_MAX: usize = 1_000;

/// Longest wait for a topic that was just made to be there.
const MADE_MAX: Duration = Duration::from_secs(5);

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) url: TopicUrl,
    pub(super) process: String,
    pub(super) wrapping: Wrapping,
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
        let cluster = Cluster::new(url, &opening.name, &opening.process, Arc::<Waker>::default())?;
        Ok(Self {
            name: opening.name.clone(),
            url: url.clone(),
            process: opening.process.clone(),
            wrapping: Wrapping::of(opening),
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
    pub(super) fn young(&self) -> Duration {
        self.url.lease * 2 / 3
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
        let made = Subscription::new(name, group, self.closed.child_token());
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
            cluster.forget(&group)?;
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

/// Its partitions, and the largest message that it takes.
fn find_or_make(cluster: &Cluster, most: Duration) -> Result<(Vec<i32>, u64), QueueError> {
    let topic = cluster.url.topic.as_str();
    let found = match (cluster.partitions(topic, most)?, cluster.url.partitions) {
        (Some(found), _) => found,
        (None, None) => {
            return Err(QueueError::Invalid(format!(
                "topic `{topic}` is not there [make it, or let Weir do so with `partitions=N` in the URL]"
            )));
        }
        (None, Some(partitions)) => {
            cluster.make(topic, partitions as usize, &[])?;
            wait_for(cluster, topic)?
        }
    };
    Ok((found, cluster.message_bytes(topic)))
}

/// The partitions of a topic that was just made: not every broker knows it at once.
pub(super) fn wait_for(cluster: &Cluster, topic: &str) -> Result<Vec<i32>, QueueError> {
    let begun = Instant::now();
    loop {
        match cluster.partitions(topic, MADE_MAX)? {
            Some(found) => return Ok(found),
            None if begun.elapsed() > MADE_MAX => {
                return Err(QueueError::Unavailable(format!("topic `{topic}` was made and is not there yet")));
            }
            // Nobody tells when it is there.
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

struct Made {
    is_there: bool,
    has_retries: bool,
    /// Other groups that are Weir's.
    others: BTreeSet<String>,
}

/// Finds a group's commits, or makes them: they are what makes it exist.
fn find_or_begin(cluster: &Cluster, group: &str, partitions: &[i32], start: Option<Start>) -> Result<Made, QueueError> {
    let topic = cluster.url.topic.as_str();
    let has_retries = cluster.partitions(&cluster.url.retry_topic(group), ANSWER_MAX).is_ok_and(|found| found.is_some());
    let mut made = Made { is_there: true, has_retries, others: BTreeSet::new() };
    if !cluster.committed(group, topic)?.is_empty() {
        return Ok(made);
    }
    let Some(start) = start else { return Ok(Made { is_there: false, ..made }) };
    let mut watermarks = BTreeMap::new();
    for partition in partitions {
        watermarks.insert(*partition, cluster.watermarks(topic, *partition)?);
    }
    let touched = look_at_others(cluster, group, &watermarks, &mut made.others);
    let from_the_first = start == Start::All || !touched;
    let begin = watermarks.iter().map(|(partition, (low, high))| {
        let offset = if from_the_first { *low } else { *high };
        (*partition, offset, Window::new(offset).commit().metadata)
    });
    let begin: Vec<_> = begin.collect();
    match cluster.commit(group, topic, &begin) {
        Ok(()) => Ok(made),
        // Another process made it, and is in it by now.
        Err(error) => match cluster.committed(group, topic)?.is_empty() {
            true => Err(error),
            false => Ok(made),
        },
    }
}

/// Whether some group has ended an event of the topic.
fn look_at_others(cluster: &Cluster, group: &str, watermarks: &BTreeMap<i32, (i64, i64)>, ours: &mut BTreeSet<String>) -> bool {
    // Where groups can't be listed, it is taken that there are others.
    let Ok(groups) = cluster.groups() else { return true };
    let mut touched = groups.len() > GROUPS_MAX;
    for other in groups.iter().filter(|other| *other != group).take(GROUPS_MAX) {
        let Ok(all) = cluster.committed(other, &cluster.url.topic) else { continue };
        for committed in &all {
            let low = watermarks.get(&committed.partition).map_or(0, |(low, _)| *low);
            let window = Window::read(committed.offset, &committed.metadata);
            touched |= committed.offset > low || window.ended_above() > 0;
        }
        if all.iter().any(|committed| Window::is_ours(&committed.metadata)) {
            ours.insert(other.clone());
        }
    }
    touched
}

/// The groups of the topic that are Weir's.
pub(super) fn orphans(cluster: &Cluster) -> BTreeSet<String> {
    let mut ours = BTreeSet::new();
    look_at_others(cluster, "", &BTreeMap::new(), &mut ours);
    ours
}
