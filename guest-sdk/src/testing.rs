//! Runs a handler's function in `cargo test`, without a server and without wasm: mail, published events, requests, buckets and logs are
//! captured.
//!
//! ```
//! use weir_sdk::{prelude::*, testing};
//!
//! fn remind(event: Event<String>, delivery: Delivery) -> Result {
//!     log::info!("attempt {}", delivery.attempt);
//!     let name = config::get("sender-name").unwrap_or_else(|| "QA".to_owned());
//!     email::to(event.data).sender_name(name).subject("Reminder").text("It is time.").send()?;
//!     Ok(())
//! }
//!
//! let mut host = testing::Host::new().config("sender-name", "Support");
//! let run = host.run(remind, testing::event("reminder.due", "ann@example.com"));
//! assert_eq!(run.result, Ok(()));
//! assert_eq!(run.mails[0].sender_name.as_deref(), Some("Support"));
//! assert_eq!(run.logs[0].message, "attempt 1");
//!
//! // The same event once more, as after a crash: the mail is known to have been sent.
//! assert!(host.run(remind, testing::event("reminder.due", "ann@example.com")).mails.is_empty());
//!
//! // The relay is away: `?` made that a retry.
//! let mut host = testing::Host::new().mail_error(email::Error::Unavailable("connection refused".into()));
//! let run = host.run(remind, testing::event("reminder.due", "ann@example.com"));
//! assert_eq!(run.result, Err(retry("connection refused")));
//! ```
//!
//! What it leaves out: limits, time and grants are the server's. The shape of a message or an event is checked as the server does.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::batch::{self, BatchHandler};
use crate::email::{Error, Message};
use crate::host::keyvalue::Buckets;
use crate::host::native::{self, State};
use crate::keyvalue;
use crate::log::Level;
use crate::publish::{self, Schedule};
use crate::{Bytes, Delivery, Event, Handler, IntoResult, Item, Result, http, retry};

/// What a handler did with one event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// What it answered.
    pub result: Result,
    /// What it sent, but what an earlier run of the same event had sent already.
    pub mails: Vec<Message>,
    /// What it published, in the order of its calls; nothing unless it answered ok. Ids and other attributes that the server would fill in
    /// are as the handler left them.
    pub published: Vec<Published>,
    /// What it asked over HTTP, in the order of its calls, whatever the answer was.
    pub requests: Vec<http::Request>,
    /// What it logged.
    pub logs: Vec<Log>,
}

/// What a batch handler did with several events.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BatchRun {
    /// What it did with each, in the order in which they were given; one without an answer is a retry.
    pub items: Vec<Run>,
    /// The requests that it made outside of any item.
    pub requests: Vec<http::Request>,
    /// What it logged outside of any item.
    pub logs: Vec<Log>,
}

/// An event that a handler published.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Published {
    /// The queue's name as the handler gave it; `self`: its own, for itself alone.
    pub queue: String,
    /// The event.
    pub event: Event<Bytes>,
    /// When it is due.
    pub due: Schedule,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// How much it matters.
    pub level: Level,
    /// The module that wrote it.
    pub context: String,
    /// The text.
    pub message: String,
}

/// An event with this type and data as JSON. Its id is `test-1`: change it (and whatever else) on the value.
///
/// # Panics
/// When the data can't be JSON.
#[must_use]
#[track_caller]
#[expect(clippy::expect_used, reason = "a test's data that can't be JSON is a mistake in the test")]
pub fn event(kind: &str, data: impl Serialize) -> Event<Bytes> {
    let data = serde_json::to_vec(&data).expect("data that can be JSON");
    Event { id: "test-1".to_owned(), source: "/test".to_owned(), kind: kind.to_owned(), data: Bytes(data), ..Event::default() }
}

/// The delivery of a first attempt.
#[must_use]
pub fn delivery() -> Delivery {
    Delivery {
        handler: "test".to_owned(),
        queue: "events".to_owned(),
        order_key: None,
        attempt: 1,
        attempts_left: 7,
        first_seen: UNIX_EPOCH,
        time_left: Duration::from_secs(30),
        idempotency_key: "test".to_owned(),
        wants_reply: false,
    }
}

