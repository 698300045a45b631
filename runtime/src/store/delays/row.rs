//! How an item that waits for its time is written: its event as JSON, its tries, its times.

use std::sync::Arc;

use super::{DELAY_OVERHEAD_BYTES, DelayError, DelayId, Delayed};
use crate::clock::Timestamp;
use crate::event::json;
use crate::queue::Tries;

/// An item as it is written.
#[derive(Debug, Clone)]
pub(in crate::store) struct DelayRow {
    pub(in crate::store) id: DelayId,
    pub(in crate::store) due: Timestamp,
    pub(in crate::store) first_seen: Timestamp,
    pub(in crate::store) tries: String,
    pub(in crate::store) event: Vec<u8>,
}

impl DelayRow {
    /// Writes an item down, and reads its event back: what is answered can be delivered, whoever made the event.
    pub(in crate::store) fn new(item: &Delayed) -> Result<Self, DelayError> {
        let event = json::write(&item.event);
        json::read(&event).map_err(|error| DelayError::Event { id: item.event.id.clone(), reason: error.to_string() })?;
        Ok(Self { id: item.id, due: item.due, first_seen: item.first_seen, tries: tries_text(item.tries), event })
    }

    /// What it counts for.
    pub(in crate::store) fn size(&self) -> u64 {
        self.event.len() as u64 + DELAY_OVERHEAD_BYTES
    }

    /// Reads it; `claims` were lost since its tries were written.
    pub(in crate::store) fn read(&self, claims: u32) -> Result<Delayed, String> {
        let tries: Tries = serde_json::from_str(&self.tries).map_err(|error| error.to_string())?;
        let event = json::read(&self.event).map_err(|error| error.to_string())?;
        Ok(Delayed {
            id: self.id,
            event: Arc::new(event),
            due: self.due,
            first_seen: self.first_seen,
            tries: Tries { failed: tries.failed.saturating_add(claims), ..tries },
        })
    }
}

pub(in crate::store) fn tries_text(tries: Tries) -> String {
    // Numbers alone: there is no error case.
    serde_json::to_string(&tries).unwrap_or_default()
}
