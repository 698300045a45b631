//! Structured and batched mode: events in the JSON format, one or an array of them. Other formats are refused by name.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{BATCH_EVENTS_MAX, Intake, Mode, Problem, Refusal, accept};
use crate::event::{Event, json};

/// Content type of one event.
pub const ONE: &str = "application/cloudevents+json";
/// Content type of a batch.
pub const BATCH: &str = "application/cloudevents-batch+json";

/// Which of the two a content type names.
pub(super) fn mode(content_type: &str, essence: &str) -> Result<Mode, Problem> {
    let wrong = |expected| Err(Problem::Header { name: "content-type".to_owned(), found: format!("`{content_type}`"), expected });
    let charset = content_type.split(';').skip(1).filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_ascii_lowercase())
    });
    if charset.is_some_and(|charset| charset != "utf-8" && charset != "us-ascii") {
        return wrong("JSON in UTF-8");
    }
    match essence {
        ONE => Ok(Mode::Structured),
        BATCH => Ok(Mode::Batched),
        _ => wrong("`application/cloudevents+json` or `application/cloudevents-batch+json`"),
    }
}

/// Reads one event and checks it.
pub(super) fn read_one(body: &[u8], intake: &Intake) -> Result<Event, Problem> {
    accept(json::read(body)?, intake)
}

/// Reads a batch; the first event that is wrong refuses all of it.
pub(super) fn read_batch(body: &[u8], intake: &Intake) -> Result<Vec<Event>, Refusal> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let items = serde::Deserializer::deserialize_seq(&mut reader, Items)
        .and_then(|items| reader.end().map(|()| items))
        .map_err(|error| Problem::NotBatch(error.to_string()))?;
    if items.len() > BATCH_EVENTS_MAX {
        return Err(Problem::TooMany.into());
    }
    let read = |(index, item): (usize, &RawValue)| {
        read_one(item.get().as_bytes(), intake).map_err(|problem| Refusal { problem, index: Some(index) })
    };
    items.into_iter().enumerate().map(read).collect()
}

/// The texts of an array's items: the first [`BATCH_EVENTS_MAX`] and at most one more, which says that there are too many.
struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            if items.len() <= BATCH_EVENTS_MAX {
                items.push(item);
            }
        }
        Ok(items)
    }
}
