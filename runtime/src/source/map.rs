//! `map` of a queue: where in a producer's own JSON envelope the attributes and the data of an event stand, as JSON pointers (RFC 6901).
//!
//! It is for messages that are no CloudEvents. One that the map does not fit stays what it was, wrapped whole: nothing of it is lost.
//!
//! What has to be found: `id`, `source`, `type` and `data`, where they are mapped. All others may be absent or null, and are absent then.
//! Values are texts, numbers or booleans; only `data` may be anything. Considered and left out: that every pointer has to be found. An
//! account that some messages lack would make them events of another type.

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::event::Event;

/// Longest pointer: nobody nests as deep, and each step reads a part of the message once more.
const POINTER_BYTES_MAX: usize = 1_024;

/// Which part of a message becomes which part of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventMap {
    attributes: Vec<(String, Pointer)>,
    data: Option<Pointer>,
}

/// Where something stands in a JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > POINTER_BYTES_MAX {
            return Err(format!("it is longer than {POINTER_BYTES_MAX} bytes"));
        }
        let Some(steps) = text.strip_prefix('/') else {
            // The empty pointer is the whole text.
            return if text.is_empty() { Ok(Self(Vec::new())) } else { Err(format!("it begins with `/`: `/{text}`")) };
        };
        steps
            .split('/')
            .map(step)
            .collect::<Option<_>>()
            .map(Self)
            .ok_or_else(|| "after `~` stands `0` (for `~`) or `1` (for `/`)".to_owned())
    }
}

/// One step, `~1` and `~0` replaced.
fn step(text: &str) -> Option<String> {
    let valid = text.split('~').skip(1).all(|after| after.starts_with(['0', '1']));
    valid.then(|| text.replace("~1", "/").replace("~0", "~"))
}

impl Pointer {
    /// What stands there, as it is written.
    fn find<'j>(&self, whole: &'j RawValue) -> Option<&'j RawValue> {
        self.0.iter().try_fold(whole, |found, step| match found.get().as_bytes().first()? {
            b'{' => serde_json::from_str::<BTreeMap<String, &RawValue>>(found.get()).ok()?.remove(step),
            b'[' => {
                let canonical = step == "0" || (!step.starts_with('0') && step.bytes().all(|byte| byte.is_ascii_digit()));
                let at: usize = step.parse().ok().filter(|_| canonical)?;
                serde_json::from_str::<Vec<&RawValue>>(found.get()).ok()?.get(at).copied()
            }
            _ => None,
        })
    }
}

impl EventMap {
    /// What can be mapped beside extension attributes. `datacontenttype` is always JSON's.
    pub const NAMES: &str =
        "`type`, `id`, `source`, `subject`, `time`, `dataschema`, `data`, or an extension attribute of a-z and 0-9";

    /// A map of these names.
    #[must_use]
    pub fn new(pointers: impl IntoIterator<Item = (String, Pointer)>) -> Self {
        let mut map = Self { attributes: Vec::new(), data: None };
        for (name, pointer) in pointers {
            match name.as_str() {
                "data" => map.data = Some(pointer),
                _ => map.attributes.push((name, pointer)),
            }
        }
        map
    }

    /// Whether something of this name can be mapped: an attribute, `data`, or an extension that is not Weir's own.
    #[must_use]
    pub fn takes(name: &str) -> bool {
        let extension = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        extension && !name.starts_with("weir") && !["specversion", "datacontenttype"].contains(&name)
    }

    /// The event of a message, on top of what it gets without a map; none: the map does not fit it.
    #[must_use]
    pub fn read(&self, body: &Bytes, envelope: Event) -> Option<Event> {
        let whole: &RawValue = serde_json::from_slice(body).ok()?;
        let mut event = envelope;
        for (name, pointer) in &self.attributes {
            match pointer.find(whole).map(text).unwrap_or(Found::Nothing) {
                Found::Text(text) if !text.is_empty() => event.set(name, text).ok()?,
                Found::Text(_) | Found::Nothing if !["id", "source", "type"].contains(&name.as_str()) => {}
                _ => return None,
            }
        }
        let data = match &self.data {
            Some(pointer) => pointer.find(whole)?,
            None => whole,
        };
        event.datacontenttype = Some("application/json".to_owned());
        event.data = Some(body.slice_ref(data.get().as_bytes()));
        event.complete().ok()?;
        Some(event)
    }
}

/// What a pointer leads to, as an attribute.
enum Found {
    Text(String),
    Nothing,
    Other,
}

