//! The JSON format of CloudEvents 1.0 (structured mode), read and written without parsing `data` into a tree.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::{Event, EventError};

/// Reads one event in the JSON format; attributes and data are checked.
///
/// # Errors
/// Says what is not JSON, missing or wrong, by attribute.
pub fn read(text: &[u8]) -> Result<Event, EventError> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let fields = reader
        .deserialize_map(Fields)
        .and_then(|fields| reader.end().map(|()| fields))
        .map_err(|error| EventError::NotJson(error.to_string()))?;
    from_fields(fields)
}

/// Writes one event in the JSON format.
#[must_use]
pub fn write(event: &Event) -> Vec<u8> {
    let mut text = Vec::with_capacity(event.size() + 160);
    let mut json = serde_json::Serializer::new(&mut text);
    // Writing strings and checked JSON into a Vec has no error case; `RawValue` is checked before it is written.
    let written = write_into(event, &mut json);
    debug_assert!(written.is_ok(), "an event is always representable as JSON");
    text
}

/// Serialises an event into any JSON serializer, for answers that hold events.
///
/// # Errors
/// Only the serializer's own.
pub fn write_into<S: Serializer>(event: &Event, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    map.serialize_entry("specversion", "1.0")?;
    map.serialize_entry("id", &event.id)?;
    map.serialize_entry("source", &event.source)?;
    map.serialize_entry("type", &event.kind)?;
    let optional = [
        ("subject", &event.subject),
        ("time", &event.time),
        ("datacontenttype", &event.datacontenttype),
        ("dataschema", &event.dataschema),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            map.serialize_entry(name, value)?;
        }
    }
    for (name, value) in &event.extensions {
        map.serialize_entry(name, value)?;
    }
    if let Some(data) = &event.data {
        let raw = event.has_json_data().then(|| serde_json::from_slice::<&RawValue>(data).ok()).flatten();
        match (raw, std::str::from_utf8(data)) {
            (Some(raw), _) => map.serialize_entry("data", raw)?,
            // JSON by its type, but not by its bytes: base64 keeps the bytes.
            (None, Ok(text)) if !event.has_json_data() => map.serialize_entry("data", text)?,
            _ => map.serialize_entry("data_base64", &BASE64.encode(data))?,
        }
    }
    map.end()
}

/// An event as a value of a larger JSON text.
#[derive(Debug, Clone, Copy)]
pub struct AsJson<'a>(pub &'a Event);

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_into(self.0, serializer)
    }
}

type Field<'a> = (Name<'a>, &'a RawValue);

/// An attribute's name, copied only where it is written with escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<Field<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::with_capacity(12);
        while let Some(entry) = map.next_entry()? {
            fields.push(entry);
        }
        Ok(fields)
    }
}

fn from_fields(fields: Vec<Field<'_>>) -> Result<Event, EventError> {
    let mut event = Event::default();
    let (mut version, mut data, mut base64) = (false, None, None);
    for (Name(name), raw) in fields {
        match &*name {
            "data" => data = Some(raw),
            "data_base64" => base64 = Some(raw),
            _ => {
                if let Some(value) = attribute_text(&name, raw)? {
                    version |= name == "specversion";
                    event.set(&name, value)?;
                }
            }
        }
    }
    if !version {
        return Err(EventError::Missing("specversion"));
    }
    event.complete()?;
    event.data = match (data, base64) {
        (Some(_), Some(_)) => {
            let expected = "one of `data` and `data_base64`";
            return Err(EventError::Attribute { name: "data".to_owned(), found: "given twice".to_owned(), expected });
        }
        (Some(raw), None) if raw.get() == "null" => None,
        (Some(raw), None) => Some(json_data(&event, raw)),
        (None, Some(raw)) if raw.get() == "null" => None,
        (None, Some(raw)) => Some(base64_data(raw)?),
        (None, None) => None,
    };
    Ok(event)
}

/// The canonical string form of an attribute's value (CloudEvents §3.1): text, Boolean or Integer; null is absent.
fn attribute_text(name: &str, raw: &RawValue) -> Result<Option<String>, EventError> {
    let found = raw.get();
    match found.as_bytes().first() {
        // Checked as JSON already: without escapes, the text is what stands between the quotes.
        Some(b'"') if !found.contains('\\') => Ok(found.get(1..found.len() - 1).map(str::to_owned)),
        Some(b'"') => serde_json::from_str(found).map(Some).map_err(|error| EventError::NotJson(error.to_string())),
        Some(b't' | b'f') => Ok(Some(found.to_owned())),
        Some(b'n') => Ok(None),
        Some(_) if found.parse::<i32>().is_ok() => Ok(Some(found.to_owned())),
        _ => {
            let expected = "a text, true, false or a whole number of 32 bits";
            let found = found.chars().take(80).collect();
            Err(EventError::Attribute { name: name.to_owned(), found, expected })
        }
    }
}

/// `data` of a JSON media type stays JSON text; a JSON string under another media type is that text.
fn json_data(event: &Event, raw: &RawValue) -> Bytes {
    if !event.has_json_data()
        && let Ok(text) = serde_json::from_str::<String>(raw.get())
    {
        return Bytes::from(text);
    }
    Bytes::copy_from_slice(raw.get().as_bytes())
}

fn base64_data(raw: &RawValue) -> Result<Bytes, EventError> {
    let wrong = |found: String| EventError::Attribute { name: "data_base64".to_owned(), found, expected: "a text in base64" };
    let text: String = serde_json::from_str(raw.get()).map_err(|_| wrong("no text".to_owned()))?;
    BASE64.decode(text).map(Bytes::from).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        String::from_utf8(write(&read(text.as_bytes()).unwrap())).unwrap()
    }

    #[test]
    fn what_is_read_is_written_again() {
        let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","subject":"é","ext":"7","data":{"a":[1,2.50]}}"#;
        assert_eq!(round(text), text);
        let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":"a\nb"}"#;
        assert_eq!(round(text), text);
        let text =
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"image/png","data_base64":"/9j/"}"#;
        assert_eq!(round(text), text);
    }

    #[test]
    fn invalid_json_data_keeps_its_bytes() {
        let mut event = read(br#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#).unwrap();
        event.data = Some(Bytes::from_static(b"{not json"));
        assert_eq!(read(&write(&event)).unwrap(), event);
    }

    #[test]
    fn errors_name_the_attribute() {
        let error = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        assert!(error(r#"{"id":"1"}"#).contains("`specversion` is missing"));
        assert!(error(r#"{"specversion":"0.3","id":"1"}"#).contains("`specversion` is `0.3`, expected \"1.0\""));
        assert!(error(r#"{"specversion":"1.0","id":"","source":"s","type":"t"}"#).contains("`id` is missing or empty"));
        assert!(error(r#"{"specversion":"1.0","id":"1","source":"s","type":"t","Ext":"x"}"#).contains("`Ext`"));
        assert!(error(r#"{"specversion":"1.0","id":"1","source":"s","type":"t","e":{}}"#).contains("`e` is {}"));
        assert!(error(r#"{"specversion":"1.0","id":"1","source":"s","type":"t","time":"noon"}"#).contains("RFC 3339"));
        assert!(error("[1]").contains("JSON object"));
    }
}
