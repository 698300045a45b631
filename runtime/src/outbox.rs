//! What a handler publishes in one run, checked when it is called and kept until the run has ended (delivery.md §9).
//!
//! Pure: the time comes in as an argument, and nothing leaves from here. What was kept leaves before the ack when the outcome is done, and is
//! dropped otherwise; that is the dispatcher's to do.

mod draft;
mod identity;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use self::draft::Draft;
use self::identity::Digest;
use crate::clock::Timestamp;
use crate::config::{Limits, PublishGrant, is_name};
use crate::event::Event;
use crate::outcome::Limit;
use crate::source::delay::DELAY_MAX;

/// Weir's own attribute: how many handlers an event has descended through.
pub const HOPS: &str = "weirhops";

/// Weir's own attribute: the one handler that takes the event.
pub const HANDLER: &str = "weirhandler";

/// Most of a text that is given back to the guest, in bytes: it may quote a name that the guest made up.
const TEXT_MAX: usize = 1024;

/// An event that a handler published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it goes.
    pub to: Destination,
    /// Complete and valid, with what Weir adds.
    pub event: Arc<Event>,
    /// Not before; none: at once.
    pub due: Option<Timestamp>,
}

/// Where a published event goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A queue of weir.toml, granted by its name.
    Queue(String),
    /// The queue that the event in hand came from, for this handler alone: the event says so by [`HANDLER`].
    Own,
}

/// When a published event is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// At once.
    Now,
    /// So long after the call.
    After(Duration),
    /// At this time; one that has passed: at once.
    At(Timestamp),
}

/// The run that publishes, and what its calls are held against.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The handler's name.
    pub handler: &'a str,
    /// The event in hand.
    pub event: &'a Event,
    /// Its index where it is one of a batch, else 0.
    pub item: u32,
    /// `grants.publish`.
    pub grant: Option<&'a PublishGrant>,
    /// The limits of the call.
    pub limits: &'a Limits,
    /// Largest event, in bytes.
    pub max_event: u64,
    /// When the call is made.
    pub now: Timestamp,
}

/// Why a call publishes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Not granted: names the queue and the line to add.
    Denied(String),
    /// Not a valid event, or too large: names the attribute or the bound.
    Invalid(String),
    /// It would pass a counted limit: the guest must not go on, or it might be acknowledged with an event missing.
    Over(Limit),
}

/// What one run has published so far, bounded by the handler's limits.
#[derive(Debug, Default)]
pub struct Outbox {
    /// With the item that each belongs to.
    published: Vec<(u32, Published)>,
    bytes: u64,
    /// How many events without an id had this content, by item.
    equal: BTreeMap<(u32, Digest), u32>,
}

impl Outbox {
    /// Checks and keeps an event for the queue of this name.
    ///
    /// # Errors
    /// When it is not granted, not an event, or over a limit; nothing is kept then.
    pub fn publish(&mut self, run: &Run<'_>, queue: &str, draft: Draft, schedule: Schedule) -> Result<(), Refusal> {
        let to = destination(run, queue)?;
        let invalid = |text: String| Refusal::Invalid(cut(text));
        let mut event = draft.event(run.max_event).map_err(invalid)?;
        let due = due(schedule, run.now).map_err(invalid)?;
        let bytes = self.within(run.limits, event.size() as u64)?;
        if event.id.is_empty() {
            let digest = identity::content(queue, &event);
            let before = self.equal.entry((run.item, digest)).or_default();
            event.id = identity::id(run.event, run.handler, &digest, *before);
            *before += 1;
        }
        fill(&mut event, run);
        descend(&mut event, run, &to).map_err(|error| invalid(error.to_string()))?;
        self.bytes = bytes;
        self.published.push((run.item, Published { to, event: Arc::new(event), due }));
        Ok(())
    }

    /// What was published, in the order of the calls.
    #[must_use]
    pub fn into_published(self) -> Vec<Published> {
        self.published.into_iter().map(|(_, published)| published).collect()
    }

    /// What was published for each item of a batch of so many, in the order of the calls.
    #[must_use]
    pub fn into_items(self, items: usize) -> Vec<Vec<Published>> {
        let mut of_items = vec![Vec::new(); items];
        for (item, published) in self.published {
            if let Some(of_item) = of_items.get_mut(item as usize) {
                of_item.push(published);
            }
        }
        of_items
    }

