//! From delivery to settlement: pulls what there is room for, runs it, decides, settles in batches.
//!
//! One [`Subscription`] is one handler's reading of one queue. Its pulling, keeping and settling run on the server's runtime; its handlers
//! run on the guests' runtime, where a busy guest can't delay a heartbeat. The adapter below reports, `verdict.rs` decides, this module does.

pub(crate) mod admit;
mod answer;
mod batch;
mod breaker;
mod ended;
mod gate;
mod keep;
mod lanes;
mod letter;
mod outbox;
mod pull;
mod run;
mod settle;
mod told;
mod work;

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::breaker::Breaker;
pub use self::ended::ParkedFull;
use self::work::{Fill, Work};
use crate::clock::{Timestamp, now};
use crate::dead::DeadLetters;
use crate::handler::Handler;
use crate::queue::Queue;
use crate::stats::{Cause, SubscriptionStats};
use crate::store::{EventKey, Store};

/// Deliveries that ended and are not settled yet, per subscription: they hold no permit, so that a slow disk does not idle the
/// handlers, and this bounds them.
const UNSETTLED_MAX: usize = 1_024;

/// What all subscriptions of a server share.
pub struct Shared {
    /// Duplicates.
    pub store: Arc<Store>,
    /// Where dead letters are put.
    pub letters: Arc<dyn DeadLetters>,
    /// All queues, by name: handlers may publish to them, and some take the dead letters of others.
    pub queues: BTreeMap<String, Arc<dyn Queue>>,
    /// Queues whose dead letters go to another one: that one's name, by their own.
    pub graves: BTreeMap<String, String>,
    /// Where handlers run.
    pub guests: Handle,
    /// Most handlers that an event may descend through: `[ceilings] hops`.
    pub hops: u32,
    /// This process among others: `[server] name`.
    pub name: String,
}

/// One handler's reading of one queue.
pub struct Subscription {
    /// `<group>-<handler>`.
    pub name: String,
    /// The queue's name.
    pub queue_name: Arc<str>,
    /// The queue.
    pub queue: Arc<dyn Queue>,
    /// The handler.
    pub handler: Arc<Handler>,
    /// Its counters.
    pub stats: Arc<SubscriptionStats>,
    shared: Arc<Shared>,
    work: Work,
    slots: usize,
    breaker: watch::Sender<Breaker>,
    runners: TaskTracker,
    /// Ends runs whose time is over at shutdown.
    abort: CancellationToken,
    /// Makes positions of this queue differ from those of others that the handler's `duplicates` knows.
    place: u128,
    /// When this process opened the queue, of a queue that no other has.
    alone_since: Option<Timestamp>,
    /// Whether an error of the filter was said.
    filter_said: AtomicBool,
}

impl Subscription {
    /// A reading of a queue, named, by a handler.
    #[must_use]
    pub fn new(name: String, queue: (&str, Arc<dyn Queue>), handler: Arc<Handler>, shared: Arc<Shared>) -> Arc<Self> {
        let (queue_name, queue) = queue;
        let config = &handler.config;
        // A handler that reads several queues shares its concurrency among them; configuration sees to it that each gets one.
        let slots = (config.concurrency as usize / config.queues.len().max(1)).max(1);
        let stats = SubscriptionStats::new(queue_name, &handler.name);
        queue.window(&name, NonZeroUsize::new(slots + config.parked as usize).unwrap_or(NonZeroUsize::MIN));
        // A queue of this process alone has positions that another process's queue of the same name has too.
        let process = if queue.features().shared { "" } else { shared.name.as_str() };
        Arc::new(Self {
            place: u128::from_le_bytes(EventKey::of(queue_name, process).0),
            alone_since: (!queue.features().shared).then(now),
            name,
            queue_name: Arc::from(queue_name),
            work: Work::new(slots, config.parked as usize, queue.features().shared, Fill::of(config), Arc::clone(&stats)),
            breaker: watch::Sender::new(Breaker::new(config.retry.pause_after)),
            queue,
            stats,
            handler,
            shared,
            slots,
            runners: TaskTracker::new(),
            abort: CancellationToken::new(),
            filter_said: AtomicBool::new(false),
        })
    }

    /// When its circuit breaker lets the next event through, or did; none: it lets everything through.
    #[must_use]
    pub fn paused_until(&self) -> Option<Timestamp> {
        self.breaker.borrow().until()
    }

    /// That nothing is pulled because too much is parked.
    #[must_use]
    pub fn parked_full(&self) -> Option<ParkedFull> {
        self.work.parked_full()
    }

    /// Pulls, runs and settles until `stop`; then lets what runs finish within `grace`, settles, and gives back the rest.
    ///
    /// Answers how many deliveries had to be given back while they ran.
    pub async fn serve(self: Arc<Self>, stop: CancellationToken, grace: Duration) -> u64 {
        let ended = CancellationToken::new();
        let pulling = async {
            self.pull_until(&stop).await;
            self.work.stop();
            let drained = tokio::time::timeout(grace, self.work.idle()).await.is_ok();
            if !drained {
                self.abort.cancel();
            }
            self.runners.close();
            self.runners.wait().await;
            self.work.close();
            ended.cancel();
        };
        tokio::join!(pulling, self.settle_until_closed(), self.keep_until(&ended));
        let mut counts = self.stats.count();
        let given_back = counts.in_flight;
        for _ in 0..given_back {
            counts.count_returned(Cause::Shutdown);
        }
        counts.in_flight = 0;
        given_back
    }

    /// Whether retries wait here rather than in the queue: it can't hold them, or they would be passed by what follows in their lane.
    fn holds_retries(&self) -> bool {
        self.handler.config.order_by.is_some() || !self.queue.features().delay
    }

    fn start_runners(self: &Arc<Self>, count: usize) {
        for _ in 0..count {
            if self.takes_batches() {
                self.runners.spawn_on(Arc::clone(self).run_batches(), &self.shared.guests);
            } else {
                self.runners.spawn_on(Arc::clone(self).run_what_waits(), &self.shared.guests);
            }
        }
    }
}
