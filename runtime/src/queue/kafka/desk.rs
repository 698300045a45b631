//! What this process holds of one subscription: its partitions, what came of them and waits to be pulled, what is out, what waits for its
//! time. Its own holding and not [`crate::queue::inbox`]: a delivery here belongs to a partition that can be taken away, what is given back
//! comes again from here, in its place, and a settlement is no answer to a message but a change of the partition's window.
//!
//! Pure but for the senders that answer settlements: it knows no broker, and time comes in. The reader's thread puts in and commits, pulls
//! and settlements take out; whoever changes it wakes whom it says.

mod leaving;
mod part;
mod settling;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::oneshot;

use self::part::Part;
pub(super) use self::part::{Planned, Slot};
use super::window::{Note, Window};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::{Delivery, Position, QueueError, Tries};

/// Copies that wait long and are held for it, and their bytes. With more of them in one partition those behind come late.
const LONG_MAX: usize = 1_000;
const LONG_BYTES_MAX: usize = 16 * 1024 * 1024;

/// An event that has come.
#[derive(Debug, Clone)]
pub(super) struct Came {
    pub(super) offset: i64,
    pub(super) event: Arc<Event>,
    pub(super) first_seen: Timestamp,
    /// What it brought with it: of a copy that waited, else nothing.
    pub(super) own: Note,
}

/// Answers when a settlement is committed; dropped when its partition was lost before.
pub(super) type Confirmed = oneshot::Receiver<Result<(), QueueError>>;

/// What became of settlements.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// They came too late.
    pub(super) late: Vec<Position>,
    /// They hold once these answer; the positions are late if one never does.
    pub(super) waits: Vec<(Vec<Position>, Confirmed)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its start is to be committed before it may run: of the partition's changes, this one.
    Starting(u64),
    /// Waits for a pull.
    Ready,
    /// Handed out.
    Out,
    /// Waits for its time.
    Waiting(Timestamp),
    /// Given back, which holds once this change is committed; then it waits for its time, if there is one.
    Settled(u64, Option<Timestamp>),
    /// Was out when our lease had become too old to be certain; told, and settled as late. Once this change is committed it is ours again,
    /// and comes anew.
    Doubted(u64),
    /// Was out when its partition was taken away; told, and settled as late.
    Lapsed,
}

#[derive(Debug)]
struct Held {
    came: Came,
    /// What lies behind the next try.
    tries: Tries,
    /// Its place in the line: that of its first coming.
    arrival: u64,
    /// Its start was committed in the name of this process, which has outlived its run since: it need not be again.
    started: bool,
    /// It was handed out since it came.
    given: bool,
    state: State,
}

/// What is held of a subscription.
#[derive(Debug)]
pub(super) struct Desk {
    parts: BTreeMap<Slot, Part>,
    held: HashMap<Position, Held>,
    ready: BTreeMap<u64, Position>,
    waiting: BTreeSet<(Timestamp, Position)>,
    /// Copies that wait long, and their bytes: they have a bound of their own, or they would hold up what is new.
    long: (usize, usize),
    /// What waiting pulls ask for.
    pub(super) wanted: usize,
    /// The most that is held at once.
    pub(super) most: usize,
    arrivals: u64,
    lapsed: Vec<Position>,
    failures: u64,
    failure: Option<QueueError>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            parts: BTreeMap::new(),
            held: HashMap::new(),
            ready: BTreeMap::new(),
            waiting: BTreeSet::new(),
            long: (0, 0),
            wanted: 0,
            most: usize::MAX,
            arrivals: 0,
            lapsed: Vec::new(),
            failures: 0,
            failure: None,
        }
    }
}

impl Desk {
    /// A partition is ours from here on. What its last owner left open is run with its start committed first.
    pub(super) fn assign(&mut self, slot: Slot, window: Window) {
        self.arrivals += 1;
        self.parts.insert(slot, Part::new(window, self.arrivals));
    }

    /// How many more are asked for than have come, and may be held.
    pub(super) fn missing(&self) -> usize {
        let coming = self.ready.len() + self.parts.values().map(|part| part.starting).sum::<usize>();
        self.wanted.saturating_sub(coming).min(self.most.saturating_sub(self.held.len() - self.long.0))
    }

    /// Whether the next record of a partition may be taken.
    pub(super) fn may_take(&self, slot: Slot) -> bool {
        let (count, bytes) = self.long;
        let room = !slot.retry || (count < LONG_MAX && bytes < LONG_BYTES_MAX);
        room && self.parts.get(&slot).is_some_and(Part::may_take)
    }

    /// Takes in what has come; whether pulls are to be woken.
    pub(super) fn take(&mut self, slot: Slot, came: Came, now: Timestamp) -> bool {
        let position = slot.position(came.offset);
        if self.parts.get(&slot).is_some_and(|part| part.is_behind(came.offset)) {
            // Records come in their order, from the watermark: so this is another log, of a topic that was made anew.
            self.lose(&[slot]);
            self.assign(slot, Window::new(came.offset));
        }
        let Some(part) = self.parts.get_mut(&slot) else { return false };
        let is_here = self.held.get(&position).is_some_and(|held| held.state != State::Lapsed);
        if !part.see(came.offset) || is_here {
            return false;
        }
        let note = part.window.note_of(came.offset).unwrap_or(came.own);
        self.arrivals += 1;
        let (tries, arrival) = (note.tries, self.arrivals);
        self.held.insert(position, Held { came, tries, arrival, started: false, given: false, state: State::Ready });
        self.wait_or_get_ready(position, note.due.filter(|due| *due > now))
    }

