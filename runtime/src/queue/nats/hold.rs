//! What this process holds of one consumer: what has come and is not handed out yet, what is handed out, and until when it is ours. Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use async_nats::Subject;

use super::tries::{Note, behind, to_note};
use crate::queue::{Delivery, Position, QueueError, Settlement, Tries};

/// Messages of one request for more.
const READ_MAX: usize = 500;

/// What came, before it is handed out.
pub(super) struct Came {
    pub(super) delivery: Delivery,
    pub(super) lease: Lease,
}

/// One message that is ours.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    /// Where its answers go.
    pub(super) reply: Subject,
    /// Which delivery of it this is, from 1.
    pub(super) delivered: u32,
    /// What is noted beside it.
    pub(super) noted: Option<Note>,
    /// When it was certainly ours.
    pub(super) renewed: Instant,
}

/// What is known of one message that is ours.
struct Held {
    lease: Lease,
    /// Given to a pull.
    out: bool,
    /// Could not be renewed: it is settled as late.
    lapsed: bool,
}

/// One settlement that can be sent.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) settlement: Settlement,
    pub(super) lease: Lease,
}

#[derive(Default)]
pub(super) struct Hold {
    held: BTreeMap<Position, Held>,
    ready: VecDeque<Delivery>,
    /// What waiting pulls ask for.
    wanted: usize,
    /// Lapsed, and not told yet.
    lapsed: Vec<Position>,
    /// Notes to write.
    notes: BTreeMap<Position, Note>,
    failures: u64,
    failure: Option<QueueError>,
}

impl Hold {
    pub(super) fn want(&mut self, count: usize) {
        self.wanted += count;
    }

    pub(super) fn want_no_more(&mut self, count: usize) {
        self.wanted = self.wanted.saturating_sub(count);
    }

    /// How many are to be asked for.
    pub(super) fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.ready.len()).min(READ_MAX)
    }

    /// Takes in what has come. What is still ours is not handed out again: only its lease is new.
    pub(super) fn take_in(&mut self, came: Came) {
        let Came { delivery, lease } = came;
        match self.held.get_mut(&delivery.position) {
            Some(held) if !held.lapsed => held.lease = lease,
            _ => {
                self.held.insert(delivery.position, Held { lease, out: false, lapsed: false });
                self.ready.push_back(delivery);
            }
        }
    }

    pub(super) fn hand_out(&mut self, max: usize) -> Vec<Delivery> {
        let count = self.ready.len().min(max);
        let out: Vec<Delivery> = self.ready.drain(..count).collect();
        for delivery in &out {
            if let Some(held) = self.held.get_mut(&delivery.position) {
                held.out = true;
            }
        }
        out
    }

    /// Sorts settlements: what can be sent, and what is too late. What is not held is neither.
    pub(super) fn plan(&mut self, batch: &[Settlement], now: Instant, young: Duration) -> (Vec<Planned>, Vec<Position>) {
        let (mut planned, mut late) = (Vec::with_capacity(batch.len()), Vec::new());
        for settlement in batch {
            match self.held.get(&settlement.position) {
                None => {}
                Some(held) if held.lapsed || now.duration_since(held.lease.renewed) > young => {
                    self.held.remove(&settlement.position);
                    late.push(settlement.position);
                }
                Some(held) => planned.push(Planned { settlement: *settlement, lease: held.lease.clone() }),
            }
        }
        (planned, late)
    }

    /// It is no longer ours.
    pub(super) fn settled(&mut self, position: Position) {
        self.held.remove(&position);
        self.notes.remove(&position);
    }

    /// Where renewals go: of all that is ours and was renewed before.
    pub(super) fn to_renew(&self, before: Instant) -> Vec<(Position, Subject)> {
        let due = |held: &&Held| !held.lapsed && held.lease.renewed <= before;
        let due = self.held.iter().filter(|(_, held)| due(&held));
        due.map(|(position, held)| (*position, held.lease.reply.clone())).collect()
    }

    pub(super) fn renewed(&mut self, positions: &[(Position, Subject)], at: Instant) {
        for (position, reply) in positions {
            if let Some(held) = self.held.get_mut(position).filter(|held| held.lease.reply == *reply) {
                held.lease.renewed = held.lease.renewed.max(at);
            }
        }
    }

    /// Lets go of what was last ours before; whether somebody has to be told.
    pub(super) fn lapse(&mut self, before: Instant) -> bool {
        let old: Vec<Position> =
            self.held.iter().filter(|(_, held)| !held.lapsed && held.lease.renewed < before).map(|(at, _)| *at).collect();
        for position in &old {
            self.notes.remove(position);
            match self.held.get_mut(position) {
                Some(held) if held.out => {
                    held.lapsed = true;
                    self.lapsed.push(*position);
                }
                _ => {
                    self.held.remove(position);
                    self.ready.retain(|delivery| delivery.position != *position);
                }
            }
        }
        !old.is_empty()
    }

    pub(super) fn take_lapsed(&mut self) -> Vec<Position> {
        std::mem::take(&mut self.lapsed)
    }

    /// Notes how far an event has got; whether that is to be written.
    pub(super) fn note(&mut self, position: Position, tries: Tries) -> bool {
        let Some(held) = self.held.get_mut(&position) else { return false };
        let lost = behind(held.lease.delivered + 1, held.lease.noted);
        // What a lost delivery counts anyway need not be written.
        if lost.failed >= tries.failed && lost.outside == tries.outside {
            return false;
        }
        let Some(note) = to_note(held.lease.delivered, tries, held.lease.noted) else { return false };
        held.lease.noted = Some(note);
        self.notes.insert(position, note);
        true
    }

    pub(super) fn take_notes(&mut self) -> BTreeMap<Position, Note> {
        std::mem::take(&mut self.notes)
    }

    /// Everything that is ours, for giving it back.
    pub(super) fn everything(&self) -> Vec<Position> {
        self.held.keys().copied().collect()
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    pub(super) fn fail(&mut self, failure: QueueError) {
        self.failures += 1;
        self.failure = Some(failure);
    }

    pub(super) fn failure_after(&self, seen: u64) -> Option<QueueError> {
        self.failure.clone().filter(|_| self.failures > seen)
    }
}
