//! When what has ended is settled: together with others, as far as that does not make it wait.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::super::ended::Ended;
use super::{State, Work};

/// Most ends that wait for more before they are settled together.
pub(super) const FLUSH_MAX: usize = 128;

/// Longest that an end waits for more while others run: a way to a broker and back is shorter, and would be made for a few events each.
const GATHER: Duration = Duration::from_millis(1);

/// When what has ended is to be settled.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// Nothing has ended.
    #[default]
    None,
    /// Within [`GATHER`].
    Soon,
    /// There is enough of it, nothing that could add to it runs, or it goes back.
    Now,
}

impl Work {
    pub(super) fn urgency(&self, state: &State) -> Urgency {
        if state.ended.is_empty() {
            Urgency::None
        } else if state.ended.len() >= self.flush_at || state.running == 0 || state.paused || state.draining || state.closed {
            Urgency::Now
        } else {
            Urgency::Soon
        }
    }

    /// Wakes the settler, if there is something that it does not know.
    pub(super) fn tell(&self, state: &mut State) {
        let urgency = self.urgency(state);
        if urgency > state.told {
            state.told = urgency;
            self.ended.notify_one();
        }
    }

    /// No more will end.
    pub(in super::super) fn close(&self) {
        self.state().closed = true;
        self.ended.notify_one();
    }

    /// Waits for ends and takes them all; none once closed and empty.
    pub(in super::super) async fn ended(&self) -> Option<Vec<Ended>> {
        let mut gathered = None;
        loop {
            let notified = self.ended.notified();
            let urgency = {
                let mut state = self.state();
                state.told = self.urgency(&state);
                match state.told {
                    Urgency::None if state.closed => return None,
                    Urgency::None => gathered = None,
                    Urgency::Soon if gathered.is_none_or(|until| Instant::now() < until) => {}
                    Urgency::Soon | Urgency::Now => {
                        state.told = Urgency::None;
                        state.settling = state.ended.len();
                        let ended = std::mem::take(&mut state.ended);
                        drop(state);
                        self.room.notify_waiters();
                        return Some(ended);
                    }
                }
                state.told
            };
            if urgency == Urgency::Soon {
                let until = *gathered.get_or_insert_with(|| Instant::now() + GATHER);
                let _ = timeout_at(until, notified).await;
            } else {
                notified.await;
            }
        }
    }

    /// What [`Work::ended`] gave is settled.
    pub(in super::super) fn settled(&self) {
        self.state().settling = 0;
        self.room.notify_waiters();
    }
}
