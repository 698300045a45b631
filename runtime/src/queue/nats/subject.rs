//! `nats://…/subject`: a subject of core NATS, read through a queue group per subscription (delivery.md §13).
//!
//! The server keeps nothing: an event is handled at most once, and one that nobody reads when it is published is gone. What has come waits
//! in this process, within bounds; what comes beyond them is dropped, counted and logged. Retries wait here too, and are lost with the
//! process. A message with a reply subject is a request: its sender waits for the answer.
//!
//! Left out: order. The server deals events to the members of a group as it likes.

mod held;
mod subscription;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::subscription::Subscription;
use super::server::Server;
use super::url::NatsUrl;
use super::{lock, message};
use crate::clock;
use crate::queue::wrapping::Wrapping;
use crate::queue::{
    Answer, BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start,
};

/// Messages that the client keeps for a subscription until its reader has looked at them: the reader keeps up, and has bounds of its own.
const CLIENT_BUFFER: usize = 8_192;

/// Longest text of an answer that says why there is none, in bytes: it is a header.
const REASON_MAX: usize = 1_024;

/// What a subject promises.
pub const FEATURES: Features = Features {
    at_least_once: false,
    durable: false,
    groups: true,
    ordered: false,
    delay: false,
    counts_tries: false,
    stable_position: true,
    depth: false,
    bounded: false,
    shared: true,
    history: false,
    acks_apart: true,
    hands_over: false,
    hold: None,
};

/// A subject as a queue.
pub struct SubjectQueue {
    shared: Arc<Shared>,
    /// Readers, one a subscription: they end when the queue is closed, and with it when it is dropped.
    tasks: Mutex<JoinSet<()>>,
    /// Whether it was found out that we may.
    published: AtomicBool,
}

/// What readers need.
struct Shared {
    name: String,
    url: NatsUrl,
    server: Arc<Server>,
    wrapping: Wrapping,
    subscriptions: Mutex<BTreeMap<String, Arc<Subscription>>>,
    closed: CancellationToken,
    /// Messages for which there was no room here; of these and those that the client dropped, how many were told.
    no_room: AtomicU64,
    told: AtomicU64,
}

impl Shared {
    /// Messages that found no room, here or in the client.
    fn dropped(&self) -> u64 {
        self.no_room.load(Ordering::Relaxed) + self.server.overflow()
    }
}

impl SubjectQueue {
    /// Opens a subject. The server may be away.
    ///
    /// # Errors
    /// When the server refuses us.
    pub async fn open(url: &NatsUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let server = Server::open(url, &opening.process, CLIENT_BUFFER).await?;
        tracing::info!(
            queue = %opening.name, subject = url.subject,
            "core NATS keeps nothing: events are handled at most once, and what nobody reads is gone (`?stream=` names a stream that keeps them)"
        );
        let shared = Arc::new(Shared {
            name: opening.name.clone(),
            url: url.clone(),
            server,
            wrapping: Wrapping::of(opening),
            subscriptions: Mutex::default(),
            closed: CancellationToken::new(),
            no_room: AtomicU64::new(0),
            told: AtomicU64::new(0),
        });
        Ok(Arc::new(Self { shared, tasks: Mutex::new(JoinSet::new()), published: AtomicBool::new(false) }))
    }

    /// The subscription of this name; one that is not known begins now.
    async fn subscription(&self, name: &str) -> Result<Arc<Subscription>, QueueError> {
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if let Some(known) = self.find(name) {
            return Ok(known);
        }
        let Shared { url, server, .. } = &*self.shared;
        let group = url.group.clone().unwrap_or_else(|| name.to_owned());
        let messages = server.client.queue_subscribe(url.subject.clone(), group).await.map_err(|error| server.away(error))?;
        let made = Subscription::new(name, self.shared.closed.child_token());
        {
            let mut subscriptions = lock(&self.shared.subscriptions);
            if let Some(known) = subscriptions.get(name) {
                return Ok(Arc::clone(known));
            }
            subscriptions.insert(name.to_owned(), Arc::clone(&made));
        }
        lock(&self.tasks).spawn(subscription::read(Arc::clone(&self.shared), Arc::clone(&made), messages));
        if server.check().is_ok() {
            // What is published from now on is ours: the server has read the subscription.
            server.read_all(Some(&url.subject)).await?;
        }
        Ok(made)
    }

