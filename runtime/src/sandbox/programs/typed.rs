//! The records of events.wit as they cross the boundary: lowered from what they borrow, lifted into what the host keeps.

use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use wasmtime::component::{ComponentType, Lift, Lower, TypedFunc};

use crate::clock::millis;
use crate::event::Event;
use crate::sandbox::Setup;
use crate::sandbox::classify::Ending;
use crate::sandbox::run::Job;

#[derive(ComponentType, Lower)]
#[component(record)]
pub(in crate::sandbox) struct EventIn<'a> {
    id: &'a str,
    source: &'a str,
    #[component(name = "type")]
    kind: &'a str,
    subject: Option<&'a str>,
    time: Option<&'a str>,
    datacontenttype: Option<&'a str>,
    dataschema: Option<&'a str>,
    extensions: &'a [(&'a str, &'a str)],
    data: Option<&'a [u8]>,
}

impl<'a> EventIn<'a> {
    /// Borrows an event; `extensions` are those that the guest is shown.
    pub(in crate::sandbox) fn new(event: &'a Event, extensions: &'a [(&'a str, &'a str)]) -> Self {
        Self {
            id: &event.id,
            source: &event.source,
            kind: &event.kind,
            subject: event.subject.as_deref(),
            time: event.time.as_deref(),
            datacontenttype: event.datacontenttype.as_deref(),
            dataschema: event.dataschema.as_deref(),
            extensions,
            data: event.data.as_deref(),
        }
    }
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(in crate::sandbox) struct DeliveryIn<'a> {
    pub(in crate::sandbox) handler: &'a str,
    pub(in crate::sandbox) queue: &'a str,
    #[component(name = "order-key")]
    pub(in crate::sandbox) order_key: Option<&'a str>,
    pub(in crate::sandbox) attempt: u32,
    #[component(name = "attempts-left")]
    pub(in crate::sandbox) attempts_left: u32,
    #[component(name = "first-seen")]
    pub(in crate::sandbox) first_seen: u64,
    #[component(name = "time-left")]
    pub(in crate::sandbox) time_left: u64,
    #[component(name = "idempotency-key")]
    pub(in crate::sandbox) idempotency_key: &'a str,
    #[component(name = "wants-reply")]
    pub(in crate::sandbox) wants_reply: bool,
}

impl<'a> DeliveryIn<'a> {
    pub(in crate::sandbox) fn new(job: &Job<'a>, setup: &'a Setup, idempotency_key: &'a str) -> Self {
        Self {
            handler: &setup.handler,
            queue: job.queue,
            order_key: job.order_key,
            attempt: job.attempt,
            attempts_left: job.attempts_left,
            first_seen: job.first_seen.0,
            time_left: millis(job.time_left(setup, Instant::now())),
            idempotency_key,
            wants_reply: job.answer_by.is_some(),
        }
    }
}

/// One event of a batch.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(in crate::sandbox) struct ItemIn<'a> {
    pub(in crate::sandbox) event: EventIn<'a>,
    pub(in crate::sandbox) delivery: DeliveryIn<'a>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(in crate::sandbox) struct RetryOut {
    reason: String,
    after: Option<u64>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(in crate::sandbox) enum FailureOut {
    #[component(name = "retry")]
    Retry(RetryOut),
    #[component(name = "reject")]
    Reject(String),
}

/// What is said of one event of a batch.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(in crate::sandbox) struct AnswerOut {
    pub(in crate::sandbox) index: u32,
    pub(in crate::sandbox) verdict: Result<(), FailureOut>,
}

/// `weir:events/handler.handle`.
pub(in crate::sandbox) type Handle<'a> = TypedFunc<(EventIn<'a>, DeliveryIn<'a>), (Result<(), FailureOut>,)>;

/// `weir:events/batch-handler.handle`.
pub(in crate::sandbox) type HandleBatch<'a> = TypedFunc<(&'a [ItemIn<'a>],), (Result<Vec<AnswerOut>, FailureOut>,)>;

impl From<FailureOut> for Ending {
    fn from(failure: FailureOut) -> Self {
        match failure {
            FailureOut::Reject(reason) => Self::Reject { reason },
            FailureOut::Retry(retry) => Self::Retry { reason: retry.reason, after: retry.after.map(Duration::from_millis) },
        }
    }
}

impl From<Result<(), FailureOut>> for Ending {
    fn from(answer: Result<(), FailureOut>) -> Self {
        answer.map_or_else(Self::from, |()| Self::Done)
    }
}

/// The extensions that a guest is shown: none of Weir's own.
pub(in crate::sandbox) fn extensions(event: &Event) -> Vec<(&str, &str)> {
    let shown = |(name, _): &&(String, String)| !name.starts_with("weir");
    event.extensions.iter().filter(shown).map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The same over attempts, copies and replays (delivery.md §8): SHA-256 of source, id and handler, each with its length.
pub(in crate::sandbox) fn idempotency_key(event: &Event, handler: &str) -> String {
    let mut hash = Sha256::new();
    for part in [&event.source, &event.id, handler] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut text = [0; 64];
    // The text has room for the 32 bytes. `hex::encode` would put it together letter by letter.
    let _ = hex::encode_to_slice(hash.finalize(), &mut text);
    String::from_utf8_lossy(&text).into_owned()
}
