//! Partitions go: to others while this process lives, with it, or because they were lost.

use std::time::Instant;

use super::part::Slot;
use super::{Desk, State};
use crate::queue::Position;

impl Desk {
    /// These partitions go to others: nothing new of them is handed out, what is out may go on until `until`.
    pub(in crate::queue::kafka) fn leave(&mut self, slots: &[Slot], until: Instant) {
        for slot in slots {
            if let Some(part) = self.parts.get_mut(slot) {
                part.leave(until);
            }
        }
        for position in self.of(slots, |state| state != State::Out && state != State::Lapsed) {
            self.give_back(position);
        }
    }

    /// Whether nothing of these partitions is out, or the time for it is over.
    pub(in crate::queue::kafka) fn may_go(&self, slots: &[Slot], now: Instant) -> bool {
        let over = slots.iter().all(|slot| self.parts.get(slot).is_none_or(|part| part.is_over(now)));
        over || self.of(slots, |state| state == State::Out).is_empty()
    }

    /// Closes these partitions for the last commit; what is still out has lapsed. Whether somebody is to be told.
    pub(in crate::queue::kafka) fn close(&mut self, slots: &[Slot]) -> bool {
        let out = self.of(slots, |state| state == State::Out);
        for position in self.of(slots, |state| state != State::Lapsed) {
            let lapses = out.contains(&position);
            self.give_back(position);
            if lapses {
                self.lapsed.push(position);
            }
        }
        for slot in slots {
            if let Some(part) = self.parts.get_mut(slot) {
                part.window.close();
                part.changed();
            }
        }
        !out.is_empty()
    }

    /// These partitions are gone; what was out has lapsed. Whether somebody is to be told.
    pub(in crate::queue::kafka) fn lose(&mut self, slots: &[Slot]) -> bool {
        let told = self.close(slots);
        for slot in slots {
            self.parts.remove(slot);
        }
        told
    }

    /// What this process held, as if it had never been handed out. What is out stays known, as lapsed.
    fn give_back(&mut self, position: Position) {
        let (slot, offset) = Slot::of(position);
        let Some(held) = self.held.get(&position) else { return };
        let (tries, own, state) = (held.tries, held.came.own.tries, held.state);
        if let Some(part) = self.parts.get_mut(&slot)
            && !matches!(state, State::Waiting(_) | State::Settled(..) | State::Doubted(_))
        {
            part.note(offset, tries, own);
        }
        match state {
            State::Out => self.set(position, State::Lapsed),
            _ => self.forget(position),
        }
    }
}