fn text(value: &RawValue) -> Found {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str(json).map_or(Found::Other, Found::Text),
        Some(b'n') => Found::Nothing,
        Some(b'{' | b'[') | None => Found::Other,
        Some(_) => Found::Text(json.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pointers: &[(&str, &str)]) -> EventMap {
        EventMap::new(pointers.iter().map(|(name, pointer)| ((*name).to_owned(), pointer.parse().unwrap())))
    }

    fn read(map: &EventMap, body: &'static str) -> Option<Event> {
        let envelope = Event { id: "own".into(), source: "/weir/queue/q".into(), kind: "weir.raw".into(), ..Event::default() };
        map.read(&Bytes::from_static(body.as_bytes()), envelope)
    }

    /// The table of RFC 6901, section 5.
    #[test]
    fn pointers_are_those_of_the_rfc() {
        let text = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
        let whole: &RawValue = serde_json::from_str(text).unwrap();
        for (pointer, found) in [
            ("", Some(text)),
            ("/foo", Some(r#"["bar","baz"]"#)),
            ("/foo/0", Some("\"bar\"")),
            ("/", Some("0")),
            ("/a~1b", Some("1")),
            ("/c%d", Some("2")),
            ("/e^f", Some("3")),
            ("/g|h", Some("4")),
            ("/i\\j", Some("5")),
            ("/k\"l", Some("6")),
            ("/ ", Some("7")),
            ("/m~0n", Some("8")),
            ("/foo/2", None),
            ("/foo/00", None),
            ("/foo/+1", None),
            ("/foo/-", None),
            ("/foo/0/x", None),
            ("/bar", None),
        ] {
            assert_eq!(pointer.parse::<Pointer>().unwrap().find(whole).map(RawValue::get), found, "{pointer}");
        }
        for (pointer, says) in [("foo", "begins with `/`: `/foo`"), ("/a~2b", "after `~`"), ("/a~", "after `~`")] {
            let error = pointer.parse::<Pointer>().unwrap_err();
            assert!(error.contains(says), "{pointer}: {error}");
        }
        assert!(format!("/{}", "a".repeat(POINTER_BYTES_MAX)).parse::<Pointer>().is_err());
    }

    #[test]
    fn an_envelope_becomes_the_event() {
        let map = map(&[("type", "/topic"), ("id", "/id"), ("subject", "/account"), ("data", "/payload"), ("tenant", "/meta/0")]);
        let event = read(&map, r#"{"topic":"order.paid","id":17,"account":"ann","payload":{"n": 1.50},"meta":[true]}"#).unwrap();
        assert_eq!((event.kind.as_str(), event.id.as_str(), event.subject.as_deref()), ("order.paid", "17", Some("ann")));
        assert_eq!((event.source.as_str(), event.extension("tenant")), ("/weir/queue/q", Some("true")));
        assert_eq!(event.data.as_deref(), Some(&b"{\"n\": 1.50}"[..]), "as it was written");
        // What an event need not have may be absent, null or empty.
        for body in
            [r#"{"topic":"t","id":"1","payload":null}"#, r#"{"topic":"t","id":"1","payload":null,"account":null,"meta":[""]}"#]
        {
            let event = read(&map, body).unwrap();
            assert_eq!((event.subject, event.extensions.len(), event.data.as_deref()), (None, 0, Some(&b"null"[..])), "{body}");
        }
    }

    #[test]
    fn without_data_the_whole_message_is_it() {
        let event = read(&map(&[("type", "/type")]), r#"{"type":"t","n":1}"#).unwrap();
        assert_eq!((event.kind.as_str(), event.id.as_str()), ("t", "own"));
        assert_eq!(event.data.as_deref(), Some(&br#"{"type":"t","n":1}"#[..]));
    }

    #[test]
    fn what_does_not_fit_is_left() {
        let map = map(&[("type", "/topic"), ("id", "/id"), ("time", "/at"), ("data", "/payload")]);
        for body in [
            "hello",
            "[1]",
            "{}",
            r#"{"id":"1","payload":1}"#,
            r#"{"topic":"","id":"1","payload":1}"#,
            r#"{"topic":null,"id":"1","payload":1}"#,
            r#"{"topic":{"a":1},"id":"1","payload":1}"#,
            r#"{"topic":"t","id":"1"}"#,
            r#"{"topic":"t","id":"1","payload":1,"at":"yesterday"}"#,
            r#"{"topic":"t","id":"1","payload":1,"at":{}}"#,
            "{\"topic\":\"a\\nb\",\"id\":\"1\",\"payload\":1}",
        ] {
            assert_eq!(read(&map, body), None, "{body}");
        }
    }

    #[test]
    fn names_are_those_that_a_producer_may_set() {
        for (name, taken) in [
            ("type", true),
            ("data", true),
            ("tenant2", true),
            ("weirhops", false),
            ("specversion", false),
            ("a-b", false),
            ("", false),
        ] {
            assert_eq!(EventMap::takes(name), taken, "{name}");
        }
    }
}
