//! A message of NATS becomes an event, and an event a message: the CloudEvents binding for NATS in binary mode, `ce-` headers (surface.md §5).
//! Pure.
//!
//! Nothing that arrives is refused: what can't be read as it says it should be is wrapped as it is, or a message that no handler ever
//! saw would come for ever.

use std::fmt::Write as _;

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::clock::Timestamp;
use crate::event::{Event, json};
use crate::source::{self, Message, binary, raw};

/// What messages get that are no CloudEvents: where they come from, and of which type they are.
#[derive(Debug, Clone)]
pub(super) struct Wrapping {
    /// `/weir/queue/<name>`.
    pub(super) source: String,
    /// The queue's `type`.
    pub(super) kind: String,
}

impl Wrapping {
    pub(super) fn new(queue: &str, kind: &str) -> Self {
        Self { source: raw::source_of(queue), kind: kind.to_owned() }
    }

    /// The event of a message; `id` is given to one that has none.
    pub(super) fn event(&self, id: String, headers: Option<&HeaderMap>, body: &Bytes, published: Timestamp) -> Event {
        let headers = headers.map(lowered).unwrap_or_default();
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let message = Message { headers: &headers, body };
        let read = match source::mode(&message) {
            Ok(source::Mode::Structured) => json::read(body).ok(),
            Ok(source::Mode::Binary) => binary::read(&message).ok(),
            // The first versions of the binding knew structured mode only, and said so nowhere.
            Ok(source::Mode::Raw) if headers.is_empty() => json::read(body).ok(),
            _ => None,
        };
        read.unwrap_or_else(|| self.wrap(id, &message, published))
    }

    fn wrap(&self, id: String, message: &Message, published: Timestamp) -> Event {
        let mut event = Event {
            id,
            source: self.source.clone(),
            kind: self.kind.clone(),
            time: Some(published.to_string()),
            ..Event::default()
        };
        let said = message.header("content-type").ok().flatten();
        let is_json = serde_json::from_slice::<&serde_json::value::RawValue>(message.body).is_ok();
        let content_type = said.or_else(|| is_json.then_some("application/json"));
        if source::set_data(&mut event, content_type, message.body).is_err() {
            // JSON by its type only: the bytes are kept.
            event.data = Some(message.body.clone());
        }
        event
    }
}

/// Headers with their names in lower case; NATS keeps them as they were written.
fn lowered(headers: &HeaderMap) -> Vec<(String, &[u8])> {
    let all = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    all.map(|(name, value)| (AsRef::<str>::as_ref(name).to_ascii_lowercase(), value.as_str().as_bytes())).collect()
}

/// The headers of an event, its own id among them; the body is its data.
pub(super) fn headers(event: &Event) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str| headers.insert(format!("{}{name}", binary::PREFIX).as_str(), encoded(value).as_str());
    set("specversion", "1.0");
    for name in ["id", "source", "type", "subject", "time", "dataschema"] {
        if let Some(value) = event.attribute(name) {
            set(name, value);
        }
    }
    for (name, value) in &event.extensions {
        set(name, value);
    }
    if event.data.is_some() {
        headers.insert("content-type", event.datacontenttype.as_deref().unwrap_or("application/json"));
    }
    headers
}

/// A header's value: percent-encoded outside of printable ASCII, and blank, `"` and `%` too (CloudEvents HTTP binding §3.1.3.2).
fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'"' | b'%' | ..=b' ' | 0x7f.. => {
                let _ = write!(out, "%{byte:02X}");
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(headers: &[(&str, &str)], body: &'static [u8]) -> Event {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| map.append(*name, *value));
        let wrapping = Wrapping::new("orders", "com.example.raw");
        wrapping.event("ORDERS/7".to_owned(), Some(&map), &Bytes::from_static(body), Timestamp(1_700_000_000_000))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let event = json::read(
            br#"{"specversion":"1.0","id":"a b","source":"/s","type":"t","subject":"\u00e4\"%","partitionkey":"k","data":{"a":1}}"#,
        )
        .unwrap();
        let wrapping = Wrapping::new("q", "x");
        let mut came = wrapping.event(String::new(), Some(&headers(&event)), event.data.as_ref().unwrap(), Timestamp(0));
        assert_eq!(came.datacontenttype.take().as_deref(), Some("application/json"));
        assert_eq!(came, event);
    }

    #[test]
    fn all_modes_are_read() {
        let body = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
        assert_eq!(read(&[("Content-Type", "application/cloudevents+json")], body).id, "1");
        assert_eq!(read(&[], body).id, "1");
        let binary = [("Ce-Specversion", "1.0"), ("ce-id", "2"), ("ce-source", "/s"), ("ce-type", "t")];
        assert_eq!(read(&binary, b"x").id, "2");
    }

    #[test]
    fn anything_else_is_wrapped() {
        let wrapped = read(&[("x", "y")], b"{\"a\":1}");
        assert_eq!((wrapped.id.as_str(), wrapped.source.as_str()), ("ORDERS/7", "/weir/queue/orders"));
        assert_eq!((wrapped.kind.as_str(), wrapped.time.as_deref()), ("com.example.raw", Some("2023-11-14T22:13:20.000Z")));
        assert_eq!(wrapped.datacontenttype.as_deref(), Some("application/json"));
        let broken = read(&[("ce-id", "2"), ("content-type", "application/json")], b"{broken");
        assert_eq!((broken.id.as_str(), broken.data.as_deref()), ("ORDERS/7", Some(&b"{broken"[..])));
        assert_eq!(read(&[], &[255, 0]).datacontenttype.as_deref(), Some("application/octet-stream"));
    }
}
