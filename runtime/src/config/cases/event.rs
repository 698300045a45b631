//! The event of a case: its attributes as keys, or a file that holds one.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value as Json};

use super::super::diagnostic::Finding;
use super::super::handlers;
use super::super::reader::Field;
use super::super::section::{Section, nearest};
use super::super::tree::Value;
use super::super::values::Form;
use super::file::json;
use crate::event::{CORE_ATTRIBUTES, Event, is_json, json as format};
use crate::sandbox::read_bounded;

const FILE: Form = Form::new("an event", "`{ type = \"…\", data = … }`, or the path of a file with one in JSON");
const TYPE: Form = Form::new("the event's type", "such as `\"order.created\"`");

/// Largest file of an event: `max-event` as it is by default.
const FILE_MAX: u64 = 1 << 20;

/// The source of an event that names none.
const SOURCE: &str = "/weir/test";

/// `event = { … }` or `event = "event.json"`.
pub(super) fn read(section: &mut Section<'_, '_>, field: Field) -> Option<Arc<Event>> {
    if matches!(field.node.value, Value::Text(_)) {
        return file(section, &field).map(Arc::new);
    }
    let pattern = section.any();
    section.descend(field, pattern, attributes)
}

/// All keys that are left in a table are attributes.
pub(super) fn attributes(section: &mut Section<'_, '_>) -> Option<Arc<Event>> {
    let _ = section.any();
    let mut event = Event { source: SOURCE.to_owned(), ..Event::default() };
    let (mut data, mut whole) = (None, true);
    for (name, field) in section.drain() {
        if name == "data" {
            data = Some(field);
        } else {
            whole &= attribute(section, &mut event, &name, &field).is_some();
        }
    }
    if event.kind.is_empty() && whole {
        section.missing("type", &TYPE);
        whole = false;
    }
    if let Some(field) = data {
        event.data = Some(bytes(section, &field, event.datacontenttype.as_deref())?);
    }
    whole.then(|| Arc::new(event))
}

fn attribute(section: &mut Section<'_, '_>, event: &mut Event, name: &str, field: &Field) -> Option<()> {
    let text = match &field.node.value {
        Value::Text(text) | Value::Time(text) => text.clone(),
        Value::Number(Some(number)) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        _ => {
            let form = Form::new("an attribute", "a text, a number, `true` or `false`; what an event carries stands in `data`");
            section.reader.refuse_form(field, &form, String::new());
            return None;
        }
    };
    let set = if name.starts_with("weir") {
        Err(format!("`{name}` is Weir's own"))
    } else {
        event.set(name, text).map_err(|error| error.to_string())
    };
    let Err(message) = set else { return Some(()) };
    let near = nearest(name, CORE_ATTRIBUTES.into_iter().chain(["data"])).filter(|(near, alike)| *alike && *near != name);
    let finding = Finding {
        key: field.key.clone(),
        message,
        expected: "an attribute of CloudEvents".to_owned(),
        notes: near.map(|(near, _)| format!("did you mean `{near}`?")).into_iter().collect(),
        found: None,
    };
    section.reader.report(&field.name, finding);
    None
}

/// `data` as it is on the wire: JSON, or the text where the type says something else.
fn bytes(section: &mut Section<'_, '_>, field: &Field, kind: Option<&str>) -> Option<Bytes> {
    let value = json(section.reader, field, &field.node)?;
    match value {
        Json::String(text) if kind.is_some_and(|kind| !is_json(kind)) => Some(Bytes::from(text)),
        value => Some(Bytes::from(value.to_string())),
    }
}

fn file(section: &mut Section<'_, '_>, field: &Field) -> Option<Event> {
    let path = handlers::path(section, field, &FILE)?;
    let read = read_bounded(&path, FILE_MAX).map_err(|error| error.to_string()).and_then(|text| {
        if text.len() as u64 > FILE_MAX { Err(format!("it is larger than {FILE_MAX} bytes")) } else { event(&text) }
    });
    match read {
        Ok(event) => Some(event),
        Err(why) => {
            let message = format!("`{}`: the file can't be used: {why}", field.key);
            section.reader.refuse(field, message, FILE.expected(), None);
            None
        }
    }
}

/// An event in JSON, without what a case fills in.
fn event(text: &[u8]) -> Result<Event, String> {
    let mut map: Map<String, Json> = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let has_id = map.contains_key("id");
    for (name, value) in [("specversion", "1.0"), ("id", "none"), ("source", SOURCE)] {
        map.entry(name).or_insert_with(|| value.into());
    }
    let text = serde_json::to_vec(&map).map_err(|error| error.to_string())?;
    let mut event = format::read(&text).map_err(|error| error.to_string())?;
    event.refuse_reserved().map_err(|error| error.to_string())?;
    if !has_id {
        event.id.clear();
    }
    Ok(event)
}
