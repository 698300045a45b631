//! Getting events in: one message (headers and a body) becomes events, or a refusal that says why.
//!
//! This file and [`binary`], [`structured`], [`raw`] are pure: no sockets, no queue. [`http`] is the route that calls them and
//! publishes. The four shapes of a message are those of the CloudEvents HTTP binding, and anything else, which is wrapped:
//!
//! | content type | `ce-` headers | read as |
//! |---|---|---|
//! | `application/cloudevents+json` | ignored | one event ([`structured`]) |
//! | `application/cloudevents-batch+json` | ignored | a batch, which may be empty ([`structured`]) |
//! | any other `application/cloudevents…` | | refused |
//! | anything else, or none | at least one | one event, its data the body ([`binary`]) |
//! | anything else, or none | none | read by the queue's `map` ([`map`]), else wrapped in an event of its type ([`raw`]) |

pub mod binary;
pub mod delay;
pub mod http;
pub mod map;
pub mod raw;
pub mod structured;

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::event::{self, Event, EventError};

/// Most events of one batch. A queue commits a thousand at once (DESIGN.md §4); ten commits is as much as one answer should wait for.
pub const BATCH_EVENTS_MAX: usize = 10_000;

/// One message, as a transport hands it over.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Names in lower case, and values as they came.
    pub headers: &'a [(&'a str, &'a [u8])],
    /// The body.
    pub body: &'a Bytes,
}

/// What a message is held against.
#[derive(Debug, Clone, Copy)]
pub struct Intake<'a> {
    /// The queue's name, for the `source` of wrapped events.
    pub queue: &'a str,
    /// The event type of wrapped events.
    pub kind: &'a str,
    /// Where a producer's own envelope has what; none: all else is wrapped.
    pub map: Option<&'a map::EventMap>,
    /// Largest event in bytes.
    pub max_event: u64,
    /// The `time` of wrapped events.
    pub now: Timestamp,
}

/// Which of the shapes a message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One event in JSON.
    Structured,
    /// Several events in JSON.
    Batched,
    /// Attributes in headers.
    Binary,
    /// Not a CloudEvent.
    Raw,
}

/// A message that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct Refusal {
    /// What is wrong.
    pub problem: Problem,
    /// Which event of a batch it is wrong with, from 0.
    pub index: Option<usize>,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not an event.
    #[error(transparent)]
    Event(#[from] EventError),
    /// Larger than `max-event`: HTTP 413.
    #[error("event of {size} bytes is larger than `max-event` ({bound} bytes)")]
    TooLarge {
        /// Attributes and data.
        size: u64,
        /// `max-event`.
        bound: u64,
    },
    /// More events than one batch may have: HTTP 413.
    #[error("batch has more than {BATCH_EVENTS_MAX} events (send several)")]
    TooMany,
    /// Not a JSON array.
    #[error("batch is no JSON array of events: {0}")]
    NotBatch(String),
    /// A header stands twice.
    #[error("header `{0}` is given more than once")]
    Twice(String),
    /// A header's value can't be read.
    #[error("header `{name}` is {found}, expected {expected}")]
    Header {
        /// The header.
        name: String,
        /// What it was.
        found: String,
        /// What is read.
        expected: &'static str,
    },
    /// The content type says JSON, the body does not.
    #[error("body is not JSON, which its content type `{media_type}` says it is: {error}")]
    NotJson {
        /// The content type.
        media_type: String,
        /// Where it stops being JSON.
        error: String,
    },
    /// Nothing at all was sent.
    #[error("body is empty and there are no `ce-` headers, expected an event")]
    Empty,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self { problem, index: None }
    }
}

impl Problem {
    /// Whether the message is too large rather than wrong.
    #[must_use]
    pub fn is_size(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::TooMany)
    }
}

impl Message<'_> {
    /// A header's value; none when it is absent or empty.
    pub(crate) fn header(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.headers.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value);
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(Problem::Twice(name.to_owned()));
        }
        let unreadable = || Problem::Header { name: name.to_owned(), found: "not UTF-8".to_owned(), expected: "text" };
        let text = std::str::from_utf8(value).map_err(|_| unreadable())?.trim();
        Ok((!text.is_empty()).then_some(text))
    }
}

/// Which shape a message has, by its headers alone.
///
/// # Errors
/// When the content type is a CloudEvents format that is not read here, or the body is compressed.
pub fn mode(message: &Message) -> Result<Mode, Problem> {
    if let Some(encoding) = message.header("content-encoding")?
        && !encoding.eq_ignore_ascii_case("identity")
    {
        let found = format!("`{encoding}`");
        return Err(Problem::Header { name: "content-encoding".to_owned(), found, expected: "a body that is not compressed" });
    }
    let content_type = message.header("content-type")?.unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence.starts_with("application/cloudevents") {
        return structured::mode(content_type, &essence);
    }
    let attributes = message.headers.iter().any(|(name, _)| name.starts_with(binary::PREFIX));
    Ok(if attributes { Mode::Binary } else { Mode::Raw })
}

/// Reads the events of a message; all of them or none.
///
/// # Errors
/// Says what is wrong, and in a batch with which event.
pub fn read(message: &Message, intake: &Intake) -> Result<Vec<Event>, Refusal> {
    match mode(message)? {
        Mode::Batched => structured::read_batch(message.body, intake),
        Mode::Structured => Ok(vec![structured::read_one(message.body, intake)?]),
        Mode::Binary => Ok(vec![accept(binary::read(message)?, intake)?]),
        Mode::Raw => Ok(vec![accept(raw::read(message, intake)?, intake)?]),
    }
}

/// What holds for every event from outside: no attribute of Weir's own, and within `max-event`.
pub(crate) fn accept(event: Event, intake: &Intake) -> Result<Event, Problem> {
    event.refuse_reserved()?;
    let size = event.size() as u64;
    if size > intake.max_event {
        return Err(Problem::TooLarge { size, bound: intake.max_event });
    }
    Ok(event)
}

/// Puts a body into an event as its data. Says the media type that the data then has where the message said none.
///
/// JSON by its media type must be JSON, so that a handler never finds out what its producer could have been told.
pub(crate) fn set_data(event: &mut Event, content_type: Option<&str>, body: &Bytes) -> Result<(), Problem> {
    if let Some(media_type) = content_type {
        event.set("datacontenttype", media_type.to_owned())?;
    }
    if body.is_empty() {
        return Ok(());
    }
    match content_type {
        Some(media_type) if event::is_json(media_type) => {
            json(body).map_err(|error| Problem::NotJson { media_type: media_type.to_owned(), error: error.to_string() })?
        }
        Some(_) => {}
        None if json(body).is_ok() => {}
        None => event.set("datacontenttype", "application/octet-stream".to_owned())?,
    }
    event.data = Some(body.clone());
    Ok(())
}

/// Why the data of an event is not the JSON that its media type says it is; none: it is, or is said to be something else.
pub(crate) fn not_json(event: &Event) -> Option<String> {
    let data = event.data.as_ref().filter(|_| event.has_json_data())?;
    json(data).err().map(|error| error.to_string())
}

fn json(body: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<&serde_json::value::RawValue>(body).map(drop)
}

#[cfg(test)]
mod tests;
