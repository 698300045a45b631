//! A CloudEvents 1.0 event as a plain value: what waits in queues, is filtered, and is lowered into guests.
//!
//! No I/O, no clock. How it is written as JSON stands in [`json`], how it travels as HTTP headers in `source/binary.rs`.

pub mod json;

use bytes::Bytes;

/// The attributes that CloudEvents 1.0 names; everything else is an extension.
pub const CORE_ATTRIBUTES: [&str; 8] =
    ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];

/// Longest attribute value taken in, in bytes. CloudEvents says nothing; headers of most brokers end at 8 to 64 KiB.
pub const ATTRIBUTE_BYTES_MAX: usize = 8 * 1024;

/// Most extension attributes of one event. Each becomes a header on most brokers.
pub const EXTENSIONS_MAX: usize = 64;

/// Most `weir*` attributes of one event, beside the others: Weir has a handful of them, and takes none from outside.
const OWN_EXTENSIONS_MAX: usize = 16;

/// One CloudEvents 1.0 event. `specversion` is always "1.0".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event {
    /// Unique within `source`; never empty.
    pub id: String,
    /// URI-reference of the producer; never empty.
    pub source: String,
    /// The attribute `type`; never empty.
    pub kind: String,
    /// What in the source's context the event is about.
    pub subject: Option<String>,
    /// RFC 3339, as received.
    pub time: Option<String>,
    /// Media type of `data`; none means application/json.
    pub datacontenttype: Option<String>,
    /// URI of the schema of `data`.
    pub dataschema: Option<String>,
    /// Extension attributes sorted by name, values in the canonical string form of CloudEvents.
    pub extensions: Vec<(String, String)>,
    /// JSON text as UTF-8 when the media type is JSON, else the bytes as they came.
    pub data: Option<Bytes>,
}

/// Why something is not an event: names the attribute, what was found and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// Not JSON, or not a JSON object.
    #[error("not a CloudEvent in JSON: {0}")]
    NotJson(String),
    /// A required attribute is missing or empty.
    #[error("attribute `{0}` is missing or empty (every CloudEvent has specversion, id, source and type)")]
    Missing(&'static str),
    /// An attribute has a value that the specification does not allow.
    #[error("attribute `{name}` is {found}, expected {expected}")]
    Attribute {
        /// The attribute.
        name: String,
        /// What it was.
        found: String,
        /// What CloudEvents asks for.
        expected: &'static str,
    },
    /// `weir*` attributes are set by Weir alone (delivery.md §7).
    #[error("attribute `{0}` is Weir's own and can't be set from outside (names that start with `weir` are reserved)")]
    Reserved(String),
}

impl Event {
    /// The value of an attribute or extension, by its CloudEvents name.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        match name {
            "specversion" => Some("1.0"),
            "id" => Some(&self.id),
            "source" => Some(&self.source),
            "type" => Some(&self.kind),
            "subject" => self.subject.as_deref(),
            "time" => self.time.as_deref(),
            "datacontenttype" => self.datacontenttype.as_deref(),
            "dataschema" => self.dataschema.as_deref(),
            other => self.extension(other),
        }
    }

    /// The value of an extension attribute.
    #[must_use]
    pub fn extension(&self, name: &str) -> Option<&str> {
        self.extensions.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Sets an attribute by its CloudEvents name, checking the value; `specversion` must be "1.0".
    ///
    /// # Errors
    /// When the name or the value is not what CloudEvents allows.
    pub fn set(&mut self, name: &str, value: String) -> Result<(), EventError> {
        let wrong = |found: &str, expected| {
            let found = format!("`{}`", found.chars().take(80).collect::<String>());
            Err(EventError::Attribute { name: name.to_owned(), found, expected })
        };
        if value.len() > ATTRIBUTE_BYTES_MAX {
            return wrong(&value, "at most 8 KiB");
        }
        if value.chars().any(char::is_control) {
            return wrong(&value.escape_debug().to_string(), "text without control characters");
        }
        match name {
            "specversion" if value == "1.0" => {}
            "specversion" => return wrong(&value, "\"1.0\""),
            "id" => self.id = value,
            "source" => self.source = value,
            "type" => self.kind = value,
            "subject" | "datacontenttype" | "dataschema" if value.is_empty() => return wrong(&value, "a non-empty text"),
            "subject" => self.subject = Some(value),
            "time" if value.parse::<jiff::Timestamp>().is_err() => return wrong(&value, "a time as in RFC 3339"),
            "time" => self.time = Some(value),
            "datacontenttype" => self.datacontenttype = Some(value),
            "dataschema" => self.dataschema = Some(value),
            _ => return self.set_extension(name, value),
        }
        Ok(())
    }

    fn set_extension(&mut self, name: &str, value: String) -> Result<(), EventError> {
        let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !valid || name == "data" {
            let expected = "a name of a-z and 0-9 that is not `data`";
            return Err(EventError::Attribute { name: name.to_owned(), found: "no attribute name".to_owned(), expected });
        }
        match self.extensions.binary_search_by(|(key, _)| key.as_str().cmp(name)) {
            Ok(at) => self.extensions[at].1 = value,
            Err(_) if self.is_full(name) => {
                let expected = "at most 64 extension attributes";
                return Err(EventError::Attribute { name: name.to_owned(), found: "one too many".to_owned(), expected });
            }
            Err(at) => self.extensions.insert(at, (name.to_owned(), value)),
        }
        Ok(())
    }

    /// Whether there is no room for one more extension of this name. Weir's own have room beside the others: whatever an event was
    /// accepted with, it can be addressed and counted.
    fn is_full(&self, name: &str) -> bool {
        let own = |name: &str| name.starts_with("weir");
        let bound = if own(name) { OWN_EXTENSIONS_MAX } else { EXTENSIONS_MAX };
        self.extensions.len() >= bound && self.extensions.iter().filter(|(key, _)| own(key) == own(name)).count() >= bound
    }

    /// Checks that the required attributes are there.
    ///
    /// # Errors
    /// Names the first one that is missing.
    pub fn complete(&self) -> Result<(), EventError> {
        for (name, value) in [("id", &self.id), ("source", &self.source), ("type", &self.kind)] {
            if value.is_empty() {
                return Err(EventError::Missing(name));
            }
        }
        Ok(())
    }

    /// Refuses attributes that only Weir sets.
    ///
    /// # Errors
    /// Names the reserved attribute.
    pub fn refuse_reserved(&self) -> Result<(), EventError> {
        match self.extensions.iter().find(|(name, _)| name.starts_with("weir")) {
            Some((name, _)) => Err(EventError::Reserved(name.clone())),
            None => Ok(()),
        }
    }

    /// Bytes that the event takes in memory and, nearly, on a wire: attributes and data.
    #[must_use]
    pub fn size(&self) -> usize {
        let optional = [&self.subject, &self.time, &self.datacontenttype, &self.dataschema];
        self.id.len()
            + self.source.len()
            + self.kind.len()
            + optional.iter().map(|text| text.as_ref().map_or(0, String::len)).sum::<usize>()
            + self.extensions.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
            + self.data.as_ref().map_or(0, Bytes::len)
    }

    /// Whether `data` is JSON by its media type (CloudEvents JSON format, 3.1): none given, `*/json` or `*/*+json`.
    #[must_use]
    pub fn has_json_data(&self) -> bool {
        self.datacontenttype.as_deref().is_none_or(is_json)
    }
}

/// Whether a media type says JSON.
#[must_use]
pub fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.split_once('/').is_some_and(|(_, sub)| sub == "json" || sub.ends_with("+json"))
}
