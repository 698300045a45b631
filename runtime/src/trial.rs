//! Events through a handler here, for `weir try` and `weir test`: the same sandbox under the same limits, with mail and publishes
//! captured unless it is live (sandbox.md §10). Nothing is pulled, settled or dead-lettered; what would become of an event is only said.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use tokio::runtime::Handle;

use crate::clock::{self, Timestamp};
use crate::config::{Config, HandlerConfig, RetryPolicy, Server};
use crate::event::{self, Event};
use crate::handler::{LoadProblem, Loader, Version};
use crate::keyvalue::{BucketError, Places};
use crate::mail::{CapturedMail, Relays};
use crate::outbox::{Destination, Published};
use crate::outcome::Outcome;
use crate::outgoing::Outgoing;
use crate::queue::Tries;
use crate::sandbox::{self, Job, Program, Report, Sandbox};
use crate::store::Store;
use crate::verdict::{Verdict, attempts_left, verdict};

/// Instances of a trial: its own, and one in which the component is probed.
const INSTANCES: u32 = 2;

/// How long a mail that is half sent, or a write, may take to be finished once its handler has ended: longer than either has.
const MAIL_END: Duration = Duration::from_secs(90);

/// How long one look into a bucket may take: as long as a server has for a command.
const READ_MAX: Duration = Duration::from_secs(30);

/// What is tried.
pub struct Trial {
    /// The event.
    pub event: Arc<Event>,
    /// The name of the queue that it says it came from.
    pub queue: String,
    /// When that queue first had it.
    pub first_seen: Timestamp,
    /// The name of the handler that it is tried as.
    pub handler: String,
    /// That handler: its component, limits, configuration and grants.
    pub config: HandlerConfig,
}

/// Where effects go.
pub enum Effects {
    /// Mail is kept and shown. Buckets are only read, those without a URL in this store (none: they begin empty); what is written stays
    /// in memory. HTTP requests are denied, and the log names them.
    Captured(Option<Arc<Store>>),
    /// Mail is kept and shown, and buckets are in memory, begin empty and last as long as the stage: nothing outside is asked.
    Apart,
    /// Mail and requests leave; what mail was sent before is known from this store, and not sent again. Buckets are written. None: it has
    /// grants for neither mail nor buckets.
    Live(Option<Arc<Store>>),
}

/// What a trial came to.
pub struct Tried {
    /// What the run came to and what it cost.
    pub report: Report,
    /// The whole digest of what ran: `sha256:…`.
    pub version: String,
    /// The mails that it handed over, or would have.
    pub mails: Vec<CapturedMail>,
    /// The events that leave because it is done, in the order of its calls; nothing leaves otherwise. Whoever tries sends them, or not.
    pub published: Vec<Leaving>,
    /// What would be done with the event after its first try.
    pub verdict: Verdict,
}

/// An event that a handler published, on its way to a queue.
#[derive(Debug, Clone)]
pub struct Leaving {
    /// The queue's name.
    pub queue: String,
    /// Whether it is for the handler itself alone.
    pub own: bool,
    /// The event.
    pub event: Arc<Event>,
    /// Not before; none: at once.
    pub due: Option<Timestamp>,
}

/// Where trials take place: one sandbox, in which each stage begins without anything of another.
pub struct Place {
    sandbox: Arc<Sandbox>,
    server: Server,
    effects: Effects,
    runtime: Handle,
    /// What was compiled here, by digest and how it is run: one a component, of which those who try have a handful.
    programs: Mutex<HashMap<String, Program>>,
}

/// A handler that is loaded, with effects of its own: what it mailed is known to its next runs here, and to nobody else.
pub struct Stage {
    loader: Arc<Loader>,
    version: Version,
    retry: RetryPolicy,
    order_by: Option<String>,
}

/// One event's turn on a stage.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// The event.
    pub event: &'a Arc<Event>,
    /// The name of the queue that it says it came from.
    pub queue: &'a str,
    /// When that queue first had it.
    pub first_seen: Timestamp,
    /// What went before.
    pub tries: Tries,
    /// What the handler's wall clock shows; none: what time it is.
    pub clock: Option<Timestamp>,
    /// From 0 to 1: how much of its jitter a retry waits.
    pub jitter: f64,
}

impl Place {
    /// A sandbox on the current runtime. Compiled code is taken from and kept in the configuration's `data` if that is
    /// there; it is not made.
    #[must_use]
    pub fn new(config: &Config, effects: Effects) -> Self {
        let server = config.server.clone();
        let data = server.data.is_dir().then_some(server.data.as_path());
        let sandbox = Sandbox::new(&config.ceilings, INSTANCES, data);
        Self { sandbox, server, effects, runtime: Handle::current(), programs: Mutex::default() }
    }

    /// Loads a component as a server would; what was compiled here before is not compiled again.
    ///
    /// # Errors
    /// When the component, or a file that its configuration names, can't be used.
    pub async fn load(&self, handler: &str, config: &HandlerConfig) -> Result<Stage, LoadProblem> {
        let outgoing = match self.effects {
            Effects::Captured(_) => Outgoing::refusing(self.runtime.clone(), "no request leaves without --live"),
            Effects::Apart => Outgoing::refusing(self.runtime.clone(), "nothing outside is asked here"),
            Effects::Live(_) => Outgoing::new(self.runtime.clone()),
        };
        self.load_over(outgoing, handler, config).await
    }