    /// The bytes that are published with an event of this size.
    fn within(&self, limits: &Limits, size: u64) -> Result<u64, Refusal> {
        if self.published.len() as u64 >= u64::from(limits.publishes) {
            return Err(Refusal::Over(Limit { name: "publishes", value: u64::from(limits.publishes) }));
        }
        let bytes = self.bytes.saturating_add(size);
        if bytes > limits.published {
            return Err(Refusal::Over(Limit { name: "published", value: limits.published }));
        }
        Ok(bytes)
    }
}

/// What answers the event in hand: complete and valid. It goes to whoever asked, and descends no further.
///
/// # Errors
/// Names the attribute that is wrong, or the bound.
pub fn reply(run: &Run<'_>, draft: Draft) -> Result<Event, String> {
    let mut event = draft.event(run.max_event).map_err(cut)?;
    if event.id.is_empty() {
        event.id = identity::id(run.event, run.handler, &identity::content("", &event), 0);
    }
    fill(&mut event, run);
    trace(&mut event, run).map_err(|error| cut(error.to_string()))?;
    Ok(event)
}

fn destination(run: &Run<'_>, queue: &str) -> Result<Destination, Refusal> {
    let none = PublishGrant::default();
    let grant = run.grant.unwrap_or(&none);
    match queue {
        PublishGrant::OWN if grant.own => Ok(Destination::Own),
        _ if grant.queues.iter().any(|granted| granted == queue) => Ok(Destination::Queue(queue.to_owned())),
        _ => Err(Refusal::Denied(cut(denied(run.handler, grant, queue)))),
    }
}

fn denied(handler: &str, grant: &PublishGrant, queue: &str) -> String {
    let own = grant.own.then_some(PublishGrant::OWN);
    let granted = || grant.queues.iter().map(String::as_str).chain(own);
    let list = |names: &mut dyn Iterator<Item = &str>| names.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let queue: String = queue.chars().take(80).flat_map(char::escape_debug).collect();
    if is_name(&queue) {
        let line = list(&mut granted().chain([queue.as_str()]));
        format!("queue `{queue}` is not granted (add to weir.toml under [handler.{handler}.grants]: publish = [{line}])")
    } else {
        format!("queue `{queue}` is not granted, and no queue has such a name (granted: {})", list(&mut granted()))
    }
}

/// When an event is due; none: at once.
fn due(schedule: Schedule, now: Timestamp) -> Result<Option<Timestamp>, String> {
    let due = match schedule {
        Schedule::Now => now,
        Schedule::After(wait) => now.after(wait),
        Schedule::At(time) => time,
    };
    if due.since(now) > DELAY_MAX {
        let days = DELAY_MAX.as_secs() / (24 * 3600);
        return Err(format!("the event is due at {due}, expected at most {days} days from now"));
    }
    Ok((due > now).then_some(due))
}

/// What a guest may leave out (events.wit).
fn fill(event: &mut Event, run: &Run<'_>) {
    if event.source.is_empty() {
        event.source = format!("weir:handler/{}", run.handler);
    }
    event.time.get_or_insert_with(|| run.now.to_string());
}

/// What an event has from the one that it descends from.
fn descend(event: &mut Event, run: &Run<'_>, to: &Destination) -> Result<(), crate::event::EventError> {
    trace(event, run)?;
    let hops = run.event.extension(HOPS).and_then(|hops| hops.parse::<u32>().ok()).unwrap_or_default();
    event.set(HOPS, hops.saturating_add(1).to_string())?;
    if *to == Destination::Own {
        event.set(HANDLER, run.handler.to_owned())?;
    }
    Ok(())
}

/// The trace goes on, unless it has one of its own.
fn trace(event: &mut Event, run: &Run<'_>) -> Result<(), crate::event::EventError> {
    if event.extension("traceparent").is_none() {
        for name in ["traceparent", "tracestate"] {
            if let (Some(value), None) = (run.event.extension(name), event.extension(name)) {
                event.set(name, value.to_owned())?;
            }
        }
    }
    Ok(())
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        text.truncate(text.floor_char_boundary(TEXT_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests;
