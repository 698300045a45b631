//! `amqp://…/vhost/queue`, `?exchange=e`: RabbitMQ (delivery.md §13). An exchange is read through a queue for each handler; a queue is
//! one reading, and [`open`] puts [`Fanout`] over it.
//!
//! Everything is published with confirms, and what no queue takes is an error. What is settled is settled once the server has answered a
//! question that was asked after it. A retry is a copy, which carries the tries behind it, in a queue in which it waits; it is confirmed
//! before the original is acknowledged. What is given back is a copy too where the server would count it as tried: all before 4.3 do.
//!
//! Tries: those that the copy carries, and the deliveries that the server counts since. It counts what was sent to a process that died,
//! whether it ran or not: so nothing is asked for that no pull asks for. A classic queue tells only that something was delivered before;
//! then it goes round as a copy that carries one more, and the next time can be told again.
//!
//! A connection that is lost gives back everything that came by it. What runs goes on for a while: it comes again, and is known by its
//! message-id. Left out: order. What is given back comes behind what is new, or before it, as the server's release likes.

mod arrival;
mod asking;
mod depth;
pub(super) mod floor;
mod link;
mod message;
mod plan;
mod problem;
mod publish;
mod reader;
mod settle;
mod shared;
mod steps;
mod subscription;
mod sweep;
mod tls;
mod topology;
pub mod url;

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, RwLock};
use tokio::task::JoinSet;

use self::link::State;
use self::problem::Problem;
use self::shared::Shared;
use self::url::{AmqpUrl, Place};
use super::fanout::Fanout;
use super::{BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start};

/// What an exchange with a queue for each handler promises.
pub const FEATURES: Features = Features {
    // A queue keeps what came since it was made, and an exchange nothing.
    history: false,
    // What is given back comes behind what is new.
    ordered: false,
    // How old the oldest is can't be asked, nor what other processes hold.
    depth: false,
    // All or none of a batch, and a bound of Weir's own: neither is the server's.
    bounded: false,
    shared: true,
    hold: Some(Duration::from_secs(30 * 60)),
    ..Features::LASTING
};

/// What a queue that several handlers read promises.
pub const QUEUE_FEATURES: Features = Features {
    groups: false,
    // They begin with what waits.
    history: true,
    ..FEATURES
};

/// How long closing may take: what is not given back by then comes again with the end of the connection.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the first connection when the queue is opened; later ones are made in the background.
const FIRST_CONNECTION: Duration = Duration::from_secs(5);

/// A place on RabbitMQ as a queue.
pub struct AmqpQueue {
    shared: Arc<Shared>,
    /// Readers, one a subscription: they end by themselves when the queue is closed, and with it when it is dropped.
    readers: Mutex<JoinSet<()>>,
    /// Connections, publishing, and what is looked at now and then.
    tasks: Mutex<JoinSet<()>>,
    /// Held, shared, by settlements: closing waits for those that have begun.
    settling: RwLock<()>,
    ended: OnceCell<()>,
}

/// Opens a place, for any number of handlers.
///
/// # Errors
/// As [`AmqpQueue::open`].
pub async fn open(url: &AmqpUrl, opening: &Opening) -> Result<Arc<dyn Queue>, QueueError> {
    let queue = AmqpQueue::open(url, opening).await?;
    Ok(match url.place {
        Place::Exchange(_) => queue,
        Place::Queue(_) => Fanout::over(queue, opening),
    })
}

