//! A dead letter as JSON (surface.md §3): what `weir dead`, the API and the store write. The event keeps its data byte for byte.

use std::borrow::Cow;
use std::sync::Arc;

use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{DEAD_LETTER_BYTES_MAX, DeadBounds, DeadLetter};
use crate::clock::Timestamp;
use crate::event;
use crate::outcome::{Limit, Outcome};

/// Every name that a limit can have (sandbox.md §3), to read back what was written.
const LIMITS: [&str; 14] = [
    "fuel",
    "memory",
    "tables",
    "handles",
    "stack",
    "arguments",
    "deadline",
    "output",
    "publishes",
    "published",
    "requests",
    "response",
    "total-memory",
    "hops",
];

/// The dead letter as a JSON value.
#[must_use]
pub fn to_json(letter: &DeadLetter) -> serde_json::Value {
    // Names are strings and every value is representable, so there is no error case.
    serde_json::to_value(letter).unwrap_or_default()
}

/// The dead letter as a place with these bounds keeps it: without log and backtrace when it would be larger than all that the place
/// keeps, or than [`DEAD_LETTER_BYTES_MAX`].
///
/// # Errors
/// When it can't be written as JSON.
pub fn stored(letter: &DeadLetter, bounds: DeadBounds) -> Result<Vec<u8>, String> {
    let written = |letter: &DeadLetter| serde_json::to_vec(letter).map_err(|error| error.to_string());
    let bytes = written(letter)?;
    if bytes.len() <= DEAD_LETTER_BYTES_MAX && bytes.len() as u64 <= bounds.bytes {
        return Ok(bytes);
    }
    written(&DeadLetter { log: String::new(), backtrace: Vec::new(), ..letter.clone() })
}

/// Reads what serialising a [`DeadLetter`] wrote.
///
/// # Errors
/// Says what is not a dead letter.
pub fn read(text: &[u8]) -> Result<DeadLetter, String> {
    let written: Written = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let event = event::json::read(written.event.get().as_bytes()).map_err(|error| error.to_string())?;
    let limit = match written.limit {
        Some(WrittenLimit { name, value }) => {
            Some(Limit { name: known(&LIMITS, &name).ok_or_else(|| format!("limit `{name}` is not known"))?, value })
        }
        None => None,
    };
    let outcome = match written.outcome {
        Some(name) => Some(known(&Outcome::NAMES, &name).ok_or_else(|| format!("outcome `{name}` is not known"))?),
        None => None,
    };
    Ok(DeadLetter {
        id: written.id,
        handler: written.handler,
        queue: written.queue,
        reason: written.reason,
        outcome,
        limit,
        attempts: written.attempts,
        first_at: time(&written.first_at)?,
        dead_at: time(&written.dead_at)?,
        version: written.version,
        event: Arc::new(event),
        log: written.log,
        backtrace: written.backtrace,
    })
}

fn known(names: &[&'static str], name: &str) -> Option<&'static str> {
    names.iter().copied().find(|known| *known == name)
}

fn time(text: &str) -> Result<Timestamp, String> {
    let time: jiff::Timestamp = text.parse().map_err(|_| format!("`{text}` is no time as in RFC 3339"))?;
    Ok(Timestamp(u64::try_from(time.as_millisecond()).unwrap_or_default()))
}

#[derive(Deserialize)]
struct Written<'a> {
    id: String,
    handler: String,
    queue: String,
    reason: String,
    #[serde(borrow)]
    outcome: Option<Cow<'a, str>>,
    #[serde(borrow)]
    limit: Option<WrittenLimit<'a>>,
    attempts: u32,
    first_at: String,
    dead_at: String,
    version: Option<String>,
    #[serde(borrow)]
    event: &'a RawValue,
    log: String,
    backtrace: Vec<String>,
}

#[derive(Deserialize, Serialize)]
struct WrittenLimit<'a> {
    name: Cow<'a, str>,
    value: u64,
}

