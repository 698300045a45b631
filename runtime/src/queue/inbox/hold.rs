//! The books of an inbox. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use crate::queue::{Delivery, Position, QueueError, Settlement};

/// How many deliveries that lapsed are remembered, so that a settlement that comes later is answered as late. Runs are stopped at once when
/// their lease lapses, and nobody need settle them: each needs a place for a moment only. What lapses at once is remembered whole.
const LATE_MAX: usize = 10_000;

/// One delivery that is ours.
#[derive(Debug)]
pub(in crate::queue) struct Held<T> {
    /// What it is settled with.
    pub(in crate::queue) token: T,
    /// When it was certainly ours.
    pub(in crate::queue) renewed: Instant,
    /// Given to a pull.
    out: bool,
}

impl<T> Held<T> {
    /// Whether a pull has it.
    pub(in crate::queue) fn is_out(&self) -> bool {
        self.out
    }
}

/// What is done with settlements.
#[derive(Debug)]
pub(in crate::queue) struct Plan<T> {
    /// These can be sent. What is sent is then told by [`Hold::settled`].
    pub(in crate::queue) sent: Vec<(Settlement, T)>,
    /// These come too late.
    pub(in crate::queue) late: Vec<Position>,
}

/// What is held.
#[derive(Debug)]
pub(in crate::queue) struct Hold<T> {
    held: HashMap<Position, Held<T>>,
    ready: VecDeque<Delivery>,
    /// What waiting pulls ask for.
    pub(super) wanted: usize,
    /// Lapsed while out, and not told yet.
    lapsed: Vec<Position>,
    /// Lapsed while out, and neither settled nor come again since.
    late: HashSet<Position>,
    /// The same in order, with what was settled or came again: the oldest are forgotten first.
    late_order: VecDeque<Position>,
    failures: u64,
    failure: Option<QueueError>,
}

impl<T> Default for Hold<T> {
    fn default() -> Self {
        Self {
            held: HashMap::new(),
            ready: VecDeque::new(),
            wanted: 0,
            lapsed: Vec::new(),
            late: HashSet::new(),
            late_order: VecDeque::new(),
            failures: 0,
            failure: None,
        }
    }
}

impl<T> Hold<T> {
    /// How many pulls ask for beyond what has come.
    pub(in crate::queue) fn missing(&self) -> usize {
        self.wanted.saturating_sub(self.ready.len())
    }

    /// How many pulls ask for.
    pub(in crate::queue) fn wanted(&self) -> usize {
        self.wanted
    }

    /// What came and no pull has.
    pub(in crate::queue) fn unseen(&self) -> Vec<Position> {
        self.ready.iter().map(|delivery| delivery.position).collect()
    }

    /// How many pulls have.
    pub(in crate::queue) fn out(&self) -> usize {
        self.held.values().filter(|held| held.out).count()
    }

    /// How many are held, out or not; lapsed ones are not.
    pub(in crate::queue) fn len(&self) -> usize {
        self.held.len()
    }

