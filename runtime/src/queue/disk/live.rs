//! What a disk queue knows in memory: who has ended what, the numbers of the file, and events close at hand.

use std::collections::BTreeMap;

use super::recent::Recent;
use super::row::{Kept, Row};
use super::running::{Note, Slots};
use super::tables::Numbers;
use crate::queue::ledger::{Ledger, State};
use crate::queue::{Settle, Settlement, Tries};

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
    /// Where the tries of what runs are noted (`running.rs`).
    pub(super) slots: Slots,
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

    /// Where to write that a leased event has got this far; an event that is not leased has nothing to note.
    pub(super) fn note(&mut self, subscription: &str, seq: u64, tries: Tries) -> Option<(Option<u32>, Note)> {
        let reading = self.ledger.readings.get(subscription)?;
        let key = (reading.id, seq);
        (reading.state(seq) == Some(State::Leased)).then(|| (self.slots.note(key, tries), Note { key, tries }))
    }

    /// What must be written before these retries are: a try that cost no attempt must not be found counted.
    pub(super) fn notes_of_retries(&mut self, subscription: &str, batch: &[Settlement]) -> Vec<(u32, Note)> {
        let Some(id) = self.ledger.readings.get(subscription).map(|reading| reading.id) else { return Vec::new() };
        let noted = batch.iter().filter_map(|Settlement { position, settle }| {
            let Settle::Retry { tries, .. } = *settle else { return None };
            let key = (id, u64::try_from(position.0).ok()?);
            self.slots.change(key, tries).map(|slot| (slot, Note { key, tries }))
        });
        noted.collect()
    }

    /// The slots of events that are about to be given back.
    pub(super) fn slots_of(&self, subscription: &str, seqs: &[u64]) -> Vec<u32> {
        let Some(id) = self.ledger.readings.get(subscription).map(|reading| reading.id) else { return Vec::new() };
        seqs.iter().filter_map(|seq| self.slots.get((id, *seq))).collect()
    }

    /// Gives leased events back as they were.
    pub(super) fn give_back(&mut self, subscription: &str, seqs: &[u64]) {
        let Some(reading) = self.ledger.readings.get_mut(subscription) else { return };
        for seq in seqs {
            reading.give_back(*seq);
            self.slots.free((reading.id, *seq));
        }
    }

    pub(super) fn unsubscribe(&mut self, subscription: &str) {
        if let Some(reading) = self.ledger.unsubscribe(subscription) {
            self.slots.forget(reading.id);
        }
        self.ahead.remove(subscription);
    }
}

impl From<Row> for Kept {
    fn from(row: Row) -> Self {
        Self { event: row.event, first_seen: row.first_seen }
    }
}
