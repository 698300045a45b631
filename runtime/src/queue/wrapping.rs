//! A message of a broker becomes an event, and an event its attributes (surface.md §5). Pure, and the same for all adapters: each only
//! finds the attributes and the body in its own kind of message.
//!
//! Nothing that arrives is refused: what can't be read as it says it should be is wrapped as it is, or a message that no handler ever
//! saw would come for ever.

use std::sync::Arc;

use bytes::Bytes;

use super::Opening;
use crate::clock::Timestamp;
use crate::event::{Event, json};
use crate::source::map::EventMap;
use crate::source::{self, Message, binary, raw};

/// What messages get that are no CloudEvents.
#[derive(Debug, Clone)]
pub(super) struct Wrapping {
    /// Where a producer's own envelope has what: the queue's `map`.
    map: Option<Arc<EventMap>>,
    /// Where they come from: `/weir/queue/<name>`.
    pub(super) source: String,
    /// Of which type they are: the queue's `type`.
    pub(super) kind: String,
}

/// A message of a broker whose attributes stand beside its body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    /// CloudEvents attributes: names without the binding's prefix, values decoded. `datacontenttype` is left out.
    pub(super) attributes: &'a [(&'a str, &'a str)],
    /// The message's own content type.
    pub(super) content_type: Option<&'a str>,
    /// The body.
    pub(super) body: &'a Bytes,
}

impl Wrapping {
    /// For a queue that is opened.
    pub(super) fn of(opening: &Opening) -> Self {
        Self { map: opening.map.clone(), source: raw::source_of(&opening.name), kind: opening.kind.clone() }
    }

    /// For the queue of this name; `kind` is its `type`, and it has no `map`.
    #[cfg(test)]
    pub(super) fn new(queue: &str, kind: &str) -> Self {
        Self { map: None, source: raw::source_of(queue), kind: kind.to_owned() }
    }

    /// The event of a body by the queue's `map`, on top of what it gets without; none: there is no map, or it does not fit.
    pub(super) fn mapped(&self, body: &Bytes, envelope: &Event) -> Option<Event> {
        self.map.as_ref()?.read(body, envelope.clone())
    }

    /// The event of a message with `ce-` headers, names in lower case, values encoded as in HTTP. `id` is for one that has none of its own.
    pub(super) fn headers(&self, id: String, headers: &[(&str, &[u8])], body: &Bytes, published: Timestamp) -> Event {
        let message = Message { headers, body };
        let read = match source::mode(&message) {
            Ok(source::Mode::Structured) => json::read(body).ok(),
            Ok(source::Mode::Binary) => binary::read(&message).ok(),
            // The first versions of the NATS binding knew structured mode only, and said so nowhere.
            Ok(source::Mode::Raw) if headers.is_empty() => json::read(body).ok(),
            _ => None,
        };
        read.unwrap_or_else(|| self.wrap(id, message.header("content-type").ok().flatten(), body, published))
    }

    /// The event of a message whose attributes stand beside its body. `id` is for one that has none of its own.
    pub(super) fn parts(&self, id: String, parts: Parts, published: Timestamp) -> Event {
        let content_type = parts.content_type.map(|text| ("content-type", text.as_bytes()));
        let message = Message { headers: content_type.as_slice(), body: parts.body };
        let structured = source::mode(&message) == Ok(source::Mode::Structured);
        let read = if structured || (parts.attributes.is_empty() && parts.content_type.is_none()) {
            json::read(parts.body).ok()
        } else {
            binary(parts)
        };
        read.unwrap_or_else(|| self.wrap(id, parts.content_type, parts.body, published))
    }

    /// The event of a message that is only a body.
    pub(super) fn body(&self, id: String, body: &Bytes, published: Timestamp) -> Event {
        json::read(body).unwrap_or_else(|_| self.wrap(id, None, body, published))
    }

    /// The event of a body by the queue's `map`, else one of the queue's own type around it.
    pub(super) fn wrap(&self, id: String, content_type: Option<&str>, body: &Bytes, published: Timestamp) -> Event {
        let mut event = Event {
            id,
            source: self.source.clone(),
            kind: self.kind.clone(),
            time: Some(published.to_string()),
            ..Event::default()
        };
        if let Some(mapped) = self.mapped(body, &event) {
            return mapped;
        }
        let is_json = || serde_json::from_slice::<&serde_json::value::RawValue>(body).is_ok();
        let content_type = content_type.or_else(|| is_json().then_some("application/json"));
        if source::set_data(&mut event, content_type, body).is_err() {
            // JSON by its type only: the bytes are kept.
            event.data = Some(body.clone());
        }
        event
    }
}

