//! A message of NATS becomes an event, and an event a message: the CloudEvents binding for NATS in binary mode, `ce-` headers (surface.md §5).
//! Pure.

use std::fmt::Write as _;

use async_nats::HeaderMap;
use bytes::Bytes;

use crate::clock::Timestamp;
use crate::event::{Event, json};
use crate::queue::wrapping::{self, Wrapping};
use crate::source::{self, binary};

/// The event of a message; `id` is given to one that has none.
pub(super) fn event(of: &Wrapping, id: String, headers: Option<&HeaderMap>, body: &Bytes, published: Timestamp) -> Event {
    let headers = headers.map(lowered).unwrap_or_default();
    let headers: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    of.headers(id, &headers, body, published)
}

/// Headers with their names in lower case, as NATS keeps them as they were written; its own are left out.
fn lowered(headers: &HeaderMap) -> Vec<(String, &[u8])> {
    let all = headers.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    let all = all.map(|(name, value)| (AsRef::<str>::as_ref(name).to_ascii_lowercase(), value.as_str().as_bytes()));
    all.filter(|(name, _)| !name.starts_with("nats-")).collect()
}

/// The headers and the body of an event: in binary mode, or, where that would change it, in structured mode (data that is not the JSON it
/// says it is, data of no bytes).
pub(super) fn written(event: &Event) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    if event.data.as_ref().is_some_and(|data| data.is_empty() || source::not_json(event).is_some()) {
        headers.insert("content-type", "application/cloudevents+json");
        return (headers, json::write(event).into());
    }
    for (name, value) in wrapping::attributes(event) {
        headers.insert(format!("{}{name}", binary::PREFIX).as_str(), encoded(value).as_str());
    }
    if let Some(content_type) = &event.datacontenttype {
        headers.insert("content-type", content_type.as_str());
    }
    (headers, event.data.clone().unwrap_or_default())
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
        event(&wrapping, "ORDERS/7".to_owned(), Some(&map), &Bytes::from_static(body), Timestamp(1_700_000_000_000))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text =
            r#"{"specversion":"1.0","id":"a b","source":"/s","type":"t","subject":"ä\"%","partitionkey":"k","data":{"a":1}}"#;
        let sent = json::read(text.as_bytes()).unwrap();
        let typed = Event { datacontenttype: Some("text/plain".to_owned()), ..sent.clone() };
        let broken = Event { data: Some(Bytes::from_static(b"{broken")), ..sent.clone() };
        let empty = Event { data: Some(Bytes::new()), ..typed.clone() };
        for sent in [Event { data: None, ..sent.clone() }, sent, typed, broken, empty] {
            let (headers, body) = written(&sent);
            assert_eq!(event(&Wrapping::new("q", "x"), String::new(), Some(&headers), &body, Timestamp(0)), sent);
        }
    }

    #[test]
    fn names_are_read_in_any_case_and_those_of_nats_are_not() {
        let binary = [("Ce-Specversion", "1.0"), ("ce-id", "2"), ("CE-SOURCE", "/s"), ("ce-type", "t")];
        assert_eq!(read(&binary, b"x").id, "2");
        let structured = br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
        assert_eq!(read(&[("Nats-Msg-Id", "x")], structured).id, "1");
        assert_eq!(read(&[("x", "y")], b"{\"a\":1}").id, "ORDERS/7");
    }
}
