//! Where events wait: the contract between Weir and a queue, and the URLs that open one.
//!
//! An adapter translates between this contract and its broker. It reports; it never retries, decides or logs a failure twice:
//! retries, dead letters, limits and reconnecting live once, above the adapters.

#[cfg(feature = "amqp")]
pub mod amqp;
pub(crate) mod batch;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod disk;
mod error;
pub mod fallback;
pub mod fanout;
mod features;
pub mod floor;
mod inbox;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod later;
mod ledger;
pub mod memory;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "nsq")]
pub mod nsq;
#[cfg(feature = "redis")]
pub mod redis;
pub(crate) mod timer;
pub mod url;
pub mod waits;
mod wrapping;

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use crate::clock::Timestamp;
use crate::dead::{DeadBounds, DeadLetters};
use crate::event::Event;
use crate::source::map::EventMap;
use crate::store::Store;

pub use error::QueueError;
pub use features::{Features, promises};

/// A boxed future, so that [`Queue`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A place where events wait. All methods may be called concurrently.
///
/// A *subscription* is one handler's own reading of the queue, by name; every subscription sees every event.
pub trait Queue: Send + Sync + 'static {
    /// Takes a batch of events, all or none. Answers once the queue holds them as durably as [`Features::durable`] says: an answered
    /// publish is never lost. Dropping the future before it answers leaves open whether the batch was taken.
    ///
    /// # Errors
    /// [`QueueError::Full`] and [`QueueError::TooLarge`] are the caller's to handle; all others are outside failures. After any error
    /// none of the batch is delivered.
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>>;

    /// Whether a batch is larger than this queue could ever hold: [`QueueError::TooLarge`]; none: it may fit. Cheap, it asks nobody. Asked
    /// when a handler publishes to several queues, before anything leaves.
    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        let _ = batch;
        None
    }

    /// Waits for at least one event and returns at most `max`, oldest first. Cancel-safe: dropping the future loses nothing.
    ///
    /// What is returned is leased to the caller: nobody else gets it in this subscription until it is settled, or the process that
    /// holds it is gone. A queue without history starts a subscription that it does not know with what waits.
    ///
    /// # Errors
    /// [`QueueError::Closed`] after [`Queue::close`]; others are outside failures, to be asked again after a pause.
    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>>;

    /// Settles deliveries of one subscription; once it answers, the settlements outlive the process where the queue is durable. The
    /// answer names those that came too late: their lease had lapsed, and their events run again, whatever was asked.
    ///
    /// # Errors
    /// When it is not known whether all of it was recorded: what is still leased stays so, and the call is to be repeated.
    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>>;

    /// What waits, for people and metrics. Cheap enough for every scrape.
    ///
    /// # Errors
    /// When the broker can't be asked.
    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>>;

    /// What this adapter promises. The conformance suite holds it to that.
    fn features(&self) -> Features {
        Features::default()
    }

    /// From now on a subscription is read by one process at a time, and what that process leaves behind comes first, in its order, to
    /// the one that takes over (delivery.md §4, `order-by`). Called before [`Queue::subscribe`].
    ///
    /// # Errors
    /// [`QueueError::Unsupported`] where the queue promises no order.
    fn keep_order(&self, subscription: &str) -> Result<(), QueueError> {
        let _ = subscription;
        if self.features().ordered { Ok(()) } else { Err(QueueError::Unsupported("order")) }
    }

    /// The most deliveries of a subscription that this process will hold at once, `concurrency` and `parked` together: brokers that send
    /// by themselves are told not to send more (delivery.md §4). Called before [`Queue::subscribe`].
    fn window(&self, subscription: &str, most: NonZeroUsize) {
        let _ = (subscription, most);
    }

    /// Notes how far a leased event has got, for the case that this process is killed: if it is never settled, its next delivery has
    /// at least these tries behind it. Called before each run with the try that begins, and when this process holds a retry,
    /// or, of a queue that several share, what has not begun. Best effort and cheap: it does not wait, and what it writes need not be synced, only outlive the process.
    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        let _ = (subscription, position, tries);
    }

    /// Waits until leases of a subscription that this process held could not be kept, and names them: their runs are to be stopped, and
    /// they need not be settled. Queues whose leases end with the process never answer. Cancel-safe.
    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        let _ = subscription;
        Box::pin(std::future::pending())
    }

    /// Whether a delivery is certainly still this process's own; cheap, it asks nobody. One whose lease is too old to tell is let go by
    /// that, as if it had lapsed. Asked before a dead letter of it is written or removed: nobody else may have it then.
    fn holds(&self, subscription: &str, position: Position) -> bool {
        let _ = (subscription, position);
        true
    }

    /// Until when the sender of a delivery waits for an answer (request/reply); none: nobody does, or it has its answer. Such an event is
    /// tried once, and not begun or gone on with after that. Cheap, it asks nobody.
    fn answer_by(&self, subscription: &str, position: Position) -> Option<Instant> {
        let _ = (subscription, position);
        None
    }

    /// Answers the sender of a delivery, once, before it is settled. What nobody waits for is dropped.
    ///
    /// # Errors
    /// When the answer could not be sent: nobody tries again, as its sender soon waits no longer.
    fn answer<'a>(&'a self, subscription: &'a str, position: Position, answer: Answer) -> BoxFuture<'a, Result<(), QueueError>> {
        let _ = (subscription, position, answer);
        Box::pin(async { Ok(()) })
    }

    /// Whether the broker can be reached now; cheap, it asks nobody. For an embedded queue, whether its file can be used.
    fn health(&self) -> Health {
        Health { connected_once: true, ..Health::default() }
    }

    /// What takes publishes while the broker is away, and forwards them (surface.md §1, `fallback`).
    fn fallback(&self) -> Option<&fallback::Fallback> {
        None
    }

    /// What waits for its time, where it can be seen before: for `weir move`.
    fn waits(&self) -> Option<&dyn waits::Waits> {
        None
    }

    /// Makes a subscription, if it is not there yet, that begins where `start` says. Queues that can't tell do nothing. Where the broker
    /// is away, the adapter makes it on its first connection, before it takes a publish or answers a pull.
    ///
    /// While a queue has no subscription at all, what is published waits, and the first ones begin with it, whatever `start` says.
    /// "The first ones" are those that are made before any event of the queue has ended: so handlers that are subscribed one after
    /// the other at the first start see the same events, whatever runs meanwhile.
    ///
    /// # Errors
    /// When it could not be recorded.
    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        let _ = (subscription, start);
        Box::pin(async { Ok(()) })
    }

    /// Removes a subscription and what waits in it; its waiting pulls end with an error.
    ///
    /// # Errors
    /// When it could not be recorded, or this queue has no subscriptions.
    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        let _ = subscription;
        Box::pin(async { Err(QueueError::Unsupported("unsubscribe")) })
    }

    /// Where the broker keeps this queue's dead letters; none: the store has them (delivery.md §7).
    fn dead_letters(&self) -> Option<Arc<dyn DeadLetters>> {
        None
    }

    /// Ends waiting pulls with [`QueueError::Closed`], gives back what was not settled and releases files and connections.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// What an adapter knows of its connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Health {
    /// It was reached, and all subscriptions are made.
    pub connected_once: bool,
    /// Why it can't be used now; none: it can.
    pub error: Option<String>,
    /// Messages that came and found no room, since the queue was opened; none: the broker keeps what there is no room for.
    pub dropped: Option<u64>,
}

