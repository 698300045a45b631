//! A message of AMQP becomes an event, and an event a message: the CloudEvents binding for AMQP (surface.md §5), read in both spellings of
//! its prefix. Beside it stand headers of Weir's own, in messages that it published: the tries behind it, and when it is due. Pure.
//!
//! Trusted: whoever may write to the queue, with these headers as with attributes that are Weir's own elsewhere.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::event::{Event, json};
use crate::queue::wrapping::{Parts, Wrapping, attributes};
use crate::queue::{Position, Tries};
use crate::source;

/// What stands before the names of attributes; the first is written.
const PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];

/// The name of the attribute that is the property correlation-id.
const CORRELATION: &str = "correlationid";

/// The time in milliseconds: the property has seconds only. The server's own plugin for timestamps uses this name.
const TIME: &str = "timestamp_in_ms";

/// Tries behind a copy; outside failures in a row, and since when; when it is due; the key with which it goes to its exchange then.
const ATTEMPT: &str = "weirattempt";
const OUTSIDE: &str = "weiroutside";
const SINCE: &str = "weirsince";
const DUE: &str = "weirdue";
const KEY: &str = "weirkey";

/// How often a queue that counts has delivered it before without an end.
const DELIVERED: &str = "x-delivery-count";

/// How often it was taken, given back or not: only servers that don't count what was given back tell it.
const ACQUIRED: &str = "x-acquired-count";

/// Headers that the server adds and that are not a copy's.
const SERVERS: [&str; 4] = [DELIVERED, ACQUIRED, "x-death", "x-opt-deaths"];

/// Kept on disk.
const PERSISTENT: u8 = 2;

/// Longest text of a property.
const SHORT_MAX: usize = 255;

/// A message as it came.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) properties: BasicProperties,
    pub(super) body: Bytes,
}

/// What a message says of itself beside its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Book {
    /// Names the message: the same at every delivery and in copies, if it says who it is.
    pub(super) position: Position,
    /// What went before, by its headers.
    pub(super) tries: Tries,
    /// Not before.
    pub(super) due: Option<Timestamp>,
    /// The key for its exchange, when it is due.
    pub(super) key: Option<String>,
    /// Deliveries that were counted by the server and did not end.
    pub(super) delivered: Option<u32>,
    /// The server tells how often it was taken.
    pub(super) acquired: bool,
    /// When it was published, as far as can be told.
    pub(super) published: Timestamp,
}

/// The message of an event that is published now; `id` names the message.
pub(super) fn message(event: &Event, id: Uuid, published: Timestamp) -> Message {
    let mut headers = FieldTable::default();
    headers.insert(TIME.into(), number(published.0));
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_message_id(id.to_string().into())
        .with_timestamp(published.0 / 1_000);
    let properties = match event.extension(CORRELATION).and_then(short) {
        Some(id) => properties.with_correlation_id(id),
        None => properties,
    };
    if !is_binary(event) {
        let properties = properties.with_content_type("application/cloudevents+json; charset=utf-8".into());
        return Message { properties: properties.with_headers(headers), body: json::write(event).into() };
    }
    for (name, value) in attributes(event) {
        if let Some(name) = short(&format!("{}{name}", PREFIXES[0])) {
            headers.insert(name, AMQPValue::LongString(value.into()));
        }
    }
    let properties = match event.datacontenttype.as_deref().and_then(short) {
        Some(media_type) => properties.with_content_type(media_type),
        None => properties,
    };
    Message { properties: properties.with_headers(headers), body: event.data.clone().unwrap_or_default() }
}

/// Whether an event comes out of binary mode as it went in.
fn is_binary(event: &Event) -> bool {
    let media_type = event.datacontenttype.as_deref().unwrap_or_default();
    let is_plain = media_type.len() <= SHORT_MAX && !media_type.to_ascii_lowercase().starts_with("application/cloudevents");
    // Without data there is nothing that its type could say wrongly.
    is_plain && event.data.as_ref().is_none_or(|data| !data.is_empty() && source::not_json(event).is_none())
}