    /// What is due gets ready; whether pulls are to be woken.
    pub(super) fn get_due(&mut self, now: Timestamp) -> bool {
        let mut woken = false;
        while let Some((due, position)) = self.waiting.first().copied()
            && due <= now
        {
            woken |= self.get_ready(position);
            self.waiting.remove(&(due, position));
        }
        woken
    }

    /// When the next of what waits is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// At once, or once its start is committed.
    fn get_ready(&mut self, position: Position) -> bool {
        let (slot, offset) = Slot::of(position);
        let Some(part) = self.parts.get_mut(&slot) else { return false };
        let Some(held) = self.held.get_mut(&position) else { return false };
        match if held.started { None } else { part.start(offset, held.tries) } {
            Some(version) => {
                held.started = true;
                self.set(position, State::Starting(version));
                false
            }
            None => {
                self.set(position, State::Ready);
                true
            }
        }
    }

    fn set(&mut self, position: Position, state: State) {
        let Some(held) = self.held.get_mut(&position) else { return };
        self.ready.remove(&held.arrival);
        let bytes = held.came.event.size();
        let long = Slot::of(position).0.retry;
        if let State::Waiting(due) = held.state {
            self.waiting.remove(&(due, position));
            if long {
                self.long = (self.long.0 - 1, self.long.1 - bytes);
            }
        }
        held.state = state;
        if long && matches!(state, State::Waiting(_)) {
            self.long = (self.long.0 + 1, self.long.1 + bytes);
        }
        match state {
            State::Ready => drop(self.ready.insert(held.arrival, position)),
            State::Waiting(due) => drop(self.waiting.insert((due, position))),
            State::Starting(_) | State::Out | State::Settled(..) | State::Doubted(_) | State::Lapsed => {}
        }
    }

    fn forget(&mut self, position: Position) {
        self.set(position, State::Lapsed);
        self.held.remove(&position);
    }

    /// Hands out what came first.
    pub(super) fn hand_out(&mut self, max: usize) -> Vec<Delivery> {
        let mut out = Vec::new();
        while out.len() < max
            && let Some((_, position)) = self.ready.pop_first()
        {
            if let Some(held) = self.held.get_mut(&position) {
                (held.state, held.given) = (State::Out, true);
                let Came { event, first_seen, .. } = &held.came;
                out.push(Delivery { event: Arc::clone(event), position, tries: held.tries, first_seen: *first_seen });
            }
        }
        out
    }

    /// Whether a delivery is out and ours.
    pub(super) fn holds(&self, position: Position) -> bool {
        self.held.get(&position).is_some_and(|held| held.state == State::Out)
    }

    /// The event of a delivery that is out, and when it was first seen.
    pub(super) fn out(&self, position: Position) -> Option<Came> {
        self.held.get(&position).filter(|held| held.state == State::Out).map(|held| held.came.clone())
    }

    /// Notes how far an event has got; whether there is something to commit.
    pub(super) fn note(&mut self, position: Position, tries: Tries) -> bool {
        let (slot, offset) = Slot::of(position);
        let Some(held) = self.held.get(&position).filter(|held| held.state == State::Out) else { return false };
        let own = held.came.own.tries;
        self.parts.get_mut(&slot).is_some_and(|part| part.note(offset, tries, own))
    }

    fn of(&self, slots: &[Slot], state: impl Fn(State) -> bool) -> Vec<Position> {
        let ours = |(position, held): &(&Position, &Held)| state(held.state) && slots.contains(&Slot::of(**position).0);
        self.held.iter().filter(ours).map(|(position, _)| *position).collect()
    }

    /// The partitions that are ours.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.parts.keys().copied().collect()
    }

    /// The window of a partition that is ours.
    pub(super) fn window(&self, slot: Slot) -> Option<&Window> {
        self.parts.get(&slot).map(|part| &part.window)
    }

    /// How many of a partition are out, and when its lowest that has not ended was first seen, if it is here.
    pub(super) fn shows(&self, slot: Slot) -> (u64, Option<Timestamp>) {
        let out = self.of(&[slot], |state| state == State::Out).len() as u64;
        let base = self.window(slot).map(|window| slot.position(window.base()));
        (out, base.and_then(|position| self.held.get(&position)).map(|held| held.came.first_seen))
    }

    /// What has lapsed while it was out, once; it need not be settled.
    pub(super) fn take_lapsed(&mut self) -> Vec<Position> {
        let lapsed = std::mem::take(&mut self.lapsed);
        for position in &lapsed {
            if self.held.get(position).is_some_and(|held| held.state == State::Lapsed) {
                self.held.remove(position);
            }
        }
        lapsed
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