/// What the handler can reach. Mails sent and buckets are remembered from run to run, so that a second run of an event is a second attempt.
#[derive(Debug, Default)]
pub struct Host {
    config: BTreeMap<String, String>,
    mail_error: Option<Error>,
    publish_error: Option<publish::Error>,
    answers: Answers,
    keyvalue_error: Option<keyvalue::Error>,
    buckets: Buckets,
    delivery: Option<Delivery>,
    sent: BTreeMap<(String, String), String>,
}

type Answer = dyn Fn(&http::Request) -> Result<http::Response, http::Error>;

/// What requests are answered.
#[derive(Clone, Default)]
pub(crate) struct Answers(Option<Rc<Answer>>);

impl Answers {
    pub(crate) fn answer(&self, request: &http::Request) -> Result<http::Response, http::Error> {
        match &self.0 {
            Some(answer) => answer(request),
            None => {
                Err(http::Error::Denied("no request is granted here (`weir_sdk::testing::Host::http` answers them)".to_owned()))
            }
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Answers(…)" } else { "Answers(none)" })
    }
}

impl Host {
    /// A host with no configuration, whose mail goes through and whose queues take what is published.
    #[must_use]
    pub fn new() -> Self {
        Host::default()
    }

    /// Sets a key of `[handler.NAME.config]`.
    #[must_use]
    pub fn config(mut self, key: &str, value: impl Into<String>) -> Self {
        self.config.insert(key.to_owned(), value.into());
        self
    }

    /// Makes every mail fail.
    #[must_use]
    pub fn mail_error(mut self, error: Error) -> Self {
        self.mail_error = Some(error);
        self
    }

    /// Lets mail through again.
    pub fn mail_works(&mut self) {
        self.mail_error = None;
    }

    /// Makes every publish fail, as on a server that does not grant it.
    #[must_use]
    pub fn publish_error(mut self, error: publish::Error) -> Self {
        self.publish_error = Some(error);
        self
    }

    /// Answers every request; without it every one is denied.
    #[must_use]
    pub fn http(mut self, answer: impl Fn(&http::Request) -> Result<http::Response, http::Error> + 'static) -> Self {
        self.answers = Answers(Some(Rc::new(answer)));
        self
    }

    /// Puts a value into a bucket, as an earlier event may have done.
    #[must_use]
    pub fn value_of(mut self, bucket: &str, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.buckets.entry(bucket.to_owned()).or_default().set(key, value.as_ref());
        self
    }

    /// The value that a bucket has now.
    #[must_use]
    pub fn value(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        self.buckets.get(bucket)?.get(key).cloned()
    }

    /// The keys that a bucket has now, in the order in which they came.
    #[must_use]
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        self.buckets.get(bucket).map(crate::host::keyvalue::Entries::keys).unwrap_or_default()
    }

    /// Makes every call of a bucket fail: not granted, or away.
    #[must_use]
    pub fn keyvalue_error(mut self, error: keyvalue::Error) -> Self {
        self.keyvalue_error = Some(error);
        self
    }

    /// Lets buckets work again.
    pub fn keyvalue_works(&mut self) {
        self.keyvalue_error = None;
    }

    /// Says how the events come; default: [`delivery`].
    #[must_use]
    pub fn delivery(mut self, delivery: Delivery) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// Calls the handler's function with this event.
    pub fn run<A>(&mut self, handler: impl Handler<A>, event: Event<Bytes>) -> Run {
        let delivery = self.delivery.clone().unwrap_or_else(delivery);
        let state = State { events: vec![identity(&event)], ..self.state() };
        let (run, state) = self.call(state, || handler.call(event, delivery));
        self.buckets = state.buckets;
        run
    }

