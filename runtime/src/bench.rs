//! What an event costs on this machine: the bare engine, the sandbox, the whole path over `memory:` and `disk:`, and publishing to
//! `disk:` alone; CPU time, in one run, as ratios.
//!
//! For a queue on a broker, the bare client beside it, and what both are held to: `bench/aim.rs`.
//!
//! Rounds of all rows are interleaved, so that a noisy moment does not make one of them look slow; the median counts.

mod aim;
mod broker;
mod rounds;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::aim::Aim;
use self::aim::aims;
use self::broker::OnBroker;
pub use self::rounds::{Row, machine};
use self::rounds::{Step, Timed, cores, rows_in_rounds};
use crate::clock::now;
use crate::config::{Ceilings, Grants, HandlerConfig, Limits, RetryPolicy};
use crate::dead::DeadBounds;
use crate::dispatcher::{Shared, Subscription};
use crate::event::Event;
use crate::handler::{Handler, Version};
use crate::outcome::Outcome;
use crate::queue::url::QueueUrl;
use crate::queue::{self, Opening, Publish, Queue, QueueError, Start, disk::DiskQueue, memory::MemoryQueue};
use crate::sandbox::floor::{Floor, Kind};
use crate::sandbox::inspect::inspect;
use crate::sandbox::{self, Job, Permits, Program, Sandbox, Setup};
use crate::store::Store;

/// The component that is run unless another one is given.
pub const HANDLER: &str = include_str!("bench/handler.wat");

/// Bytes of the event's data, JSON: what engine-floor.md measured with.
const DATA_BYTES: usize = 450;

/// Events at once in the rows of the whole path.
const CONCURRENCY: u32 = 64;

/// Events at once where each pull is a way to a broker and back: as many as a handler may have.
const CONCURRENCY_AWAY: u32 = 256;

/// Events of one publish when a queue on a broker is filled.
const FILL: usize = 500;

/// Events of one publish in the rows of the whole path.
const BATCH: usize = 64;

/// Publishers of the row `publish`, and how many publishes of one event each keeps unanswered.
const PUBLISHERS: u64 = 16;
const UNANSWERED: u64 = 64;

/// Between two looks whether a round is over, which nothing tells, as that would cost each event: often enough to end it in time, too
/// seldom to cost what is measured. As long again for so many events that are left, up to the longest.
const LOOK: Duration = Duration::from_millis(1);
const LOOK_EVENTS: u64 = 400;
const LOOK_MAX: Duration = Duration::from_millis(20);

/// Longest that what was opened may take to end.
const END_MAX: Duration = Duration::from_secs(10);

const SUBSCRIPTION: &str = "weir-bench";

/// Longest that one round of the whole path may take.
const ROUND_MAX: Duration = Duration::from_secs(120);

/// Room of the queues: far more than a round publishes.
const QUEUE_BYTES: u64 = 1 << 30;

/// What was measured.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Measured {
    /// Row by row.
    pub rows: Vec<Row>,
    /// What the path over a broker is held to.
    pub aims: Vec<Aim>,
    /// Cores that this process had for itself: without those that a broker on the same machine took.
    pub cores: f64,
}

struct Bench {
    event: Arc<Event>,
    runtime: Runtime,
    /// Handlers run here, as in `weir serve`.
    guests: Runtime,
    bare: Floor,
    tuned: Floor,
    program: Program,
    setup: Arc<Setup>,
    memory: OnQueue,
    disk: OnQueue,
    unread: Arc<dyn Queue>,
    queue: Option<OnQueue>,
    broker: Option<OnBroker>,
    /// Subscriptions, and what ends them.
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A queue with one handler on it.
struct OnQueue {
    queue: Arc<dyn Queue>,
    subscription: Arc<Subscription>,
}

/// What is measured.
pub struct Plan<'a> {
    /// The component's bytes.
    pub component: &'a [u8],
    /// What it is given.
    pub event: Event,
    /// Events a round.
    pub events: u64,
    /// Where files go.
    pub folder: &'a Path,
    /// A queue to measure beside the embedded ones.
    pub queue: Option<&'a QueueUrl>,
}

/// Measures a component.
///
/// # Errors
/// When something can't be set up, or a run does not end ok.
pub fn measure(plan: Plan<'_>) -> anyhow::Result<Measured> {
    let events = plan.events;
    let bench = Bench::new(plan)?;
    let rows = bench.rows(events);
    let measured = rows_in_rounds(&rows);
    drop(rows);
    let ended = bench.end();
    let rows = measured?;
    ended?;
    let cores = cores() - bench.broker.as_ref().map_or(0.0, OnBroker::taken);
    Ok(Measured { aims: aims(&rows, cores), rows, cores })
}

