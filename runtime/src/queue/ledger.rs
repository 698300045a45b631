//! What each subscription of a queue has still to do, by sequence number. Pure: no I/O, no clock; time comes in as an argument.
//!
//! Every event of a queue has a number, given in order and never again. A subscription is one number, below which everything was
//! delivered (`next`), and the deliveries below it that have not ended (`pending`). So its size follows what is in hand, never what
//! waits, and a slow delivery costs one entry however much passes it. Events themselves are kept elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use super::{Start, Tries};
use crate::clock::Timestamp;

/// Most deliveries of one subscription that are in hand or wait for another try; beyond it nothing new is handed out, so that an
/// endless row of failures can't fill the memory (about 100 bytes each).
pub(super) const PENDING_MAX: usize = 1_000_000;

/// All subscriptions of a queue.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The number of the next event.
    pub(super) end: u64,
    /// The oldest event still there while there is no subscription.
    pub(super) floor: u64,
    /// Whether a new subscription begins with what waited before the first one: nothing has ended since.
    pub(super) first: bool,
    pub(super) readings: BTreeMap<String, Reading>,
}

/// One subscription.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Its number on disk.
    pub(super) id: u32,
    /// Numbers from here on were never handed out.
    pub(super) next: u64,
    /// Where `next` stands on disk: what lies below it and has not ended has a row of its own there.
    pub(super) cursor: u64,
    /// Handed out and not ended.
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Those of `pending` that can be handed out now.
    ready: BTreeSet<u64>,
    /// Those of `pending` that wait for their time.
    waiting: BTreeSet<(Timestamp, u64)>,
    in_flight: u64,
}

/// A delivery that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) state: State,
    pub(super) tries: Tries,
    /// Whether it has a row of its own on disk.
    pub(super) kept: bool,
}

impl Pending {
    /// When it is due; long ago, unless it waits.
    pub(super) fn due(&self) -> Timestamp {
        if let State::Waiting(due) = self.state { due } else { Timestamp::default() }
    }
}

/// Where a pending delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Can be handed out.
    Ready,
    /// Not before this.
    Waiting(Timestamp),
    /// With a handler.
    Leased,
    /// Its end is being written.
    Ending,
}

impl Ledger {
    /// Numbers `count` new events; the first of the numbers.
    pub(super) fn append(&mut self, count: u64) -> u64 {
        let first = self.end;
        self.end += count;
        first
    }

    /// Where a subscription would begin; none when it is there. While there is none, the first one begins with all that waits; so do
    /// those that follow it until a delivery has ended, so that handlers that are subscribed one after the other see the same.
    pub(super) fn would_begin(&self, name: &str, start: Start) -> Option<Reading> {
        if self.readings.contains_key(name) {
            return None;
        }
        let all = self.readings.is_empty() || self.first || start == Start::All;
        Some(if all { self.oldest() } else { Reading::from(self.end, []) })
    }

    /// Makes a subscription that begins as `would_begin` says.
    pub(super) fn insert(&mut self, name: String, reading: Reading) {
        if self.readings.is_empty() {
            self.first = self.floor < self.end;
        }
        self.readings.insert(name, reading);
    }

    /// A reading of everything that some subscription still holds.
    fn oldest(&self) -> Reading {
        let next = self.readings.values().map(|reading| reading.next).min().unwrap_or(self.floor);
        let below = self.readings.values().flat_map(|reading| reading.pending.range(..next));
        let held: BTreeSet<u64> = below.filter(|(_, pending)| pending.state != State::Ending).map(|(seq, _)| *seq).collect();
        Reading::from(next, held)
    }

    /// Removes a subscription. Without any, what is published from then on waits for the first one.
    pub(super) fn unsubscribe(&mut self, name: &str) -> Option<Reading> {
        let removed = self.readings.remove(name);
        if self.readings.is_empty() && removed.is_some() {
            self.floor = self.end;
            self.first = false;
        }
        removed
    }

    /// Whether some subscription has not ended an event.
    pub(super) fn holds(&self, seq: u64) -> bool {
        self.readings.values().any(|reading| reading.holds(seq))
    }

    /// Begins to end a delivery, if it is leased; then whether the event is held by nobody else.
    pub(super) fn begin_end(&mut self, name: &str, seq: u64) -> Option<bool> {
        let pending = self.readings.get_mut(name)?.pending.get_mut(&seq)?;
        if pending.state != State::Leased {
            return None;
        }
        pending.state = State::Ending;
        Some(!self.holds(seq))
    }

    /// The end of a delivery stands, whatever was done with it meanwhile.
    pub(super) fn finish_end(&mut self, name: &str, seq: u64) {
        let Some(reading) = self.readings.get_mut(name) else { return };
        match reading.pending.remove(&seq).map(|pending| pending.state) {
            None => return,
            Some(State::Leased | State::Ending) => reading.in_flight -= 1,
            Some(State::Ready) => {
                reading.ready.remove(&seq);
            }
            Some(State::Waiting(due)) => {
                reading.waiting.remove(&(due, seq));
            }
        }
        self.first = false;
    }

    /// The end of a delivery could not be written: it stays leased.
    pub(super) fn undo_end(&mut self, name: &str, seq: u64) {
        if let Some(pending) = self.readings.get_mut(name).and_then(|reading| reading.pending.get_mut(&seq))
            && pending.state == State::Ending
        {
            pending.state = State::Leased;
        }
    }

