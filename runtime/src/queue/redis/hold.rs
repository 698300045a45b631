//! What this process holds of one subscription: leases, what was read and not asked for yet, and what lapsed. Pure: no I/O, no clock;
//! time comes in as an argument.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

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

/// One delivery that is ours.
#[derive(Debug, Clone, Copy)]
struct Lease {
    /// Tells it from an earlier one of the same delivery.
    number: u64,
    /// Before the command was sent that renewed it last.
    renewed: Instant,
    /// What it came with.
    tries: Tries,
    /// What it has behind it when it is given back without an attempt: more, once it was tried and held here.
    back: Tries,
    /// A try began and has not reported.
    began: bool,
    /// Whether something of its tries may stand on the server.
    kept: bool,
    /// A settlement of it is under way: it is neither renewed nor lapses.
    settling: bool,
    /// A settlement of it was under way, and will be repeated: it may have taken effect, so only that can tell whether it was late.
    asked: bool,
    /// That settlement acknowledges it.
    ends: bool,
    noted: Option<Note>,
}

#[derive(Debug, Clone, Copy)]
struct Note {
    tries: Tries,
    written: bool,
}

/// What has to be done for a batch of settlements.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Acks whose lease is young: nobody else can have them.
    pub(super) acks: Vec<Position>,
    /// Those of `acks` whose tries may stand on the server.
    pub(super) kept: Vec<Position>,
    /// What has to be looked at first.
    pub(super) checked: Vec<Checked>,
    /// What had lapsed.
    pub(super) late: Vec<Position>,
    /// The leases that it settles.
    leases: Vec<(Position, u64)>,
}

/// A settlement of a lease that may not be ours any more, or that changes more than an ack does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Checked {
    pub(super) position: Position,
    pub(super) settle: Settle,
    /// What is kept of its tries; none: what stands there.
    pub(super) tries: Option<Tries>,
}

impl Hold {
    pub(super) fn new(in_order: bool) -> Self {
        Self { in_order, ..Self::default() }
    }

    /// How many events to read: none while there are some at hand.
    pub(super) fn wanted(&self) -> usize {
        if self.ready.is_empty() { self.wanted } else { 0 }
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
        let known = self.late.remove(&delivery.position).map_or(0, |tries| tries.failed);
        let noted = (known > delivery.tries.failed).then(|| {
            delivery.tries.failed = known;
            Note { tries: delivery.tries, written: false }
        });
        self.taken += 1;
        let lease = Lease {
            number: self.taken,
            renewed: leased,
            tries: delivery.tries,
            back: delivery.tries,
            began: false,
            kept: kept || noted.is_some(),
            settling: false,
            asked: false,
            ends: false,
            noted,
        };
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
        let old = |lease: &Lease| !lease.settling && now.saturating_duration_since(lease.renewed) >= age;
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

    /// Begins to settle; `young` is the age up to which a lease is certainly ours.
    pub(super) fn begin_settle(&mut self, batch: &[Settlement], now: Instant, young: Duration) -> Plan {
        let mut plan = Plan::default();
        let is_young = |lease: &Lease| now.saturating_duration_since(lease.renewed) < young;
        let is_plain = |Settlement { position, settle }: &Settlement| {
            *settle == Settle::Ack && self.leases.get(position).is_none_or(is_young)
        };
        // In order, all by one way: two of them, of which one may fail, would end a later event before an earlier one.
        let checks_all = self.in_order && !batch.iter().all(is_plain);
        for Settlement { position, settle } in batch {
            let Some(lease) = self.leases.get_mut(position) else {
                if self.late.remove(position).is_some() {
                    plan.late.push(*position);
                }
                continue;
            };
            if std::mem::replace(&mut lease.settling, true) {
                continue;
            }
            (lease.asked, lease.ends) = (true, *settle == Settle::Ack);
            plan.leases.push((*position, lease.number));
            if !checks_all && *settle == Settle::Ack && is_young(lease) {
                plan.acks.push(*position);
                if lease.kept {
                    plan.kept.push(*position);
                }
            } else {
                plan.checked.push(Checked { position: *position, settle: *settle, tries: lease.keeps(*settle) });
            }
        }
        plan
    }

    /// The settlements stand; or, with `acks_only`, the acks, while it is not known of the others.
    pub(super) fn settled(&mut self, plan: &Plan, acks_only: bool) {
        for (position, number) in &plan.leases {
            let is_it = self.leases.get(position).is_some_and(|lease| lease.number == *number);
            if is_it && (!acks_only || plan.acks.contains(position)) {
                self.leases.remove(position);
            }
        }
    }

    /// It is not known whether it stands: what is still ours stays so.
    pub(super) fn unsettled(&mut self, plan: &Plan) {
        for (position, number) in &plan.leases {
            if let Some(lease) = self.leases.get_mut(position).filter(|lease| lease.number == *number) {
                lease.settling = false;
            }
        }
        self.late.extend(plan.late.iter().map(|position| (*position, Tries::default())));
    }

    /// Notes tries, if they are not what a lapsed lease would count by itself. Whether there is something to write.
    pub(super) fn note(&mut self, position: Position, tries: Tries) -> bool {
        let Some(lease) = self.leases.get_mut(&position) else { return false };
        lease.began = !lease.began && tries == Tries { failed: lease.back.failed.saturating_add(1), ..lease.back };
        if !lease.began {
            lease.back = tries;
        }
        let same = (tries.outside, tries.outside_since) == (lease.tries.outside, lease.tries.outside_since);
        let counts_itself = lease.noted.is_none() && same && tries.failed == lease.tries.failed.saturating_add(1);
        if counts_itself || lease.noted.is_some_and(|note| note.tries == tries) {
            return false;
        }
        lease.noted = Some(Note { tries, written: false });
        lease.kept = true;
        true
    }

    /// Notes that are to be written.
    pub(super) fn take_notes(&mut self) -> Vec<(Position, Tries)> {
        let mut notes = Vec::new();
        for (position, lease) in &mut self.leases {
            if let Some(note) = lease.noted.as_mut().filter(|note| !note.written) {
                note.written = true;
                notes.push((*position, note.tries));
            }
        }
        notes
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

impl Lease {
    /// Whether it is given up when it gets too old or somebody else has it; what is being settled, its settlement tells.
    fn can_lapse(&self) -> bool {
        !self.settling && !self.asked
    }

    /// What is to stand of the tries after a settlement; none: what stands there now.
    fn keeps(&self, settle: Settle) -> Option<Tries> {
        match settle {
            Settle::Retry { tries, .. } => Some(tries),
            Settle::Return if self.back != Tries::default() || self.kept => Some(self.back),
            Settle::Return | Settle::Ack => None,
        }
    }
}

#[cfg(test)]
mod tests;