fn binary(parts: Parts) -> Option<Event> {
    if !parts.attributes.iter().any(|(name, _)| *name == "specversion") {
        return None;
    }
    let mut event = Event::default();
    for (name, value) in parts.attributes {
        event.set(name, (*value).to_owned()).ok()?;
    }
    event.complete().ok()?;
    source::set_data(&mut event, parts.content_type, parts.body).ok()?;
    Some(event)
}

/// The attributes of an event for a message in binary mode; what its data is stands in [`content_type`].
pub(super) fn attributes(event: &Event) -> impl Iterator<Item = (&str, &str)> {
    let named = ["specversion", "id", "source", "type", "subject", "time", "dataschema"];
    let named = named.into_iter().filter_map(|name| event.attribute(name).map(|value| (name, value)));
    named.chain(event.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

/// The content type of an event's message in binary mode; none: it has no data.
pub(super) fn content_type(event: &Event) -> Option<&str> {
    event.data.as_ref().map(|_| event.datacontenttype.as_deref().unwrap_or("application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(attributes: &[(&str, &str)], content_type: Option<&str>, body: &'static [u8]) -> Event {
        let body = Bytes::from_static(body);
        let parts = Parts { attributes, content_type, body: &body };
        Wrapping::new("orders", "com.example.raw").parts("0/7".to_owned(), parts, Timestamp(1_700_000_000_000))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text =
            r#"{"specversion":"1.0","id":"a b","source":"/s","type":"t","subject":"ä\"%","partitionkey":"k","data":{"a":1}}"#;
        let event = json::read(text.as_bytes()).unwrap();
        let attributes: Vec<_> = attributes(&event).collect();
        let body = event.data.clone().unwrap();
        let parts = Parts { attributes: &attributes, content_type: content_type(&event), body: &body };
        let mut came = Wrapping::new("q", "x").parts(String::new(), parts, Timestamp(0));
        assert_eq!(came.datacontenttype.take().as_deref(), Some("application/json"));
        assert_eq!(came, event);
    }

    #[test]
    fn all_modes_are_read() {
        let body = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
        for content_type in [None, Some("application/cloudevents+json; charset=utf-8")] {
            assert_eq!(parts(&[], content_type, body).kind, "t");
        }
        let binary = [("specversion", "1.0"), ("id", "2"), ("source", "/s"), ("type", "u")];
        assert_eq!(parts(&binary, Some("text/plain"), b"hello").kind, "u");
    }

    #[test]
    fn a_map_reads_what_is_no_cloud_event() {
        let pointers = [("type", "/topic"), ("data", "/payload")];
        let map = EventMap::new(pointers.map(|(name, pointer)| (name.to_owned(), pointer.parse().unwrap())));
        let wrapping = Wrapping { map: Some(Arc::new(map)), ..Wrapping::new("orders", "com.example.raw") };
        let read = |body: &'static [u8]| wrapping.body("0/7".to_owned(), &Bytes::from_static(body), Timestamp(0));
        let mapped = read(br#"{"topic":"t","payload":[1]}"#);
        assert_eq!((mapped.id.as_str(), mapped.kind.as_str(), mapped.data.as_deref()), ("0/7", "t", Some(&b"[1]"[..])));
        assert_eq!(read(br#"{"topic":"t"}"#).kind, "com.example.raw");
        let own = read(br#"{"specversion":"1.0","id":"1","source":"/s","type":"own","topic":"t","payload":1}"#);
        assert_eq!(own.kind, "own", "a CloudEvent is what it says");
    }

    #[test]
    fn anything_else_is_wrapped() {
        let incomplete = [("specversion", "1.0"), ("id", "2")];
        for (attributes, content_type, body, is) in [
            (&[][..], None, &b"{\"a\":1}"[..], "application/json"),
            (&[], Some("text/plain"), b"hello", "text/plain"),
            (&[], None, &[0, 255], "application/octet-stream"),
            (&incomplete, Some("text/plain"), b"hello", "text/plain"),
            (&[], Some("application/json"), b"{broken", "application/json"),
        ] {
            let event = parts(attributes, content_type, body);
            assert_eq!(
                (event.id.as_str(), event.source.as_str(), event.kind.as_str()),
                ("0/7", "/weir/queue/orders", "com.example.raw")
            );
            assert_eq!((event.datacontenttype.as_deref(), event.data.as_deref()), (Some(is), Some(body)));
            assert_eq!(event.time.as_deref(), Some("2023-11-14T22:13:20.000Z"));
        }
    }
}
