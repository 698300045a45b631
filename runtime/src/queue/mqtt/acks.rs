//! What has to be acknowledged to the broker, in which order. Pure.
//!
//! MQTT wants acknowledgements in the order in which messages came (MQTT-4.6.0-2): one that ended early waits here for all that came
//! before it. Over a lost connection the broker sends what it saw no acknowledgement of again, with the same packet ids: what is still
//! held is then the same delivery, and what had ended is acknowledged again without being run.

use std::collections::{HashMap, VecDeque};

use crate::queue::Position;

/// What a message is, beside its packet id: a hash over topic, attributes and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print(pub(super) u64);

/// What a message that came is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Not seen before, or not since it was last acknowledged.
    New,
    /// The same as one that is still held.
    Held,
    /// It had ended: it only wants its acknowledgement.
    Ended,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    print: Print,
    position: Position,
    ended: bool,
}

/// What came and is not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// Packet ids in order of arrival over this connection.
    order: VecDeque<u16>,
    /// What stands behind them.
    entries: HashMap<u16, Entry>,
    /// What came over an earlier connection and has not come again over this one.
    before: HashMap<u16, Entry>,
    /// Where the packet ids of positions are.
    ids: HashMap<Position, u16>,
    /// What was acknowledged last: the broker may not have seen it when the connection was lost.
    acknowledged: VecDeque<(u16, Print)>,
    /// How many of those can be open at once: the receive maximum.
    open_max: usize,
}

impl Acks {
    /// A connection begins; the broker has at most so many messages open. Without a session nothing that came before will come again.
    pub(super) fn begin(&mut self, session_present: bool, open_max: usize) {
        self.open_max = open_max;
        for (id, entry) in self.entries.drain() {
            self.before.insert(id, entry);
        }
        self.order.clear();
        if !session_present {
            self.before.clear();
            self.ids.clear();
            self.acknowledged.clear();
        }
    }

    /// A message came; `again`: the broker marks it as sent before. `position` is what it gets when it is new.
    pub(super) fn arrive(&mut self, id: u16, print: Print, again: bool, position: Position) -> Arrival {
        // What we did not acknowledge keeps its packet id until we do, so the same id with the same content is the same message.
        let known = self.before.remove(&id);
        if let Some(other) = known.filter(|entry| entry.print != print) {
            self.ids.remove(&other.position);
        }
        let entry = match known.filter(|entry| entry.print == print) {
            Some(entry) => entry,
            None => {
                let seen = again && self.acknowledged.contains(&(id, print));
                if !seen {
                    self.ids.insert(position, id);
                }
                Entry { print, position, ended: seen }
            }
        };
        let arrival = match (entry.ended, entry.position == position) {
            (true, _) => Arrival::Ended,
            (false, true) => Arrival::New,
            (false, false) => Arrival::Held,
        };
        match self.entries.insert(id, entry) {
            None => self.order.push_back(id),
            // The broker uses an id again that we have not let go: the message behind it is gone.
            Some(other) => drop(self.ids.remove(&other.position)),
        }
        arrival
    }

    /// Whether the broker still waits for an acknowledgement of this.
    pub(super) fn is_open(&self, position: Position) -> bool {
        self.ids.contains_key(&position)
    }

    /// It has ended; whether that is new, and it is open.
    pub(super) fn end(&mut self, position: Position) -> bool {
        let Some(id) = self.ids.get(&position) else { return false };
        let entry = self.entries.get_mut(id).or_else(|| self.before.get_mut(id));
        entry.is_some_and(|entry| !std::mem::replace(&mut entry.ended, true))
    }

    /// What can be acknowledged now, in order: what ended and has nothing before it that did not.
    pub(super) fn take(&mut self) -> Vec<u16> {
        let mut taken = Vec::new();
        while let Some(id) = self.order.front().copied()
            && let Some(entry) = self.entries.get(&id).copied().filter(|entry| entry.ended)
        {
            self.order.pop_front();
            self.entries.remove(&id);
            self.ids.remove(&entry.position);
            self.acknowledged.push_back((id, entry.print));
            taken.push(id);
        }
        while self.acknowledged.len() > self.open_max {
            self.acknowledged.pop_front();
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many messages come, with packet ids from 1 and positions of the same number.
    fn acks(count: u16) -> Acks {
        let mut acks = Acks::default();
        acks.begin(false, 10);
        for id in 1..=count {
            assert_eq!(arrive(&mut acks, id, u128::from(id), false), Arrival::New);
        }
        acks
    }

    fn arrive(acks: &mut Acks, id: u16, position: u128, again: bool) -> Arrival {
        acks.arrive(id, Print(u64::from(id) * 11), again, Position(position))
    }

    #[test]
    fn acks_leave_in_order_of_arrival() {
        let mut acks = acks(4);
        for (ends, leave) in [(3, vec![]), (2, vec![]), (1, vec![1, 2, 3]), (1, vec![]), (9, vec![]), (4, vec![4])] {
            acks.end(Position(ends));
            assert_eq!(acks.take(), leave, "after {ends} ended");
        }
    }

    #[test]
    fn what_comes_again_is_what_it_was() {
        let mut acks = acks(4);
        for ended in [1, 3] {
            acks.end(Position(ended));
        }
        assert_eq!(acks.take(), [1]);
        acks.begin(true, 10);
        acks.end(Position(4));
        assert_eq!(acks.take(), Vec::<u16>::new(), "nothing is acknowledged before it came again");
        // The acknowledgement of the first was lost with the connection.
        let came: Vec<Arrival> = (1..=4).map(|id| arrive(&mut acks, id, 100 + u128::from(id), true)).collect();
        assert_eq!(came, [Arrival::Ended, Arrival::Held, Arrival::Ended, Arrival::Ended]);
        assert_eq!(acks.take(), [1]);
        acks.end(Position(2));
        assert_eq!(acks.take(), [2, 3, 4]);
        assert!(acks.ids.is_empty() && acks.before.is_empty() && acks.entries.is_empty());
    }

    #[test]
    fn a_packet_id_is_used_again_for_another_message() {
        let mut acks = acks(1);
        acks.end(Position(1));
        assert_eq!(acks.take(), [1]);
        assert_eq!(arrive(&mut acks, 1, 2, false), Arrival::New, "equal content, but not marked as sent before");
        acks.begin(true, 10);
        assert_eq!(acks.arrive(1, Print(7), true, Position(3)), Arrival::New, "another content");
        assert!(!acks.is_open(Position(2)) && acks.is_open(Position(3)));
    }

    #[test]
    fn without_a_session_nothing_is_open() {
        let mut acks = acks(2);
        acks.begin(false, 10);
        assert!(!acks.is_open(Position(1)));
        acks.end(Position(1));
        assert_eq!(acks.take(), Vec::<u16>::new());
        assert_eq!(arrive(&mut acks, 2, 5, true), Arrival::New);
    }

    #[test]
    fn what_was_acknowledged_is_forgotten_when_the_broker_must_have_seen_it() {
        let mut acks = Acks::default();
        acks.begin(false, 2);
        for id in 1..=5 {
            arrive(&mut acks, id, u128::from(id), false);
            acks.end(Position(u128::from(id)));
            assert_eq!(acks.take(), [id]);
        }
        assert_eq!(acks.acknowledged, [(4, Print(44)), (5, Print(55))]);
    }
}