/// The same message once more, with what went before its next try and when that is due.
pub(super) fn copy(raw: &Raw, book: &Book, tries: Tries, due: Option<Timestamp>) -> Message {
    let mut headers = FieldTable::default();
    let own = [ATTEMPT, OUTSIDE, SINCE, DUE, TIME];
    if let Some(old) = raw.properties.headers() {
        for (name, value) in old.inner() {
            let name_text = name.as_str();
            let of_server =
                SERVERS.contains(&name_text) || name_text.starts_with("x-first-death") || name_text.starts_with("x-last-death");
            if !of_server && !own.contains(&name_text) {
                headers.insert(name.clone(), value.clone());
            }
        }
    }
    headers.insert(TIME.into(), number(book.published.0));
    let since = tries.outside_since.map(|since| since.0);
    let (failed, outside) = ((tries.failed > 0).then(|| tries.failed.into()), (tries.outside > 0).then(|| tries.outside.into()));
    for (name, value) in [(ATTEMPT, failed), (OUTSIDE, outside), (SINCE, since), (DUE, due.map(|due| due.0))] {
        if let Some(value) = value {
            headers.insert(name.into(), number(value));
        }
    }
    let mut properties = kept(&raw.properties).with_headers(headers);
    if properties.message_id().is_none() {
        properties = properties.with_message_id(Uuid::from_u128(book.position.0).to_string().into());
    }
    Message { properties, body: raw.body.clone() }
}

/// A message that is not to be delivered before.
pub(super) fn with_due(message: Message, due: Timestamp) -> Message {
    let mut headers = message.properties.headers().clone().unwrap_or_default();
    headers.insert(DUE.into(), number(due.0));
    Message { properties: message.properties.with_headers(headers), ..message }
}

/// A message that goes to its exchange with this key, once it is due.
pub(super) fn with_key(message: Message, key: &str, due: Timestamp) -> Message {
    let message = with_due(message, due);
    let mut headers = message.properties.headers().clone().unwrap_or_default();
    headers.insert(KEY.into(), AMQPValue::LongString(key.into()));
    Message { properties: message.properties.with_headers(headers), ..message }
}

/// A message that is due, without what it waited by.
pub(super) fn released(raw: &Raw) -> Message {
    let mut headers = FieldTable::default();
    for (name, value) in raw.properties.headers().iter().flat_map(|old| old.inner()) {
        if ![KEY, DUE].contains(&name.as_str()) && !SERVERS.contains(&name.as_str()) && !name.as_str().contains("-death-") {
            headers.insert(name.clone(), value.clone());
        }
    }
    Message { properties: kept(&raw.properties).with_headers(headers), body: raw.body.clone() }
}

/// The properties that a copy keeps: not the time to live, which would end it where it waits, and not the user, who has to be who publishes.
fn kept(old: &BasicProperties) -> BasicProperties {
    type Set = fn(BasicProperties, ShortString) -> BasicProperties;
    let texts: [(&Option<ShortString>, Set); 7] = [
        (old.content_type(), BasicProperties::with_content_type),
        (old.content_encoding(), BasicProperties::with_content_encoding),
        (old.correlation_id(), BasicProperties::with_correlation_id),
        (old.reply_to(), BasicProperties::with_reply_to),
        (old.message_id(), BasicProperties::with_message_id),
        (old.kind(), BasicProperties::with_type),
        (old.app_id(), BasicProperties::with_app_id),
    ];
    let mut kept = BasicProperties::default().with_delivery_mode(PERSISTENT);
    for (value, set) in texts {
        if let Some(value) = value {
            kept = set(kept, value.clone());
        }
    }
    if let Some(priority) = old.priority() {
        kept = kept.with_priority(*priority);
    }
    if let Some(timestamp) = old.timestamp() {
        kept = kept.with_timestamp(*timestamp);
    }
    kept
}

/// What a message says of itself. `fresh` names one that does not say who it is.
pub(super) fn book(raw: &Raw, fresh: Uuid, now: Timestamp) -> Book {
    let headers = raw.properties.headers().as_ref();
    let count = |name: &str| headers.and_then(|headers| headers.inner().get(name)).and_then(whole);
    let small = |name: &str| count(name).map(|count| u32::try_from(count).unwrap_or(u32::MAX));
    let key = headers.and_then(|headers| headers.inner().get(KEY)).and_then(text);
    let died = || headers.and_then(|headers| headers.inner().get("x-death")).and_then(first_death);
    let seconds = || raw.properties.timestamp().map(|seconds| seconds.saturating_mul(1_000));
    let published = count(TIME).or_else(seconds).or_else(died).map_or(now, |millis| Timestamp(millis.min(now.0)));
    Book {
        position: raw.properties.message_id().as_ref().map_or(Position(fresh.as_u128()), |id| position(id.as_str())),
        tries: Tries {
            failed: small(ATTEMPT).unwrap_or_default(),
            outside: small(OUTSIDE).unwrap_or_default(),
            outside_since: count(SINCE).map(Timestamp),
        },
        due: count(DUE).map(Timestamp),
        key,
        delivered: small(DELIVERED),
        acquired: count(ACQUIRED).is_some(),
        published,
    }
}

