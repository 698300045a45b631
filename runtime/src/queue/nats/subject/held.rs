//! What waits in this process of a subject: how much of it, and what waits for its time. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_nats::Subject;

use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::{Delivery, Position, Tries};

/// Most messages that wait to be pulled, and their bytes: what comes beyond is dropped, as nobody else would keep it.
const WAITING_MAX: (usize, usize) = (65_536, 64 * 1024 * 1024);

/// A delivery that is ours: all of it, as nobody else has it.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) event: Arc<Event>,
    pub(super) first_seen: Timestamp,
    pub(super) tries: Tries,
    pub(super) request: Option<Request>,
}

/// Whose sender waits for an answer.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) reply: Subject,
    pub(super) by: Instant,
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// To be pulled.
    count: usize,
    bytes: usize,
    /// For its time.
    later: BTreeMap<(Timestamp, Position), Token>,
}

impl Held {
    /// Whether there is room for one more of this size; if not, it is dropped.
    pub(super) fn admit(&mut self, bytes: usize) -> bool {
        let room = self.count < WAITING_MAX.0 && self.bytes + bytes <= WAITING_MAX.1;
        if room {
            self.add(bytes);
        }
        room
    }

    /// One more waits, room or not: it was ours before.
    pub(super) fn add(&mut self, bytes: usize) {
        (self.count, self.bytes) = (self.count + 1, self.bytes + bytes);
    }

    /// These were pulled.
    pub(super) fn pulled(&mut self, deliveries: &[Delivery]) {
        self.count = self.count.saturating_sub(deliveries.len());
        let bytes: usize = deliveries.iter().map(|delivery| delivery.event.size()).sum();
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Waits for its time.
    pub(super) fn wait(&mut self, due: Timestamp, position: Position, token: Token) {
        self.later.insert((due, position), token);
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.later.first_key_value().map(|((due, _), _)| *due)
    }

    /// Those whose time has come.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<(Position, Token)> {
        let mut due = Vec::new();
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            let ((_, position), token) = first.remove_entry();
            due.push((position, token));
        }
        due
    }

    /// Everything that waits here: it is lost when the process ends.
    pub(super) fn len(&self) -> usize {
        self.count + self.later.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let mut held = Held::default();
        assert!(held.admit(WAITING_MAX.1 - 1) && !held.admit(2) && held.admit(1));
        assert_eq!(held.len(), 2);
        let mut held = Held { count: WAITING_MAX.0, ..Held::default() };
        assert!(!held.admit(0));
    }

    #[test]
    fn what_waits_comes_in_the_order_of_its_time() {
        let token = Token { event: Arc::default(), first_seen: Timestamp(0), tries: Tries::default(), request: None };
        let mut held = Held::default();
        for (due, position) in [(30, 1), (10, 2), (10, 1)] {
            held.wait(Timestamp(due), Position(position), token.clone());
        }
        assert_eq!(held.next(), Some(Timestamp(10)));
        let due: Vec<_> = held.due(Timestamp(29)).into_iter().map(|(position, _)| position.0).collect();
        assert_eq!((due, held.len()), (vec![1, 2], 1));
    }
}
