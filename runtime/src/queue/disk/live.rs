//! What a disk queue knows in memory: who has ended what, the numbers of the file, and events close at hand.

use std::collections::BTreeMap;

use super::recent::Recent;
use super::row::{Kept, Row};
use super::tables::Numbers;
use crate::queue::ledger::Ledger;

/// Everything that callers and the writer share under one lock.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) ledger: Ledger,
    /// As of the last commit that stands.
    pub(super) numbers: Numbers,
    /// Events in the file.
    pub(super) events: u64,
    /// Delayed publishes in the file.
    pub(super) delayed: u64,
    /// The end of the queue.
    pub(super) recent: Recent,
    /// What was read ahead, by subscription.
    pub(super) ahead: BTreeMap<String, Recent>,
    pub(super) closed: bool,
}

impl Live {
    /// An event that is in memory.
    pub(super) fn at_hand(&mut self, subscription: &str, seq: u64) -> Option<Kept> {
        let ahead = self.ahead.get_mut(subscription).and_then(|ahead| ahead.remove(seq));
        ahead.or_else(|| self.recent.get(seq))
    }

    /// Keeps what was read ahead for a subscription, instead of what was before.
    pub(super) fn keep_ahead(&mut self, subscription: &str, events: impl Iterator<Item = (u64, Kept)>) {
        if !self.ledger.readings.contains_key(subscription) {
            return;
        }
        let mut ahead = Recent::ahead();
        events.for_each(|(seq, kept)| ahead.insert(seq, kept));
        self.ahead.insert(subscription.to_owned(), ahead);
    }

    pub(super) fn unsubscribe(&mut self, subscription: &str) {
        self.ledger.unsubscribe(subscription);
        self.ahead.remove(subscription);
    }
}

impl From<Row> for Kept {
    fn from(row: Row) -> Self {
        Self { event: row.event, first_seen: row.first_seen }
    }
}
