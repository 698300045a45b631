//! A record of Kafka becomes an event, and an event a record: the CloudEvents binding for Kafka (surface.md §5). Pure.
//!
//! In binary mode attributes are headers `ce_…` in UTF-8 as they are, and the content type is a header. An event that binary mode
//! would change (data that is not the JSON it says it is, data of no bytes) is written in structured mode.
//!
//! A copy that waits for its next try has three headers of our own beside them.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::event::{Event, json};
use crate::queue::Tries;
use crate::queue::wrapping::{self, Parts, Wrapping};
use crate::source;

/// The attribute that a record's key stands for, unless the queue says otherwise.
pub(super) const KEY: &str = "partitionkey";

/// What attributes begin with.
const PREFIX: &str = "ce_";

const CONTENT_TYPE: &str = "content-type";

/// The content type of structured mode.
const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";

/// What a copy remembers: tries, when due, when its event was first seen; written as JSON.
pub(super) const WAITS: &str = "weir-waits";

/// An event as a record.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) headers: Vec<(String, Vec<u8>)>,
    /// None: a record without payload.
    pub(super) payload: Option<Bytes>,
    /// What decides on its partition.
    pub(super) key: Option<String>,
}

/// What a copy remembers of the event that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Waits {
    pub(super) tries: Tries,
    pub(super) due: Timestamp,
    pub(super) first_seen: Timestamp,
}

/// The record of an event; `key` is the attribute that its key is taken from.
pub(super) fn record(event: &Event, key: &str) -> Record {
    let key = event.attribute(key).map(str::to_owned);
    if !is_plain(event) {
        let headers = vec![(CONTENT_TYPE.to_owned(), STRUCTURED.as_bytes().to_vec())];
        return Record { headers, payload: Some(Bytes::from(json::write(event))), key };
    }
    let attributes = wrapping::attributes(event).map(|(name, value)| (format!("{PREFIX}{name}"), value.as_bytes().to_vec()));
    let content_type = event.datacontenttype.as_ref().map(|value| (CONTENT_TYPE.to_owned(), value.as_bytes().to_vec()));
    Record { headers: attributes.chain(content_type).collect(), payload: event.data.clone(), key }
}

/// Adds what the key of a record says: of one that we wrote, an attribute says it already.
pub(super) fn add_key(event: &mut Event, attribute: &str, key: Option<&[u8]>) {
    if let Some(Ok(key)) = key.map(std::str::from_utf8)
        && event.attribute(attribute).is_none()
        && event.attribute(KEY).is_none()
    {
        // A key that is no value of an attribute is the producer's own affair.
        let _ = event.set(KEY, key.to_owned());
    }
}

/// Whether binary mode gives the same event again.
fn is_plain(event: &Event) -> bool {
    event.data.as_ref().is_none_or(|data| !data.is_empty() && source::not_json(event).is_none())
}

/// The event of a record, and what it remembers where it is a copy. `id` is for one that has none of its own.
pub(super) fn event(
    wrapping: &Wrapping,
    id: String,
    headers: &[(&str, &[u8])],
    payload: &Bytes,
    published: Timestamp,
) -> (Event, Option<Waits>) {
    let mut attributes = Vec::with_capacity(headers.len());
    let (mut content_type, mut waits, mut broken) = (None, None, false);
    for (name, value) in headers {
        if *name == WAITS {
            waits = serde_json::from_slice(value).ok();
        } else if name.eq_ignore_ascii_case(CONTENT_TYPE) {
            content_type = std::str::from_utf8(value).ok();
        } else if let Some(attribute) = name.strip_prefix(PREFIX) {
            match std::str::from_utf8(value) {
                Ok(value) => attributes.push((attribute, value)),
                Err(_) => broken = true,
            }
        }
    }
    let parts = Parts { attributes: &attributes, content_type, body: payload };
    let event = if broken { wrapping.wrap(id, content_type, payload, published) } else { wrapping.parts(id, parts, published) };
    (event, waits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(event: &Event) -> Event {
        let record = record(event, "partitionkey");
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let payload = record.payload.clone().unwrap_or_default();
        super::event(&Wrapping::new("q", "x"), String::new(), &headers, &payload, Timestamp(0)).0
    }

    fn with(datacontenttype: Option<&str>, data: Option<&'static [u8]>) -> Event {
        Event {
            id: "1 ✓".to_owned(),
            source: "/s".to_owned(),
            kind: "t".to_owned(),
            subject: Some("ä \"%".to_owned()),
            extensions: vec![("partitionkey".to_owned(), "k 1".to_owned()), ("x9".to_owned(), String::new())],
            datacontenttype: datacontenttype.map(str::to_owned),
            data: data.map(Bytes::from_static),
            ..Event::default()
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (content_type, data, structured) in [
            (None, None, false),
            (None, Some(&b"{\"a\":1}"[..]), false),
            (Some("application/json; charset=utf-8"), Some(b"[1]"), false),
            (Some("text/plain"), Some(b"hello"), false),
            (Some("application/octet-stream"), Some(&[0, 255]), false),
            (Some("text/plain"), Some(b""), true),
            (None, Some(b"{broken"), true),
        ] {
            let event = with(content_type, data);
            assert_eq!(again(&event), event);
            let record = record(&event, "partitionkey");
            assert_eq!(record.key.as_deref(), Some("k 1"));
            assert_eq!(record.headers.len() == 1, structured, "{event:?}");
        }
    }

    #[test]
    fn a_key_may_be_another_attribute() {
        assert_eq!(record(&with(None, None), "subject").key.as_deref(), Some("ä \"%"));
        assert_eq!(record(&with(None, None), "other").key, None);
    }

    #[test]
    fn others_records_are_wrapped() {
        let wrapping = Wrapping::new("orders", "com.example.raw");
        let read = |headers: &[(&str, &[u8])], payload: &'static [u8]| {
            event(&wrapping, "t/0/7".to_owned(), headers, &Bytes::from_static(payload), Timestamp(1_700_000_000_000)).0
        };
        let plain = read(&[("x", b"y")], b"{\"a\":1}");
        assert_eq!(
            (plain.id.as_str(), plain.source.as_str(), plain.kind.as_str()),
            ("t/0/7", "/weir/queue/orders", "com.example.raw")
        );
        assert_eq!(plain.datacontenttype.as_deref(), Some("application/json"));
        let broken = read(&[("ce_specversion", b"1.0"), ("ce_id", &[255])], b"x");
        assert_eq!((broken.id.as_str(), broken.data.as_deref()), ("t/0/7", Some(&b"x"[..])));
        let typed = read(&[("Content-Type", b"text/plain")], b"x");
        assert_eq!(typed.datacontenttype.as_deref(), Some("text/plain"));
        let structured = br#"{"specversion":"1.0","id":"9","source":"/s","type":"t"}"#;
        assert_eq!(read(&[("content-type", b"application/cloudevents+json")], structured).id, "9");
    }

    #[test]
    fn a_copy_remembers() {
        let waits = Waits {
            tries: Tries { failed: 3, outside: 2, outside_since: Some(Timestamp(5)) },
            due: Timestamp(9),
            first_seen: Timestamp(7),
        };
        let text = serde_json::to_vec(&waits).unwrap();
        let read = event(&Wrapping::new("q", "x"), String::new(), &[(WAITS, &text)], &Bytes::new(), Timestamp(0));
        assert_eq!(read.1, Some(waits));
    }
}
