//! What an event costs on this machine: the bare engine, the sandbox, the whole path over `memory:` and `disk:`, and publishing to
//! `disk:` alone; CPU time, in one run, as ratios.
//!
//! Rounds of all rows are interleaved, so that a noisy moment does not make one of them look slow; the median counts.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::config::{Ceilings, Grants, HandlerConfig, Limits, RetryPolicy};
use crate::dead::{DeadBounds, DeadLetters};
use crate::dispatcher::{Shared, Subscription};
use crate::event::Event;
use crate::handler::{Handler, Version};
use crate::outcome::Outcome;
#[cfg(feature = "redis")]
use crate::queue::redis::bare::BareStream;
use crate::queue::url::QueueUrl;
use crate::queue::{self, Opening, Publish, Queue, QueueError, Start, disk::DiskQueue, memory::MemoryQueue};
use crate::sandbox::floor::{Floor, Kind};
use crate::sandbox::inspect::inspect;
use crate::sandbox::{self, Job, Permits, Program, Sandbox, Setup};
use crate::store::Store;

/// The component that is run unless another one is given.
pub const HANDLER: &str = include_str!("bench/handler.wat");

/// Rounds of each row.
const ROUNDS: usize = 7;

/// Bytes of the event's data, JSON: what engine-floor.md measured with.
const DATA_BYTES: usize = 450;

/// Events at once in the rows of the whole path.
const CONCURRENCY: u32 = 64;

/// Events of one publish in the rows of the whole path.
const BATCH: usize = 64;

/// Publishers of the row `publish`, and how many publishes of one event each keeps unanswered.
const PUBLISHERS: u64 = 16;
const UNANSWERED: u64 = 64;

/// Longest that one round of the whole path may take.
const ROUND_MAX: Duration = Duration::from_secs(120);

/// Room of the queues: far more than a round publishes.
const QUEUE_BYTES: u64 = 1 << 30;

/// One row.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Row {
    /// What was run.
    pub name: &'static str,
    /// CPU microseconds per event, user and system, of the whole process: the median of the rounds.
    pub cpu_us: f64,
    /// `cpu_us` as a multiple of the row `tuned`.
    pub ratio: f64,
    /// Events a second by the clock on the wall: the median of the rounds.
    pub events_per_second: f64,
}