impl OnQueue {
    fn acked(&self) -> u64 {
        self.subscription.stats.count().acked
    }

    async fn until_acked(&self, until: u64) -> anyhow::Result<()> {
        let all = async {
            while let left @ 1.. = until.saturating_sub(self.acked()) {
                let looks = u32::try_from(left / LOOK_EVENTS + 1).unwrap_or(u32::MAX);
                tokio::time::sleep(LOOK.saturating_mul(looks).min(LOOK_MAX)).await;
            }
        };
        Ok(tokio::time::timeout(ROUND_MAX, all).await?)
    }
}

impl Bench {
    fn new(plan: Plan<'_>) -> anyhow::Result<Self> {
        let Plan { component, event, folder, .. } = plan;
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let guests = Builder::new_multi_thread().enable_all().build()?;
        let inspection = inspect(component).map_err(anyhow::Error::msg)?;
        inspection.run().map_err(anyhow::Error::msg)?;
        let initial = inspection.initial_memory;
        let (bare, tuned) = (Floor::new(Kind::Bare, component, initial)?, Floor::new(Kind::Tuned, component, initial)?);
        let sandbox = Sandbox::new(&Ceilings::default(), 100, None);
        let program = sandbox.program(component, &inspection)?;
        let setup = Arc::new(setup(&sandbox));
        let shared = shared(Store::open(&folder.join("data"))?, &guests);
        let memory: Arc<dyn Queue> = MemoryQueue::new("bench", QUEUE_BYTES);
        let disk: Arc<dyn Queue> = DiskQueue::open(&folder.join("queue"), "bench", QUEUE_BYTES)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let path = |queue: Arc<dyn Queue>, concurrency| -> anyhow::Result<OnQueue> {
            let version =
                Version { program: program.clone(), setup: Arc::clone(&setup), loaded_at: now(), fingerprint: String::new() };
            let handler = Handler::new("bench", handler_config(concurrency), version);
            runtime.block_on(queue.subscribe(SUBSCRIPTION, Start::All))?;
            let of = ("bench", Arc::clone(&queue));
            let subscription = Subscription::new(SUBSCRIPTION.to_owned(), of, handler, Arc::clone(&shared));
            tasks.spawn_on(Arc::clone(&subscription).serve(stop.clone(), Duration::ZERO), runtime.handle());
            Ok(OnQueue { queue, subscription })
        };
        let (memory, disk) = (path(memory, CONCURRENCY)?, path(disk, CONCURRENCY)?);
        let open = |url: &QueueUrl| runtime.block_on(queue::open(url, opening()));
        let (mut queue, mut broker) = (None, None);
        if let Some(url) = plan.queue {
            match queue::floor::open(url)? {
                Some((url, floor)) => broker = Some(OnBroker::new(floor, path(open(&url)?, CONCURRENCY_AWAY)?)),
                None => queue = Some(path(open(url)?, CONCURRENCY)?),
            }
        }
        let unread = DiskQueue::open(&folder.join("unread"), "unread", QUEUE_BYTES)?;
        Ok(Self {
            event: Arc::new(event),
            runtime,
            guests,
            bare,
            tuned,
            program,
            setup,
            memory,
            disk,
            unread,
            queue,
            broker,
            tasks,
            stop,
        })
    }

    fn rows(&self, events: u64) -> Vec<Timed<'_>> {
        let row = |name, run| Timed { name, events, prepare: None, run };
        let mut rows = vec![
            row("bare", Box::new(move || self.floor(&self.bare, events)) as Step<'_>),
            row("tuned", Box::new(move || self.floor(&self.tuned, events))),
            row("sandbox", Box::new(move || self.sandbox(events))),
            row("memory", Box::new(move || self.path(&self.memory, events))),
            row("disk", Box::new(move || self.path(&self.disk, events))),
            row("publish", Box::new(move || self.publish(events))),
        ];
        if let Some(queue) = &self.queue {
            rows.push(row("queue", Box::new(move || self.path(queue, events))));
        }
        if let Some(broker) = &self.broker {
            let events = events.min(broker::EVENTS_MAX);
            let (fill_client, fill) = (Some(broker.fill_client(self, events)), Some(broker.fill(self, events)));
            rows.push(Timed { name: "client", events, prepare: fill_client, run: broker.run_client(events) });
            rows.push(Timed { name: "broker", events, prepare: fill, run: broker.run(self, events) });
        }
        rows
    }

