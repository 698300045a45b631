//! A replay: the event of a dead letter is published to its queue once more, for one handler alone (delivery.md §7). It starts at attempt
//! 1 and keeps source and id, so that a mail that was sent is not sent again. The letter goes only once the queue holds the event.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{DeadLetter, DeadLetters};
use crate::config::Config;
use crate::event::{Event, EventError};
use crate::outbox::HANDLER;
use crate::queue::{Publish, Queue, QueueError};
use crate::store::StoreError;

/// Handlers that are configured, with the queues that each reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readers(BTreeMap<String, Vec<String>>);

/// What was replayed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Replayed {
    /// The dead letter that was.
    pub id: String,
    /// The queue that holds its event now.
    pub queue: String,
    /// The handler that gets it.
    pub handler: String,
}

/// Why a dead letter was not replayed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// There is no such letter.
    #[error("dead letter `{0}` is not known (`weir dead list` shows all)")]
    Unknown(String),
    /// Its handler, or the one that was named, would not get it.
    #[error("{0}")]
    Handler(String),
    /// Its queue is not configured.
    #[error("queue `{name}` of dead letter `{id}` is not defined (define it again, or drop the letter)")]
    Queue {
        /// The letter.
        id: String,
        /// Its queue.
        name: String,
    },
    /// The event can't carry the handler's name.
    #[error("event of dead letter `{id}` can't be addressed: {error}")]
    Event {
        /// The letter.
        id: String,
        /// Why.
        error: EventError,
    },
    /// The queue did not take it: the letter stays.
    #[error("queue `{queue}` did not take dead letter `{id}`, which stays: {error}")]
    Publish {
        /// The letter.
        id: String,
        /// Its queue.
        queue: String,
        /// Why.
        error: QueueError,
    },
    /// Letters can't be read.
    #[error("{0}")]
    Unread(StoreError),
    /// The queue holds the event, and the letter could not be removed.
    #[error(
        "dead letter `{id}` was replayed and could not be removed: {error} (drop it, or a second replay runs the event again)"
    )]
    Left {
        /// The letter.
        id: String,
        /// Why.
        error: StoreError,
    },
}

impl Readers {
    /// The handlers of a configuration.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self(config.handlers.iter().map(|(name, handler)| (name.clone(), handler.queues.clone())).collect())
    }

    /// The handlers named here, each with its queues.
    #[must_use]
    pub fn new(handlers: impl IntoIterator<Item = (String, Vec<String>)>) -> Self {
        Self(handlers.into_iter().collect())
    }

    /// Whether the handler is configured.
    #[must_use]
    pub fn knows(&self, handler: &str) -> bool {
        self.0.contains_key(handler)
    }

    /// Whether the handler is configured to read the queue.
    #[must_use]
    pub fn reads(&self, handler: &str, queue: &str) -> bool {
        self.0.get(handler).is_some_and(|queues| queues.iter().any(|name| name == queue))
    }

    /// The names of all handlers, for people.
    #[must_use]
    pub fn names(&self) -> String {
        listed(self.0.keys())
    }

    fn of_queue(&self, queue: &str) -> String {
        listed(self.0.keys().filter(|handler| self.reads(handler, queue)))
    }

    /// The handler that gets the replay of a letter: `to`, else the one that gave it up.
    ///
    /// # Errors
    /// When it is not configured, or does not read the letter's queue: nobody would take the event.
    pub fn address<'a>(&self, letter: &'a DeadLetter, to: Option<&'a str>) -> Result<&'a str, ReplayError> {
        let handler = to.unwrap_or(&letter.handler);
        let other = if to.is_none() { "; `--handler NAME` addresses another" } else { "" };
        if self.reads(handler, &letter.queue) {
            return Ok(handler);
        }
        Err(ReplayError::Handler(if self.knows(handler) {
            let (queue, known) = (&letter.queue, self.of_queue(&letter.queue));
            format!("handler `{handler}` does not read queue `{queue}`, where the event goes (read by: {known}{other})")
        } else {
            format!("handler `{handler}` is not defined (known: {}{other})", self.names())
        }))
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The event as it is published again: without what Weir had added to it, and addressed.
///
/// # Errors
/// When the handler's name can't be an attribute.
pub fn addressed(event: &Event, handler: &str) -> Result<Event, EventError> {
    let mut event = event.clone();
    event.extensions.retain(|(name, _)| !name.starts_with("weir"));
    event.set(HANDLER, handler.to_owned())?;
    Ok(event)
}

/// Replays one letter: publishes it to `queue`, which is the letter's own, and removes it once that is confirmed.
///
/// Two calls for one letter at once may both publish it; a process does one after the other.
///
/// # Errors
/// As [`ReplayError`] says. But for [`ReplayError::Left`] the letter stays; after a [`QueueError`] that leaves it open, the event may run
/// and its letter stay.
pub async fn replay(
    letters: &dyn DeadLetters,
    queue: &dyn Queue,
    letter: &DeadLetter,
    handler: &str,
) -> Result<Replayed, ReplayError> {
    let id = &letter.id;
    let event = addressed(&letter.event, handler).map_err(|error| ReplayError::Event { id: id.clone(), error })?;
    let published = queue.publish(vec![Publish { event: Arc::new(event), due: None }]).await;
    published.map_err(|error| ReplayError::Publish { id: id.clone(), queue: letter.queue.clone(), error })?;
    // Whether it was still there does not matter: it is gone, and the event runs.
    letters.remove(id).await.map_err(|error| ReplayError::Left { id: id.clone(), error })?;
    tracing::info!(dead_letter = %id, queue = %letter.queue, %handler, event = %letter.event.id, "dead letter replayed");
    Ok(Replayed { id: id.clone(), queue: letter.queue.clone(), handler: handler.to_owned() })
}

#[cfg(test)]
mod tests;
