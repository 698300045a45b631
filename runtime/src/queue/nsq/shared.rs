//! What the tasks of a queue share: the servers, the subscriptions, and how they are made, found and left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::client::connection::Manner;
use super::client::identify::{HOLD, Negotiated};
use super::consumer::Consumer;
use super::health::is_invalid;
use super::line::Line;
use super::lock;
use super::lookup::Lookup;
use super::producer;
use super::subscription::Subscription;
use super::url::{Address, NsqUrl, named};
use crate::clock::millis;
use crate::queue::wrapping::Wrapping;
use crate::queue::{Opening, QueueError, not_subscribed};
use crate::store::Store;

/// Beats in the life of a lease.
const BEATS: u32 = 6;

/// The longest delay that a server holds, until it says otherwise: its `-max-req-timeout` is an hour unless it is set.
pub(super) const REQUEST_MAX: Duration = Duration::from_secs(3_600);

/// Longest wait for a channel to be made on all servers; later ones are made in the background.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(3);

/// Batches that are published at once; others wait for their turn.
const PUBLISHES_MAX: usize = 256;

/// A server that has the topic.
pub(super) struct Node {
    pub(super) address: Address,
    /// Where it answers HTTP; none: not known.
    pub(super) http: Option<Address>,
    /// The connection for publishing.
    pub(super) producer: Arc<Line>,
}

pub(super) struct Shared {
    pub(super) name: String,
    pub(super) url: NsqUrl,
    pub(super) wrapping: Wrapping,
    pub(super) manner: Arc<Manner>,
    /// Where notes of tries stand.
    pub(super) store: Option<Arc<Store>>,
    // By address. Held for a look or a change.
    nodes: Mutex<BTreeMap<Address, Arc<Node>>>,
    pub(super) lookup: Lookup,
    subscriptions: Mutex<BTreeMap<String, Arc<Subscription>>>,
    /// Subscriptions that were removed: a pull that still waits does not make them again.
    removed: Mutex<BTreeSet<String>>,
    /// Ends everything as it should be ended.
    pub(super) closed: CancellationToken,
    /// Ends everything at once: the queue was dropped.
    pub(super) gone: CancellationToken,
    /// Lines; closing waits for them.
    pub(super) tasks: TaskTracker,
    /// Milliseconds that a server lets us hold a message, the least of all.
    hold: AtomicU64,
    /// Milliseconds that a server lets a message wait, the least of all.
    pub(super) request_max: AtomicU64,
    /// Bytes of a message that some server refused to be larger than; the largest number: none did.
    pub(super) message_max: AtomicU64,
    pub(super) publishing: Semaphore,
    /// Moves publishes from server to server.
    pub(super) turn: AtomicUsize,
    /// Wakes the heartbeat: there are notes to write.
    pub(super) noted: Notify,
    pub(super) connected_once: AtomicBool,
}

impl Shared {
    pub(super) fn new(url: &NsqUrl, manner: Manner, opening: &Opening) -> Self {
        Self {
            name: opening.name.clone(),
            url: url.clone(),
            wrapping: Wrapping::of(opening),
            manner: Arc::new(manner),
            store: opening.store.clone(),
            nodes: Mutex::default(),
            lookup: Lookup::default(),
            subscriptions: Mutex::default(),
            removed: Mutex::default(),
            closed: CancellationToken::new(),
            gone: CancellationToken::new(),
            tasks: TaskTracker::new(),
            hold: AtomicU64::new(millis(HOLD)),
            request_max: AtomicU64::new(millis(REQUEST_MAX)),
            message_max: AtomicU64::new(u64::MAX),
            publishing: Semaphore::new(PUBLISHES_MAX),
            turn: AtomicUsize::new(fastrand::usize(..1_000)),
            noted: Notify::new(),
            connected_once: AtomicBool::new(false),
        }
    }

    /// The age up to which a lease is certainly ours (delivery.md §3).
    pub(super) fn young(&self) -> Duration {
        self.url.lease * 2 / 3
    }

    /// Between two beats of the heartbeat.
    pub(super) fn beat(&self) -> Duration {
        self.url.lease / BEATS
    }

    /// What a server said of itself.
    pub(super) fn learn(&self, negotiated: &Negotiated) {
        self.hold.fetch_min(negotiated.max_msg_timeout.max(1), Ordering::Relaxed);
    }

    /// The longest that a delivery can be held at all.
    pub(super) fn hold(&self) -> Duration {
        Duration::from_millis(self.hold.load(Ordering::Relaxed))
    }

    /// How long a delivery is held at most: its server takes it back a little later.
    pub(super) fn hold_for(&self) -> Duration {
        self.hold().saturating_sub(self.url.lease / 3)
    }

    /// The delay to ask for, so that the server takes it.
    pub(super) fn request_millis(&self, wait: Duration) -> u64 {
        millis(wait).min(self.request_max.load(Ordering::Relaxed))
    }