    /// The subscription that holds most, if it stands out: it alone, or more than each of the others.
    pub(super) fn blocker(&self) -> Option<&str> {
        let mut counts: Vec<_> = self.readings.iter().map(|(name, reading)| (reading.count(self.end), name.as_str())).collect();
        counts.sort_unstable();
        match counts.as_slice() {
            [.., (second, _), (most, _)] if second == most => None,
            [.., (most, name)] if *most > 0 => Some(name),
            _ => None,
        }
    }
}

impl Reading {
    /// A subscription that begins at `next`, and with what is given of before.
    pub(super) fn from(next: u64, ready: impl IntoIterator<Item = u64>) -> Self {
        let ready: BTreeSet<u64> = ready.into_iter().collect();
        // Below the cursor: on disk each of them gets a row together with the subscription.
        let fresh = Pending { state: State::Ready, tries: Tries::default(), kept: true };
        let pending = ready.iter().map(|seq| (*seq, fresh)).collect();
        Self { next, cursor: next, pending, ready, ..Self::default() }
    }

    /// Puts back what was kept on disk for a delivery.
    pub(super) fn restore(&mut self, seq: u64, due: Timestamp, tries: Tries) {
        self.pending.insert(seq, Pending { state: State::Waiting(due), tries, kept: true });
        self.waiting.insert((due, seq));
    }

    fn holds(&self, seq: u64) -> bool {
        seq >= self.next || self.pending.get(&seq).is_some_and(|pending| pending.state != State::Ending)
    }

    /// Leases at most `max` events: what came back first, as it is older, then new ones.
    pub(super) fn take(&mut self, end: u64, max: usize, now: Timestamp) -> Vec<(u64, Tries)> {
        self.release_due(now);
        let unread = usize::try_from(end.saturating_sub(self.next)).unwrap_or(usize::MAX);
        let mut taken = Vec::with_capacity(max.min(self.ready.len().saturating_add(unread)));
        while taken.len() < max
            && let Some(seq) = self.ready.pop_first()
        {
            if let Some(pending) = self.pending.get_mut(&seq) {
                pending.state = State::Leased;
                taken.push((seq, pending.tries));
            }
        }
        while taken.len() < max && self.next < end && self.pending.len() < PENDING_MAX {
            let tries = Tries::default();
            self.pending.insert(self.next, Pending { state: State::Leased, tries, kept: false });
            taken.push((self.next, tries));
            self.next += 1;
        }
        self.in_flight += taken.len() as u64;
        taken
    }

    fn release_due(&mut self, now: Timestamp) {
        while let Some((due, seq)) = self.waiting.first().copied()
            && due <= now
        {
            self.waiting.pop_first();
            if let Some(pending) = self.pending.get_mut(&seq) {
                pending.state = State::Ready;
                self.ready.insert(seq);
            }
        }
    }

    /// When the next one that waits is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// What waits for its time and is due at `from` or later.
    pub(super) fn waiting_from(&self, from: Timestamp) -> impl Iterator<Item = (Timestamp, u64)> {
        self.waiting.range((from, 0)..).copied()
    }

    /// Leases what waits for its time, if it still does.
    pub(super) fn lease_waiting(&mut self, seq: u64) {
        if let Some(pending) = self.pending.get_mut(&seq)
            && let State::Waiting(due) = pending.state
        {
            pending.state = State::Leased;
            self.waiting.remove(&(due, seq));
            self.in_flight += 1;
        }
    }

    /// Gives a leased event back as it was.
    pub(super) fn give_back(&mut self, seq: u64) {
        if let Some(pending) = self.pending.get_mut(&seq)
            && pending.state == State::Leased
        {
            pending.state = State::Ready;
            self.ready.insert(seq);
            self.in_flight -= 1;
        }
    }

    /// Lets a leased event wait for another try.
    pub(super) fn retry(&mut self, seq: u64, due: Timestamp, tries: Tries) {
        if let Some(pending) = self.pending.get_mut(&seq)
            && pending.state == State::Leased
        {
            pending.state = State::Waiting(due);
            pending.tries = tries;
            self.waiting.insert((due, seq));
            self.in_flight -= 1;
        }
    }

    /// What must be written for the cursor to stand at `cursor`: what has not ended below it and has no row of its own yet.
    pub(super) fn unkept_below(&self, cursor: u64) -> impl Iterator<Item = (u64, Tries)> {
        let below = self.pending.range(self.cursor.min(cursor)..cursor);
        below.filter(|(_, pending)| !pending.kept && pending.state != State::Ending).map(|(seq, pending)| (*seq, pending.tries))
    }

    /// Where the delivery is, if it has not ended.
    pub(super) fn state(&self, seq: u64) -> Option<State> {
        self.pending.get(&seq).map(|pending| pending.state)
    }

    /// It has a row of its own on disk now.
    pub(super) fn keep(&mut self, seq: u64) {
        if let Some(pending) = self.pending.get_mut(&seq) {
            pending.kept = true;
        }
    }

    /// How many events have not ended.
    pub(super) fn count(&self, end: u64) -> u64 {
        self.pending.len() as u64 + end.saturating_sub(self.next)
    }

    /// The number of the oldest event that has not ended.
    pub(super) fn oldest(&self, end: u64) -> Option<u64> {
        self.pending.keys().next().copied().or((self.next < end).then_some(self.next))
    }

    /// How many are leased.
    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }
}

#[cfg(test)]
mod tests;
