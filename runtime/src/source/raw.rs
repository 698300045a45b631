//! What arrives without being a CloudEvent becomes one (delivery.md §8): as the queue's `map` says, else with a fresh id, the queue as
//! source and the queue's type.

use bytes::Bytes;

use super::{Intake, Message, Problem, set_data};
use crate::event::Event;

/// What `curl -d` sends as content type, whatever the body is. A form is never JSON by accident, so JSON under it is meant as JSON.
const FORM: &str = "application/x-www-form-urlencoded";

/// Wraps the body of a message.
///
/// # Errors
/// When nothing was sent, or the body is not the JSON that its content type says.
pub fn read(message: &Message, intake: &Intake) -> Result<Event, Problem> {
    if message.body.is_empty() {
        return Err(Problem::Empty);
    }
    if let Some(event) = mapped(message.body, intake) {
        return Ok(event);
    }
    let content_type = match message.header("content-type")? {
        None if super::json(message.body).is_ok() => Some("application/json"),
        Some(form) if form.eq_ignore_ascii_case(FORM) && super::json(message.body).is_ok() => Some("application/json"),
        other => other,
    };
    let mut event = envelope(intake);
    set_data(&mut event, content_type, message.body)?;
    Ok(event)
}

/// Wraps a JSON text, which the caller has checked.
#[must_use]
pub fn wrap_json(text: Bytes, intake: &Intake) -> Event {
    let wrapped = |text| Event { datacontenttype: Some("application/json".to_owned()), data: Some(text), ..envelope(intake) };
    mapped(&text, intake).unwrap_or_else(|| wrapped(text))
}

fn mapped(body: &Bytes, intake: &Intake) -> Option<Event> {
    intake.map?.read(body, envelope(intake))
}

/// An event without data: the attributes that something without attributes gets.
#[must_use]
pub fn envelope(intake: &Intake) -> Event {
    Event {
        id: fresh_id(),
        source: source_of(intake.queue),
        kind: intake.kind.to_owned(),
        time: Some(intake.now.to_string()),
        ..Event::default()
    }
}

/// An id that nothing else has: a UUID of version 7, which sorts by time.
#[must_use]
pub fn fresh_id() -> String {
    crate::clock::id().to_string()
}

/// The `source` of events that came without one.
#[must_use]
pub fn source_of(queue: &str) -> String {
    format!("/weir/queue/{queue}")
}
