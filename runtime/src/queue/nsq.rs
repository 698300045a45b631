//! `nsq://host:4150/topic`, `nsq+lookup://host:4161/topic`: a topic of NSQ, read through a channel per subscription (delivery.md §13).
//!
//! A lease is the connection's `msg_timeout`, renewed by TOUCH, as long as the server allows; a retry is a REQ with its delay, so whichever
//! process is free gets it. RDY is what is held and what pulls ask for, shared over the servers: nothing comes that nobody waits for.
//! The server counts deliveries; where Weir's count differs (what was given back) a note stands beside it.
//!
//! FIN, REQ and TOUCH are not confirmed by the protocol. They are answered once they are written; what was lost with its connection comes
//! again after its lease, and this process remembers what it had said of it: an acknowledged message is acknowledged once more, and
//! not run; another waits for the rest of its time. A connection over which nothing is heard, not even a heartbeat, is given up before the
//! leases that it carries are over.
//!
//! The backoff of other NSQ clients, which lower RDY to 0 and then to 1 when messages fail, is left out: that is what Weir's circuit breaker
//! does (`pause-after`), with growing pauses and a probe, and for failures from outside only. A message that fails by itself waits by its own
//! `backoff` and holds up nobody. `max_attempts` is left out as well: how often is the handler's policy.
//!
//! Left out: order. Several servers, requeued messages and memory queues keep none.

mod client;
mod consumer;
mod depth;
pub(super) mod floor;
mod flow;
mod health;
mod line;
mod lookup;
mod memory;
mod message;
mod notes;
mod producer;
mod publish;
mod settle;
mod shared;
mod subscription;
mod tries;
pub mod url;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_util::sync::DropGuard;

use self::client::connection::Manner;
use self::health::is_invalid;
use self::shared::Shared;
use self::url::NsqUrl;
use super::later::Later;
use super::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start, Tries,
};

/// How long closing may take: what is not given back by then lapses.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the first connection when the queue is opened; later ones are made in the background.
const FIRST_CONNECTION: Duration = Duration::from_secs(2);

/// What a topic promises. Durable as far as the server is: what it has in memory is lost when it is killed, and what is in flight then
/// always is.
pub const FEATURES: Features = Features {
    ordered: false,
    // Less what the store notes; without a store, what was given back counts as a try.
    counts_tries: true,
    // Where it answers HTTP is known: `http=`, or `nsq+lookup://`.
    depth: true,
    bounded: false,
    shared: true,
    hold: Some(client::identify::HOLD),
    // A channel begins with what is published after it was made; the first one of a topic, with all that waits.
    history: false,
    ..Features::LASTING
};

/// What waits in the store: what is longer than a server holds back unless it is told otherwise. A server with a shorter bound gets it
/// back in steps.
#[must_use]
pub const fn later(url: &NsqUrl) -> Later {
    Later::beyond(shared::REQUEST_MAX).with_lease(url.lease)
}

/// A topic as a queue.
pub struct NsqQueue {
    shared: Arc<Shared>,
    /// Ends all tasks when the queue is dropped without being closed.
    _gone: DropGuard,
    ended: OnceCell<()>,
}

impl NsqQueue {
    /// Opens a topic. The servers may be away; then everything is made on the first connection.
    ///
    /// # Errors
    /// When a server refuses us, or certificates can't be read.
    pub async fn open(url: &NsqUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let manner = manner(url, &opening.process).await?;
        let shared = Arc::new(Shared::new(url, manner, opening));
        let queue = Arc::new(Self { _gone: shared.gone.clone().drop_guard(), ended: OnceCell::new(), shared });
        let shared = &queue.shared;
        if url.lookup {
            // So that a wrong name is told at the start; it is asked again in the background.
            let _ = tokio::time::timeout(FIRST_CONNECTION, shared.look()).await;
        } else {
            for (at, server) in url.servers.iter().enumerate() {
                shared.add_node(server, url.http.get(at));
            }
        }
        let nodes = shared.nodes();
        let first = futures_util::future::join_all(nodes.iter().map(|node| node.producer.first(FIRST_CONNECTION))).await;
        let problems = first.into_iter().filter_map(Result::err).map(|problem| shared.explained(&problem));
        if let Some(refused) = problems.into_iter().find(is_invalid) {
            return Err(refused);
        }
        shared.background(beat(Arc::clone(shared)));
        if url.lookup {
            shared.background(lookup::poll(Arc::clone(shared)));
        }
        Ok(queue)
    }

    /// Gives back what is held, and leaves the servers.
    async fn end(&self) {
        self.shared.closed.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(CLOSE_MAX, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!(queue = %self.shared.name, "what is held was not given back in time, it lapses");
        }
        self.shared.gone.cancel();
    }
}

async fn manner(url: &NsqUrl, process: &str) -> Result<Manner, QueueError> {
    let invalid = |error: &dyn std::fmt::Display| QueueError::Invalid(format!("{url}: {error}"));
    let tls = match url.tls {
        false => None,
        true => {
            let (authority, identity) = (url.authority.clone(), url.identity.clone());
            let read = move || {
                let identity = identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
                client::tls::config(authority.as_deref(), identity)
            };
            let config = tokio::task::spawn_blocking(read).await.map_err(|error| invalid(&error))?;
            Some(config.map_err(|error| invalid(&error))?)
        }
    };
    Ok(Manner { process: process.to_owned(), lease: url.lease, secret: url.secret.clone(), tls })
}

/// Keeps leases, and writes notes, until the queue is closed.
async fn beat(shared: Arc<Shared>) {
    let mut at = tokio::time::interval(shared.beat());
    at.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let beats = tokio::select! {
            _ = at.tick() => true,
            () = shared.noted.notified() => false,
            () = shared.closed.cancelled() => return,
        };
        for subscription in shared.subscriptions() {
            subscription.write_down(&shared).await;
            if beats {
                subscription.beat(&shared).await;
            }
        }
    }
}

impl Queue for NsqQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move { self.shared.publish(&batch).await })
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            let reading = self.shared.reading(subscription)?;
            match reading.pull(max).await {
                Err(QueueError::Closed) if !self.shared.closed.is_cancelled() => {
                    Err(super::not_subscribed(&self.shared.name, subscription))
                }
                pulled => pulled,
            }
        })
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move {
            if self.shared.closed.is_cancelled() {
                return Err(QueueError::Closed);
            }
            Ok(self.shared.find_or_adopt(subscription).settle(&self.shared, &batch).await)
        })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(self.shared.depth())
    }

    fn features(&self) -> Features {
        Features {
            counts_tries: self.shared.store.is_some(),
            depth: self.shared.has_http(),
            hold: Some(self.shared.hold()),
            ..FEATURES
        }
    }

    fn window(&self, subscription: &str, most: NonZeroUsize) {
        self.shared.find_or_adopt(subscription).set_window(most.get());
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        if self.shared.find_or_adopt(subscription).note(position, tries) {
            self.shared.noted.notify_one();
        }
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(async move { self.shared.find_or_adopt(subscription).inbox.lapsed().await })
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        self.shared.find_or_adopt(subscription).holds(position, self.shared.young())
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, _start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.subscribe(subscription))
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.unsubscribe(subscription))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.ended.get_or_init(|| self.end()).await;
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