    pub(super) fn subscriptions(&self) -> Vec<Arc<Subscription>> {
        lock(&self.subscriptions).values().cloned().collect()
    }

    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        lock(&self.nodes).values().cloned().collect()
    }

    /// Takes a server into use, if it is not yet.
    pub(super) fn add_node(self: &Arc<Self>, address: &Address, http: Option<&Address>) {
        {
            let mut nodes = lock(&self.nodes);
            if nodes.contains_key(address) || self.closed.is_cancelled() {
                return;
            }
            let producer = Line::new(address, self.closed.child_token());
            let node = Node { address: address.clone(), http: http.cloned(), producer: Arc::clone(&producer) };
            nodes.insert(address.clone(), Arc::new(node));
            self.background(producer::keep(Arc::clone(self), producer));
        }
        for subscription in self.subscriptions() {
            self.connect(&subscription);
        }
    }

    /// A server is no longer named: what is connected goes on until the connection ends.
    pub(super) fn remove_node(&self, address: &Address) {
        if let Some(node) = lock(&self.nodes).remove(address) {
            node.producer.leave();
        }
        for subscription in self.subscriptions() {
            if let Some(line) = subscription.lines().get(address) {
                line.leave();
            }
        }
    }

    /// Starts a task that ends with the queue, however that ends.
    pub(super) fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let gone = self.gone.clone();
        self.tasks.spawn(async move {
            gone.run_until_cancelled(task).await;
        });
    }

    /// Gives a subscription a line to each server.
    pub(super) fn connect(self: &Arc<Self>, subscription: &Arc<Subscription>) {
        if !subscription.connected.swap(true, Ordering::Relaxed) {
            let subscription = Arc::clone(subscription);
            self.background(async move {
                subscription.inbox.ended.run_until_cancelled(subscription.quieten()).await;
            });
        }
        for node in self.nodes() {
            let mut lines = subscription.lines();
            let known = lines.get(&node.address).is_some_and(|line| !line.has_left());
            if known || subscription.inbox.ended.is_cancelled() {
                continue;
            }
            let line = Line::new(&node.address, subscription.inbox.ended.child_token());
            lines.insert(node.address.clone(), Arc::clone(&line));
            let (shared, subscription) = (Arc::clone(self), Arc::clone(subscription));
            self.background(Consumer { shared, subscription, line }.keep());
        }
    }

    /// The subscription of this name; one that was made by an earlier process is found on the servers.
    pub(super) fn find_or_adopt(&self, name: &str) -> Arc<Subscription> {
        let mut subscriptions = lock(&self.subscriptions);
        // Asked for each batch: the name is copied only once.
        if let Some(known) = subscriptions.get(name) {
            return Arc::clone(known);
        }
        let channel = self.url.group.as_deref().unwrap_or(name);
        let made = Subscription::new(name, channel, self.closed.child_token());
        subscriptions.insert(name.to_owned(), Arc::clone(&made));
        made
    }

    /// The subscription, with its lines.
    pub(super) fn reading(self: &Arc<Self>, name: &str) -> Result<Arc<Subscription>, QueueError> {
        if lock(&self.removed).contains(name) {
            return Err(not_subscribed(&self.name, name));
        }
        let subscription = self.find_or_adopt(name);
        if subscription.lines().is_empty() {
            self.connect(&subscription);
        }
        Ok(subscription)
    }

    /// Makes a channel on all servers that are there. The others make it on their first connection.
    pub(super) async fn subscribe(self: &Arc<Self>, name: &str) -> Result<(), QueueError> {
        let channel = self.url.group.as_deref().unwrap_or(name);
        named("channel", channel).map_err(|error| QueueError::Invalid(format!("{}: {error}", self.url)))?;
        lock(&self.removed).remove(name);
        let subscription = self.reading(name)?;
        if self.url.lookup {
            // A server that gets the topic later asks there for its channels before it takes the first message.
            self.look().await;
        }
        let lines: Vec<Arc<Line>> = subscription.lines().values().cloned().collect();
        let made = futures_util::future::join_all(lines.iter().map(|line| line.first(SUBSCRIBE_MAX))).await;
        match made.into_iter().filter_map(Result::err).map(|problem| self.explained(&problem)).find(is_invalid) {
            Some(refused) => Err(refused),
            None => Ok(()),
        }
    }

    /// Forgets a subscription here; its channel is still on the servers.
    pub(super) fn forget(&self, name: &str) -> String {
        lock(&self.removed).insert(name.to_owned());
        let forgotten = lock(&self.subscriptions).remove(name);
        if let Some(subscription) = &forgotten {
            subscription.inbox.ended.cancel();
        }
        forgotten.map_or_else(|| self.url.group.clone().unwrap_or_else(|| name.to_owned()), |known| known.channel.clone())
    }

    /// A channel's name becomes that of the subscription that took it over.
    pub(super) fn name_of(&self, channel: String) -> String {
        match lock(&self.subscriptions).values().find(|known| known.channel == channel) {
            Some(known) => known.name.clone(),
            None => channel,
        }
    }
}
