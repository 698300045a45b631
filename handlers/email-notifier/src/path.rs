//! Paths into an event: `data.owner.email`, `data.items.0.name`, `event.subject`; with `?` at the end what they name may be missing.

use serde_json::Value;
use weir_sdk::Event;

/// Attributes that a path or a template can name.
pub(crate) const ATTRIBUTES: [&str; 6] = ["id", "source", "type", "subject", "time", "dataschema"];

/// A path, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path<'a> {
    /// As written, without the `?`.
    pub(crate) text: &'a str,
    /// Whether it had one.
    pub(crate) optional: bool,
}

impl<'a> Path<'a> {
    /// Whether a text is meant as a path.
    pub(crate) fn is_one(text: &str) -> bool {
        let first = text.split(['.', '?']).next();
        matches!(first, Some("data" | "event")) && !text.contains('@')
    }

    /// Reads a path.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let (path, optional) = text.strip_suffix('?').map_or((text, false), |path| (path, true));
        let expected = "expected a path such as `data.owner.email`, with `?` at its end if it may be missing";
        if !Self::is_one(path) || path.split('.').any(str::is_empty) {
            return Err(format!("`{text}` is no path ({expected})"));
        }
        match path.strip_prefix("event.") {
            Some(name) if !ATTRIBUTES.contains(&name) && !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) => {
                Err(format!("`{text}` names no attribute of an event (known: `{}`)", ATTRIBUTES.join("`, `")))
            }
            None if path == "event" => Err(format!("`{text}` names no attribute of an event ({expected})")),
            _ => Ok(Path { text: path, optional }),
        }
    }

    /// What stands there; none when nothing does, or null.
    pub(crate) fn find<'e>(&self, event: &'e Event) -> Option<Found<'e>> {
        if let Some(name) = self.text.strip_prefix("event.") {
            return event.attribute(name).map(Found::Text);
        }
        let mut value = &event.data;
        for step in self.text.split('.').skip(1) {
            value = match value {
                Value::Object(map) => map.get(step)?,
                Value::Array(list) => list.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        match value {
            Value::Null => None,
            Value::String(text) => Some(Found::Text(text)),
            other => Some(Found::Value(other)),
        }
    }
}

impl Path<'_> {
    /// What stands there, as a text that tells it from others; empty where it may be missing and is.
    pub(crate) fn text_of(&self, event: &Event) -> Result<String, String> {
        match self.find(event) {
            Some(Found::Text(text)) => Ok(text.to_owned()),
            Some(Found::Value(value)) => Ok(value.to_string()),
            None if self.optional => Ok(String::new()),
            None => Err(format!("`{}` is missing", self.text)),
        }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'e> {
    /// A text, from the data or an attribute.
    Text(&'e str),
    /// Any other value.
    Value(&'e Value),
}

/// What a value is, for people.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
