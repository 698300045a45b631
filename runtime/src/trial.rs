//! One event through a handler here, for `weir try`: the same sandbox under the same limits, with mail and publishes captured unless
//! it is live (sandbox.md §10). Nothing is pulled, settled or dead-lettered; what would become of the event is only said.

use std::sync::Arc;
use std::time::Duration;

use serde::ser::{Serialize, SerializeStruct, Serializer};
use tokio::runtime::Handle;

use crate::clock::{self, Timestamp};
use crate::config::{Ceilings, Config, HandlerConfig, Server};
use crate::event::{self, Event};
use crate::handler::{LoadProblem, Loader};
use crate::keyvalue::Places;
use crate::mail::{CapturedMail, Relays};
use crate::outbox::{Destination, Published};
use crate::outcome::Outcome;
use crate::queue::Tries;
use crate::sandbox::{self, Job, Report, Sandbox};
use crate::store::Store;
use crate::verdict::{Verdict, attempts_left, verdict};

/// Instances of a trial: its own, and one in which the component is probed.
const INSTANCES: u32 = 2;

/// How long a mail that is half sent, or a write, may take to be finished once its handler has ended: longer than either has.
const MAIL_END: Duration = Duration::from_secs(90);

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
    /// in memory.
    Captured(Option<Arc<Store>>),
    /// Mail is kept and shown, and buckets are in memory, begin empty and last as long as the place: nothing outside is asked.
    Apart,
    /// Mail leaves; what was sent before is known from this store, and not sent again. Buckets are written.
    Live(Arc<Store>),
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

/// Where a trial takes place.
pub struct Place {
    loader: Arc<Loader>,
}

impl Place {
    /// A sandbox for one trial on the current runtime. Compiled code is taken from and kept in the configuration's `data` if that is
    /// there; it is not made.
    #[must_use]
    pub fn new(config: &Config, effects: Effects) -> Self {
        Self::within(&config.server, &config.ceilings, effects)
    }

    fn within(server: &Server, ceilings: &Ceilings, effects: Effects) -> Self {
        let runtime = Handle::current();
        let nowhere = || Relays::nowhere(runtime.clone());
        let (relays, buckets) = match effects {
            Effects::Captured(store) => (nowhere(), Places::overlaid(store, &server.group, runtime.clone())),
            Effects::Apart => (nowhere(), Places::empty(runtime.clone())),
            Effects::Live(store) => (
                Relays::new(Arc::clone(&store), server.mail_kept, runtime.clone()).capturing(),
                Places::new(store, &server.group, runtime.clone()),
            ),
        };
        let data = server.data.is_dir().then_some(server.data.as_path());
        let sandbox = Sandbox::new(ceilings, INSTANCES, data);
        Self { loader: Arc::new(Loader { sandbox, relays, buckets, server: server.clone(), guests: runtime }) }
    }

    /// Loads the component as a server would, and gives it the event.
    ///
    /// # Errors
    /// When the component, or a file that its configuration names, can't be used. What the handler does is no error.
    pub async fn run(&self, trial: &Trial) -> Result<Tried, LoadProblem> {
        let source = self.loader.read(&trial.config)?;
        let version = self.loader.load(&trial.handler, &trial.config, source).await?;
        let tries = Tries::default();
        let job = Job {
            order_key: None,
            event: &trial.event,
            queue: &trial.queue,
            attempt: tries.failed + 1,
            attempts_left: attempts_left(tries, &trial.config.retry),
            first_seen: trial.first_seen,
        };
        let mut report = sandbox::run(&version.program, &version.setup, job).await;
        // A mail is finished whatever became of the guest; the bound on that is the mailer's own.
        let _ = tokio::time::timeout(MAIL_END, self.loader.relays.idle()).await;
        let _ = tokio::time::timeout(MAIL_END, self.loader.buckets.idle()).await;
        let verdict = verdict(&report.outcome, tries, &trial.config.retry, clock::now(), fastrand::f64());
        let version = version.program.digest.to_string();
        let published = std::mem::take(&mut report.published);
        let published = if report.outcome == Outcome::Done { published } else { Vec::new() };
        let published = published.into_iter().map(|one| leaving(one, &trial.queue)).collect();
        Ok(Tried { report, version, mails: self.loader.relays.captured(), published, verdict })
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
