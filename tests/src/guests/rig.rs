//! A sandbox with few instances and few workers, in which a lost one shows: loads guests, runs them, and looks whether good ones still run
//! as if nothing had happened.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails here fails the test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use weir_runtime::clock::Timestamp;
use weir_runtime::config::{BucketGrant, Ceilings, EmailGrant, Grants, Limits, PublishGrant, Relay, RelayTls};
use weir_runtime::event::Event;
use weir_runtime::keyvalue::Places;
use weir_runtime::mail::{Mailer, Relays};
use weir_runtime::outgoing::{HttpGrant, Outgoing, Pattern};
use weir_runtime::sandbox::redact::Redactor;
use weir_runtime::sandbox::{self, Batch, Job, LoadError, Permits, Program, Report, Sandbox, Setup};
use weir_runtime::store::Store;

use super::{LIMIT_GOOD, LIMIT_GOOD_LARGE};

/// Instances of the pool: more than workers, few enough that each one counts.
pub const INSTANCES: u32 = 4;

/// Threads that run guests.
pub const WORKERS: usize = 2;

/// Runs of a bad guest: many times the instances, so that whatever is lost each time has run out.
pub const RUNS: usize = 50;

/// Runs of a bad guest that takes its time.
pub const SLOW_RUNS: usize = 10;

/// Longest that anything here may take, on a busy machine.
pub const BOUND: Duration = Duration::from_secs(60);

/// Rounds in which all good guests must once have run at the same time: one is enough on a quiet machine.
const ROUNDS: usize = 50;

/// The queue's name in every delivery.
pub const QUEUE: &str = "events";

/// The handler's name in every delivery.
pub const HANDLER: &str = "guest";

/// What weir.toml would say of a handler.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// `[handler.guest.limits]`.
    pub limits: Limits,
    /// `[handler.guest.config]`.
    pub config: Vec<(String, String)>,
    /// `[handler.guest.grants] email`, to everybody over this relay.
    pub relay: Option<Relay>,
    /// `[handler.guest.grants] publish`.
    pub publish: Option<PublishGrant>,
    /// `[handler.guest.grants] http`.
    pub http: Vec<HttpGrant>,
    /// `[handler.guest.grants] keyvalue`.
    pub buckets: Vec<BucketGrant>,
}

impl Settings {
    /// The defaults but for what is changed here.
    #[must_use]
    pub fn limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self { limits, ..Self::default() }
    }

    /// With one more value that the guest reads.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.config.push((key.to_owned(), value.to_owned()));
        self
    }

    /// With leave to send mail.
    #[must_use]
    pub fn mail(mut self, relay: Relay) -> Self {
        self.relay = Some(relay);
        self
    }

    /// With leave to make requests.
    #[must_use]
    pub fn http(mut self, url: &str, methods: &[&str]) -> Self {
        let methods = methods.iter().map(|method| (*method).to_owned()).collect();
        self.http.push(HttpGrant { url: Pattern::parse(url).unwrap(), methods });
        self
    }

    /// With leave to publish to these queues, `"self"` among them.
    #[must_use]
    pub fn publish(mut self, queues: &[&str]) -> Self {
        let own = queues.contains(&PublishGrant::OWN);
        let queues = queues.iter().filter(|name| **name != PublishGrant::OWN).map(|name| (*name).to_owned()).collect();
        self.publish = Some(PublishGrant { queues, own });
        self
    }
}

/// A relay where nobody listens: every mail fails for an outside reason, at once.
#[must_use]
pub fn nobody() -> Relay {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    Relay::Smtp { host: "127.0.0.1".to_owned(), port, tls: RelayTls::None, credentials: None }
}

/// A handler that is loaded.
#[derive(Clone)]
pub struct Loaded {
    /// What runs.
    pub program: Program,
    /// How.
    pub setup: Arc<Setup>,
}

impl Loaded {
    /// Runs one event.
    pub async fn run(&self, event: &Arc<Event>, attempt: u32) -> Report {
        let job = Job {
            event,
            queue: QUEUE,
            order_key: None,
            attempt,
            attempts_left: 1,
            first_seen: Timestamp(1_700_000_000_123),
            answer_by: None,
        };
        sandbox::run(&self.program, &self.setup, job).await
    }
}

