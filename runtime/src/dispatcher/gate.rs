//! Whether a subscription's events may be pulled and run now: what its handler's state, pauses and the circuit breaker come to.

use super::Subscription;
use super::breaker::Flow;
use crate::clock::{Timestamp, now};
use crate::handler::State;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Everything may run.
    Open,
    /// One event may. The time tells this probe from the next: the gate may have been shut in between while nobody looked, and a
    /// probe that was taken leaves room for no other.
    Probe(Timestamp),
    /// Nothing is pulled; what was pulled still runs.
    Held,
    /// Nothing runs; to be looked at again at this time, if it does not change before.
    Shut(Option<Timestamp>),
}

impl Subscription {
    pub(super) fn gate(&self) -> Gate {
        if self.handler.paused().borrow().is_some() {
            return Gate::Shut(None);
        }
        match &*self.handler.state().borrow() {
            State::Running => {}
            State::Held { .. } => return Gate::Held,
            State::Failed { .. } => return Gate::Shut(None),
        }
        match self.breaker.borrow().flow(now()) {
            Flow::All => Gate::Open,
            Flow::Probe(since) => Gate::Probe(since),
            Flow::Nothing(until) => Gate::Shut(Some(until)),
        }
    }
}
