//! The course of a case: events arrive, time passes, and what the handler left for later comes back to it as the server would bring it.
//!
//! Each run has a clock that stands still at its time. What the handler publishes to itself, and what it wants to try again, waits until
//! the case's clock has passed its time, and then runs in the order of those times. What it publishes to a queue has left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::web::Web;
use crate::clock::Timestamp;
use crate::config::{Clock, HandlerConfig, Step};
use crate::dispatcher::admit::{Admission, Rules, admit, is_expired};
use crate::event::Event;
use crate::mail::CapturedMail;
use crate::outcome::{Limit, Outcome};
use crate::outgoing::Asked;
use crate::queue::Tries;
use crate::trial::{Leaving, Stage, Tried, Turn};
use crate::verdict::Verdict;

/// Most runs of one case: an hour of them at a third of a second; a handler that goes on for ever is told instead.
const RUNS_MAX: usize = 10_000;

/// Retries wait all of their backoff, so that a case knows when they come.
const JITTER: f64 = 1.0;

/// One event that came to the handler.
#[derive(Debug, Clone)]
pub(super) struct Run {
    /// The name of its outcome, or of how it ended without a run.
    pub(super) outcome: &'static str,
    /// Why it did not end well; empty: it did.
    pub(super) reason: String,
    pub(super) limit: Option<Limit>,
    /// The wait that the handler asked for.
    pub(super) retry_after: Option<Duration>,
    pub(super) fuel: u64,
    pub(super) log: String,
    pub(super) mails: Vec<CapturedMail>,
    pub(super) published: Vec<Leaving>,
    pub(super) asked: Vec<Asked>,
    /// When it ran.
    pub(super) at: Timestamp,
    /// The event's type.
    pub(super) kind: String,
    /// Whether it came by itself: a timer or a retry.
    pub(super) own: bool,
}

/// What waits for its time.
struct Waiting {
    event: Arc<Event>,
    first_seen: Timestamp,
    tries: Tries,
}

pub(super) struct Course<'a> {
    stage: &'a Stage,
    web: &'a Web,
    name: &'a str,
    config: &'a HandlerConfig,
    hops: u32,
    queue: &'a str,
    now: Timestamp,
    /// By when it is due, then in the order in which it came.
    waiting: BTreeMap<(Timestamp, u64), Waiting>,
    /// How many have waited.
    waited: u64,
    /// How many events the case itself has given.
    given: u64,
    /// How many runs are left.
    left: usize,
}

impl<'a> Course<'a> {
    /// A course that begins at `now`; the handler is told by its name, itself, and how many handlers an event may descend through.
    pub(super) fn new((stage, web): (&'a Stage, &'a Web), handler: (&'a str, &'a HandlerConfig, u32), now: Timestamp) -> Self {
        let (name, config, hops) = handler;
        let queue = config.queues.first().map_or("events", String::as_str);
        Self { stage, web, name, config, hops, queue, now, waiting: BTreeMap::new(), waited: 0, given: 0, left: RUNS_MAX }
    }

    /// Lets one step happen: first what is due until its time, then its event, then what is due at once.
    ///
    /// # Errors
    /// When there is no end to it.
    pub(super) async fn step(&mut self, step: &Step) -> Result<Vec<Run>, String> {
        let until = match step.clock {
            Clock::Still => self.now,
            Clock::To(time) => time.max(self.now),
            Clock::By(wait) => self.now.after(wait),
        };
        let mut runs = Vec::new();
        self.pass(until, &mut runs).await?;
        if let Some(event) = &step.event {
            let (event, first_seen) = (self.complete(event), self.now);
            let run = self.deliver(Waiting { event, first_seen, tries: Tries::default() }, false).await?;
            runs.push(run);
            self.pass(until, &mut runs).await?;
        }
        Ok(runs)
    }