/// The event of a message. `fresh` is the id of one that has none.
pub(super) fn event(raw: &Raw, book: &Book, wrapping: &Wrapping) -> Event {
    let mut named: Vec<(&str, String)> = Vec::new();
    for (name, value) in raw.properties.headers().iter().flat_map(|headers| headers.inner()) {
        let name = PREFIXES.iter().find_map(|prefix| name.as_str().strip_prefix(prefix));
        if let (Some(name), Some(value)) = (name.filter(|name| *name != "datacontenttype"), text(value)) {
            named.push((name, value));
        }
    }
    let attributes: Vec<(&str, &str)> = named.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let id = raw.properties.message_id().as_ref().map(|id| id.as_str().to_owned()).filter(|id| !id.is_empty());
    let id = id.unwrap_or_else(|| Uuid::from_u128(book.position.0).to_string());
    let content_type = raw.properties.content_type().as_ref().map(ShortString::as_str).filter(|text| !text.is_empty());
    let mut event = wrapping.parts(id, Parts { attributes: &attributes, content_type, body: &raw.body }, book.published);
    if let (Some(correlation), None) = (raw.properties.correlation_id(), event.extension(CORRELATION)) {
        // One that can't be an attribute's value is left out.
        let _ = event.set(CORRELATION, correlation.as_str().to_owned());
    }
    event
}

/// The number that stands for a message's own name.
fn position(id: &str) -> Position {
    if let Ok(uuid) = Uuid::parse_str(id) {
        return Position(uuid.as_u128());
    }
    hashed(&[id.as_bytes()])
}

/// Another number for a message whose own one somebody else's copy has.
pub(super) fn other(position: Position, session: u64, delivery: u64) -> Position {
    hashed(&[&position.0.to_be_bytes(), &session.to_be_bytes(), &delivery.to_be_bytes()])
}

fn hashed(parts: &[&[u8]]) -> Position {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let (mut number, mut reader) = ([0; 16], hasher.finalize_xof());
    reader.fill(&mut number);
    Position(u128::from_be_bytes(number))
}

fn number(value: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX))
}

fn short(text: &str) -> Option<ShortString> {
    ShortString::try_new(text).ok()
}

fn whole(value: &AMQPValue) -> Option<u64> {
    match value {
        AMQPValue::ShortShortInt(value) => u64::try_from(*value).ok(),
        AMQPValue::ShortShortUInt(value) => Some((*value).into()),
        AMQPValue::ShortInt(value) => u64::try_from(*value).ok(),
        AMQPValue::ShortUInt(value) => Some((*value).into()),
        AMQPValue::LongInt(value) => u64::try_from(*value).ok(),
        AMQPValue::LongUInt(value) => Some((*value).into()),
        AMQPValue::LongLongInt(value) => u64::try_from(*value).ok(),
        _ => None,
    }
}

/// The value of an attribute in the canonical string form of CloudEvents.
fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(value) => utf8(value),
        AMQPValue::ShortString(value) => Some(value.as_str().to_owned()),
        AMQPValue::Boolean(value) => Some(value.to_string()),
        AMQPValue::ShortShortInt(value) => Some(value.to_string()),
        AMQPValue::ShortInt(value) => Some(value.to_string()),
        AMQPValue::LongInt(value) => Some(value.to_string()),
        AMQPValue::LongLongInt(value) => Some(value.to_string()),
        AMQPValue::Timestamp(seconds) => Some(Timestamp(seconds.saturating_mul(1_000)).to_string()),
        other => whole(other).map(|value| value.to_string()),
    }
}

fn utf8(value: &LongString) -> Option<String> {
    String::from_utf8(value.as_bytes().to_vec()).ok()
}

/// When a message was first dead-lettered, somewhere on its way here: it was published before. In milliseconds.
fn first_death(deaths: &AMQPValue) -> Option<u64> {
    let times =
        deaths.as_array()?.as_slice().iter().filter_map(|death| death.as_field_table()?.inner().get("time")?.as_timestamp());
    times.min().map(|seconds| seconds.saturating_mul(1_000))
}

#[cfg(test)]
mod tests;
