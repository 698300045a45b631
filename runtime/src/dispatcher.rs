//! From delivery to settlement: pulls what there is room for, runs it, decides, settles in batches.
//!
//! One [`Subscription`] is one handler's reading of one queue. Its pulling and settling run on the server's runtime; its handlers run on
//! the guests' runtime, where a busy guest can't delay a heartbeat. The adapter below reports, `verdict.rs` decides, this module does.

mod pull;
mod run;
mod settle;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::work::Work;
use crate::handler::Handler;
use crate::queue::Queue;
use crate::stats::{Cause, SubscriptionStats};
use crate::store::Store;

/// Deliveries that ended and are not settled yet, per subscription: they hold no permit, so that a slow disk does not idle the
/// handlers, and this bounds them.
const UNSETTLED_MAX: usize = 1_024;

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
    store: Arc<Store>,
    work: Work,
    guests: Handle,
    runners: TaskTracker,
    /// Ends runs whose time is over at shutdown.
    abort: CancellationToken,
}

impl Subscription {
    /// A reading that runs at most `slots` events at once on the runtime `guests`.
    #[must_use]
    pub fn new(
        name: String,
        queue: (&str, Arc<dyn Queue>),
        handler: Arc<Handler>,
        store: Arc<Store>,
        guests: Handle,
    ) -> Arc<Self> {
        let (queue_name, queue) = queue;
        // A handler that reads several queues shares its concurrency among them; configuration sees to it that each gets one.
        let slots = (handler.config.concurrency as usize / handler.config.queues.len().max(1)).max(1);
        Arc::new(Self {
            name,
            queue_name: Arc::from(queue_name),
            queue,
            stats: SubscriptionStats::new(queue_name, &handler.name),
            handler,
            store,
            work: Work::new(slots),
            guests,
            runners: TaskTracker::new(),
            abort: CancellationToken::new(),
        })
    }

    /// Pulls, runs and settles until `stop`; then lets what runs finish within `grace`, settles, and gives back the rest.
    ///
    /// Answers how many deliveries had to be given back while they ran.
    pub async fn serve(self: Arc<Self>, stop: CancellationToken, grace: Duration) -> u64 {
        let pulling = async {
            self.pull_until(&stop).await;
            self.work.give_back_waiting();
            let drained = tokio::time::timeout(grace, self.work.idle()).await.is_ok();
            if !drained {
                self.abort.cancel();
            }
            self.runners.close();
            self.runners.wait().await;
            self.work.close();
        };
        tokio::join!(pulling, self.settle_until_closed());
        let mut counts = self.stats.count();
        let given_back = counts.in_flight;
        for _ in 0..given_back {
            counts.count_returned(Cause::Shutdown);
        }
        counts.in_flight = 0;
        given_back
    }
}