    /// The same, with requests of its own.
    ///
    /// # Errors
    /// As [`Place::load`].
    pub async fn load_over(&self, outgoing: Outgoing, handler: &str, config: &HandlerConfig) -> Result<Stage, LoadProblem> {
        let (server, runtime) = (self.server.clone(), || self.runtime.clone());
        let nowhere = || Relays::nowhere(runtime());
        let (relays, buckets) = match &self.effects {
            Effects::Captured(store) => (nowhere(), Places::overlaid(store.clone(), &server.group, runtime())),
            Effects::Apart | Effects::Live(None) => (nowhere(), Places::empty(runtime())),
            Effects::Live(Some(store)) => (
                Relays::new(Arc::clone(store), server.mail_kept, runtime()).capturing(),
                Places::new(Arc::clone(store), &server.group, runtime()),
            ),
        };
        let (sandbox, guests) = (Arc::clone(&self.sandbox), runtime());
        let loader = Arc::new(Loader { sandbox, relays, outgoing, buckets, server, guests });
        let source = loader.read(config)?;
        Loader::admit(handler, config, &source)?;
        // One that exports several things may be run in several ways.
        let key = format!("{} {:?} {}", source.digest(), config.run, config.batch.is_some());
        let known = self.programs().get(&key).cloned();
        let program = match known {
            Some(program) => program,
            None => loader.compile(config, &source).await?,
        };
        self.programs().insert(key, program.clone());
        let version = loader.ready(handler, config, source, program).await?;
        Ok(Stage { loader, version, retry: config.retry, order_by: config.order_by.clone() })
    }

    /// Loads a component and gives it one event, now.
    ///
    /// # Errors
    /// As [`Place::load`]. What the handler does is no error.
    pub async fn run(&self, trial: &Trial) -> Result<Tried, LoadProblem> {
        let stage = self.load(&trial.handler, &trial.config).await?;
        let Trial { event, queue, first_seen, .. } = trial;
        let (first_seen, tries, jitter) = (*first_seen, Tries::default(), fastrand::f64());
        Ok(stage.run(Turn { event, queue, first_seen, tries, clock: None, jitter }).await)
    }

    // Held for one look.
    fn programs(&self) -> MutexGuard<'_, HashMap<String, Program>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stage {
    /// Gives the handler one event in a fresh instance, and waits until its mails are handed over. What the handler does is no error.
    pub async fn run(&self, turn: Turn<'_>) -> Tried {
        let Turn { event, queue, first_seen, tries, clock, jitter } = turn;
        let job = Job {
            order_key: self.order_by.as_deref().and_then(|name| event.attribute(name)),
            event,
            queue,
            attempt: tries.failed + 1,
            attempts_left: attempts_left(tries, &self.retry),
            first_seen,
            answer_by: None,
        };
        let mut report = sandbox::run_at(&self.version.program, &self.version.setup, job, clock).await;
        // A mail is finished whatever became of the guest; the bound on that is the mailer's own.
        let _ = tokio::time::timeout(MAIL_END, self.loader.relays.idle()).await;
        let _ = tokio::time::timeout(MAIL_END, self.loader.buckets.idle()).await;
        let verdict = verdict(&report.outcome, tries, &self.retry, clock.unwrap_or_else(clock::now), jitter);
        let version = self.version.program.digest.to_string();
        let published = std::mem::take(&mut report.published);
        let published = if report.outcome == Outcome::Done { published } else { Vec::new() };
        let published = published.into_iter().map(|one| leaving(one, queue)).collect();
        Tried { report, version, mails: self.loader.relays.captured(), published, verdict }
    }

    /// All that a bucket of the handler holds; none: it is not granted.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn bucket(&self, name: &str) -> Result<Option<BTreeMap<String, Vec<u8>>>, BucketError> {
        let granted = self.version.setup.buckets.as_ref().and_then(|granted| granted.open(name));
        let Some(bucket) = granted else { return Ok(None) };
        let (mut held, mut next) = (BTreeMap::new(), Some(0));
        while let Some(after) = next {
            let page = bucket.list(after, READ_MAX).await?;
            for key in page.keys {
                // One by one: a call answers with a bounded number of bytes.
                if let Some(Some(value)) = bucket.read(std::slice::from_ref(&key), READ_MAX).await?.pop() {
                    held.insert(key, value);
                }
            }
            next = page.next;
        }
        Ok(Some(held))
    }
}

fn leaving(published: Published, own_queue: &str) -> Leaving {
    let Published { to, event, due } = published;
    match to {
        Destination::Queue(queue) => Leaving { queue, own: false, event, due },
        Destination::Own => Leaving { queue: own_queue.to_owned(), own: true, event, due },
    }
}

impl Serialize for Leaving {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_struct("Leaving", 3)?;
        json.serialize_field("queue", &self.queue)?;
        json.serialize_field("due", &self.due.map(|due| due.to_string()))?;
        json.serialize_field("event", &event::json::AsJson(&self.event))?;
        json.end()
    }
}

impl Tried {
    /// Why it did not end well; none: it did.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        let outcome = &self.report.outcome;
        (*outcome != Outcome::Done).then(|| outcome.reason())
    }
}

/// The fields of surface.md §3, in that order, and two more.
impl Serialize for Tried {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let report = &self.report;
        let limit = report.outcome.limit().map(|limit| serde_json::json!({ "name": limit.name, "value": limit.value }));
        let mut json = serializer.serialize_struct("Tried", 11)?;
        json.serialize_field("outcome", report.outcome.name())?;
        json.serialize_field("limit", &limit)?;
        json.serialize_field("reason", &self.reason())?;
        json.serialize_field("fuel", &report.fuel)?;
        json.serialize_field("memory", &report.memory)?;
        json.serialize_field("seconds", &report.elapsed.as_secs_f64())?;
        json.serialize_field("log", &report.log)?;
        json.serialize_field("mails", &self.mails)?;
        json.serialize_field("published", &self.published)?;
        json.serialize_field("backtrace", &report.backtrace)?;
        json.serialize_field("version", &self.version)?;
        json.end()
    }
}