impl Loaded {
    /// Runs events in one call.
    pub async fn run_batch(&self, events: &[Arc<Event>]) -> Batch {
        let first_seen = Timestamp(1_700_000_000_123);
        let job = |event| Job { event, queue: QUEUE, order_key: None, attempt: 1, attempts_left: 1, first_seen, answer_by: None };
        let jobs: Vec<_> = events.iter().map(job).collect();
        sandbox::run_batch(&self.program, &self.setup, &jobs).await
    }
}

/// A sandbox on a runtime of its own.
pub struct Rig {
    /// The sandbox.
    pub sandbox: Arc<Sandbox>,
    // Before the runtime, which its tasks run on.
    relays: Relays,
    /// By which way requests leave.
    pub outgoing: Outgoing,
    buckets: Places,
    runtime: Runtime,
    /// A folder for the test's own use.
    pub folder: TempDir,
}

impl Default for Rig {
    fn default() -> Self {
        Self::new()
    }
}

impl Rig {
    /// Compiled code is kept beside the guests: it is made once, not once a test.
    #[must_use]
    pub fn new() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build().unwrap();
        let sandbox = Sandbox::new(&Ceilings::default(), INSTANCES, Some(Path::new(env!("OUT_DIR"))));
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("data")).unwrap();
        let buckets = Places::new(Arc::clone(&store), "weir", runtime.handle().clone());
        let relays = Relays::new(store, Duration::from_secs(3600), runtime.handle().clone());
        let outgoing = Outgoing::new(runtime.handle().clone());
        Self { sandbox, relays, outgoing, buckets, runtime, folder }
    }

    /// Does with a component all that loading a handler does, short of the probe.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn load(&self, path: impl AsRef<Path>, settings: &Settings) -> Result<Loaded, LoadError> {
        let (bytes, inspection) = self.sandbox.read(path.as_ref())?;
        let grant = |relay: &Relay| EmailGrant {
            relay: relay.clone(),
            from: "QA <noreply@example.com>".to_owned(),
            to: vec!["*".to_owned()],
            rate: None,
        };
        let grants = Grants {
            email: settings.relay.as_ref().map(grant),
            publish: settings.publish.clone(),
            http: settings.http.clone(),
            keyvalue: settings.buckets.clone(),
        };
        Sandbox::admit(&inspection, HANDLER, &grants)?;
        let program = self.sandbox.program(&bytes, &inspection)?;
        let mailer = grants.email.map(|grant| Mailer::new(HANDLER, &grant, &self.relays).unwrap());
        let setup = Setup {
            handler: Arc::from(HANDLER),
            limits: settings.limits,
            config: settings.config.clone(),
            mailer,
            publish: grants.publish,
            http: self.outgoing.client(HANDLER, &grants.http),
            redactor: Redactor::default(),
            buckets: self.buckets.granted(HANDLER, &settings.buckets).unwrap(),
            max_event: 1 << 20,
            permits: Permits::new(&self.sandbox),
        };
        Ok(Loaded { program, setup: Arc::new(setup) })
    }

    /// Instantiates a handler as a probe and runs its self-test.
    ///
    /// # Errors
    /// Why it can't be used.
    pub fn probe(&self, loaded: &Loaded) -> Result<(), LoadError> {
        let loaded = loaded.clone();
        self.wait(self.runtime.spawn(async move { sandbox::probe(&loaded.program, &loaded.setup).await }))
    }

    /// Runs one event on a worker.
    #[must_use]
    pub fn run(&self, loaded: &Loaded) -> Report {
        self.wait(self.begin(loaded, Arc::new(event())))
    }

    /// Runs events in one call, on a worker.
    #[must_use]
    pub fn run_batch(&self, loaded: &Loaded, events: Vec<Event>) -> Batch {
        let (loaded, events) = (loaded.clone(), events.into_iter().map(Arc::new).collect::<Vec<_>>());
        self.wait(self.runtime.spawn(async move { loaded.run_batch(&events).await }))
    }

    /// Runs anything on a worker.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(task)
    }

    /// Runs an event on a worker.
    #[must_use]
    pub fn begin(&self, loaded: &Loaded, event: Arc<Event>) -> JoinHandle<Report> {
        let loaded = loaded.clone();
        self.runtime.spawn(async move { loaded.run(&event, 1).await })
    }

    /// Waits for what runs on a worker. A panic of the host there fails the test.
    pub fn wait<T>(&self, task: JoinHandle<T>) -> T {
        let bounded = async { tokio::time::timeout(BOUND, task).await };
        self.runtime.block_on(bounded).expect("still running: an instance or a worker is lost").expect("the host panicked")
    }

    /// Runs a number of events as fast as instances allow.
    #[must_use]
    pub fn run_many(&self, loaded: &Loaded, many: usize) -> Vec<Report> {
        let running: Vec<_> = (0..many).map(|_| self.begin(loaded, Arc::new(event()))).collect();
        running.into_iter().map(|task| self.wait(task)).collect()
    }

    /// Fails unless as many good handlers as there are instances can run at the same time: in small memories and in large ones, which
    /// have an engine and a pool each.
    pub fn assert_serves(&self) {
        for good in [LIMIT_GOOD, LIMIT_GOOD_LARGE] {
            // Loaded now, because a handler takes an instance of its own out of the shared ones.
            let good = self.load(good, &Settings::default()).unwrap();
            let begun = Instant::now();
            let all_at_once = (0..ROUNDS).any(|_| overlap(&self.run_many(&good, INSTANCES as usize)));
            assert!(all_at_once, "{INSTANCES} good guests never ran at once: an instance is lost");
            assert!(begun.elapsed() < BOUND, "good guests took {:?}", begun.elapsed());
        }
        assert!(self.all_workers_run(), "of {WORKERS} workers one is lost");
    }

    /// Whether as many tasks as there are workers can each hold one at the same time.
    fn all_workers_run(&self) -> bool {
        let arrived = Arc::new(AtomicUsize::new(0));
        let meet = |arrived: Arc<AtomicUsize>| async move {
            let begun = Instant::now();
            arrived.fetch_add(1, Ordering::Relaxed);
            while arrived.load(Ordering::Relaxed) < WORKERS && begun.elapsed() < BOUND {
                std::thread::yield_now();
            }
            arrived.load(Ordering::Relaxed) == WORKERS
        };
        let tasks: Vec<_> = (0..WORKERS).map(|_| self.spawn(meet(Arc::clone(&arrived)))).collect();
        tasks.into_iter().all(|task| self.runtime.block_on(task).expect("the host panicked"))
    }
}