impl AmqpQueue {
    /// Opens a place. The server may be away; then everything is made on the first connection.
    ///
    /// # Errors
    /// When the server refuses us, or what is there can't be used.
    pub async fn open(url: &AmqpUrl, opening: &Opening) -> Result<Arc<Self>, QueueError> {
        let (shared, jobs) = Shared::new(url, opening);
        let shared = Arc::new(shared);
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let shared = Arc::clone(&shared);
            async move { shared.reading.keep(&shared.over, Some(&shared)).await }
        });
        tasks.spawn({
            let shared = Arc::clone(&shared);
            async move { shared.publishing.keep(&shared.over, None).await }
        });
        tasks.spawn({
            let shared = Arc::clone(&shared);
            async move { shared.publish_jobs(jobs).await }
        });
        tasks.spawn(sweep::sweep(Arc::clone(&shared)));
        let first = async { tokio::join!(shared.reading.settled(), shared.publishing.settled()) };
        if let Ok((reading, publishing)) = tokio::time::timeout(FIRST_CONNECTION, first).await {
            for settled in [reading, publishing] {
                if let Err(Problem::Refused(refused)) = settled {
                    return Err(QueueError::Invalid(refused));
                }
            }
        }
        let queue = Self {
            shared,
            readers: Mutex::default(),
            tasks: Mutex::new(tasks),
            settling: RwLock::default(),
            ended: OnceCell::new(),
        };
        if let Some(relay) = &queue.shared.relay {
            relay.reading.store(true, Ordering::Relaxed);
            lock(&queue.readers).spawn(reader::read(Arc::clone(&queue.shared), Arc::clone(relay)));
        }
        Ok(Arc::new(queue))
    }

    async fn pull_now(&self, name: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let subscription = self.shared.find_or_adopt(name);
        if !subscription.reading.swap(true, Ordering::Relaxed) {
            lock(&self.readers).spawn(reader::read(Arc::clone(&self.shared), Arc::clone(&subscription)));
        }
        subscription.pull(max).await
    }

    async fn settle_now(&self, name: &str, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        let _settling = self.settling.read().await;
        if self.shared.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let settled = self.shared.find_or_adopt(name).settle(&self.shared, batch).await;
        // What fails because all ends is given back by that.
        settled.map_err(|error| if self.shared.closed.is_cancelled() { QueueError::Closed } else { error })
    }

    /// Ends readers, gives back what they hold, and the connections.
    async fn end(&self) {
        self.shared.closed.cancel();
        let subscriptions = self.shared.subscriptions();
        let leaving = async {
            drop(self.settling.write().await);
            let mut left = Ok(());
            for subscription in subscriptions.iter().chain(&self.shared.relay) {
                if subscription.reading.load(Ordering::Relaxed) {
                    subscription.quiet.cancelled().await;
                }
                left = left.and(subscription.leave(&self.shared).await);
            }
            left
        };
        let name = &self.shared.name;
        match tokio::time::timeout(CLOSE_MAX, leaving).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(queue = %name, %error, "what is held could not be given back, it comes again as tried")
            }
            Err(_) => tracing::warn!(queue = %name, "what is held was not given back in time, it comes again as tried"),
        }
        let ends = async {
            self.shared.reading.end().await;
            self.shared.publishing.end().await;
        };
        // A server that does not answer sees the connection end.
        let _ = tokio::time::timeout(CLOSE_MAX, ends).await;
        self.shared.over.cancel();
        lock(&self.readers).abort_all();
        lock(&self.tasks).abort_all();
    }
}

/// Without a word to the server, as a process that is killed ends: what was not settled comes again.
impl Drop for AmqpQueue {
    fn drop(&mut self) {
        self.shared.reading.cut();
        self.shared.publishing.cut();
    }
}

impl Queue for AmqpQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move { self.shared.publish(&batch).await })
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        let bound = self.shared.message_max.load(Ordering::Relaxed);
        let largest = batch.iter().map(|publish| publish.event.size() as u64).max().unwrap_or_default();
        (largest > bound).then_some(QueueError::TooLarge { size: largest, bound })
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_now(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move { self.settle_now(subscription, &batch).await })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(self.shared.depth())
    }

    fn features(&self) -> Features {
        let promised = match self.shared.url().place {
            Place::Exchange(_) => FEATURES,
            Place::Queue(_) => QUEUE_FEATURES,
        };
        Features { hold: Some(self.shared.url().hold), ..promised }
    }

    fn window(&self, subscription: &str, most: NonZeroUsize) {
        self.shared.window(subscription, most.get());
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(async move { self.shared.find_or_adopt(subscription).inbox.lapsed().await })
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        self.shared.find_or_adopt(subscription).holds(position)
    }

    fn health(&self) -> Health {
        let (reading, publishing) = (&self.shared.reading, &self.shared.publishing);
        let connected_once = reading.once.load(Ordering::Relaxed) && publishing.once.load(Ordering::Relaxed);
        let error = [reading, publishing].into_iter().find_map(|link| match link.state() {
            State::Up(live) => lock(&live.blocked).as_ref().map(|reason| format!("the server takes no messages: {reason}")),
            State::Down(problem) => Some(problem.text()),
            State::Connecting => Some("not connected yet".to_owned()),
        });
        Health { connected_once, error, ..Health::default() }
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.subscribe(subscription, start))
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
