//! `redis://…?channel=k` and `?pattern=k.*`: Redis pub/sub, at most once (delivery.md §13).
//!
//! What comes while this process listens waits in its memory for each handler, as in a `memory:` queue: retries and what waits for its turn
//! are there, and gone with the process. What is published while nobody listens, or while the connection is lost, never comes; lost connections
//! are counted and said, and so is what the buffer has no room for. Each process that listens gets every message: two processes run each
//! event twice.
//!
//! Each handler sees each event by itself, so there is no layer above; the place of a handler is not kept anywhere. Considered and left out:
//! sharded channels (`SSUBSCRIBE`), which need a cluster.

mod listener;
#[cfg(test)]
mod tests;
pub mod url;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ::redis::{Pipeline, cmd};
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::listener::{Listener, Standing};
use self::url::{Channel, ChannelUrl};
use super::lock;
use crate::clock;
use crate::event::json;
use crate::queue::memory::MemoryQueue;
use crate::queue::wrapping::Wrapping;
use crate::queue::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start,
};
use crate::redis::{Redis, RedisProblem};

/// What waits for slow handlers at most, in bytes of memory: as much as a subscription may park.
const BUFFER_BYTES: u64 = 64 << 20;

/// What a channel promises.
pub const FEATURES: Features = Features {
    at_least_once: false,
    durable: false,
    groups: true,
    ordered: false,
    delay: false,
    counts_tries: true,
    stable_position: true,
    depth: false,
    bounded: false,
    shared: false,
    history: false,
    acks_apart: true,
    hands_over: false,
    hold: None,
};

/// A channel as a queue.
pub struct ChannelQueue {
    listener: Arc<Listener>,
    url: String,
    listening: AtomicBool,
    closed: AtomicBool,
    tasks: Mutex<JoinSet<()>>,
}

impl ChannelQueue {
    /// Opens a channel: it is listened to from the first subscription on. The server may be away.
    ///
    /// # Errors
    /// When the server refuses us, or is too old.
    pub async fn open(url: &ChannelUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let redis = Arc::new(Redis::new(&url.server)?);
        match redis.connect().await {
            Ok(_) | Err(RedisProblem::Away(_)) => {}
            Err(problem) => return Err(QueueError::Invalid(format!("`{url}`: {problem}"))),
        }
        let listener = Listener {
            name: opening.name.clone(),
            redis,
            channel: url.channel.clone(),
            wrapping: Wrapping::of(opening),
            buffer: MemoryQueue::new(&opening.name, BUFFER_BYTES),
            standing: watch::Sender::new(Standing::Begun),
            connected_once: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        };
        Ok(Arc::new(Self {
            listener: Arc::new(listener),
            url: url.to_string(),
            listening: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            tasks: Mutex::default(),
        }))
    }

    fn check_open(&self) -> Result<(), QueueError> {
        if self.closed.load(Ordering::Relaxed) { Err(QueueError::Closed) } else { Ok(()) }
    }

    async fn publish_now(&self, batch: &[Publish]) -> Result<(), QueueError> {
        self.check_open()?;
        let Channel::One(name) = &self.listener.channel else {
            return Err(QueueError::Invalid(format!("`{}` is a pattern: publish to one channel (`channel=NAME`)", self.url)));
        };
        let now = clock::now();
        if batch.iter().any(|publish| publish.due.is_some_and(|due| due > now)) {
            return Err(QueueError::Unsupported("delay"));
        }
        let mut commands = Pipeline::with_capacity(batch.len());
        commands.atomic();
        for publish in batch {
            commands.cmd("PUBLISH").arg(name).arg(json::write(&publish.event)).ignore();
        }
        let redis = &self.listener.redis;
        let answer = match batch {
            [] => Ok(()),
            [one] => redis.query(cmd("PUBLISH").arg(name).arg(json::write(&one.event))).await,
            _ => redis.pipeline(&commands).await,
        };
        Ok(answer?)
    }

    async fn subscribe_now(&self, subscription: &str) -> Result<(), QueueError> {
        self.check_open()?;
        self.listener.buffer.subscribe(subscription, Start::New).await?;
        let mut standing = self.listener.standing.subscribe();
        if !self.listening.swap(true, Ordering::Relaxed) {
            tracing::info!(queue = %self.listener.name, url = %self.url, "at most once: what is published while this process does not listen is lost");
            lock(&self.tasks).spawn(Arc::clone(&self.listener).run());
        }
        let known = standing.wait_for(|standing| !matches!(standing, Standing::Begun)).await;
        match known.map(|standing| standing.clone()) {
            // It is listened to on the first connection.
            Ok(Standing::Listening | Standing::Away(RedisProblem::Away(_))) => Ok(()),
            Ok(Standing::Away(refused)) => Err(QueueError::Invalid(format!("`{}`: {refused}", self.url))),
            Ok(Standing::Begun) | Err(_) => Err(QueueError::Closed),
        }
    }

    async fn pull_now(&self, subscription: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        if !self.listening.load(Ordering::Relaxed) {
            self.subscribe_now(subscription).await?;
        }
        self.listener.buffer.pull(subscription, max).await
    }
}

impl Queue for ChannelQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move { self.publish_now(&batch).await })
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_now(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        self.listener.buffer.settle(subscription, batch)
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        // What waits in this process; what is on its way nobody knows.
        self.listener.buffer.depth()
    }

    fn features(&self) -> Features {
        FEATURES
    }

    fn health(&self) -> Health {
        let Listener { standing, connected_once, lost, dropped, redis, .. } = &*self.listener;
        let lost = match lost.load(Ordering::Relaxed) {
            0 => String::new(),
            count => format!(" (the {count}. connection that is lost: what is published meanwhile never comes)"),
        };
        let error = match &*standing.borrow() {
            Standing::Away(problem) => Some(format!("{problem}{lost}")),
            Standing::Listening => None,
            // Only published to.
            Standing::Begun => redis.problem().map(|problem| problem.to_string()),
        };
        let connected_once = connected_once.load(Ordering::Relaxed) || redis.connections() > 0;
        Health { connected_once, error, dropped: Some(dropped.load(Ordering::Relaxed)) }
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, _start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.subscribe_now(subscription))
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        self.listener.buffer.unsubscribe(subscription)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.closed.store(true, Ordering::Relaxed);
            lock(&self.tasks).abort_all();
            self.listener.buffer.close().await;
        })
    }
}
