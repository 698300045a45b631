//! An event as a guest hands it over, and what it takes to be one that may leave.

use bytes::Bytes;

use crate::event::{CORE_ATTRIBUTES, EXTENSIONS_MAX, Event, EventError};
use crate::source;

/// Extensions that Weir may add: `traceparent`, `tracestate`, `weirhops`, `weirhandler`.
const ADDED: usize = 4;

/// What a guest gives: nothing of it is checked.
#[derive(Debug, Clone, Default)]
pub struct Draft {
    /// The attributes that CloudEvents names, by their names. An empty `id` or `source` is an absent one.
    pub attributes: Vec<(&'static str, String)>,
    /// Extension attributes, in any order.
    pub extensions: Vec<(String, String)>,
    /// The bytes.
    pub data: Option<Vec<u8>>,
}

impl Draft {
    /// The event; `id`, `source` and `time` may still be missing.
    ///
    /// # Errors
    /// Names the attribute that is wrong, or the bound.
    pub(super) fn event(self, max_event: u64) -> Result<Event, String> {
        let size = self.size();
        if size > max_event {
            return Err(format!("event of {size} bytes is larger than `max-event` ({max_event} bytes)"));
        }
        let Self { attributes, extensions, data } = self;
        let mut event = read(attributes, extensions).map_err(|error| error.to_string())?;
        event.refuse_reserved().map_err(|error| error.to_string())?;
        if event.kind.is_empty() {
            return Err("attribute `type` is missing or empty".to_owned());
        }
        // As in `source.rs`: no bytes are no data, and what is said to be JSON is JSON.
        event.data = data.filter(|data| !data.is_empty()).map(Bytes::from);
        match (source::not_json(&event), &event.datacontenttype) {
            (None, _) => Ok(event),
            (Some(error), Some(said)) => {
                Err(format!("`data` is not JSON, which `datacontenttype` (`{said}`) says it is: {error}"))
            }
            (Some(error), None) => Err(format!("`data` is not JSON, which it is where `datacontenttype` is not given: {error}")),
        }
    }

    /// Bytes of all that was given, as [`Event::size`] counts.
    fn size(&self) -> u64 {
        let attributes: usize = self.attributes.iter().map(|(_, value)| value.len()).sum();
        let extensions: usize = self.extensions.iter().map(|(name, value)| name.len() + value.len()).sum();
        (attributes + extensions + self.data.as_ref().map_or(0, Vec::len)) as u64
    }
}

fn read(attributes: Vec<(&'static str, String)>, extensions: Vec<(String, String)>) -> Result<Event, EventError> {
    let mut event = Event::default();
    for (name, value) in attributes {
        event.set(name, value)?;
    }
    for (name, value) in extensions {
        let wrong = |found: &str, expected| EventError::Attribute { name: name.clone(), found: found.to_owned(), expected };
        if CORE_ATTRIBUTES.contains(&name.as_str()) {
            return Err(wrong("among the extensions", "a field of its own"));
        }
        if event.extension(&name).is_some() {
            return Err(wrong("given twice", "each extension once"));
        }
        if event.extensions.len() + ADDED >= EXTENSIONS_MAX {
            return Err(wrong("one too many", "at most 60 extensions (Weir may add four)"));
        }
        event.set(&name, value)?;
    }
    Ok(event)
}
