//! What this process holds of one subscription: leases, what was read and not asked for yet, and what lapsed. Pure: no I/O, no clock;
//! time comes in as an argument.

mod gauge;
mod lease;
mod notes;
mod settling;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use self::gauge::Gauge;
use self::lease::{Lease, Note};
pub(super) use self::settling::{Checked, Plan};
use crate::queue::{Delivery, Position, QueueError, Settle, Settlement, Tries};

/// How many positions that lapsed are remembered, so that a settlement that comes later is answered as late. Runs are stopped at
/// once when their lease lapses, so each needs a place for a moment only.
const LAPSED_MAX: usize = 10_000;

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Of a group that keeps its order: then what one lease comes to, all come to, or a later event would pass an earlier one.
    in_order: bool,
    leases: HashMap<Position, Lease>,
    /// How many leases there were: the number of the last one.
    taken: u64,
    /// Leased and not handed out yet.
    ready: VecDeque<Delivery>,
    ready_since: Option<Instant>,
    /// How many events the pulls that wait now ask for.
    wanted: usize,
    /// How many of them one read may bring.
    gauge: Gauge,
    /// Lapsed and not told yet.
    lapsed: Vec<Position>,
    /// Lapsed, and what a settlement of them is answered by; with the tries behind them, as far as we know.
    late: BTreeMap<Position, Tries>,
    /// Stopped when their lease could not be renewed, to be given back once the server is there: without an attempt.
    stopped: VecDeque<(Position, Tries, Instant)>,
    /// How many problems there were, and the last one.
    failures: u64,
    failure: Option<QueueError>,
    /// When we last were the one reader of a group that keeps its order.
    pub(super) leads_since: Option<Instant>,
}

impl Hold {
    pub(super) fn new(in_order: bool) -> Self {
        Self { in_order, ..Self::default() }
    }

    /// How many events to read: none while there are some at hand.
    pub(super) fn wanted(&self) -> usize {
        if self.ready.is_empty() { self.gauge.count(self.wanted) } else { 0 }
    }

    /// What a read brought: the bytes of its largest event.
    pub(super) fn weigh(&mut self, largest: usize) {
        self.gauge.weigh(largest);
    }

    pub(super) fn want(&mut self, count: usize) {
        self.wanted = self.wanted.saturating_add(count);
    }

    pub(super) fn want_no_more(&mut self, count: usize) {
        self.wanted = self.wanted.saturating_sub(count);
    }

    /// Whether this delivery is held already; then it is as good as renewed. One that is on its way back is not: the server gives it out
    /// again only after that, and the answer is on its way. One that is being acknowledged is: that comes out of order, after an outage.
    pub(super) fn holds(&mut self, position: Position, leased: Instant) -> bool {
        let here = |lease: &&mut Lease| !lease.settling || lease.ends;
        let Some(lease) = self.leases.get_mut(&position).filter(here) else { return false };
        lease.renewed = lease.renewed.max(leased);
        true
    }

    /// Whether this delivery is held.
    pub(super) fn has(&self, position: Position) -> bool {
        self.leases.contains_key(&position)
    }

    /// Takes in what was leased at that time.
    pub(super) fn take_in(&mut self, mut delivery: Delivery, kept: bool, leased: Instant) {
        // What was tried and held here, and was lost sight of, the server counts as if it had just come.
        let known = self.late.remove(&delivery.position).unwrap_or_default();
        let lost_sight = (known.failed, known.outside) > (delivery.tries.failed, delivery.tries.outside);
        if lost_sight {
            delivery.tries = known;
        }
        self.taken += 1;
        let mut lease = Lease::new(self.taken, delivery.tries, kept || lost_sight, leased);
        lease.noted = lost_sight.then_some(Note { tries: known, written: false });
        self.leases.insert(delivery.position, lease);
        self.ready.push_back(delivery);
        self.ready_since.get_or_insert(leased);
    }

    /// What a pull gets.
    pub(super) fn hand_out(&mut self, max: usize) -> Vec<Delivery> {
        let count = max.min(self.ready.len());
        let out = self.ready.drain(..count).collect();
        if self.ready.is_empty() {
            self.ready_since = None;
        }
        out
    }

    /// What was read and nobody has asked for since: others may have room for it. Not of the one reader of a group: what follows would
    /// pass what is on its way back.
    pub(super) fn unwanted(&self, now: Instant, after: Duration) -> Vec<Position> {
        if self.in_order {
            return Vec::new();
        }
        let waits = self.wanted == 0 && self.ready_since.is_some_and(|since| now.saturating_duration_since(since) >= after);
        if waits { self.ready.iter().map(|delivery| delivery.position).collect() } else { Vec::new() }
    }

    /// Takes out of what is at hand what is about to be given back.
    pub(super) fn take_back(&mut self, positions: &[Position]) -> Vec<Settlement> {
        let mut back = Vec::new();
        self.ready.retain(|delivery| {
            let goes = positions.contains(&delivery.position);
            if goes {
                back.push(Settlement { position: delivery.position, settle: Settle::Return });
            }
            !goes
        });
        if self.ready.is_empty() {
            self.ready_since = None;
        }
        back
    }

