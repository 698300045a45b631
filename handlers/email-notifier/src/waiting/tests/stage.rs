//! A queue, a bucket, a relay and a clock for tests: events and timers are delivered at least once, in the order in which they are due.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_sdk::email::Message;
use weir_sdk::prelude::*;
use weir_sdk::testing;

use crate::mail::Context;
use crate::notify::{Arrival, arrived};
use crate::rules::Rules;
use crate::waiting::world::World;
use crate::waiting::{Timer, answers, enter, timer};

/// How long after it was stopped a run is tried again: when its lease has ended.
const LEASE: i64 = 30_000;
/// Most deliveries of a test.
const TURNS_MAX: usize = 20_000;
/// From how many runs a timer may descend; the server gives one up beyond 16 (`[ceilings] hops`), and an event may have some already.
const HOPS_MAX: u32 = 10;

/// What all runs share.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) rules: RefCell<String>,
    pub(super) now: Cell<i64>,
    pub(super) keys: RefCell<BTreeMap<String, Vec<u8>>>,
    /// What the relay took: when, and what.
    pub(super) mails: RefCell<Vec<(i64, Message)>>,
    /// What the server knows to have been sent.
    ledger: RefCell<BTreeSet<(String, String)>>,
    queue: RefCell<Vec<Job>>,
    /// Why deliveries became dead letters.
    pub(super) dead: RefCell<Vec<(Job, String)>>,
    /// The relay is away.
    pub(super) relay_away: Cell<bool>,
}

/// A delivery.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) due: i64,
    pub(super) attempt: u32,
    /// How many runs it descends from.
    pub(super) hops: u32,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    Event(Event<Bytes>, i64),
    Timer(Timer),
}

/// One run of a delivery.
pub(super) struct Run<'s> {
    stage: &'s Stage,
    id: String,
    hops: u32,
    calls: Cell<usize>,
    /// Before which of its calls it is killed.
    killed_at: Option<usize>,
    /// Before which of its calls others run.
    meanwhile: Option<(usize, &'s dyn Fn())>,
    published: RefCell<Vec<Job>>,
}

/// How a run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Acknowledged, or given back to be tried again, or dead.
    Answered(Result),
    /// Killed.
    Killed,
}

pub(super) fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap_or_else(|e| panic!("{text}: {e}")).as_millisecond()
}

impl Stage {
    pub(super) fn new(rules: &str, now: &str) -> Stage {
        let stage = Stage::default();
        stage.rules.replace(rules.to_owned());
        stage.now.set(at(now));
        stage
    }

    /// An event that comes now.
    pub(super) fn event(&self, kind: &str, id: &str, mut data: Value) -> Job {
        data["owner"] = data.get("owner").cloned().unwrap_or(json!("ann@example.com"));
        let mut event = testing::event(kind, data);
        event.id = id.to_owned();
        event.subject = Some("q-7".to_owned());
        Job { id: id.to_owned(), due: self.now.get(), attempt: 1, hops: 0, what: What::Event(event, self.now.get()) }
    }

    /// Puts a delivery into the queue.
    pub(super) fn put(&self, job: Job) {
        self.queue.borrow_mut().push(job);
    }

    /// Delivers what is due up to then, and whatever comes of it.
    pub(super) fn until(&self, end: i64) {
        for _ in 0..TURNS_MAX {
            let next = {
                let mut queue = self.queue.borrow_mut();
                let first = queue.iter().enumerate().filter(|(_, job)| job.due <= end).min_by_key(|(_, job)| job.due);
                first.map(|(at, _)| at).map(|at| queue.remove(at))
            };
            let Some(job) = next else {
                self.now.set(self.now.get().max(end));
                return;
            };
            self.now.set(self.now.get().max(job.due));
            self.deliver(&job, None, None);
        }
        panic!("{TURNS_MAX} deliveries and no end: {:?}", self.queue.borrow().first());
    }

    /// Delivers everything, for so many days.
    pub(super) fn days(&self, days: i64) {
        self.until(self.now.get() + days * 86_400_000);
    }

    /// Delivers once. What it published leaves if it was done; what was not is put back. How many calls it made.
    pub(super) fn deliver(&self, job: &Job, killed_at: Option<usize>, meanwhile: Option<(usize, &dyn Fn())>) -> (End, usize) {
        let run = Run {
            stage: self,
            id: job.id.clone(),
            hops: job.hops,
            calls: Cell::new(0),
            killed_at,
            meanwhile,
            published: RefCell::default(),
        };
        let result = run.handle(job);
        let calls = run.calls.get();
        // Also after its last call, before it was acknowledged and anything left.
        if killed_at.is_some_and(|at| calls >= at) {
            self.put(Job { due: self.now.get() + LEASE, attempt: job.attempt + 1, ..job.clone() });
            return (End::Killed, calls);
        }
        match &result {
            Ok(()) => self.queue.borrow_mut().extend(run.published.take()),
            Err(Failure::Retry { after, .. }) => {
                let wait = after.map_or(1_000, |after| i64::try_from(after.as_millis()).unwrap());
                self.put(Job { due: self.now.get() + wait, attempt: job.attempt + 1, ..job.clone() });
            }
            Err(Failure::Reject { reason }) => self.dead.borrow_mut().push((job.clone(), reason.clone())),
        }
        (End::Answered(result), calls)
    }

