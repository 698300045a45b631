//! What the tasks of a queue share: the connection, the subscriptions, and how they are found and left.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use tokio::sync::{Notify, OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

use super::bucket::Bucket;
use super::subscription::Subscription;
use crate::queue::nats::lock;
use crate::queue::nats::server::{PUBLISHES_MAX, Server};
use crate::queue::nats::url::NatsUrl;
use crate::queue::wrapping::Wrapping;
use crate::queue::{Opening, QueueError, Start, not_subscribed};

/// Messages that the client keeps for one of our inboxes: more than one request brings, so that none is lost for want of room.
const BUFFER: usize = 4_096;

pub(super) struct Shared {
    /// The queue's name.
    pub(super) name: String,
    /// This process among others.
    pub(super) process: String,
    pub(super) url: NatsUrl,
    /// The stream's name.
    pub(super) stream_name: String,
    pub(super) lease: Duration,
    pub(super) wrapping: Wrapping,
    pub(super) server: Arc<Server>,
    pub(super) bucket: Bucket,
    pub(super) stream: OnceCell<Stream>,
    subscriptions: Mutex<BTreeMap<String, Arc<Subscription>>>,
    /// Consumers are made one after the other: each looks at those that are there.
    pub(super) making: tokio::sync::Mutex<()>,
    pub(super) closed: CancellationToken,
    /// Wakes the heartbeat: there are notes to write.
    pub(super) noted: Notify,
    /// Something was acknowledged since the stream was last emptied of what has ended.
    pub(super) acked: AtomicBool,
    /// Room for publishes. The client gives permits one by one and keeps them until an answer is waited for: batches that each hold some
    /// would wait for each other for ever.
    pub(super) publishing: Semaphore,
}

impl Shared {
    pub(super) async fn new(url: &NatsUrl, opening: &Opening) -> Result<Self, QueueError> {
        let server = Server::open(url, &opening.process, BUFFER).await?;
        let stream_name = url.stream.clone().unwrap_or_default();
        Ok(Self {
            name: opening.name.clone(),
            process: opening.process.clone(),
            url: url.clone(),
            lease: url.lease,
            wrapping: Wrapping::of(opening),
            bucket: Bucket::new(Arc::clone(&server), &stream_name),
            stream_name,
            server,
            stream: OnceCell::new(),
            subscriptions: Mutex::default(),
            making: tokio::sync::Mutex::default(),
            closed: CancellationToken::new(),
            noted: Notify::new(),
            acked: AtomicBool::new(false),
            publishing: Semaphore::new(PUBLISHES_MAX),
        })
    }

    /// The age up to which a lease is certainly ours (delivery.md §3).
    pub(super) fn young(&self) -> Duration {
        self.lease * 2 / 3
    }

    /// The server was reached, and what was subscribed is there.
    pub(super) fn connected_once(&self) -> bool {
        let made = |subscription: &Arc<Subscription>| subscription.made_once.load(Ordering::Relaxed);
        self.server.connected_once() && self.stream.initialized() && self.subscriptions().iter().all(made)
    }

    pub(super) fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        lock(&self.subscriptions).values().cloned().collect()
    }

    /// The subscription of this name; one that was made by an earlier process is found on the server.
    pub(super) fn find_or_adopt(&self, name: &str) -> Arc<Subscription> {
        let mut subscriptions = lock(&self.subscriptions);
        // Asked for each batch: the name is copied only once.
        if let Some(known) = subscriptions.get(name) {
            return Arc::clone(known);
        }
        let consumer = self.url.group.as_deref().unwrap_or(name);
        let made = Subscription::new(name, consumer, self.closed.child_token());
        subscriptions.insert(name.to_owned(), Arc::clone(&made));
        made
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
        let subscription = self.find_or_adopt(name);
        subscription.start.get_or_init(|| start);
        match self.consumer(&subscription).await {
            // It is made on the first connection.
            Ok(_) | Err(QueueError::Unavailable(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn unsubscribe(&self, name: &str) -> Result<(), QueueError> {
        let stream = self.stream().await?;
        let subscription = self.find_or_adopt(name);
        let removed = self.server.unless_refused(stream.delete_consumer(&subscription.consumer)).await?;
        match removed {
            Ok(_) => {}
            Err(error) if is_missing(error.kind()) => {}
            Err(error) => return Err(self.server.away(format!("consumer `{}`: {error}", subscription.consumer))),
        }
        lock(&self.subscriptions).remove(name);
        subscription.inbox.fail(not_subscribed(&self.name, name));
        subscription.inbox.ended.cancel();
        self.trim().await;
        Ok(())
    }

    /// Gives back what is held, and the place of the reader.
    pub(super) async fn leave(&self, subscription: &Subscription) -> Result<(), QueueError> {
        let batch = subscription.everything();
        if !batch.is_empty() {
            let late = subscription.settle(self, &batch).await?;
            if !late.is_empty() {
                return Ok(());
            }
        }
        if let Some(lead) = subscription.lead.get()
            && lead.is_ours(self.young())
        {
            lead.free(self.bucket.store().await?).await;
        }
        Ok(())
    }
}

/// Whether a consumer is not there, as the server's answer says.
pub(super) fn is_missing(kind: async_nats::jetstream::stream::ConsumerErrorKind) -> bool {
    use async_nats::jetstream::stream::ConsumerErrorKind;
    matches!(kind, ConsumerErrorKind::JetStream(error) if error.code() == 404)
}