    /// What could not be given back just now: nobody runs it, so it is not kept alive, and given back once its lease has passed.
    pub(super) fn abandon(&mut self, positions: &[Position]) {
        for position in positions {
            if let Some(lease) = self.leases.remove(position) {
                self.stopped.push_back((*position, lease.back, lease.renewed));
            }
        }
    }

    /// Everything that is held, to be given back.
    pub(super) fn everything(&mut self) -> Vec<Settlement> {
        self.ready.clear();
        self.ready_since = None;
        let mut all: Vec<Position> = self.leases.keys().copied().collect();
        all.sort_unstable();
        all.into_iter().map(|position| Settlement { position, settle: Settle::Return }).collect()
    }

    /// Leases that are at least so old.
    pub(super) fn to_renew(&self, now: Instant, age: Duration) -> Vec<Position> {
        let old = |lease: &Lease| !lease.settling && lease.is_old(now, age);
        self.leases.iter().filter(|(_, lease)| old(lease)).map(|(position, _)| *position).collect()
    }

    /// These were ours when it was asked, but for those that are gone.
    pub(super) fn renewed(&mut self, positions: &[Position], gone: &[Position], asked: Instant) {
        for position in positions {
            if let Some(lease) = self.leases.get_mut(position) {
                lease.renewed = lease.renewed.max(asked);
            }
        }
        self.lapse(gone, None);
    }

    /// Lets go of leases that are too old to be relied on. Whether there were any to tell of.
    pub(super) fn lapse_old(&mut self, now: Instant, age: Duration) -> bool {
        let old = self.to_renew(now, age);
        self.lapse(&old, Some(now))
    }

    /// Whether a delivery is certainly ours; one whose lease is too old to tell lapses. And whether there is something to tell of.
    pub(super) fn keep(&mut self, position: Position, now: Instant, young: Duration) -> (bool, bool) {
        match self.leases.get(&position) {
            Some(lease) if lease.can_lapse() && lease.is_old(now, young) => (false, self.lapse(&[position], Some(now))),
            known => (known.is_some(), false),
        }
    }

    /// Another process may read this group now: nothing is ours.
    pub(super) fn lapse_all(&mut self) -> bool {
        self.leads_since = None;
        let all: Vec<Position> = self.leases.keys().copied().collect();
        self.let_go(&all, false)
    }

    /// In order, one for all: what comes after it is stopped with it, and all are taken over again, the oldest first.
    fn lapse(&mut self, positions: &[Position], stopped: Option<Instant>) -> bool {
        let lapses = |position| self.leases.get(position).is_some_and(Lease::can_lapse);
        if self.in_order && positions.iter().any(lapses) {
            return self.lapse_all();
        }
        self.let_go(positions, stopped.is_some())
    }

    fn let_go(&mut self, positions: &[Position], stopped: bool) -> bool {
        for position in positions {
            let Some(lease) = self.leases.get(position).filter(|lease| lease.can_lapse()).copied() else { continue };
            self.leases.remove(position);
            let ready = self.ready.len();
            self.ready.retain(|delivery| delivery.position != *position);
            if self.ready.len() == ready {
                self.lapsed.push(*position);
                self.late.insert(*position, lease.back);
            }
            if stopped {
                self.stopped.push_back((*position, lease.back, lease.renewed));
            }
        }
        while self.late.len() > LAPSED_MAX {
            self.late.pop_first();
        }
        while self.stopped.len() > LAPSED_MAX {
            self.stopped.pop_front();
        }
        !self.lapsed.is_empty()
    }

    /// What lapsed and was not told.
    pub(super) fn take_lapsed(&mut self) -> Vec<Position> {
        std::mem::take(&mut self.lapsed)
    }

    /// What was stopped, and is past its lease: it can be given back without an attempt, if nobody has taken it.
    pub(super) fn take_stopped(&mut self, now: Instant, lease: Duration) -> Vec<Checked> {
        let is_past = |(_, _, renewed): &(Position, Tries, Instant)| now.saturating_duration_since(*renewed) >= lease;
        let (past, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.stopped).into_iter().partition(is_past);
        self.stopped = rest;
        let back = |(position, tries, _)| Checked { position, settle: Settle::Return, tries: Some(tries) };
        past.into_iter().filter(|(position, ..)| !self.leases.contains_key(position)).map(back).collect()
    }

    /// A problem, for the pulls that wait.
    pub(super) fn fail(&mut self, failure: QueueError) {
        self.failures += 1;
        self.failure = Some(failure);
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// The problem that came after so many.
    pub(super) fn failure_after(&self, seen: u64) -> Option<QueueError> {
        self.failure.clone().filter(|_| self.failures > seen)
    }
}

#[cfg(test)]
mod tests;