    /// The next timer of this kind, taken out of the queue.
    pub(super) fn take_timer(&self, wanted: fn(&Timer) -> bool) -> Job {
        let mut queue = self.queue.borrow_mut();
        let found = queue.iter().position(|job| matches!(&job.what, What::Timer(timer) if wanted(timer)));
        match found {
            Some(found) => queue.remove(found),
            None => panic!("no such timer: {queue:?}"),
        }
    }

    /// How many timers of this kind are in the queue.
    pub(super) fn timers(&self, wanted: fn(&Timer) -> bool) -> usize {
        self.queue.borrow().iter().filter(|job| matches!(&job.what, What::Timer(timer) if wanted(timer))).count()
    }

    /// How often each event is in a mail, by its id in brackets.
    pub(super) fn mailed(&self, id: &str) -> usize {
        let wanted = format!("[{id}]");
        self.mails.borrow().iter().map(|(_, mail)| mail.text.as_deref().unwrap_or_default().matches(&wanted).count()).sum()
    }

    /// When mails left, as texts.
    pub(super) fn times(&self) -> Vec<String> {
        self.mails.borrow().iter().map(|(at, _)| Timestamp::from_millisecond(*at).unwrap().to_string()).collect()
    }

    /// The text of the only mail.
    #[track_caller]
    pub(super) fn text(&self) -> String {
        let mails = self.mails.borrow();
        assert_eq!(mails.len(), 1, "{mails:?}, dead: {:?}", self.dead.borrow());
        mails[0].1.text.clone().unwrap_or_default()
    }
}

impl Run<'_> {
    fn handle(&self, job: &Job) -> Result {
        let text = self.stage.rules.borrow().clone();
        let parse = || Rules::parse(&text).map_err(crate::broken);
        let context = Context { sender_name: None, locale: None };
        match &job.what {
            What::Event(event, came) => {
                let mut delivery = testing::delivery();
                delivery.attempt = job.attempt;
                delivery.attempts_left = 8_u32.saturating_sub(job.attempt);
                delivery.first_seen += Duration::from_millis(u64::try_from(*came).unwrap());
                arrived(self, &parse()?, Arrival::new(event.clone(), &delivery), &context)
            }
            What::Timer(Timer::Arm(window)) => enter::arm(self, &job.id, window),
            What::Timer(Timer::Send(window)) => {
                let run = timer::Run { id: &job.id, time_left: Duration::from_secs(30) };
                timer::send(self, &run, window, &parse, &context)
            }
            What::Timer(Timer::Sweep(window)) => timer::sweep(self, window),
            What::Timer(Timer::Forget(key)) => answers::forget(self, key),
        }
    }

    /// Before a call.
    fn call(&self) -> Result {
        let call = self.calls.get();
        self.calls.set(call + 1);
        if self.killed_at.is_some_and(|at| call >= at) {
            return Err(retry("killed"));
        }
        if let Some((at, meanwhile)) = &self.meanwhile
            && *at == call
        {
            meanwhile();
        }
        Ok(())
    }
}

impl World for Run<'_> {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.stage.now.get()).unwrap()
    }

    fn get(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        self.call()?;
        let known = self.stage.keys.borrow();
        Ok(keys.iter().map(|key| known.get(key).cloned()).collect())
    }

    fn set(&self, key: &str, value: &[u8]) -> Result {
        self.call()?;
        self.stage.keys.borrow_mut().insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn swap(&self, key: &str, before: Option<&[u8]>, after: &[u8]) -> Result<bool> {
        self.call()?;
        let mut keys = self.stage.keys.borrow_mut();
        let same = keys.get(key).map(Vec::as_slice) == before;
        if same {
            keys.insert(key.to_owned(), after.to_vec());
        }
        Ok(same)
    }

    fn delete(&self, keys: &[String]) -> Result {
        self.call()?;
        keys.iter().for_each(|key| {
            self.stage.keys.borrow_mut().remove(key);
        });
        Ok(())
    }

    /// As the server's: asked for, handed over, noted; others can come in between, as in two processes.
    fn send(&self, _: &str, message: Message) -> Result {
        let identity = (self.id.clone(), message.key.clone().unwrap_or_default());
        if self.stage.ledger.borrow().contains(&identity) {
            return self.call();
        }
        self.call()?;
        if self.stage.relay_away.get() {
            return Err(retry("the relay is away"));
        }
        self.stage.mails.borrow_mut().push((self.stage.now.get(), message));
        self.stage.ledger.borrow_mut().insert(identity);
        Ok(())
    }

    fn publish(&self, id: String, timer: &Timer, due: Timestamp) -> Result {
        self.call()?;
        let (due, what, hops) = (due.as_millisecond(), What::Timer(timer.clone()), self.hops + 1);
        assert!(hops <= HOPS_MAX, "{id} descends from {hops} runs: {timer:?}");
        self.published.borrow_mut().push(Job { id, due, attempt: 1, hops, what });
        Ok(())
    }
}
