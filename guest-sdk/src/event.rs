//! The event and how it came here. Reading its data into a type is `data.rs`.

use std::time::{Duration, SystemTime};

use crate::{Bytes, EventData, Result};

/// A CloudEvents 1.0 event with its data as `T`.
///
/// Attributes have the names of the specification, but `type`, which is [`kind`](Event::kind).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Event<T = serde_json::Value> {
    /// Unique within `source`.
    pub id: String,
    /// URI-reference of the producer.
    pub source: String,
    /// The attribute `type`, for example `com.example.order.paid`.
    pub kind: String,
    /// What in the source's context the event is about.
    pub subject: Option<String>,
    /// RFC 3339, as received.
    pub time: Option<String>,
    /// Media type of the data; none means application/json.
    pub datacontenttype: Option<String>,
    /// URI of the schema of the data.
    pub dataschema: Option<String>,
    /// Extension attributes, sorted by name, in the canonical string form of CloudEvents.
    pub extensions: Vec<(String, String)>,
    /// The data.
    pub data: T,
}

impl<T> Event<T> {
    /// The value of an attribute or extension by its CloudEvents name (`type`, `subject`, `traceparent` …).
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
            other => self.extensions.iter().find(|(key, _)| key == other).map(|(_, value)| value.as_str()),
        }
    }

    /// The same event with other data.
    #[must_use]
    pub fn with_data<U>(self, data: U) -> Event<U> {
        Event {
            id: self.id,
            source: self.source,
            kind: self.kind,
            subject: self.subject,
            time: self.time,
            datacontenttype: self.datacontenttype,
            dataschema: self.dataschema,
            extensions: self.extensions,
            data,
        }
    }
}

impl Event<Bytes> {
    /// Reads the data into `T`: for handlers that look at [`kind`](Event::kind) first.
    ///
    /// ```
    /// use weir_sdk::prelude::*;
    ///
    /// fn route(event: Event<Bytes>) -> Result {
    ///     match event.kind.as_str() {
    ///         "order.created" => log::info!("{} is new", event.decode::<serde_json::Value>()?.data["order_id"]),
    ///         other => log::debug!("nothing to do for {other}"),
    ///     }
    ///     Ok(())
    /// }
    /// # use weir_sdk::testing;
    /// # let event = testing::event("order.created", serde_json::json!({ "order_id": "o-1" }));
    /// # assert_eq!(testing::Host::new().run(route, event).logs[0].message, "\"o-1\" is new");
    /// ```
    ///
    /// # Errors
    /// A reject that names the path, when the data does not fit.
    pub fn decode<T: EventData>(self) -> Result<Event<T>> {
        let data = T::from_bytes(&self.data, self.datacontenttype.as_deref())?;
        Ok(self.with_data(data))
    }
}

/// How an event came here, this time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The handler's name in weir.toml.
    pub handler: String,
    /// The queue's name in weir.toml.
    pub queue: String,
    /// The value of the attribute named by `order-by`: no other event with this key runs now.
    pub order_key: Option<String>,
    /// Number of this try, from 1.
    pub attempt: u32,
    /// Tries that remain after this one; 0: a retry becomes a dead letter.
    pub attempts_left: u32,
    /// When the event was first seen.
    pub first_seen: SystemTime,
    /// Until the deadline, counted from the start of this call.
    pub time_left: Duration,
    /// The same for every attempt at this event by this handler, different for every other: pass it to systems that deduplicate.
    pub idempotency_key: String,
    /// Somebody waits for a reply.
    pub wants_reply: bool,
}
