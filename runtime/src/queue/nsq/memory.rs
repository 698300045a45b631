//! What this process remembers of deliveries that it has settled: a settlement is not confirmed by the server, and what was lost with
//! its connection comes again. Pure.

use std::collections::{HashMap, VecDeque};

use super::tries::Note;
use crate::queue::Position;

/// Deliveries that are remembered, of each kind: those of the last seconds of a busy subscription. What is forgotten runs once more.
const REMEMBERED_MAX: usize = 10_000;

/// A bounded table: the oldest goes first.
#[derive(Debug)]
struct Table<V> {
    values: HashMap<Position, V>,
    order: VecDeque<Position>,
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { values: HashMap::new(), order: VecDeque::new() }
    }
}

impl<V> Table<V> {
    fn put(&mut self, position: Position, value: V) {
        if self.values.insert(position, value).is_none() {
            self.order.push_back(position);
        }
        // What was removed in between still has its place in the order, so that is bounded too.
        while self.order.len() > REMEMBERED_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
    }
}

/// What is remembered of one subscription.
#[derive(Debug, Default)]
pub(super) struct Memory {
    acked: Table<()>,
    notes: Table<Note>,
}

impl Memory {
    /// It is done with: should it come again, it is only told so once more.
    pub(super) fn ack(&mut self, position: Position) {
        self.notes.values.remove(&position);
        self.acked.put(position, ());
    }

    /// Whether it was acknowledged here.
    pub(super) fn is_acked(&self, position: Position) -> bool {
        self.acked.values.contains_key(&position)
    }

    /// What went before its next delivery.
    pub(super) fn note(&mut self, position: Position, note: Note) {
        self.notes.put(position, note);
    }

    /// What is known of what went before.
    pub(super) fn noted(&self, position: Position) -> Option<Note> {
        self.notes.values.get(&position).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Tries;

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut memory = Memory::default();
        let note = Note { delivered: 1, tries: Tries::default(), due: None };
        let most = REMEMBERED_MAX as u128;
        for at in 0..=most {
            memory.ack(Position(at));
            memory.note(Position(at), note);
        }
        assert!(!memory.is_acked(Position(0)) && memory.is_acked(Position(1)) && memory.is_acked(Position(most)));
        assert_eq!((memory.noted(Position(0)), memory.noted(Position(1))), (None, Some(note)));
        memory.ack(Position(1));
        assert_eq!(memory.noted(Position(1)), None);
    }
}
