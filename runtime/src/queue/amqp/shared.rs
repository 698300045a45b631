//! What all parts of a queue on RabbitMQ share, and what is done once for all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lapin::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::link::{Link, Live, Target};
use super::lock;
use super::message::{self, Message};
use super::problem::Problem;
use super::publish::{JOBS_MAX, Job, Outgoing};
use super::steps::Step;
use super::subscription::Subscription;
use super::url::{AmqpUrl, Exchange, Place};
use crate::clock;
use crate::queue::fanout::READER;
use crate::queue::wrapping::Wrapping;
use crate::queue::{Opening, Publish, QueueError, Start, timer};

/// What is due as soon as this is waited for before it is sent: the way through a queue takes as long, and a copy more.
const SOON: Duration = Duration::from_millis(20);

/// One place on a server.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) wrapping: Wrapping,
    /// The connection that reads, settles and makes queues.
    pub(super) reading: Link,
    /// The connection that publishes.
    pub(super) publishing: Link,
    pub(super) jobs: mpsc::Sender<Job>,
    // std's mutexes: held for a look or a change, never across an await; all callers and readers share them.
    subscriptions: Mutex<BTreeMap<String, Arc<Subscription>>>,
    windows: Mutex<HashMap<String, usize>>,
    /// Queues to wait in that were made, each by the number of the connection.
    waits: Mutex<BTreeSet<(u64, String)>>,
    warned: Mutex<BTreeSet<String>>,
    /// What is published to the exchange later, where there is one.
    pub(super) relay: Option<Arc<Subscription>>,
    /// No pulls and publishes any more.
    pub(super) closed: CancellationToken,
    /// Nothing any more.
    pub(super) over: CancellationToken,
    /// What is given back counts as no delivery: the server was seen to tell the two apart.
    pub(super) nack_is_free: AtomicBool,
    /// Copies can be published, and queues to wait in be made.
    pub(super) may_copy: AtomicBool,
    /// The largest message that the server takes, as far as is known.
    pub(super) message_max: AtomicU64,
    /// Counts channels that are read by: a delivery is settled on its own.
    pub(super) sessions: AtomicU64,
}