    fn find(&self, name: &str) -> Option<Arc<Subscription>> {
        lock(&self.shared.subscriptions).get(name).cloned()
    }

    async fn publish_now(&self, batch: Vec<Publish>) -> Result<(), QueueError> {
        let Shared { url, server, closed, .. } = &*self.shared;
        if closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if url.has_wildcards() {
            return Err(server.invalid(format!("`{}` stands for several subjects, so it is only read", url.subject)));
        }
        if let Some(refused) = self.too_large(&batch) {
            return Err(refused);
        }
        let now = clock::now();
        if batch.iter().any(|publish| publish.due.is_some_and(|due| due > now)) {
            return Err(QueueError::Unsupported("delay (core NATS keeps nothing)"));
        }
        server.check()?;
        if batch.is_empty() {
            return Ok(());
        }
        for Publish { event, .. } in batch {
            let (headers, body) = message::written(&event);
            let sent = server.client.publish_with_headers(url.subject.clone(), headers, body).await;
            sent.map_err(|error| server.away(error))?;
        }
        let first = !self.published.swap(true, Ordering::Relaxed);
        server.read_all(first.then_some(url.subject.as_str())).await
    }

    async fn answer_now(&self, name: &str, position: Position, answer: Answer) -> Result<(), QueueError> {
        let Some(request) = self.find(name).and_then(|subscription| subscription.take_request(position)) else { return Ok(()) };
        let server = &self.shared.server;
        let (headers, body) = match answer {
            Answer::Reply(event) => message::written(&event),
            Answer::Failed(reason) => (refusal(&reason), bytes::Bytes::new()),
        };
        server.check()?;
        match server.client.publish_with_headers(request.reply.clone(), headers, body).await {
            Ok(()) => Ok(()),
            Err(error) => {
                // Too large, for example: who waits is told that at least.
                let _ = server.client.publish_with_headers(request.reply, refusal(&error.to_string()), bytes::Bytes::new()).await;
                Err(server.away(format!("a request could not be answered: {error}")))
            }
        }
    }
}

/// The headers of an answer that says why there is none, as NATS services write them (ADR-32).
fn refusal(reason: &str) -> async_nats::HeaderMap {
    let line: String = reason.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Nats-Service-Error", &line[..line.floor_char_boundary(REASON_MAX)]);
    headers.insert("Nats-Service-Error-Code", "500");
    headers
}

impl Queue for SubjectQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(self.publish_now(batch))
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.shared.server.too_large(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(async move { self.subscription(subscription).await?.pull(max).await })
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            let known = self.find(subscription);
            Ok(known.map(|subscription| subscription.settle(&batch, clock::now())).unwrap_or_default())
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(std::future::ready(Ok(Depth::default())))
    }

    fn features(&self) -> Features {
        FEATURES
    }

    fn answer_by(&self, subscription: &str, position: Position) -> Option<Instant> {
        self.find(subscription)?.answer_by(position)
    }

    fn answer<'a>(&'a self, subscription: &'a str, position: Position, answer: Answer) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.answer_now(subscription, position, answer))
    }

    fn health(&self) -> Health {
        let server = &self.shared.server;
        Health { connected_once: server.connected_once(), error: server.problem(), dropped: Some(self.shared.dropped()) }
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, _: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            if let Some(group) = &self.shared.url.group
                && let Some(other) = lock(&self.shared.subscriptions).keys().find(|other| *other != subscription)
            {
                return Err(QueueError::Invalid(format!(
                    "`group={group}` is for one handler only, and `{other}` and `{subscription}` both read this queue (leave it out)"
                )));
            }
            self.subscription(subscription).await.map(drop)
        })
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            if let Some(removed) = lock(&self.shared.subscriptions).remove(subscription) {
                removed.end();
            }
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.shared.closed.cancel();
            let mut tasks = std::mem::take(&mut *lock(&self.tasks));
            while tasks.join_next().await.is_some() {}
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_header_is_one_short_line() {
        let headers = refusal(&format!("no\r\nway {}", "é".repeat(2_000)));
        let said = headers.get("Nats-Service-Error").unwrap().as_str();
        assert!(said.starts_with("no  way é") && said.len() <= REASON_MAX, "{said}");
    }
}