/// An event on its way into a queue.
#[derive(Debug, Clone)]
pub struct Publish {
    /// What to keep.
    pub event: Arc<Event>,
    /// Not delivered before this; none: at once. It arrives anew when it is due: its first-seen time is then, and a subscription
    /// made before then gets it.
    pub due: Option<Timestamp>,
}

/// Where a new subscription begins (surface.md §1, `start`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what is published after it was made; the first subscriptions of a queue begin with all that waits.
    New,
    /// With the oldest event still there.
    All,
}

/// The queue's own number for an event: stable over redeliveries wherever [`Features::stable_position`] says so. What waited in the store
/// ([`later`]) has one of its own there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position(pub u128);

/// What went before this try. Kept with the event where its queue can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Tries {
    /// Tries that failed and count: the attempt is this plus one.
    pub failed: u32,
    /// Outside failures in a row; they cost no attempt.
    pub outside: u32,
    /// When the first of that row was.
    pub outside_since: Option<Timestamp>,
}

/// One event handed to us once, with its lease. Consumed by exactly one [`Settlement`].
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Arc<Event>,
    /// Names the delivery when it is settled.
    pub position: Position,
    /// What went before.
    pub tries: Tries,
    /// The queue's own time of the event where it keeps one, else when this process received it.
    pub first_seen: Timestamp,
}

/// What is done with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// It is done with; also once its dead letter is durable.
    Ack,
    /// Again, not before `due`, remembering `tries`.
    Retry {
        /// Not before.
        due: Timestamp,
        /// What went before the next try.
        tries: Tries,
    },
    /// Given back as it was, to be delivered again at once: a shutdown, a pause.
    Return,
}

