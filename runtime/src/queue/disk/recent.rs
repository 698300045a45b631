//! Events that are in memory as well as on disk, so that readers that keep up decode nothing, and readers that lag read ahead.
//!
//! Only a cache: whatever is not here is read from disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::row::Kept;

/// Most events kept from the end of the queue: a few commits' worth, so that a reader may be some commits behind.
const RECENT_EVENTS_MAX: usize = 8_192;

/// Most bytes of those together.
const RECENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most events read ahead for a subscription that lags: makes the cost of a read transaction small against that of its events.
pub(super) const AHEAD_EVENTS_MAX: usize = 256;

/// Most bytes of those together; the event that reaches it is still taken.
pub(super) const AHEAD_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Events by number, the oldest leaving first once a bound is reached.
#[derive(Debug)]
pub(super) struct Recent {
    events: BTreeMap<u64, Kept>,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl Recent {
    /// For the end of the queue.
    pub(super) fn tail() -> Self {
        Self { events: BTreeMap::new(), bytes: 0, events_max: RECENT_EVENTS_MAX, bytes_max: RECENT_BYTES_MAX }
    }

    /// For what one subscription reads next.
    pub(super) fn ahead() -> Self {
        // One read fits whole, whatever its last event's size.
        Self { events: BTreeMap::new(), bytes: 0, events_max: AHEAD_EVENTS_MAX, bytes_max: usize::MAX }
    }

    pub(super) fn insert(&mut self, seq: u64, kept: Kept) {
        self.bytes += kept.event.size();
        if let Some(before) = self.events.insert(seq, kept) {
            self.bytes -= before.event.size();
        }
        while self.events.len() > self.events_max || self.bytes > self.bytes_max {
            let Some((_, gone)) = self.events.pop_first() else { break };
            self.bytes -= gone.event.size();
        }
    }

    pub(super) fn get(&self, seq: u64) -> Option<Kept> {
        self.events.get(&seq).map(|kept| Kept { event: Arc::clone(&kept.event), first_seen: kept.first_seen })
    }

    pub(super) fn remove(&mut self, seq: u64) -> Option<Kept> {
        let kept = self.events.remove(&seq)?;
        self.bytes -= kept.event.size();
        Some(kept)
    }
}