    /// Calls a batch handler's function with these events.
    pub fn run_batch<A>(&mut self, handler: impl BatchHandler<A>, events: impl IntoIterator<Item = Event<Bytes>>) -> BatchRun {
        let delivery = self.delivery.clone().unwrap_or_else(delivery);
        let items: Vec<_> = (0..).zip(events).map(|(index, event)| Item::new(index, event, delivery.clone())).collect();
        let state = State { batch: true, events: items.iter().map(|item| identity(&item.event)).collect(), ..self.state() };
        let count = items.len();
        let (answers, state) = native::with(state, || handler.call(items));
        (self.sent, self.buckets) = (state.sent, state.buckets);
        let left_out = || Run {
            result: Err(retry("no answer for this item")),
            mails: Vec::new(),
            published: Vec::new(),
            requests: Vec::new(),
            logs: Vec::new(),
        };
        let mut runs: Vec<Run> = (0..count).map(|_| left_out()).collect();
        let mut of_item = |index: u32, change: &mut dyn FnMut(&mut Run)| {
            if let Some(run) = runs.get_mut(index as usize) {
                change(run);
            }
        };
        for batch::Answer { index, result } in answers {
            of_item(index, &mut |run| run.result.clone_from(&result));
        }
        for (index, mail) in state.mails {
            of_item(index, &mut |run| run.mails.push(mail.clone()));
        }
        for (index, published) in state.published {
            of_item(index, &mut |run| run.published.extend(run.result.is_ok().then(|| published.clone())));
        }
        let (mut requests, mut logs) = (Vec::new(), Vec::new());
        for (index, request) in state.requests {
            match index {
                Some(index) => of_item(index, &mut |run| run.requests.push(request.clone())),
                None => requests.push(request),
            }
        }
        for (index, log) in state.logs {
            match index {
                Some(index) => of_item(index, &mut |run| run.logs.push(log.clone())),
                None => logs.push(log),
            }
        }
        BatchRun { items: runs, requests, logs }
    }

    /// Calls the function named by `self_test` in [`handler!`](crate::handler!). As on the server, mail, publishing and requests
    /// are refused meanwhile, buckets are empty, and nothing is written to them.
    pub fn self_test<R: IntoResult>(&mut self, function: fn() -> R) -> Run {
        let state = State {
            config: self.config.clone(),
            mail_error: Some(Error::Denied("no mail during a self-test".to_owned())),
            publish_error: Some(publish::Error::Denied("nothing is published during a self-test".to_owned())),
            events: vec!["self-test".to_owned()],
            probed: true,
            sent: std::mem::take(&mut self.sent),
            ..State::default()
        };
        self.call(state, || function().into_result()).0
    }

    fn state(&mut self) -> State {
        State {
            config: self.config.clone(),
            mail_error: self.mail_error.clone(),
            publish_error: self.publish_error.clone(),
            keyvalue_error: self.keyvalue_error.clone(),
            answers: self.answers.clone(),
            buckets: std::mem::take(&mut self.buckets),
            sent: std::mem::take(&mut self.sent),
            ..State::default()
        }
    }

    fn call(&mut self, state: State, function: impl FnOnce() -> Result) -> (Run, State) {
        let (result, mut state) = native::with(state, function);
        self.sent = std::mem::take(&mut state.sent);
        let published = if result.is_ok() { std::mem::take(&mut state.published) } else { Vec::new() };
        let (mails, logs) = (std::mem::take(&mut state.mails), std::mem::take(&mut state.logs));
        let requests = std::mem::take(&mut state.requests);
        let (mails, requests, logs) = (without(mails), without(requests), without(logs));
        (Run { result, mails, published: without(published), requests, logs }, state)
    }
}

/// Which event a mail belongs to.
fn identity(event: &Event<Bytes>) -> String {
    format!("{} {}", event.source, event.id)
}

/// Without the item that each belongs to: there is one.
fn without<I, T>(of_items: Vec<(I, T)>) -> Vec<T> {
    of_items.into_iter().map(|(_, one)| one).collect()
}