/// What the sender of a request gets ([`Queue::answer`]).
#[derive(Debug, Clone)]
pub enum Answer {
    /// What its handler gave through `publisher.reply`.
    Reply(Arc<Event>),
    /// That there is none, and why: its event was given up.
    Failed(String),
}

/// A delivery's position and what is done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// From [`Delivery::position`].
    pub position: Position,
    /// What is done.
    pub settle: Settle,
}

impl Delivery {
    /// Ends the delivery: the event for whoever needs it, the settlement for the queue.
    #[must_use]
    pub fn settle(self, settle: Settle) -> (Arc<Event>, Settlement) {
        (self.event, Settlement { position: self.position, settle })
    }
}

/// What waits in a queue. None where a broker can't tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Depth {
    /// Events that at least one subscription has not ended; delayed ones included.
    pub events: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// Each subscription that the queue knows, orphans included.
    pub subscriptions: Vec<SubscriptionDepth>,
}

/// What waits in one subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubscriptionDepth {
    /// Its name: `<group>-<handler>`.
    pub name: String,
    /// Events not ended, those in flight and those that wait for their time included, delayed publishes too.
    pub events: Option<u64>,
    /// When the oldest of them was published; delayed ones count from when they are due.
    pub oldest: Option<Timestamp>,
    /// Events leased now.
    pub in_flight: Option<u64>,
}

/// What a queue is opened with beside its URL.
#[derive(Debug, Clone)]
pub struct Opening {
    /// The queue's name: in texts, and in the source of messages that are not CloudEvents.
    pub name: String,
    /// The event type of messages that are not CloudEvents.
    pub kind: String,
    /// The attribute whose value is written as the broker's key, where it has one; none: `partitionkey`.
    pub key: Option<String>,
    /// Where a producer's own envelope has what: read where messages become events.
    pub map: Option<Arc<EventMap>>,
    /// The bound on its bytes, where the adapter has one.
    pub max_size_bytes: u64,
    /// This process among others on a broker: `[server] name`.
    pub process: String,
    /// What names of subscriptions begin with, before `-` and the handler's: `[server] group`.
    pub group: String,
    /// How much is kept of its dead letters, where the adapter keeps them.
    pub dead: DeadBounds,
    /// Where an adapter keeps what its broker can't: delays, and tries given back (delivery.md §6). None: it goes without, and says so.
    pub store: Option<Arc<Store>>,
}

/// Opens the queue of a URL. An embedded queue that was left by a crash is checked first; a broker may still be away.
///
/// # Errors
/// When the queue can't be used: [`QueueError::Owned`] names the process that has the folder.
pub async fn open(url: &url::QueueUrl, opening: Opening) -> Result<Arc<dyn Queue>, QueueError> {
    match url {
        url::QueueUrl::Memory => Ok(memory::MemoryQueue::new(opening.name, opening.max_size_bytes)),
        #[cfg(feature = "redis")]
        url::QueueUrl::Redis(stream) => Ok(redis::RedisQueue::open(stream, &opening).await?),
        #[cfg(feature = "mqtt")]
        url::QueueUrl::Mqtt(url) => Ok(later::over(mqtt::MqttQueue::open(url, &opening).await?, mqtt::later(url), &opening)),
        #[cfg(feature = "amqp")]
        url::QueueUrl::Amqp(url) => amqp::open(url, &opening).await,
        #[cfg(feature = "nats")]
        url::QueueUrl::Nats(url) => nats::open(url, &opening).await,
        #[cfg(feature = "nsq")]
        url::QueueUrl::Nsq(url) => Ok(later::over(nsq::NsqQueue::open(url, &opening).await?, nsq::later(url), &opening)),
        #[cfg(feature = "redis")]
        url::QueueUrl::RedisTaken(url) => Ok(redis::taken::open(url, &opening).await?),
        #[cfg(feature = "redis")]
        url::QueueUrl::RedisChannel(url) => Ok(redis::channel::ChannelQueue::open(url, &opening).await?),
        url::QueueUrl::Disk(folder) => Ok(disk::open(folder.clone(), opening).await?),
        #[cfg(feature = "kafka")]
        url::QueueUrl::Kafka(url) => Ok(later::over(kafka::KafkaQueue::open(url, &opening).await?, kafka::LATER, &opening)),
    }
}

/// Handlers subscribe before they pull, so that a subscription that was removed is not made again by a pull that still waits.
fn not_subscribed(queue: &str, subscription: &str) -> QueueError {
    QueueError::Invalid(format!(
        "subscription `{subscription}` is not known to queue `{queue}` (removed, or never made: subscribe first)"
    ))
}
