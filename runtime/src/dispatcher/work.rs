//! What one subscription holds between pull and settlement: events that wait for a runner, and ends that wait to be settled.
//!
//! Plain state under one lock. Who pulls, runs and settles stands beside it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::UNSETTLED_MAX;
use crate::clock::Timestamp;
use crate::dead::DeadLetter;
use crate::queue::{Delivery, Position};
use crate::stats::Cause;
use crate::verdict::Verdict;

/// Events that one runner takes before another is started for those that wait: long enough to keep caches warm (engine-floor.md).
pub(super) const RUN_EVENTS: usize = 16;

/// Most ends that wait for more before they are settled together.
const FLUSH_MAX: usize = 32;

/// A delivery that ended: without its event, so that what waits to be settled is small.
pub(super) struct Ended {
    pub(super) position: Position,
    pub(super) first_seen: Timestamp,
    pub(super) end: End,
}

impl Ended {
    pub(super) fn new(delivery: &Delivery, end: End) -> Self {
        Self { position: delivery.position, first_seen: delivery.first_seen, end }
    }
}

/// How a delivery ended.
pub(super) enum End {
    /// By its verdict; with its dead letter when that is the verdict.
    Judged(Verdict, Option<Box<DeadLetter>>),
    /// Not run, or without a say: given back as it was.
    GivenBack(Cause),
}

/// See the module.
pub(super) struct Work {
    // std's mutex: held for a few moves of a delivery, never across an await.
    state: Mutex<State>,
    slots: usize,
    flush_at: usize,
    /// The settler: something ended, or nothing more will.
    ended: Notify,
    /// The puller: there may be room; the drain: nothing may be left.
    room: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivery>,
    /// Deliveries that are run now.
    running: usize,
    runners: usize,
    ended: Vec<Ended>,
    /// Ended ones taken by the settler and not settled yet.
    settling: usize,
    /// Moves when a delivery is taken to be run: a runner that stands still shows.
    taken: u64,
    closed: bool,
}

impl Work {
    pub(super) fn new(slots: usize) -> Self {
        let flush_at = (slots / 2).clamp(1, FLUSH_MAX);
        Self { state: Mutex::default(), slots, flush_at, ended: Notify::new(), room: Notify::new() }
    }

    // Nothing under the lock can panic half way; a poisoned lock's state is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something can be pulled, and says how many.
    pub(super) async fn room(&self) -> usize {
        loop {
            let notified = self.room.notified();
            {
                let state = self.state();
                let unsettled = state.ended.len() + state.settling;
                let room = self.slots.saturating_sub(state.waiting.len() + state.running);
                if room > 0 && unsettled < UNSETTLED_MAX {
                    return room;
                }
            }
            notified.await;
        }
    }

    /// Takes in what was pulled and says how many runners to start for it.
    pub(super) fn push(&self, deliveries: Vec<Delivery>) -> usize {
        let mut state = self.state();
        state.waiting.extend(deliveries);
        let wanted = state.waiting.len().div_ceil(RUN_EVENTS);
        let start = wanted.saturating_sub(state.runners);
        state.runners += start;
        start
    }

    /// How many deliveries were taken so far, while others wait; none when nothing waits.
    pub(super) fn taken_while_waiting(&self) -> Option<u64> {
        let state = self.state();
        (!state.waiting.is_empty()).then_some(state.taken)
    }

    /// When nothing was taken since `taken`, every runner is held up: a runner for each that waits.
    pub(super) fn unstall(&self, taken: u64) -> usize {
        let mut state = self.state();
        if state.taken != taken {
            return 0;
        }
        let not_begun = state.runners.saturating_sub(state.running);
        let start = state.waiting.len().saturating_sub(not_begun);
        state.runners += start;
        start
    }

    /// A runner hands in what it ended and takes the next; none: the runner is to end.
    pub(super) fn next(&self, ended: Option<Ended>) -> Option<Delivery> {
        let mut state = self.state();
        if let Some(ended) = ended {
            state.running -= 1;
            state.ended.push(ended);
        }
        let next = state.waiting.pop_front();
        match next {
            Some(_) => {
                state.running += 1;
                state.taken += 1;
            }
            None => state.runners -= 1,
        }
        // With nothing left to take, nothing is gained by gathering more: what ended must not wait for what still runs.
        if state.ended.len() >= self.flush_at || (state.waiting.is_empty() && !state.ended.is_empty()) {
            self.ended.notify_one();
        }
        next
    }

    /// A runner ended without handing in what it ran.
    pub(super) fn lose_runner(&self) {
        let mut state = self.state();
        state.running -= 1;
        state.runners -= 1;
        drop(state);
        self.room.notify_waiters();
    }

    /// Ends everything that waits as given back at shutdown.
    pub(super) fn give_back_waiting(&self) {
        let mut state = self.state();
        let waiting = std::mem::take(&mut state.waiting);
        state.ended.extend(waiting.iter().map(|delivery| Ended::new(delivery, End::GivenBack(Cause::Shutdown))));
        self.ended.notify_one();
    }

    /// Waits until nothing runs.
    pub(super) async fn idle(&self) {
        loop {
            let notified = self.room.notified();
            if self.state().running == 0 {
                return;
            }
            notified.await;
        }
    }

    /// No more will end.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.ended.notify_one();
    }

    /// Waits for ends and takes them all; none once closed and empty.
    pub(super) async fn ended(&self) -> Option<Vec<Ended>> {
        loop {
            let notified = self.ended.notified();
            {
                let mut state = self.state();
                if !state.ended.is_empty() {
                    state.settling = state.ended.len();
                    let ended = std::mem::take(&mut state.ended);
                    drop(state);
                    self.room.notify_waiters();
                    return Some(ended);
                }
                if state.closed {
                    return None;
                }
            }
            notified.await;
        }
    }

    /// What [`Work::ended`] gave is settled.
    pub(super) fn settled(&self) {
        self.state().settling = 0;
        self.room.notify_waiters();
    }
}
