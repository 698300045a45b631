//! Leases that are gone while the process lives (delivery.md §3).

use std::collections::HashSet;

use super::super::lanes::Item;
use super::{State, Work};
use crate::queue::Position;
use crate::stats::Cause;

impl Work {
    /// Whether the run's lease is gone: what stops runners may have been meant for the run before.
    pub(in super::super) fn is_lapsed(&self, position: Position) -> bool {
        self.state().cancels.get(&position).is_some_and(|(_, lapsed)| *lapsed)
    }

    /// Leases are gone: what runs is stopped, what waits is let go. What has ended is settled, and the queue says that it is late. Says
    /// how many runners to start.
    pub(in super::super) fn lose(&self, positions: &[Position]) -> usize {
        let mut state = self.state();
        for position in positions {
            if let Some((cancel, lapsed)) = state.cancels.get_mut(position) {
                *lapsed = true;
                cancel.notify_one();
            }
        }
        let lost = positions.iter().copied().collect::<HashSet<_>>();
        let gone = state.lanes.lose(&lost);
        self.count_parked(&mut state);
        let mut counts = self.stats.count();
        counts.in_flight = counts.in_flight.saturating_sub(gone as u64);
        (0..gone).for_each(|_| counts.count_returned(Cause::Lease));
        drop(counts);
        self.room.notify_waiters();
        state.tell_keeper();
        state.runner_for_each()
    }

    pub(super) fn count_lapsed(&self, state: &mut State, item: &Item) {
        {
            let mut counts = self.stats.count();
            counts.in_flight = counts.in_flight.saturating_sub(1);
            counts.count_returned(Cause::Lease);
        }
        state.lanes.leave(item.lane.as_ref());
        state.probe_again();
        self.count_parked(state);
        self.room.notify_waiters();
    }
}
