//! An entry of a stream becomes an event (surface.md §5, delivery.md §8). Pure.
//!
//! | fields | read as |
//! |---|---|
//! | `event`, alone | a CloudEvent in structured JSON |
//! | `specversion`, or `type` and `source` | one attribute each, and `data` |
//! | one field | its value is the data |
//! | anything else | the data is a JSON object of the fields |
//!
//! The last two by the queue's `map`, where it fits.
//!
//! Nothing is refused: whatever can't be read as it should be is wrapped as it is, or an entry that no handler ever saw would stay
//! pending for ever.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::answer::{id, millis};
use crate::clock::Timestamp;
use crate::event::{Event, json};
use crate::queue::Position;
use crate::queue::wrapping::Wrapping;
use crate::source;

/// Reads an entry.
pub(super) fn event(position: Position, fields: Vec<(Vec<u8>, Vec<u8>)>, wrapping: &Wrapping) -> Event {
    if let [(name, value)] = fields.as_slice()
        && name == b"event"
        && let Ok(event) = json::read(value)
    {
        return event;
    }
    let has = |wanted: &str| fields.iter().any(|(name, _)| name == wanted.as_bytes());
    if (has("specversion") || (has("type") && has("source")))
        && let Some(event) = attributes(position, &fields, wrapping)
    {
        return event;
    }
    let mut event = envelope(position, wrapping);
    event.time = Some(Timestamp(millis(position)).to_string());
    let (data, content_type) = match <[_; 1]>::try_from(fields) {
        Ok([(_, value)]) => {
            let data = Bytes::from(value);
            let is_json = serde_json::from_slice::<&serde_json::value::RawValue>(&data).is_ok();
            (data, is_json.then_some("application/json"))
        }
        Err(fields) => (Bytes::from(object(&fields)), Some("application/json")),
    };
    if let Some(mapped) = wrapping.mapped(&data, &event) {
        return mapped;
    }
    // Can't fail: what is called JSON was checked, or written, as JSON.
    let _ = source::set_data(&mut event, content_type, &data);
    event
}

fn envelope(position: Position, wrapping: &Wrapping) -> Event {
    Event { id: id(position), source: wrapping.source.clone(), kind: wrapping.kind.clone(), ..Event::default() }
}

/// One field per attribute; none when one of them is no attribute.
fn attributes(position: Position, fields: &[(Vec<u8>, Vec<u8>)], wrapping: &Wrapping) -> Option<Event> {
    let mut event = envelope(position, wrapping);
    let mut data = None;
    for (name, value) in fields {
        match std::str::from_utf8(name).ok()? {
            "data" => data = Some(Bytes::copy_from_slice(value)),
            name => {
                let value = std::str::from_utf8(value).ok()?;
                // An empty field says that there is no such attribute: producers write a fixed set of fields.
                if !value.is_empty() {
                    event.set(name, value.to_owned()).ok()?;
                }
            }
        }
    }
    if let Some(data) = data {
        let content_type = event.datacontenttype.clone();
        if source::set_data(&mut event, content_type.as_deref(), &data).is_err() {
            // JSON by its type only: the bytes are kept.
            event.data = Some(data);
        }
    }
    Some(event)
}

/// All fields as a JSON object; what is not UTF-8 as `NAME_base64`.
fn object(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    use base64::Engine as _;
    let mut map = Map::new();
    for (name, value) in fields {
        let name = String::from_utf8_lossy(name);
        match std::str::from_utf8(value) {
            Ok(text) => map.insert(name.into_owned(), Value::from(text)),
            Err(_) => {
                let text = base64::engine::general_purpose::STANDARD.encode(value);
                map.insert(format!("{name}_base64"), Value::from(text))
            }
        };
    }
    Value::Object(map).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fields: &[(&str, &[u8])]) -> Event {
        let fields = fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect();
        let wrapping = Wrapping::new("orders", "com.example.raw");
        event(Position((1_700_000_000_000 << 64) + 3), fields, &wrapping)
    }

    fn data(event: &Event) -> &str {
        std::str::from_utf8(event.data.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn cloud_events_are_read_in_both_forms() {
        let structured = read(&[("event", br#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}"#)]);
        assert_eq!((structured.id.as_str(), structured.kind.as_str(), data(&structured)), ("1", "t", r#"{"a":1}"#));
        let fields: [(&str, &[u8]); 8] = [
            ("specversion", b"1.0"),
            ("id", b"2"),
            ("source", b"/s"),
            ("type", b"t"),
            ("subject", b""),
            ("partitionkey", b"k"),
            ("datacontenttype", b"text/plain"),
            ("data", b"hello"),
        ];
        let attributes = read(&fields);
        assert_eq!((attributes.id.as_str(), attributes.extension("partitionkey")), ("2", Some("k")));
        assert_eq!((attributes.subject.as_deref(), data(&attributes)), (None, "hello"));
        let without_id = read(&[("type", b"t"), ("source", b"/s"), ("data", b"[1]")]);
        assert_eq!((without_id.id.as_str(), without_id.kind.as_str()), ("1700000000000-3", "t"));
        assert_eq!((without_id.datacontenttype.as_deref(), data(&without_id)), (None, "[1]"));
    }

    #[test]
    fn anything_else_is_wrapped() {
        let wrapped = read(&[("name", b"ann"), ("age", b"7"), ("raw", &[255])]);
        assert_eq!((wrapped.id.as_str(), wrapped.source.as_str()), ("1700000000000-3", "/weir/queue/orders"));
        assert_eq!((wrapped.kind.as_str(), wrapped.time.as_deref()), ("com.example.raw", Some("2023-11-14T22:13:20.000Z")));
        assert_eq!(data(&wrapped), r#"{"age":"7","name":"ann","raw_base64":"/w=="}"#);
        let json = read(&[("payload", br#"{"a":1}"#)]);
        assert_eq!((json.datacontenttype.as_deref(), data(&json)), (Some("application/json"), r#"{"a":1}"#));
        let bytes = read(&[("payload", &[0, 255])]);
        assert_eq!(bytes.datacontenttype.as_deref(), Some("application/octet-stream"));
        let broken = read(&[("event", b"{broken")]);
        assert_eq!((broken.id.as_str(), data(&broken)), ("1700000000000-3", "{broken"));
        let wrong_name = read(&[("specversion", b"1.0"), ("Type", b"t")]);
        assert_eq!(data(&wrong_name), r#"{"Type":"t","specversion":"1.0"}"#);
    }
}
