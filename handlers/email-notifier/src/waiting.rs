//! Mails that wait: for their time, for the end of quiet hours, for others of the same digest.
//!
//! What waits together for the same recipients is a *window*. It has in the bucket
//!
//! - one key for each event (`i/SLOT/WINDOW/EVENT`), written again without harm, where SLOT stands for rule and recipients;
//! - one *list* (`w/SLOT/WINDOW`, [`list::List`]): which events are in it, and how far their mail has come. It changes only by
//!   compare-and-swap, so everybody who looks sees one order of changes.
//!
//! A *timer* is an event that the handler publishes to itself, due when the window ends. It takes what waits as one batch, reads the
//! events, sends, and deletes them.
//!
//! # Why nothing is lost and nothing is sent twice
//!
//! An event **enters** in this order: write its key; add it to the list; publish the timer, which leaves with the ack. A timer
//! **sends** in this order: take all that waits as batch `n`, noting its own id as the owner and how long it may take; read the events;
//! send with a key that has `n` in it; note the batch as sent; delete the keys.
//!
//! - *Not lost.* An event that is acknowledged is in the list, and a timer for its batch has left: its own, or one that was certain
//!   before. (A digest's timer is certain once another timer, which the first events publish and which comes until it is acknowledged,
//!   has noted in the list that it publishes it. So a thousand events don't need a thousand timers, and no event relies on another one
//!   that may still be given up.) A timer takes everything that waits. Once an event is in a batch, the batch has an owner, whose
//!   delivery is not acknowledged before the batch is sent, and comes again until then, or is a dead letter that can be replayed.
//! - *An event that enters while a timer runs* is added to the list before the taking, and is in that batch; or after it, and then
//!   waits for the next batch, which needs a timer of its own. A timer deletes only keys of its own batch. The list knows what was sent
//!   until it is deleted itself.
//! - *A killed event* (after its key, after the list, after the timer) comes again and finds itself in the list: waiting, then it
//!   publishes the timer once more, or in a batch, then nothing is left to do. This is also what a copy of it finds that comes after
//!   its digest has left.
//! - *A killed timer* comes again with the same id, finds the batch that it owns, and sends the same events with the same key. The
//!   server knows a mail by event, handler and key and does not hand it over twice; what it can't know (killed between the relay's
//!   answer and the record) nobody can (delivery.md §9).
//! - *Two timers of a window.* With the same id, as copies of one: the second finds the batch owned and under way, and tries again when
//!   the first can't be running any more. With different ids: the second leaves alone what the first owns, and takes what is new.
//!
//! Another timer deletes the list [`KEPT`] after its mail left, so it is known that long what was sent. A window that has something
//! unsent then (its rule is gone, its mail was refused) is kept for [`UNSENT_KEPT`].
//!
//! Considered and left out: *the timer lists the bucket's keys.* Listing costs the whole bucket for each recipient, and can't tell an
//! event that was sent and deleted from one that never came. *Timers that carry the event itself:* two copies of one could send at the
//! same moment in two processes. *Deleting events' lists at once:* a copy that comes late would begin a new digest.

pub(crate) mod answers;
pub(crate) mod enter;
pub(crate) mod list;
#[cfg(test)]
mod tests;
pub(crate) mod timer;
pub(crate) mod world;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use weir_sdk::{Event, Result};

use crate::headers::fnv128;

/// How long it is known that something was sent: twice the longest that an event waits for its next attempt by default (`after-max`,
/// `outage`).
pub(crate) const KEPT: Duration = Duration::from_secs(2 * 86_400);
/// How long what could not be sent is kept: longer than its dead letter by default (`dead-keep`).
pub(crate) const UNSENT_KEPT: Duration = Duration::from_secs(35 * 86_400);

/// An event that waits, as its key holds it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Item {
    /// When it happened, in milliseconds since 1970: by its own `time`, else when it came.
    pub(crate) at: i64,
    id: String,
    source: String,
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    schema: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    more: Vec<(String, String)>,
    data: serde_json::Value,
}

impl Item {
    /// Of an event that came at `came`.
    pub(crate) fn new(event: &Event, came: Timestamp) -> Self {
        Item {
            at: happened(event, came),
            id: event.id.clone(),
            source: event.source.clone(),
            kind: event.kind.clone(),
            subject: event.subject.clone(),
            time: event.time.clone(),
            schema: event.dataschema.clone(),
            more: event.extensions.clone(),
            data: event.data.clone(),
        }
    }

    /// The event that it was made of.
    pub(crate) fn event(self) -> Event {
        Event {
            id: self.id,
            source: self.source,
            kind: self.kind,
            subject: self.subject,
            time: self.time,
            datacontenttype: None,
            dataschema: self.schema,
            extensions: self.more,
            data: self.data,
        }
    }
}

/// When an event happened: its `time`, if that is one and not in the future; else when it came.
pub(crate) fn happened<T>(event: &Event<T>, came: Timestamp) -> i64 {
    let time = event.time.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    time.filter(|time| *time <= came).unwrap_or(came).as_millisecond()
}

/// What tells events apart in a list.
pub(crate) fn identity<T>(event: &Event<T>) -> u64 {
    identity_of(&event.source, &event.id)
}

fn identity_of(source: &str, id: &str) -> u64 {
    u64::try_from(fnv128(format!("{source}\n{id}").as_bytes()) >> 64).unwrap_or_default()
}

/// A short name for what may be long or not printable.
pub(crate) fn digest(parts: &[&str]) -> String {
    format!("{:032x}", fnv128(parts.join("\u{1f}").as_bytes()))
}

/// What a timer is about; the data of its event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Timer {
    /// A digest needs a timer.
    Arm(Window),
    /// What waits in a window is to be sent.
    Send(Window),
    /// The window can be forgotten.
    Sweep(Window),
    /// An answer can be forgotten.
    Forget(String),
}

/// What waits together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Window {
    /// The rule's name.
    pub(crate) rule: String,
    /// Stands for the rule and the recipients, or for the rule and the event where it waits alone.
    pub(crate) slot: String,
    /// When it ends, in milliseconds since 1970; 0 for an event that waits alone.
    pub(crate) end: i64,
}

impl Window {
    /// The key of its list.
    pub(crate) fn key(&self) -> String {
        format!("w/{}/{}", self.slot, self.end)
    }

    /// The key of one of its events.
    pub(crate) fn item(&self, event: u64) -> String {
        format!("i/{}/{}/{event:016x}", self.slot, self.end)
    }
}

/// Reads a value that this handler wrote.
///
/// # Errors
/// A reject, when somebody else wrote it.
pub(crate) fn read<'a, T: Deserialize<'a>>(key: &str, value: &'a [u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|e| weir_sdk::reject(format!("the bucket's key `{key}` can't be read: {e}")))
}