    /// Ends the subscriptions, and removes what a broker was given.
    fn end(&self) -> anyhow::Result<()> {
        self.stop.cancel();
        self.tasks.close();
        self.runtime.block_on(async {
            tokio::time::timeout(END_MAX, self.tasks.wait()).await?;
            if let Some(broker) = &self.broker {
                tokio::time::timeout(END_MAX, broker.remove()).await??;
            }
            Ok(())
        })
    }

    fn floor(&self, floor: &Floor, events: u64) -> anyhow::Result<()> {
        Ok(self.guests.block_on(floor.run(&self.event, events))?)
    }

    fn sandbox(&self, events: u64) -> anyhow::Result<()> {
        self.guests.block_on(async {
            for _ in 0..events {
                let job = Job {
                    event: &self.event,
                    queue: "bench",
                    order_key: None,
                    attempt: 1,
                    attempts_left: 7,
                    first_seen: now(),
                    answer_by: None,
                };
                let report = sandbox::run(&self.program, &self.setup, job).await;
                anyhow::ensure!(report.outcome == Outcome::Done, "the handler ended {:?}", report.outcome);
            }
            Ok(())
        })
    }

    /// Publishes all and waits until all are acked.
    fn path(&self, path: &OnQueue, events: u64) -> anyhow::Result<()> {
        let until = path.acked() + events;
        let published = async {
            let mut left = usize::try_from(events).unwrap_or(usize::MAX);
            while left > 0 {
                let batch = left.min(BATCH);
                path.queue.publish(vec![Publish { event: Arc::clone(&self.event), due: None }; batch]).await?;
                left -= batch;
            }
            path.until_acked(until).await
        };
        self.runtime.block_on(async { tokio::time::timeout(ROUND_MAX, published).await })?
    }
}

impl Bench {
    /// Publishes to a disk queue that nobody reads, one event a publish; each is answered once it is durable.
    fn publish(&self, events: u64) -> anyhow::Result<()> {
        let publishers = (0..PUBLISHERS * UNANSWERED).map(|publisher| {
            let (queue, event) = (Arc::clone(&self.unread), Arc::clone(&self.event));
            let count = events / (PUBLISHERS * UNANSWERED) + u64::from(publisher < events % (PUBLISHERS * UNANSWERED));
            self.runtime.spawn(async move {
                for _ in 0..count {
                    queue.publish(vec![Publish { event: Arc::clone(&event), due: None }]).await?;
                }
                Ok::<_, QueueError>(())
            })
        });
        let publishers: Vec<_> = publishers.collect();
        self.runtime.block_on(async {
            for publisher in publishers {
                publisher.await??;
            }
            Ok(())
        })
    }
}

fn setup(sandbox: &Sandbox) -> Setup {
    Setup {
        handler: Arc::from("bench"),
        limits: Limits::default(),
        config: Vec::new(),
        mailer: None,
        publish: None,
        http: None,
        redactor: Default::default(),
        buckets: None,
        max_event: 1 << 20,
        permits: Permits::new(sandbox),
    }
}

fn shared(store: Arc<Store>, guests: &Runtime) -> Arc<Shared> {
    Arc::new(Shared {
        letters: Arc::clone(&store) as _,
        store,
        queues: BTreeMap::new(),
        graves: BTreeMap::new(),
        guests: guests.handle().clone(),
        hops: Ceilings::default().hops,
        name: String::new(),
    })
}

fn opening() -> Opening {
    Opening {
        dead: DeadBounds::default(),
        store: None,
        name: "bench".to_owned(),
        kind: "weir.bench".to_owned(),
        key: None,
        map: None,
        max_size_bytes: QUEUE_BYTES,
        process: "bench".to_owned(),
        group: "weir".to_owned(),
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
        run: None,
        batch: None,
        limits: Limits::default(),
        limit_sources: crate::config::LimitSources::default(),
        retry: RetryPolicy::default(),
        config: Vec::new(),
        grants: Grants::default(),
    }
}

/// The event that is run unless another one is given: 500 bytes of JSON.
#[must_use]
pub fn event() -> Event {
    let data = format!("{{\"answer\":\"{}\",\"to\":\"a@example.com\",\"n\":1}}", "x".repeat(DATA_BYTES));
    Event {
        id: "01a1fd6e-ee8c-7564-96e0-9e7c81387527".to_owned(),
        source: "/weir/bench".to_owned(),
        kind: "com.example.answered".to_owned(),
        datacontenttype: Some("application/json".to_owned()),
        data: Some(Bytes::from(data)),
        ..Event::default()
    }
}
