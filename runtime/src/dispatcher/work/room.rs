//! How many events may be pulled now: permits that are free, within what may be parked and what waits to be settled.

use std::time::{Duration, Instant};

use super::super::UNSETTLED_MAX;
use super::super::ended::ParkedFull;
use super::{State, Work};

/// How soon it is said again that `parked` is full: around the bound it fills with each that ends, which is no news.
const FULL_AGAIN: Duration = Duration::from_secs(60);

/// Most bytes of events that are parked (delivery.md §4).
const PARKED_BYTES_MAX: u64 = 64 << 20;

impl Work {
    /// Waits until something can be pulled, and says how many.
    pub(in super::super) async fn room(&self) -> usize {
        loop {
            let notified = self.room.notified();
            let room = self.room_now();
            if room > 0 {
                return room;
            }
            notified.await;
        }
    }

    fn room_now(&self) -> usize {
        let mut state = self.state();
        let unsettled = state.ended.len() + state.settling;
        let room = state.allowed.saturating_sub(state.lanes.waiting() + state.running);
        // While some still wait to be run, a pull can wait until it brings many at once.
        let gathers = state.lanes.waiting() > 0 && room < state.worth_a_pull() && !state.is_filling();
        if room == 0 || gathers || unsettled >= UNSETTLED_MAX {
            return 0;
        }
        let parked = state.lanes.parked();
        let left = self.parked_max.saturating_sub(parked);
        state.full = left == 0 || state.lanes.parked_bytes() >= PARKED_BYTES_MAX;
        if state.full {
            if state.full_said.is_none_or(|said| said.elapsed() >= FULL_AGAIN) {
                state.full_said = Some(Instant::now());
                let (lane, count) = state.lanes.longest().map_or(("", 0), |(lane, count)| (&**lane, count));
                let (queue, handler) = (&self.stats.queue, &self.stats.handler);
                tracing::warn!(%queue, %handler, parked, lane, count, "`parked` is full: nothing is pulled until one of them ends");
            }
            return 0;
        }
        room.min(left)
    }

    /// Whether nothing is pulled because too much is parked.
    pub(in super::super) fn parked_full(&self) -> Option<ParkedFull> {
        let state = self.state();
        let longest = || state.lanes.longest().map(|(lane, count)| (lane.to_string(), count));
        state.full.then(|| ParkedFull { parked: state.lanes.parked(), longest: longest() })
    }
}

impl State {
    /// So many at once are worth a way to the broker and back, which is to be over before those that wait have run, or runners stand
    /// still: of 256 on two cores, a quarter is early enough, half is not.
    fn worth_a_pull(&self) -> usize {
        self.allowed / 4
    }

    /// Whether one that has just ended made room worth a pull: told at that moment, and not for each that follows.
    pub(super) fn makes_room(&self) -> bool {
        self.lanes.waiting() == 0 || self.lanes.waiting() + self.running + self.worth_a_pull() == self.allowed
    }
}
