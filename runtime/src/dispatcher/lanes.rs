//! What a subscription holds that does not run: what may run next, what stands behind another of its lane, what waits for its time.
//! Plain state; no clock, no lock.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::clock::Timestamp;
use crate::queue::{Delivery, Position};

/// The value of the attribute that `order-by` names: events with the same one run one at a time, in order of arrival.
pub(super) type Lane = Arc<str>;

/// A delivery in hand.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) delivery: Delivery,
    pub(super) lane: Option<Lane>,
    /// Whether it was tried here: its tries are not those that the queue knows.
    pub(super) tried: bool,
    /// Whether it runs in a call of its own, of a batch handler.
    pub(super) alone: bool,
    /// Where batches wait to be filled: since when it may run.
    pub(super) since: Option<Instant>,
}

impl Item {
    pub(super) fn new(delivery: Delivery, lane: Option<Lane>) -> Self {
        Self { delivery, lane, tried: false, alone: false, since: None }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// May run now, in this order; those that run alone come first.
    waiting: VecDeque<Item>,
    /// Lanes whose first event is in hand, with those behind it. The first one is in `waiting` or `timed`, runs, or is being dead-lettered.
    behind: HashMap<Lane, VecDeque<Item>>,
    /// Not before their time; the number keeps those of one millisecond apart.
    timed: BTreeMap<(Timestamp, u64), Item>,
    number: u64,
    parked: usize,
    parked_bytes: u64,
}

impl Lanes {
    /// Takes in what was pulled: it may run, or stands behind another of its lane. Whether it may run.
    pub(super) fn arrive(&mut self, item: Item) -> bool {
        if let Some(lane) = &item.lane {
            if let Some(behind) = self.behind.get_mut(lane) {
                (self.parked, self.parked_bytes) = (self.parked + 1, self.parked_bytes + size(&item));
                behind.push_back(item);
                return false;
            }
            self.behind.insert(Arc::clone(lane), VecDeque::new());
        }
        self.wait(item);
        true
    }

    fn wait(&mut self, item: Item) {
        if item.alone { self.waiting.insert(self.alone(), item) } else { self.waiting.push_back(item) }
    }

    /// What was taken runs next; its lane is still its own.
    pub(super) fn put_back(&mut self, item: Item) {
        self.waiting.push_front(item);
    }

    /// Notes since when those may run that were not noted before; whether there are any.
    pub(super) fn stamp(&mut self, now: Instant) -> bool {
        let new = self.waiting.iter_mut().filter(|item| item.since.is_none());
        new.map(|item| item.since = Some(now)).count() > 0
    }

    /// The next to run.
    pub(super) fn first(&self) -> Option<&Item> {
        self.waiting.front()
    }

    /// How many that may run now do so alone.
    pub(super) fn alone(&self) -> usize {
        self.waiting.iter().take_while(|item| item.alone).count()
    }

    /// Since when the oldest of the others may run.
    pub(super) fn since(&self) -> Option<Instant> {
        self.waiting.iter().find(|item| !item.alone)?.since
    }

    /// Holds what is to run again at `due`; its lane waits with it.
    pub(super) fn park(&mut self, item: Item, due: Timestamp) {
        (self.parked, self.parked_bytes) = (self.parked + 1, self.parked_bytes + size(&item));
        // A batch waits for it anew, from when it may run.
        self.timed.insert((due, self.number), Item { since: None, ..item });
        self.number += 1;
    }

    /// The first event of a lane has ended: the next one may run.
    pub(super) fn leave(&mut self, lane: Option<&Lane>) {
        let Some(lane) = lane else { return };
        match self.behind.get_mut(lane).map(VecDeque::pop_front) {
            Some(Some(next)) => self.unpark(next),
            Some(None) => drop(self.behind.remove(lane)),
            None => {}
        }
    }

    /// Lets run what is due.
    pub(super) fn release_due(&mut self, now: Timestamp) {
        while let Some(entry) = self.timed.first_entry()
            && entry.key().0 <= now
        {
            let item = entry.remove();
            self.unpark(item);
        }
    }

    /// When the next one is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.timed.keys().next().map(|(due, _)| *due)
    }

    /// The next to run.
    pub(super) fn take(&mut self) -> Option<Item> {
        self.waiting.pop_front()
    }

    /// How many may run now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many are held for their lane or their time.
    pub(super) fn parked(&self) -> usize {
        self.parked
    }

    /// Bytes of those.
    pub(super) fn parked_bytes(&self) -> u64 {
        self.parked_bytes
    }

    /// The lane that holds most, and how many.
    pub(super) fn longest(&self) -> Option<(&Lane, usize)> {
        self.behind.iter().map(|(lane, behind)| (lane, behind.len())).max_by_key(|(_, count)| *count)
    }

    /// Everything, in the order of the queue, each with the time that it waits for.
    pub(super) fn drain(&mut self) -> Vec<(Item, Option<Timestamp>)> {
        let timed = std::mem::take(&mut self.timed).into_iter().map(|((due, _), item)| (item, Some(due)));
        let behind = std::mem::take(&mut self.behind).into_values().flatten();
        let waiting = std::mem::take(&mut self.waiting);
        let mut all: Vec<_> = waiting.into_iter().chain(behind).map(|item| (item, None)).chain(timed).collect();
        all.sort_unstable_by_key(|(item, _)| item.delivery.position);
        (self.parked, self.parked_bytes) = (0, 0);
        all
    }

    /// Takes out what was lost, and lets go on the lanes that waited for it; how many there were.
    pub(super) fn lose(&mut self, lost: &HashSet<Position>) -> usize {
        let is_lost = |item: &Item| lost.contains(&item.delivery.position);
        let before = self.waiting.len() + self.parked;
        let (mut parked, mut bytes) = (0, 0);
        for behind in self.behind.values_mut() {
            behind.retain(|item| {
                let lost = is_lost(item);
                if lost {
                    (parked, bytes) = (parked + 1, bytes + size(item));
                }
                !lost
            });
        }
        let mut freed = Vec::new();
        self.waiting.retain(|item| {
            let lost = is_lost(item);
            freed.extend(item.lane.clone().filter(|_| lost));
            !lost
        });
        self.timed.retain(|_, item| {
            let lost = is_lost(item);
            if lost {
                (parked, bytes) = (parked + 1, bytes + size(item));
                freed.extend(item.lane.clone());
            }
            !lost
        });
        self.parked -= parked;
        self.parked_bytes -= bytes;
        let after = self.waiting.len() + self.parked;
        for lane in freed {
            self.leave(Some(&lane));
        }
        before - after
    }

    fn unpark(&mut self, item: Item) {
        self.parked -= 1;
        self.parked_bytes -= size(&item);
        self.wait(item);
    }
}

pub(super) fn size(item: &Item) -> u64 {
    item.delivery.event.size() as u64
}

#[cfg(test)]
mod tests;