    /// Runs what is due up to this time, each at its own.
    async fn pass(&mut self, until: Timestamp, runs: &mut Vec<Run>) -> Result<(), String> {
        while let Some(entry) = self.waiting.first_entry().filter(|entry| entry.key().0 <= until) {
            let ((due, _), waiting) = entry.remove_entry();
            self.now = self.now.max(due);
            runs.push(self.deliver(waiting, true).await?);
        }
        self.now = self.now.max(until);
        Ok(())
    }

    /// An event with what the case left out: a time, and an id that is the same in each run of the case.
    fn complete(&mut self, event: &Arc<Event>) -> Arc<Event> {
        self.given += 1;
        let mut event = Event::clone(event);
        if event.id.is_empty() {
            event.id = self.given.to_string();
        }
        event.time.get_or_insert_with(|| self.now.to_string());
        Arc::new(event)
    }

    async fn deliver(&mut self, waiting: Waiting, own: bool) -> Result<Run, String> {
        self.left = self.left.checked_sub(1).ok_or_else(|| format!("none after {RUNS_MAX} runs"))?;
        let Waiting { event, first_seen, tries } = waiting;
        let kind = event.kind.clone();
        if let Some((outcome, reason)) = self.ended(&event, first_seen, tries) {
            return Ok(Run { outcome, reason, kind, own, at: self.now, ..Run::nothing() });
        }
        let turn = Turn { event: &event, queue: self.queue, first_seen, tries, clock: Some(self.now), jitter: JITTER };
        let tried = self.stage.run(turn).await;
        let retry_after = match &tried.report.outcome {
            Outcome::Retry { after, .. } => *after,
            _ => None,
        };
        if let Verdict::Retry { due, tries } = tried.verdict {
            self.wait(due, Waiting { event, first_seen, tries });
        }
        for one in tried.published.iter().filter(|one| one.own) {
            let waiting = Waiting { event: Arc::clone(&one.event), first_seen: self.now, tries: Tries::default() };
            self.wait(one.due.unwrap_or(self.now), waiting);
        }
        let Tried { report, mails, published, .. } = tried;
        Ok(Run {
            outcome: report.outcome.name(),
            reason: if report.outcome == Outcome::Done { String::new() } else { report.outcome.reason() },
            limit: report.outcome.limit(),
            retry_after,
            fuel: report.fuel,
            log: report.log,
            mails,
            published,
            asked: self.web.take(),
            at: self.now,
            kind,
            own,
        })
    }

    fn wait(&mut self, due: Timestamp, waiting: Waiting) {
        self.waited += 1;
        self.waiting.insert((due.max(self.now), self.waited), waiting);
    }

    /// How an event ends without being run.
    fn ended(&self, event: &Event, first_seen: Timestamp, tries: Tries) -> Option<(&'static str, String)> {
        let config = self.config;
        let rules = Rules { handler: self.name, filter: config.filter.as_deref(), retry: &config.retry, hops: self.hops };
        match admit(event, tries, &rules) {
            Admission::Run => {}
            Admission::Filtered(why) => {
                return Some(("filtered", why.map_or_else(String::new, |error| format!("the filter has no answer: {error}"))));
            }
            Admission::Loop { hops } => {
                return Some(("loop", format!("it descends through {hops} handlers (limit {})", self.hops)));
            }
            Admission::Lost => return Some((Outcome::Lost.name(), Outcome::Lost.reason())),
        }
        is_expired(event, first_seen, config.expires, self.now).then(|| ("expired", "it is older than it may be".to_owned()))
    }
}

impl Run {
    /// What did not run.
    pub(super) fn nothing() -> Self {
        Self {
            outcome: "",
            reason: String::new(),
            limit: None,
            retry_after: None,
            fuel: 0,
            log: String::new(),
            mails: Vec::new(),
            published: Vec::new(),
            asked: Vec::new(),
            at: Timestamp::default(),
            kind: String::new(),
            own: false,
        }
    }
}
