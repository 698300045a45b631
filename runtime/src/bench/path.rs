//! A queue with one handler on it: the whole path, wired as `app` does it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{QUEUE_BYTES, ROUND_MAX};
use crate::clock::now;
use crate::config::{Ceilings, Grants, HandlerConfig, Limits, RetryPolicy};
use crate::dead::{DeadBounds, DeadLetters};
use crate::dispatcher::{Shared, Subscription};
use crate::handler::{Handler, Version};
use crate::queue::{Opening, Queue, Start};
use crate::sandbox::{Program, Setup};
use crate::store::Store;

/// Between two looks whether a round is over: often enough to end it in time, too seldom to cost what is measured.
const LOOK: Duration = Duration::from_millis(1);

/// Its name.
pub(super) const SUBSCRIPTION: &str = "weir-bench";

/// A queue with one handler on it.
pub(super) struct OnQueue {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) subscription: Arc<Subscription>,
}

impl OnQueue {
    pub(super) fn acked(&self) -> u64 {
        self.subscription.stats.count().acked
    }

    pub(super) async fn until_acked(&self, until: u64) -> anyhow::Result<()> {
        let all = async {
            while self.acked() < until {
                tokio::time::sleep(LOOK).await;
            }
        };
        Ok(tokio::time::timeout(ROUND_MAX, all).await?)
    }
}

/// The subscriptions of a measurement, and what ends them.
pub(super) struct Subscriptions {
    program: Program,
    setup: Arc<Setup>,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Subscriptions {
    pub(super) fn new(program: &Program, setup: &Arc<Setup>, shared: Arc<Shared>) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { program: program.clone(), setup: Arc::clone(setup), shared, tasks, stop }
    }

    /// Subscribes, and serves from now on.
    pub(super) fn path(&self, runtime: &Runtime, queue: Arc<dyn Queue>, concurrency: u32) -> anyhow::Result<OnQueue> {
        let version = Version {
            program: self.program.clone(),
            setup: Arc::clone(&self.setup),
            loaded_at: now(),
            fingerprint: String::new(),
        };
        let handler = Handler::new("bench", handler_config(concurrency), version);
        runtime.block_on(queue.subscribe(SUBSCRIPTION, Start::All))?;
        let of = ("bench", Arc::clone(&queue));
        let subscription = Subscription::new(SUBSCRIPTION.to_owned(), of, handler, Arc::clone(&self.shared));
        self.tasks.spawn_on(Arc::clone(&subscription).serve(self.stop.clone(), Duration::ZERO), runtime.handle());
        Ok(OnQueue { queue, subscription })
    }

    /// Ends them all.
    pub(super) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// What subscriptions share.
pub(super) fn shared(store: &Arc<Store>, guests: &Runtime) -> Arc<Shared> {
    let letters: Arc<dyn DeadLetters> = Arc::clone(store) as _;
    Arc::new(Shared {
        store: Arc::clone(store),
        letters,
        queues: BTreeMap::new(),
        graves: BTreeMap::new(),
        guests: guests.handle().clone(),
        hops: Ceilings::default().hops,
    })
}

/// How a queue is opened.
pub(super) fn opening() -> Opening {
    Opening {
        dead: DeadBounds::default(),
        name: "bench".to_owned(),
        kind: "weir.bench".to_owned(),
        max_size_bytes: QUEUE_BYTES,
        process: "bench".to_owned(),
    }
}

fn handler_config(concurrency: u32) -> HandlerConfig {
    HandlerConfig {
        component: "bench".into(),
        queues: vec!["bench".to_owned()],
        concurrency,
        filter: None,
        paused: false,
        parked: 1_000,
        order_by: None,
        expires: None,
        duplicates: None,
        limits: Limits::default(),
        limit_sources: crate::config::LimitSources::default(),
        retry: RetryPolicy::default(),
        config: Vec::new(),
        grants: Grants::default(),
    }
}
