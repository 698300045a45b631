//! The runners of a subscription: how many of them are to be started, what each takes next, and what it hands in.

use std::sync::Arc;

use super::super::ended::{Cancel, Done};
use super::super::lanes::Item;
use super::{State, Work};

/// Events that one runner takes before another is started for those that wait: long enough to keep caches warm (engine-floor.md).
pub(in super::super) const RUN_EVENTS: usize = 16;

impl Work {
    /// How many deliveries were taken so far, while others wait that may run; none when nothing does.
    pub(in super::super) fn taken_while_waiting(&self) -> Option<u64> {
        let mut state = self.state();
        (state.calls() > 0).then_some(state.taken)
    }

    /// When nothing was taken since `taken`, every runner is held up: a runner for each that waits.
    pub(in super::super) fn unstall(&self, taken: u64) -> usize {
        let mut state = self.state();
        if state.taken != taken {
            return 0;
        }
        state.runner_for_each()
    }

    /// A runner hands in what it did and takes the next; none: the runner is to end.
    pub(in super::super) fn next(&self, done: Option<Done>, cancel: &Cancel) -> Option<Item> {
        let mut state = self.state();
        if let Some(done) = done {
            state.busy -= 1;
            self.take_back(&mut state, done);
        }
        let next = state.take();
        if let Some(item) = &next {
            self.begin(&mut state, item, cancel);
        }
        self.taken(&mut state, next.is_some());
        next
    }

    /// As [`Work::next`] for a runner of batches: the events of one call; none: the runner is to end.
    pub(in super::super) fn next_batch(&self, done: Vec<Done>, cancel: &Cancel) -> Vec<Item> {
        let mut state = self.state();
        state.busy -= usize::from(!done.is_empty());
        // Backwards: what runs again goes to the front, and keeps its order there.
        for done in done.into_iter().rev() {
            self.take_back(&mut state, done);
        }
        let batch = state.take_batch();
        for item in &batch {
            self.begin(&mut state, item, cancel);
        }
        self.taken(&mut state, !batch.is_empty());
        batch
    }

    fn begin(&self, state: &mut State, item: &Item, cancel: &Cancel) {
        state.running += 1;
        state.taken += 1;
        if self.leases_lapse {
            state.cancels.insert(item.delivery.position, (Arc::clone(cancel), false));
        }
    }

    /// A runner has taken what is next, or ends.
    fn taken(&self, state: &mut State, some: bool) {
        if some {
            state.busy += 1;
        } else {
            state.runners -= 1;
        }
        if state.allowed == 0 {
            self.count_parked(state);
        }
        if state.makes_room() || !some {
            self.room.notify_waiters();
        }
        self.tell(state);
    }
}

impl State {
    /// Runners to start so that each takes a run of what was pulled; the puller sees when they stand still ([`Work::unstall`]).
    pub(super) fn wanted_runners(&mut self) -> usize {
        let start = self.calls().div_ceil(self.fill.calls_of_run()).saturating_sub(self.runners);
        self.runners += start;
        start
    }

    /// Runners to start so that each that may run has one: the runners there are may stand still for long.
    pub(super) fn runner_for_each(&mut self) -> usize {
        let start = self.calls().saturating_sub(self.runners.saturating_sub(self.busy));
        self.runners += start;
        start
    }

    /// Takes the next to run, if it may.
    fn take(&mut self) -> Option<Item> {
        if self.running >= self.allowed {
            return None;
        }
        let item = self.lanes.take()?;
        if self.probing {
            self.allowed = 0;
        }
        Some(item)
    }

    /// What was taken to probe did not run: another one may.
    pub(super) fn probe_again(&mut self) {
        if self.probing {
            self.allowed = 1;
        }
    }
}