/// Whether all runs, each of them done, had a moment in common.
fn overlap(reports: &[Report]) -> bool {
    let time = |report: &Report, name: &str| -> u128 {
        assert_eq!(report.outcome.name(), "done", "a good guest: {report:?}");
        let line = report.log.lines().find_map(|line| line.strip_prefix(name)).expect("a time in the log");
        line.parse().unwrap()
    };
    let last_begun = reports.iter().map(|report| time(report, "began=")).max();
    let first_ended = reports.iter().map(|report| time(report, "ended=")).min();
    last_begun < first_ended
}

/// A report without most of its log.
fn shown(report: &Report) -> String {
    let log: String = report.log.chars().take(500).collect();
    format!("{:?} after {:?}, {:#?}, log: {log}", report.outcome, report.elapsed, report.backtrace)
}

/// An ordinary event.
#[must_use]
pub fn event() -> Event {
    Event {
        id: "order-17".to_owned(),
        source: "/shop".to_owned(),
        kind: "order.created".to_owned(),
        data: Some(r#"{"order_id":"17"}"#.into()),
        ..Event::default()
    }
}

/// Runs a guest again and again. Each run comes to `outcome` by `limit`, named with its value; then good guests run as if nothing had
/// happened. Answers the first run's report.
///
/// # Panics
/// When it is not so.
pub fn check(guest: &str, settings: &Settings, outcome: &str, limit: Option<(&str, u64)>) -> Report {
    check_times(RUNS, guest, settings, outcome, limit)
}

/// The same for a guest that takes its time.
///
/// # Panics
/// When it is not so.
pub fn check_slow(guest: &str, settings: &Settings, outcome: &str, limit: Option<(&str, u64)>) -> Report {
    check_times(SLOW_RUNS, guest, settings, outcome, limit)
}

fn check_times(times: usize, guest: &str, settings: &Settings, outcome: &str, limit: Option<(&str, u64)>) -> Report {
    let rig = Rig::new();
    let mut settings = settings.clone();
    if let Some(Relay::File(folder)) = &mut settings.relay {
        *folder = rig.folder.path().join("outbox");
    }
    let loaded = rig.load(guest, &settings).unwrap_or_else(|error| panic!("{guest}: {error}"));
    let mut reports = rig.run_many(&loaded, times);
    for report in &reports {
        let found = report.outcome.limit().map(|limit| (limit.name, limit.value));
        assert_eq!((report.outcome.name(), found), (outcome, limit), "{}", shown(report));
    }
    drop(loaded);
    rig.assert_serves();
    reports.swap_remove(0)
}