    /// Takes in what has come. What is still ours is not handed out again: only its token and lease are new, and the old token is answered.
    pub(super) fn take_in(&mut self, delivery: Delivery, token: T, renewed: Instant) -> Option<T> {
        match self.held.get_mut(&delivery.position) {
            Some(held) => {
                held.renewed = renewed;
                Some(std::mem::replace(&mut held.token, token))
            }
            None => {
                self.late.remove(&delivery.position);
                self.held.insert(delivery.position, Held { token, renewed, out: false });
                self.ready.push_back(delivery);
                None
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

    /// Something has come that no pull waits for.
    pub(in crate::queue) fn is_idle(&self) -> bool {
        self.wanted == 0 && !self.ready.is_empty()
    }

    /// What has come and was not handed out.
    pub(in crate::queue) fn waiting(&self) -> Vec<Position> {
        self.ready.iter().map(|delivery| delivery.position).collect()
    }

    /// What has come and was not handed out no longer will be, where `which` says so: it is held until it is settled.
    pub(in crate::queue) fn withdraw(&mut self, which: impl Fn(&T) -> bool) -> Vec<Position> {
        let held = &self.held;
        let goes = |delivery: &Delivery| held.get(&delivery.position).is_some_and(|held| which(&held.token));
        let (gone, kept) = std::mem::take(&mut self.ready).into_iter().partition(goes);
        self.ready = kept;
        let gone: VecDeque<Delivery> = gone;
        gone.into_iter().map(|delivery| delivery.position).collect()
    }

    /// What is known of a delivery that is ours, to look at or to change; none: it lapsed, was settled, or never came.
    pub(in crate::queue) fn get_mut(&mut self, position: Position) -> Option<&mut Held<T>> {
        self.held.get_mut(&position)
    }

    /// Whether a delivery came here and was not settled, ours or lapsed.
    pub(in crate::queue) fn knows(&self, position: Position) -> bool {
        self.held.contains_key(&position) || self.late.contains(&position)
    }

    /// Every delivery that is ours.
    pub(in crate::queue) fn iter(&self) -> impl Iterator<Item = (Position, &Held<T>)> {
        self.held.iter().map(|(position, held)| (*position, held))
    }

    /// Whether a delivery is certainly ours: it was renewed less than `young` ago. One that is too old is let go.
    pub(in crate::queue) fn holds(&mut self, position: Position, now: Instant, young: Duration) -> bool {
        match self.held.get(&position) {
            Some(held) if now.duration_since(held.renewed) <= young => true,
            Some(_) => {
                self.lose(&[position]);
                false
            }
            None => false,
        }
    }

    /// Sorts settlements: what can be sent, and what comes too late because it lapsed or was renewed longer than `young` ago (none: a lease
    /// has no end while it is held). What is not held is neither.
    pub(in crate::queue) fn plan(&mut self, batch: &[Settlement], now: Instant, young: Option<Duration>) -> Plan<T>
    where
        T: Clone,
    {
        let mut plan = Plan { sent: Vec::with_capacity(batch.len()), late: Vec::new() };
        for settlement in batch {
            match self.held.get(&settlement.position) {
                None if self.late.remove(&settlement.position) => plan.late.push(settlement.position),
                None => {}
                Some(held) if young.is_some_and(|young| now.duration_since(held.renewed) > young) => {
                    self.held.remove(&settlement.position);
                    plan.late.push(settlement.position);
                }
                Some(held) => plan.sent.push((*settlement, held.token.clone())),
            }
        }
        plan
    }

    /// Takes it out, as it can come again before the answer to its settlement does.
    pub(in crate::queue) fn let_go(&mut self, position: Position) -> Option<Held<T>> {
        let held = self.held.remove(&position)?;
        if !held.out {
            self.ready.retain(|delivery| delivery.position != position);
        }
        Some(held)
    }

    /// It was not settled after all: what has come again meanwhile stays, and what no pull had lapses.
    pub(in crate::queue) fn hold_again(&mut self, position: Position, held: Held<T>) {
        if held.out {
            self.held.entry(position).or_insert(held);
        }
    }

    /// It is no longer ours.
    pub(in crate::queue) fn settled(&mut self, position: Position) {
        drop(self.let_go(position));
    }

    /// Lets go of what `gone` names; whether somebody has to be told.
    pub(super) fn lapse(&mut self, gone: impl Fn(&Held<T>) -> bool) -> bool {
        let old = self.held.iter().filter(|(_, held)| gone(held)).map(|(position, held)| (*position, held.out));
        let (out, unseen): (Vec<_>, Vec<_>) = old.partition(|(_, out)| *out);
        if !unseen.is_empty() {
            for (position, _) in &unseen {
                self.held.remove(position);
            }
            let held = &self.held;
            self.ready.retain(|delivery| held.contains_key(&delivery.position));
        }
        if !out.is_empty() {
            self.lose(&out.into_iter().map(|(position, _)| position).collect::<Vec<_>>());
        }
        !self.lapsed.is_empty()
    }

    /// These are out and no longer ours: that is told, and a settlement comes too late.
    fn lose(&mut self, positions: &[Position]) {
        while self.late_order.len() > LATE_MAX {
            if let Some(oldest) = self.late_order.pop_front() {
                self.late.remove(&oldest);
            }
        }
        // Nobody has asked for a long time.
        self.lapsed.drain(..self.lapsed.len().saturating_sub(LATE_MAX));
        for position in positions {
            self.held.remove(position);
            self.late.insert(*position);
            self.late_order.push_back(*position);
            self.lapsed.push(*position);
        }
    }

    /// What has come and no pull waits for; with `take`, it is handed out by that, to be given back.
    pub(in crate::queue) fn unwanted(&mut self, take: bool) -> Vec<Position> {
        let unwanted: Vec<Position> =
            if self.wanted == 0 { self.ready.iter().map(|delivery| delivery.position).collect() } else { Vec::new() };
        if take && !unwanted.is_empty() {
            self.hand_out(unwanted.len());
        }
        unwanted
    }

    pub(super) fn has_lapsed(&self) -> bool {
        !self.lapsed.is_empty()
    }

    pub(super) fn take_lapsed(&mut self) -> Vec<Position> {
        std::mem::take(&mut self.lapsed)
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

#[cfg(test)]
mod tests;
