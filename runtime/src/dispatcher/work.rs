//! What one subscription holds between pull and settlement: what `lanes.rs` holds, what runs, and ends that wait to be settled.
//!
//! State under one lock. Who pulls, runs and settles stands beside it. What moves between running and parked is counted here.

mod ends;
mod fill;
mod leases;
mod room;
mod runners;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use self::ends::{FLUSH_MAX, Urgency};
pub(super) use self::fill::Fill;
pub(super) use self::runners::RUN_EVENTS;
use super::ended::{Cancel, Done, End, Ended};
use super::lanes::{Item, Lanes};
use crate::clock::Timestamp;
use crate::queue::{Position, Tries};
use crate::stats::{Cause, SubscriptionStats};
use crate::verdict::Verdict;

/// See the module.
pub(super) struct Work {
    // std's mutex: held for a few moves of a delivery, never across an await. The counters' lock is taken inside it, never around it.
    state: Mutex<State>,
    stats: Arc<SubscriptionStats>,
    /// Most that is parked.
    parked_max: usize,
    flush_at: usize,
    /// Whether leases may be lost while the process lives: then runs can be stopped one by one.
    leases_lapse: bool,
    /// The settler: something ended, or nothing more will.
    ended: Notify,
    /// The puller: there may be room; the drain: nothing may be left.
    room: Notify,
    /// The keeper: something waits for its time that did not before.
    timed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    lanes: Lanes,
    /// Of what is parked, what the counters know.
    counted: usize,
    /// Deliveries that may run at once now.
    allowed: usize,
    /// Whether it is one, to see what comes of it.
    probing: bool,
    /// Deliveries that are run now.
    running: usize,
    runners: usize,
    /// Runners that run some.
    busy: usize,
    /// What of what waits goes into one call, and when.
    fill: Fill,
    /// Those of them that can be stopped, and whether their lease is gone.
    cancels: HashMap<Position, (Cancel, bool)>,
    ended: Vec<Ended>,
    /// Ended ones taken by the settler and not settled yet.
    settling: usize,
    /// What the settler knows of `ended`.
    told: Urgency,
    /// Moves when a delivery is taken to be run: a runner that stands still shows.
    taken: u64,
    draining: bool,
    closed: bool,
    /// Nothing was pulled for want of room in `parked`, when it was looked at last.
    full: bool,
    /// When that was said last.
    full_said: Option<Instant>,
    /// A pause: what is not ended by its run goes back.
    paused: bool,
}

impl Work {
    pub(super) fn new(slots: usize, parked_max: usize, leases_lapse: bool, fill: Fill, stats: Arc<SubscriptionStats>) -> Self {
        let flush_at = (slots / 2).clamp(1, FLUSH_MAX);
        let (ended, room, timed) = (Notify::new(), Notify::new(), fill.keeper());
        let state = Mutex::new(State { allowed: slots, fill, ..State::default() });
        Self { state, stats, parked_max, flush_at, leases_lapse, ended, room, timed }
    }

    // Nothing under the lock can panic half way; a poisoned lock's state is whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the counters what has moved between running and parked. While nothing may run, what waits for it is parked too.
    fn count_parked(&self, state: &mut State) {
        let held = if state.allowed == 0 { state.lanes.waiting() } else { 0 };
        let parked = state.lanes.parked() + held;
        if parked != state.counted {
            let mut counts = self.stats.count();
            counts.in_flight = (counts.in_flight + state.counted as u64).saturating_sub(parked as u64);
            counts.parked = (counts.parked + parked as u64).saturating_sub(state.counted as u64);
            state.counted = parked;
        }
    }

    /// How many may run at once from now on, or one in all, to probe; says how many runners to start.
    pub(super) fn allow(&self, allowed: usize, probing: bool) -> usize {
        let mut state = self.state();
        (state.allowed, state.probing, state.paused) = (allowed, probing, false);
        self.count_parked(&mut state);
        self.room.notify_waiters();
        state.runner_for_each()
    }

    /// Takes in what was pulled, and what of it ended without a run; says how many runners to start.
    ///
    /// And what stands behind others: it has not begun, so that a kill of this process costs it no attempt.
    pub(super) fn push(&self, items: Vec<Item>, ended: Vec<Ended>) -> (usize, Vec<(Position, Tries)>) {
        let mut state = self.state();
        let count = (items.len() + ended.len()) as u64;
        {
            let mut counts = self.stats.count();
            counts.received += count;
            counts.in_flight += count;
        }
        let mut behind = Vec::new();
        for item in items {
            let of = (item.delivery.position, item.delivery.tries);
            if !state.lanes.arrive(item) {
                behind.push(of);
            }
        }
        self.count_parked(&mut state);
        if !ended.is_empty() {
            state.ended.extend(ended);
            self.tell(&mut state);
        }
        (state.wanted_runners(), behind)
    }