struct Bench {
    event: Arc<Event>,
    runtime: Runtime,
    bare: Floor,
    tuned: Floor,
    program: Program,
    setup: Arc<Setup>,
    memory: Arc<OnQueue>,
    disk: Arc<OnQueue>,
    unread: Arc<dyn Queue>,
    queue: Option<Arc<OnQueue>>,
    #[cfg(feature = "redis")]
    client: Option<BareStream>,
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
pub fn measure(plan: Plan<'_>) -> anyhow::Result<Vec<Row>> {
    let events = plan.events;
    let bench = Bench::new(plan)?;
    type Round<'a> = Box<dyn Fn() -> anyhow::Result<()> + 'a>;
    let mut rows: Vec<(&'static str, Round<'_>)> = vec![
        ("bare", Box::new(|| bench.floor(&bench.bare, events))),
        ("tuned", Box::new(|| bench.floor(&bench.tuned, events))),
        ("sandbox", Box::new(|| bench.sandbox(events))),
        ("memory", Box::new(|| bench.path(&bench.memory, events))),
        ("disk", Box::new(|| bench.path(&bench.disk, events))),
        ("publish", Box::new(|| bench.publish(events))),
    ];
    #[cfg(feature = "redis")]
    if let Some(client) = &bench.client {
        rows.push(("client", Box::new(|| bench.client(client, events))));
    }
    if let Some(queue) = &bench.queue {
        rows.push(("queue", Box::new(|| bench.path(queue, events))));
    }
    let mut measured = vec![Vec::with_capacity(ROUNDS); rows.len()];
    for round in 0..=ROUNDS {
        for ((_, run), measured) in rows.iter().zip(&mut measured) {
            let (cpu, wall) = (cpu_time(), std::time::Instant::now());
            run()?;
            // The first round fills caches and files.
            if round > 0 {
                measured.push(((cpu_time() - cpu).as_secs_f64(), wall.elapsed().as_secs_f64()));
            }
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of events needs no more than 52 bits")]
    let per = events as f64;
    let cost = |measured: &[(f64, f64)]| median(measured.iter().map(|(cpu, _)| cpu * 1e6 / per));
    let tuned = measured.get(1).map_or(f64::NAN, |measured| cost(measured));
    let row = |((name, _), measured): (&(&'static str, Round<'_>), &Vec<(f64, f64)>)| {
        let cpu_us = cost(measured);
        let events_per_second = per / median(measured.iter().map(|(_, wall)| *wall));
        Row { name, cpu_us, ratio: cpu_us / tuned, events_per_second }
    };
    Ok(rows.iter().zip(&measured).map(row).collect())
}

impl Bench {
    fn new(plan: Plan<'_>) -> anyhow::Result<Self> {
        let Plan { component, event, folder, .. } = plan;
        let runtime = Builder::new_multi_thread().enable_all().build()?;
        let inspection = inspect(component).map_err(anyhow::Error::msg)?;
        inspection.run().map_err(anyhow::Error::msg)?;
        let initial = inspection.initial_memory;
        let (bare, tuned) = (Floor::new(Kind::Bare, component, initial)?, Floor::new(Kind::Tuned, component, initial)?);
        let sandbox = Sandbox::new(&Ceilings::default(), 100, None);
        let program = sandbox.program(component, &inspection)?;
        let setup = Arc::new(Setup {
            handler: Arc::from("bench"),
            limits: Limits::default(),
            config: Vec::new(),
            mailer: None,
            publish: None,
            max_event: 1 << 20,
            permits: Permits::new(&sandbox),
        });
        let store = Store::open(&folder.join("data"))?;
        let memory: Arc<dyn Queue> = MemoryQueue::new("bench", QUEUE_BYTES);
        let disk: Arc<dyn Queue> = DiskQueue::open(&folder.join("queue"), "bench", QUEUE_BYTES)?;
        let letters: Arc<dyn DeadLetters> = Arc::clone(&store) as _;
        let hops = Ceilings::default().hops;
        let shared = Arc::new(Shared {
            store,
            letters,
            queues: BTreeMap::new(),
            graves: BTreeMap::new(),
            guests: runtime.handle().clone(),
            hops,
        });
        let path = |queue: Arc<dyn Queue>| -> anyhow::Result<Arc<OnQueue>> {
            let version =
                Version { program: program.clone(), setup: Arc::clone(&setup), loaded_at: now(), fingerprint: String::new() };
            let handler = Handler::new("bench", handler_config(), version);
            runtime.block_on(queue.subscribe("weir-bench", Start::All))?;
            let of = ("bench", Arc::clone(&queue));
            let subscription = Subscription::new("weir-bench".to_owned(), of, handler, Arc::clone(&shared));
            runtime.spawn(Arc::clone(&subscription).serve(CancellationToken::new(), Duration::ZERO));
            Ok(Arc::new(OnQueue { queue, subscription }))
        };
        let (memory, disk) = (path(memory)?, path(disk)?);
        let opening = Opening {
            dead: DeadBounds::default(),
            name: "bench".to_owned(),
            kind: "weir.bench".to_owned(),
            max_size_bytes: QUEUE_BYTES,
            process: "bench".to_owned(),
        };
        let queue = match plan.queue {
            Some(url) => Some(path(runtime.block_on(queue::open(url, opening))?)?),
            None => None,
        };
        #[cfg(feature = "redis")]
        let client = client(plan.queue, &runtime)?;
        let unread = DiskQueue::open(&folder.join("unread"), "unread", QUEUE_BYTES)?;
        Ok(Self {
            event: Arc::new(event),
            runtime,
            bare,
            tuned,
            program,
            setup,
            memory,
            disk,
            unread,
            queue,
            #[cfg(feature = "redis")]
            client,
        })
    }

    fn floor(&self, floor: &Floor, events: u64) -> anyhow::Result<()> {
        Ok(self.runtime.block_on(floor.run(&self.event, events))?)
    }

    /// A stream through the bare client: no queue, no handler.
    #[cfg(feature = "redis")]
    fn client(&self, client: &BareStream, events: u64) -> anyhow::Result<()> {
        self.runtime.block_on(async { tokio::time::timeout(ROUND_MAX, client.round(&self.event, events, BATCH)).await })??;
        Ok(())
    }

    fn sandbox(&self, events: u64) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            for _ in 0..events {
                let job =
                    Job { event: &self.event, queue: "bench", order_key: None, attempt: 1, attempts_left: 7, first_seen: now() };
                let report = sandbox::run(&self.program, &self.setup, job).await;
                anyhow::ensure!(report.outcome == Outcome::Done, "the handler ended {:?}", report.outcome);
            }
            Ok(())
        })
    }

    /// Publishes all and waits until all are acked.
    fn path(&self, path: &OnQueue, events: u64) -> anyhow::Result<()> {
        let acked = || path.subscription.stats.count().acked;
        let until = acked() + events;
        let published = async {
            let mut left = usize::try_from(events).unwrap_or(usize::MAX);
            while left > 0 {
                let batch = left.min(BATCH);
                path.queue.publish(vec![Publish { event: Arc::clone(&self.event), due: None }; batch]).await?;
                left -= batch;
            }
            while acked() < until {
                // Often enough to end a round in time, too seldom to cost what is measured.
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            Ok(())
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

/// The bare client beside a Redis queue.
#[cfg(feature = "redis")]
fn client(queue: Option<&QueueUrl>, runtime: &Runtime) -> anyhow::Result<Option<BareStream>> {
    match queue {
        Some(QueueUrl::Redis(url)) => Ok(Some(runtime.block_on(BareStream::open(url))?)),
        _ => Ok(None),
    }
}

fn handler_config() -> HandlerConfig {
    HandlerConfig {
        component: "bench".into(),
        queues: vec!["bench".to_owned()],
        concurrency: CONCURRENCY,
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

/// User and system time of all threads.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The machine, in one line: cores, and whether the kernel reports written pages.
#[must_use]
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':')).map_or("?", |(_, model)| model.trim());
    let scan = if sandbox::engine::scan_available() { "used" } else { "not available" };
    format!("{cores} cores, {model}, page scan {scan}")
}
