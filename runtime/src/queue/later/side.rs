//! What this process holds of one subscription: of the store, in an inbox; of the broker, what has to be known when a retry of it goes to
//! the store. No I/O.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lock;
use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::inbox::Inbox;
use crate::queue::{Delivery, Position, Tries};
use crate::store::{DelayId, Delayed, Shelf};

/// Most items of one claim: a batch of publishes, or what a few pulls take.
pub(super) const CLAIM_MAX: usize = 256;

/// How long what a pull asked for stands when the broker was faster: a handler that is paused meanwhile asks no more.
const ASKED_FOR: Duration = Duration::from_secs(1);

/// What an item of the store is settled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) id: DelayId,
    /// What it came with.
    pub(super) tries: Tries,
    /// When it came.
    pub(super) since: Instant,
    /// What its next claim has behind it, if nothing is written.
    pub(super) noted: Tries,
}

/// A delivery of the broker that is out.
#[derive(Debug, Clone)]
pub(super) struct Out {
    pub(super) event: Arc<Event>,
    pub(super) first_seen: Timestamp,
    /// Its retry is in the store, and the broker has not confirmed its end.
    pub(super) kept: Option<DelayId>,
}

/// See the module.
pub(super) struct Side {
    pub(super) shelf: Shelf,
    pub(super) inbox: Inbox<Token>,
    // Pulls, settlements and what lapses share it; held for a look or a change.
    pub(super) out: Mutex<HashMap<Position, Out>>,
    // What the last pulls asked for and has not come, and when. Pulls and the reader share it; held for a look.
    asked: Mutex<Option<(usize, Instant)>>,
    /// Wakes the reader: pulls ask.
    pub(super) asking: Notify,
    /// Wakes the reader: something was put on the shelf.
    pub(super) stirred: Notify,
    /// Its retries stay with the adapter.
    pub(super) ordered: AtomicBool,
    // What is to be written; bounded by what is held. Locked before the inbox.
    notes: Mutex<HashMap<DelayId, Tries>>,
    /// Wakes who writes notes.
    pub(super) noting: Notify,
}

impl Side {
    pub(super) fn new(shelf: Shelf, ended: CancellationToken) -> Self {
        Self {
            shelf,
            inbox: Inbox::new(ended),
            out: Mutex::default(),
            asked: Mutex::default(),
            asking: Notify::new(),
            stirred: Notify::new(),
            ordered: AtomicBool::new(false),
            notes: Mutex::default(),
            noting: Notify::new(),
        }
    }

    /// A pull wants so many. That stands for a while when it is dropped: the broker may always be the faster one, and the store must have
    /// its turn.
    pub(super) fn ask(&self, count: usize) {
        *lock(&self.asked) = Some((count, Instant::now()));
        self.asking.notify_one();
    }

    /// How many pulls want beyond what has come.
    pub(super) fn wanted(&self) -> usize {
        let waiting = self.inbox.hold().missing();
        let asked = lock(&self.asked).filter(|(_, at)| at.elapsed() < ASKED_FOR);
        waiting.max(asked.map_or(0, |(count, _)| count))
    }

    /// Takes in what was claimed.
    pub(super) fn take_in(&self, items: Vec<Delayed>) {
        let since = Instant::now();
        if let Some((asked, _)) = &mut *lock(&self.asked) {
            *asked = asked.saturating_sub(items.len());
        }
        self.inbox.put(items.into_iter().map(|item| {
            let noted = Tries { failed: item.tries.failed.saturating_add(1), ..item.tries };
            let token = Token { id: item.id, tries: item.tries, since, noted };
            let position = Position(item.id.0);
            (Delivery { event: item.event, position, tries: item.tries, first_seen: item.first_seen }, token)
        }));
    }

    /// Deliveries of the broker are out.
    pub(super) fn hand_out(&self, deliveries: &[Delivery]) {
        if self.ordered.load(Ordering::Relaxed) {
            return;
        }
        let mut out = lock(&self.out);
        for Delivery { event, position, first_seen, .. } in deliveries {
            out.insert(*position, Out { event: Arc::clone(event), first_seen: *first_seen, kept: None });
        }
    }

    /// Deliveries of the broker are no longer out.
    pub(super) fn let_go<'a>(&self, positions: impl Iterator<Item = &'a Position>) {
        let mut out = lock(&self.out);
        positions.for_each(|position| drop(out.remove(position)));
    }

    pub(super) fn keep_order(&self) {
        self.ordered.store(true, Ordering::Relaxed);
    }

    /// Whether a delivery is certainly ours; none: the store does not know it.
    pub(super) fn holds(&self, position: Position, young: Duration) -> Option<bool> {
        let mut hold = self.inbox.hold();
        hold.knows(position).then(|| hold.holds(position, Instant::now(), young))
    }

    /// Notes tries of a delivery of the store; whether it is one.
    pub(super) fn note(&self, position: Position, tries: Tries) -> bool {
        let mut notes = lock(&self.notes);
        let mut hold = self.inbox.hold();
        if let Some(held) = hold.get_mut(position)
            && held.token.noted != tries
        {
            held.token.noted = tries;
            notes.insert(held.token.id, tries);
            self.noting.notify_one();
        }
        hold.knows(position)
    }

    /// What is to be written of what is still held.
    pub(super) fn notes(&self) -> Vec<(DelayId, Tries)> {
        let mut notes = lock(&self.notes);
        let mut hold = self.inbox.hold();
        notes.retain(|id, _| hold.get_mut(Position(id.0)).is_some());
        notes.iter().map(|(id, tries)| (*id, *tries)).collect()
    }

    /// These are written.
    pub(super) fn noted(&self, written: &[(DelayId, Tries)]) {
        let mut notes = lock(&self.notes);
        for (id, tries) in written {
            // What was noted meanwhile is still to be written.
            if notes.get(id) == Some(tries) {
                notes.remove(id);
            }
        }
    }

    /// The items of the store that are ours.
    pub(super) fn held(&self) -> Vec<DelayId> {
        self.inbox.hold().iter().map(|(_, held)| held.token.id).collect()
    }

    /// They are ours anew.
    pub(super) fn renewed(&self, ids: &[DelayId], at: Instant) {
        let mut hold = self.inbox.hold();
        for id in ids {
            if let Some(held) = hold.get_mut(Position(id.0)) {
                held.renewed = at;
            }
        }
    }

    /// Lets go of what has come and was not pulled for this long: who asked for it may ask no more.
    pub(super) fn unwanted(&self, age: Duration) -> Vec<Token> {
        let unwanted = RefCell::new(Vec::new());
        self.inbox.lapse(|held| {
            let old = !held.is_out() && held.token.since.elapsed() >= age;
            if old {
                unwanted.borrow_mut().push(held.token);
            }
            old
        });
        unwanted.into_inner()
    }
}