/// The fields of surface.md §3, in that order.
impl Serialize for DeadLetter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut json = serializer.serialize_struct("DeadLetter", 13)?;
        json.serialize_field("id", &self.id)?;
        json.serialize_field("handler", &self.handler)?;
        json.serialize_field("queue", &self.queue)?;
        json.serialize_field("reason", &self.reason)?;
        json.serialize_field("outcome", &self.outcome)?;
        let limit = self.limit.map(|limit| WrittenLimit { name: Cow::Borrowed(limit.name), value: limit.value });
        json.serialize_field("limit", &limit)?;
        json.serialize_field("attempts", &self.attempts)?;
        json.serialize_field("first_at", &self.first_at.to_string())?;
        json.serialize_field("dead_at", &self.dead_at.to_string())?;
        json.serialize_field("version", &self.version)?;
        json.serialize_field("event", &event::json::AsJson(&self.event))?;
        json.serialize_field("log", &self.log)?;
        json.serialize_field("backtrace", &self.backtrace)?;
        json.end()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::Event;

    fn letter() -> DeadLetter {
        let event = Event {
            id: "1".to_owned(),
            source: "/test".to_owned(),
            kind: "order.paid".to_owned(),
            data: Some(Bytes::from_static(br#"{"total":12345678901234567890.125}"#)),
            ..Event::default()
        };
        DeadLetter {
            id: "00ff".to_owned(),
            handler: "mailer".to_owned(),
            queue: "events".to_owned(),
            reason: "no \"owner\"\nin data".to_owned(),
            outcome: Some("fuel"),
            limit: Some(Limit { name: "fuel", value: 1_000 }),
            attempts: 2,
            first_at: Timestamp(1_700_000_000_001),
            dead_at: Timestamp(1_700_000_360_999),
            version: Some("sha256:abc".to_owned()),
            event: Arc::new(event),
            log: "line\n".to_owned(),
            backtrace: vec!["handle".to_owned()],
        }
    }

    #[test]
    fn json_has_the_fields_of_the_surface() {
        let json = to_json(&letter());
        let names: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        let expected = "attempts backtrace dead_at event first_at handler id limit log outcome queue reason version";
        let mut names_sorted = names;
        names_sorted.sort();
        assert_eq!(names_sorted.join(" "), expected);
        assert_eq!(json["limit"], serde_json::json!({ "name": "fuel", "value": 1_000 }));
        assert_eq!(json["first_at"], "2023-11-14T22:13:20.001Z");
        assert_eq!(json["event"]["type"], "order.paid");
        let mut never_ran = letter();
        (never_ran.outcome, never_ran.limit, never_ran.version) = (None, None, None);
        let json = to_json(&never_ran);
        assert!(json["outcome"].is_null() && json["limit"].is_null() && json["version"].is_null());
    }

    #[test]
    fn what_was_written_reads_back() {
        let before = letter();
        let text = serde_json::to_vec(&before).unwrap();
        let after = read(&text).unwrap();
        assert_eq!(after.event, before.event, "data must stay byte for byte");
        assert_eq!(format!("{after:?}"), format!("{before:?}"));
    }

    #[test]
    fn every_outcome_and_limit_reads_back() {
        for outcome in Outcome::NAMES {
            for limit in LIMITS {
                let mut before = letter();
                before.outcome = Some(outcome);
                before.limit = Some(Limit { name: limit, value: u64::MAX });
                let after = read(&serde_json::to_vec(&before).unwrap()).unwrap();
                assert_eq!((after.outcome, after.limit), (before.outcome, before.limit));
            }
        }
    }

    #[test]
    fn damage_is_an_error() {
        assert!(read(b"{}").is_err());
        let text = serde_json::to_string(&letter()).unwrap();
        assert!(read(text.replace("\"outcome\":\"fuel\"", "\"outcome\":\"fun\"").as_bytes()).unwrap_err().contains("`fun`"));
    }
}
