//! Settlements, and the commits that make them hold.

use std::collections::BTreeMap;

use super::part::{Part, Planned, Slot};
use super::{Desk, Held, Settled, State};
use crate::clock::Timestamp;
use crate::queue::kafka::window::Note;
use crate::queue::{Position, QueueError, Settle, Settlement};

impl Desk {
    /// Settles, as far as this process goes; what holds only once it is committed is waited for by the caller.
    pub(in crate::queue::kafka) fn settle(&mut self, batch: &[Settlement], now: Timestamp) -> Settled {
        let mut settled = Settled::default();
        let mut changed: BTreeMap<Slot, Vec<Position>> = BTreeMap::new();
        for Settlement { position, settle } in batch {
            let (slot, offset) = Slot::of(*position);
            let held = self.held.get(position);
            let came_anew = held.is_some_and(|held| !held.given);
            match held.map(|held| held.state) {
                Some(State::Lapsed) => {
                    self.forget(*position);
                    settled.late.push(*position);
                }
                Some(State::Doubted(_)) => settled.late.push(*position),
                Some(State::Out) => {
                    self.settle_one(*position, *settle, now);
                    changed.entry(slot).or_default().push(*position);
                }
                // Asked for once more: it is waited for as the first time.
                Some(State::Settled(..)) => changed.entry(slot).or_default().push(*position),
                None if self.parts.get(&slot).is_some_and(|part| part.window.has_ended(offset)) => {
                    changed.entry(slot).or_default().push(*position);
                }
                // It went with its partition, which may be back by now.
                None => settled.late.push(*position),
                Some(_) if came_anew => settled.late.push(*position),
                // Settled before.
                Some(_) => {}
            }
        }
        for (slot, positions) in changed {
            if let Some(confirmed) = self.parts.get_mut(&slot).and_then(Part::wait) {
                settled.waits.push((positions, confirmed));
            }
        }
        settled
    }

    fn settle_one(&mut self, position: Position, settle: Settle, now: Timestamp) {
        let (slot, offset) = Slot::of(position);
        let Some(part) = self.parts.get_mut(&slot) else { return };
        let Some(held) = self.held.get_mut(&position) else { return };
        let (due, news) = match settle {
            Settle::Ack => {
                part.window.end(offset);
                part.changed();
                return self.forget(position);
            }
            Settle::Return => (None, part.note(offset, held.tries, held.came.own.tries)),
            Settle::Retry { due, tries } => {
                held.tries = tries;
                let due = Some(due).filter(|due| *due > now);
                (due, part.note_until(offset, Note { tries, due }))
            }
        };
        let version = part.version();
        match (part.is_leaving(), news) {
            (true, _) => self.forget(position),
            (false, true) => self.set(position, State::Settled(version, due)),
            (false, false) => drop(self.wait_or_get_ready(position, due)),
        }
    }

    /// Whether pulls are to be woken.
    pub(super) fn wait_or_get_ready(&mut self, position: Position, due: Option<Timestamp>) -> bool {
        match due {
            Some(due) => {
                self.set(position, State::Waiting(due));
                false
            }
            None => self.get_ready(position),
        }
    }

    /// What is to be committed now, of all partitions.
    pub(in crate::queue::kafka) fn plan(&mut self) -> Vec<Planned> {
        self.parts.iter_mut().filter_map(|(slot, part)| part.plan(*slot)).collect()
    }

    /// Whether something is to be committed.
    pub(in crate::queue::kafka) fn is_dirty(&self) -> bool {
        self.parts.values().any(Part::is_dirty)
    }

    /// Everything is to be committed once more: whether it is still ours, the answer says.
    pub(in crate::queue::kafka) fn touch(&mut self) {
        self.parts.values_mut().for_each(Part::changed);
    }

    /// A delivery that is out may not be ours any more: whether somebody is to be told. If it still is, it comes again.
    pub(in crate::queue::kafka) fn lapse(&mut self, position: Position) -> bool {
        let (slot, offset) = Slot::of(position);
        let Some(held) = self.held.get_mut(&position).filter(|held| held.state == State::Out) else { return false };
        // Whoever settles it from now on comes too late.
        held.given = false;
        let state = match self.parts.get_mut(&slot) {
            Some(part) => {
                part.note(offset, held.tries, held.came.own.tries);
                part.changed();
                State::Doubted(part.version())
            }
            None => State::Lapsed,
        };
        self.set(position, state);
        self.lapsed.push(position);
        true
    }

    /// All that is out may not be ours any more: whether somebody is to be told.
    pub(in crate::queue::kafka) fn lapse_all(&mut self) -> bool {
        let out = self.of(&self.slots(), |state| state == State::Out);
        // All of them, whatever the first says.
        out.iter().filter(|position| self.lapse(**position)).count() > 0
    }

    /// A commit holds; whether pulls are to be woken.
    pub(in crate::queue::kafka) fn committed(&mut self, planned: &Planned) -> bool {
        let Some(part) = self.parts.get_mut(&planned.slot) else { return false };
        if !part.committed(planned) {
            return false;
        }
        let holds = |(position, held): (&Position, &Held)| match held.state {
            State::Starting(version) | State::Settled(version, _) | State::Doubted(version) if version <= planned.version => {
                Some(*position)
            }
            _ => None,
        };
        let hold: Vec<Position> =
            self.held.iter().filter_map(holds).filter(|position| Slot::of(*position).0 == planned.slot).collect();
        let mut woken = false;
        for position in hold {
            match self.held.get(&position).map(|held| held.state) {
                Some(State::Settled(_, due)) => woken |= self.wait_or_get_ready(position, due),
                Some(State::Doubted(_)) => woken |= self.wait_or_get_ready(position, None),
                _ => {
                    self.set(position, State::Ready);
                    if let Some(part) = self.parts.get_mut(&planned.slot) {
                        part.started();
                    }
                    woken = true;
                }
            }
        }
        woken
    }

    /// A commit failed: whoever waits for it is told.
    pub(in crate::queue::kafka) fn refused(&mut self, slot: Slot, error: &QueueError) {
        if let Some(part) = self.parts.get_mut(&slot) {
            part.refused(error);
        }
    }
}