impl Shared {
    pub(super) fn new(url: &AmqpUrl, opening: &Opening) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, taken) = mpsc::channel(JOBS_MAX);
        let link = |what: &str| {
            let name = format!("weir {} {what} ({})", opening.process, opening.name);
            Link::new(Target { url: url.clone(), shown: url.to_string(), name })
        };
        let closed = CancellationToken::new();
        let relay = match &url.place {
            Place::Exchange(exchange) => {
                let queue = format!("{}.delayed", exchange.base);
                Some(Arc::new(Subscription::new("", &queue, true, closed.child_token())))
            }
            Place::Queue(_) => None,
        };
        let shared = Self {
            name: opening.name.clone(),
            wrapping: Wrapping::of(opening),
            reading: link("reads"),
            publishing: link("publishes"),
            jobs,
            subscriptions: Mutex::default(),
            windows: Mutex::default(),
            waits: Mutex::default(),
            warned: Mutex::default(),
            relay,
            closed,
            over: CancellationToken::new(),
            nack_is_free: AtomicBool::new(false),
            may_copy: AtomicBool::new(true),
            message_max: AtomicU64::new(u64::MAX),
            sessions: AtomicU64::new(0),
        };
        (shared, taken)
    }

    pub(super) fn url(&self) -> &AmqpUrl {
        &self.reading.target.url
    }

    /// The URL without credentials.
    pub(super) fn shown(&self) -> &str {
        &self.reading.target.shown
    }

    /// What an answer of the server means.
    pub(super) fn problem(&self, error: &Error) -> Problem {
        Problem::of(self.shown(), error)
    }

    pub(super) fn waits(&self) -> MutexGuard<'_, BTreeSet<(u64, String)>> {
        lock(&self.waits)
    }

    /// Whether something is said for the first time.
    pub(super) fn warn_once(&self, about: &str) -> bool {
        lock(&self.warned).insert(about.to_owned())
    }

    /// Every handler's reading that is known.
    pub(super) fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        lock(&self.subscriptions).values().cloned().collect()
    }

    /// A reading by its name; one that is not known is found on the server.
    pub(super) fn find_or_adopt(&self, name: &str) -> Arc<Subscription> {
        let (name, mut subscriptions) = (self.reading_of(name), lock(&self.subscriptions));
        if let Some(known) = subscriptions.get(name) {
            return Arc::clone(known);
        }
        let queue = match &self.url().place {
            Place::Exchange(exchange) => format!("{name}.{}", exchange.base),
            Place::Queue(queue) => queue.clone(),
        };
        let subscription = Arc::new(Subscription::new(name, &queue, false, self.closed.child_token()));
        if let Some(window) = lock(&self.windows).get(name) {
            subscription.window.store(*window, Ordering::Relaxed);
        }
        subscriptions.insert(name.to_owned(), Arc::clone(&subscription));
        subscription
    }

    pub(super) fn forget(&self, name: &str) {
        lock(&self.subscriptions).remove(name);
    }

    /// The name of a reading: a queue is one, whoever asks.
    fn reading_of<'a>(&self, name: &'a str) -> &'a str {
        match self.url().place {
            Place::Exchange(_) => name,
            Place::Queue(_) => READER,
        }
    }

    pub(super) fn window(&self, name: &str, most: usize) {
        let name = self.reading_of(name);
        lock(&self.windows).insert(name.to_owned(), most);
        if let Some(known) = lock(&self.subscriptions).get(name) {
            known.window.store(most, Ordering::Relaxed);
        }
    }

    /// Makes what has to be there on a new connection, before anything is published or read.
    pub(super) async fn prepare(&self, live: &Live) -> Result<(), Problem> {
        match &self.url().place {
            Place::Queue(queue) => drop(self.ensure_queue(live, queue).await?),
            Place::Exchange(exchange) => self.ensure_exchange(live, exchange).await?,
        }
        for subscription in self.subscriptions() {
            self.make(live, &subscription).await?;
        }
        Ok(())
    }

    /// Makes a handler's queue, or finds it.
    pub(super) async fn make(&self, live: &Live, subscription: &Subscription) -> Result<(), Problem> {
        if subscription.made_by.load(Ordering::Acquire) == live.number {
            return Ok(());
        }
        let facts = self.ensure_queue(live, &subscription.queue).await?;
        if let (Place::Exchange(exchange), false) = (&self.url().place, subscription.is_relay) {
            self.bind(live, &subscription.queue, exchange).await?;
        }
        subscription.learn(facts);
        subscription.made_by.store(live.number, Ordering::Release);
        Ok(())
    }

    /// Makes a handler's reading; where it begins is not asked: an exchange keeps nothing, and a queue has what waits.
    pub(super) async fn subscribe(&self, name: &str, _start: Start) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let subscription = self.find_or_adopt(name);
        let Ok(live) = self.reading.up() else { return Ok(()) };
        match self.make(&live, &subscription).await {
            // It is made on the next connection.
            Err(Problem::Away(text)) if !live.is_up() => {
                tracing::debug!(queue = %self.name, text, "a subscription is made later");
                Ok(())
            }
            other => Ok(other?),
        }
    }

    /// Removes a handler's queue with what waits in it.
    pub(super) async fn unsubscribe(&self, name: &str) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if matches!(self.url().place, Place::Queue(_)) {
            return Err(QueueError::Unsupported("unsubscribe"));
        }
        let subscription = self.find_or_adopt(name);
        let live = self.reading.up()?;
        self.remove(&live, &subscription.queue).await?;
        self.forget(name);
        subscription.inbox.fail(crate::queue::not_subscribed(&self.name, name));
        subscription.inbox.ended.cancel();
        Ok(())
    }

    /// Publishes a batch; answers when the server has all of it.
    pub(super) async fn publish(&self, batch: &[Publish]) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        let soon = batch.iter().filter_map(|publish| publish.due).filter(|due| *due > now && *due <= now.after(SOON)).max();
        if let Some(soon) = soon {
            timer::until(Some(soon), std::future::pending()).await;
        }
        // Until everything is made, nothing is taken that would go nowhere.
        let live = self.reading.up()?;
        let mut outgoing = Vec::with_capacity(batch.len());
        for publish in batch {
            outgoing.push(self.outgoing(&live, publish).await?);
        }
        for answer in self.send(outgoing).await? {
            answer?;
        }
        Ok(())
    }

    async fn outgoing(&self, live: &Live, publish: &Publish) -> Result<Outgoing, Problem> {
        let now = clock::now();
        let due = publish.due.filter(|due| *due > now);
        // What is delayed arrives anew when it is due.
        let message = message::message(&publish.event, clock::id(), due.unwrap_or(now));
        match (&self.url().place, due) {
            (Place::Queue(queue), None) => Ok(Outgoing { exchange: String::new(), key: queue.clone(), message }),
            (Place::Queue(queue), Some(due)) => {
                let message = message::with_due(message, due);
                self.waiting(live, queue, message, Step::within(due.since(now))).await
            }
            (Place::Exchange(exchange), None) => {
                let key = self.key(exchange, publish)?;
                Ok(Outgoing { exchange: exchange.name.clone(), key, message })
            }
            (Place::Exchange(exchange), Some(due)) => {
                let message = message::with_key(message, &self.key(exchange, publish)?, due);
                let Some(relay) = &self.relay else { return Err(Problem::Refused("no relay".to_owned())) };
                self.make(live, relay).await?;
                self.waiting(live, &relay.queue, message, Step::within(due.since(now))).await
            }
        }
    }

    /// A message on its way to a queue, through one in which it waits if there is a step.
    pub(super) async fn waiting(
        &self,
        live: &Live,
        target: &str,
        message: Message,
        step: Option<Step>,
    ) -> Result<Outgoing, Problem> {
        let key = match step {
            Some(step) => self.ensure_wait(live, target, step).await?,
            None => target.to_owned(),
        };
        Ok(Outgoing { exchange: String::new(), key, message })
    }

    /// The routing key of an event that is published.
    fn key(&self, exchange: &Exchange, publish: &Publish) -> Result<String, Problem> {
        let key = exchange.publish.as_deref().unwrap_or(&publish.event.kind);
        match key.len() > 255 {
            true => Err(Problem::Refused(format!(
                "`{}`: the event's type is too long for a routing key ({} bytes, at most 255) [set `publish-key=`]",
                self.shown(),
                key.len()
            ))),
            false => Ok(key.to_owned()),
        }
    }
}