    fn take_back(&self, state: &mut State, done: Done) {
        state.running -= 1;
        match done {
            Done::Ended(ended) => {
                state.cancels.remove(&ended.position);
                // A lane waits until a dead letter is durable, so that the queue never holds a later event as ended before it.
                if !matches!(ended.end, End::Judged(Verdict::Dead, _)) {
                    state.lanes.leave(ended.lane.as_ref());
                    self.count_parked(state);
                }
                state.ended.push(ended);
            }
            Done::Park(item, due) => {
                let lapsed = state.cancels.remove(&item.delivery.position).is_some_and(|(_, lapsed)| lapsed);
                if lapsed {
                    self.count_lapsed(state, &item);
                    return;
                }
                state.lanes.park(item, due);
                self.count_parked(state);
                self.timed.notify_one();
                // Its permit is free for what can be pulled meanwhile.
                self.room.notify_waiters();
            }
            Done::Lapsed(item) => {
                state.cancels.remove(&item.delivery.position);
                self.count_lapsed(state, &item);
            }
            Done::Again(item) => {
                let lapsed = state.cancels.remove(&item.delivery.position).is_some_and(|(_, lapsed)| lapsed);
                if lapsed {
                    self.count_lapsed(state, &item);
                } else {
                    state.lanes.put_back(item);
                    // The keeper starts runners: one call became as many as it had events.
                    self.timed.notify_one();
                }
            }
        }
        if state.draining {
            self.drain(state, Cause::Shutdown);
        } else if state.paused {
            self.drain(state, Cause::Pause);
        }
    }

    /// What was taken ended or was parked without a run.
    pub(super) fn not_run(&self) {
        let mut state = self.state();
        state.probe_again();
        self.count_parked(&mut state);
        drop(state);
        self.room.notify_waiters();
    }

    /// Lanes of dead letters that are durable and settled go on; says how many runners to start.
    pub(super) fn leave(&self, ended: &[Ended]) -> usize {
        let mut state = self.state();
        for ended in ended {
            state.lanes.leave(ended.lane.as_ref());
        }
        self.count_parked(&mut state);
        if state.draining {
            self.drain(&mut state, Cause::Shutdown);
        }
        state.runner_for_each()
    }

    /// Lets run what is due; says when the next one is, when a batch has waited for its events, and how many runners to start.
    pub(super) fn release_due(&self, now: Timestamp) -> (Option<Timestamp>, Option<Instant>, usize) {
        let mut state = self.state();
        state.lanes.release_due(now);
        self.count_parked(&mut state);
        // Before the runners are counted: what has waited by then is theirs, what has not is the timer's.
        let full = state.fill_due();
        let runners = state.runner_for_each();
        (state.lanes.next_due(), full, runners)
    }

    /// Waits until something may wait for its time, or for others, that did not before.
    pub(super) async fn timed(&self) {
        self.timed.notified().await;
    }

    /// A runner ended without handing in what it ran.
    pub(super) fn lose_runner(&self, running: usize) {
        let mut state = self.state();
        state.running -= running;
        state.runners -= 1;
        state.busy -= 1;
        state.probe_again();
        drop(state);
        self.room.notify_waiters();
    }

    /// Gives back everything that does not run, because of a pause; until [`Work::allow`] also whatever is not ended by its run.
    pub(super) fn give_back(&self) {
        let mut state = self.state();
        state.paused = true;
        self.drain(&mut state, Cause::Pause);
    }

    /// Gives back everything that does not run, and from now on whatever is not ended by its run.
    pub(super) fn stop(&self) {
        let mut state = self.state();
        state.draining = true;
        self.drain(&mut state, Cause::Shutdown);
    }

    fn drain(&self, state: &mut State, cause: Cause) {
        let held = state.lanes.drain();
        self.count_parked(state);
        let ends = held.into_iter().map(|(item, due)| {
            let tries = item.delivery.tries;
            let end = match due {
                // In its lane's order it comes back at once: what the queue holds back would be passed by those behind it (delivery.md §4).
                Some(due) if item.lane.is_none() => End::GivenBack(cause, Some((due, tries))),
                _ => End::GivenBack(cause, item.tried.then_some((Timestamp(0), tries))),
            };
            Ended::new(&item, end)
        });
        state.ended.extend(ends);
        self.tell(state);
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
}

#[cfg(test)]
mod tests;
