//! Events that a handler publishes. The server has the queues, and the grant names those that the handler may publish to; `"self"` is the
//! handler's own queue, for itself alone:
//!
//! ```toml
//! [handler.NAME.grants]
//! publish = ["receipts", "self"]
//! ```
//!
//! ```
//! use std::time::Duration;
//! use weir_sdk::prelude::*;
//!
//! #[derive(serde::Serialize, serde::Deserialize)]
//! struct Order {
//!     id: String,
//! }
//!
//! fn on_paid(event: Event<Order>) -> Result {
//!     publish::event("receipt.due").subject(event.data.id.as_str()).data(&event.data)?.to("receipts")?;
//!     publish::event("order.check").data(&event.data)?.after(Duration::from_secs(3600)).to_self()?;
//!     Ok(())
//! }
//! # use weir_sdk::testing;
//! # let run = testing::Host::new().run(on_paid, testing::event("order.paid", Order { id: "7".into() }));
//! # assert_eq!((run.published[0].queue.as_str(), run.published[0].event.kind.as_str()), ("receipts", "receipt.due"));
//! # assert_eq!(run.published[1].queue, "self");
//! ```
//!
//! **Nothing leaves before the handler answers ok, and nothing leaves if it does not.** An event without an id gets one from the server,
//! made of the event in hand and the content, so that an attempt that publishes the same publishes the same ids. The call that would pass
//! the limit `publishes` or `published` ends the run, so that no event is lost to an error that nobody looked at.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::{Bytes, Event};

/// What the handler itself is called as a queue.
const OWN: &str = "self";

/// An event on its way. Begin with [`event`], end with [`to`](Draft::to) or [`to_self`](Draft::to_self).
///
/// `Draft::from(event)` is for an event that is whole already, such as the one in hand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draft {
    /// What is published. An empty `id` or `source`, and no `time`, are filled in by the server.
    pub event: Event<Bytes>,
    /// When it is due.
    pub due: Schedule,
}

/// When a published event is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Schedule {
    /// At once.
    #[default]
    Now,
    /// So long after the call.
    After(Duration),
    /// At this time; one that has passed: at once.
    At(SystemTime),
}

/// Why an event was not taken. `?` makes that a reject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Not granted: names the queue and the grant.
    Denied(String),
    /// Not a valid event, or too large, or due too late: names the attribute or the bound.
    Invalid(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Denied(text) | Error::Invalid(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// An event of this type, for example `com.example.order.paid`.
#[must_use]
pub fn event(kind: impl Into<String>) -> Draft {
    Draft::from(Event { kind: kind.into(), ..Event::default() })
}

impl From<Event<Bytes>> for Draft {
    fn from(event: Event<Bytes>) -> Self {
        Draft { event, due: Schedule::Now }
    }
}

impl Draft {
    /// Sets an id of your own: unique within the source, and the same in every attempt.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.event.id = id.into();
        self
    }

    /// Sets the source, which is `weir:handler/NAME` otherwise.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.event.source = source.into();
        self
    }

    /// Sets what the event is about.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.event.subject = Some(subject.into());
        self
    }

    /// Adds an extension attribute, such as `partitionkey`. Names that begin with `weir` are the server's own.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.event.extensions.push((name.into(), value.into()));
        self
    }

    /// Sets the data, as JSON.
    ///
    /// # Errors
    /// When the value can't be JSON.
    pub fn data(mut self, data: &(impl Serialize + ?Sized)) -> Result<Self, serde_json::Error> {
        self.event.data = Bytes(serde_json::to_vec(data)?);
        self.event.datacontenttype = Some("application/json".to_owned());
        Ok(self)
    }

    /// Sets the data as it is, with its media type.
    #[must_use]
    pub fn bytes(mut self, content_type: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        self.event.data = Bytes(data.into());
        self.event.datacontenttype = Some(content_type.into());
        self
    }

    /// Holds it back for so long; at most 366 days.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.due = Schedule::After(wait);
        self
    }

    /// Holds it back until then; at most 366 days.
    #[must_use]
    pub fn at(mut self, time: SystemTime) -> Self {
        self.due = Schedule::At(time);
        self
    }

    /// Publishes it to a queue that the grant names. It leaves when the handler has answered ok.
    ///
    /// # Errors
    /// When the queue is not granted, or it is no valid event.
    pub fn to(self, queue: &str) -> Result<(), Error> {
        crate::host::publish(queue, self)
    }

    /// Publishes it to the handler's own queue, for this handler alone, which `"self"` in the grant allows.
    ///
    /// # Errors
    /// As [`to`](Draft::to).
    pub fn to_self(self) -> Result<(), Error> {
        self.to(OWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, Host};
    use crate::{Failure, Result, reject, retry};

    #[test]
    fn a_draft_says_what_was_said() {
        let draft = event("t").id("1").source("/s").subject("ann").extension("partitionkey", "ann");
        let draft = draft.data(&[1, 2]).unwrap().after(Duration::from_secs(5));
        let expected = Event {
            id: "1".into(),
            source: "/s".into(),
            kind: "t".into(),
            subject: Some("ann".into()),
            datacontenttype: Some("application/json".into()),
            extensions: vec![("partitionkey".into(), "ann".into())],
            data: Bytes(b"[1,2]".to_vec()),
            ..Event::default()
        };
        assert_eq!(draft, Draft { event: expected, due: Schedule::After(Duration::from_secs(5)) });
        let draft = event("t").bytes("text/plain", "hello").at(SystemTime::UNIX_EPOCH);
        assert_eq!((draft.event.data, draft.due), (Bytes(b"hello".to_vec()), Schedule::At(SystemTime::UNIX_EPOCH)));
    }

    #[test]
    fn nothing_leaves_unless_the_answer_is_ok() {
        let published = |answer: Result| {
            let run = Host::new().run(
                move |_: Event<()>| {
                    event("t").to("q")?;
                    answer
                },
                testing::event("x", ()),
            );
            run.published.len()
        };
        assert_eq!(published(Ok(())), 1);
        assert_eq!(published(Err(retry("later"))), 0);
        assert_eq!(published(Err(reject("no"))), 0);
    }

    #[test]
    fn what_the_server_refuses_is_refused_in_tests() {
        for (draft, expected) in [
            (event(""), "attribute `type` is missing or empty"),
            (event("t").extension("weirhops", "0"), "attribute `weirhops` is Weir's own"),
            (event("t").extension("Tenant", "0"), "attribute `Tenant`"),
            (event("t").extension("subject", "0"), "attribute `subject`"),
            (event("t").extension("a", "0").extension("a", "1"), "attribute `a` is given twice"),
            (event("t").bytes("application/json", "{"), "`data` is not JSON"),
            (Draft::from(Event { data: Bytes(b"{".to_vec()), kind: "t".into(), ..Event::default() }), "`data` is not JSON"),
        ] {
            let run = Host::new().run(move |_: Event<()>| draft.to("q"), testing::event("x", ()));
            let Err(Failure::Reject { reason }) = run.result else { panic!("{:?}", run.result) };
            assert!(reason.starts_with(expected) && run.published.is_empty(), "{reason}, expected {expected}");
        }
        let mut host = Host::new().publish_error(Error::Denied("queue `q` is not granted".into()));
        let run = host.run(|_: Event<()>| event("t").to("q"), testing::event("x", ()));
        assert_eq!(run.result, Err(reject("queue `q` is not granted")));
        let run = Host::new().self_test(|| event("t").to("q"));
        assert!(run.result.is_err() && run.published.is_empty(), "{run:?}");
        assert!(matches!(event("t").to("q"), Err(Error::Denied(_))), "outside of a run");
    }
}
