//! The circuit breaker of a subscription (delivery.md §1, §11): when everything fails for an outside reason, nothing is pulled for a
//! while, and then one event at a time. Pure: the time and the jitter come in as arguments.

use std::time::Duration;

use crate::clock::Timestamp;

/// The first pause and the longest: each that a probe ends without success is twice the one before, jitter between half and the whole.
/// A minute is how long an outage may outlive itself.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Breaker {
    /// Outside failures in a row that open it; 0: never.
    after: u32,
    /// Outside failures in a row.
    row: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Nothing is pulled before this; then one event is tried.
    Open {
        until: Timestamp,
        pauses: u32,
    },
}

/// What may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flow {
    /// Everything.
    All,
    /// One event, to see whether it works again; since this time.
    Probe(Timestamp),
    /// Nothing before this.
    Nothing(Timestamp),
}

impl Breaker {
    pub(super) fn new(after: u32) -> Self {
        Self { after, row: 0, state: State::Closed }
    }

    /// Takes in how a run ended; whether that changed what may run. `jitter` is drawn from 0 to 1.
    pub(super) fn observe(&mut self, outside: bool, now: Timestamp, jitter: f64) -> bool {
        if !outside {
            self.row = 0;
            let was_open = self.state != State::Closed;
            self.state = State::Closed;
            return was_open;
        }
        self.row = self.row.saturating_add(1);
        let pauses = match self.state {
            State::Closed if self.after == 0 || self.row < self.after => return false,
            State::Closed => 0,
            // What began before the pause: it tells nothing new.
            State::Open { until, .. } if now < until => return false,
            State::Open { pauses, .. } => pauses,
        };
        let whole = PAUSE.0.saturating_mul(1u32.checked_shl(pauses).unwrap_or(u32::MAX)).min(PAUSE.1);
        let until = now.after(whole.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
        self.state = State::Open { until, pauses: pauses.saturating_add(1) };
        true
    }

    /// What may run now.
    pub(super) fn flow(&self, now: Timestamp) -> Flow {
        match self.state {
            State::Closed => Flow::All,
            State::Open { until, .. } if now < until => Flow::Nothing(until),
            State::Open { until, .. } => Flow::Probe(until),
        }
    }

    /// When it is probed next, or was; none while it is closed.
    pub(super) fn until(&self) -> Option<Timestamp> {
        match self.state {
            State::Closed => None,
            State::Open { until, .. } => Some(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(3);
        assert_eq!([1, 2, 3].map(|_| breaker.observe(true, NOW, 1.0)), [false, false, true]);
        breaker
    }

    #[test]
    fn it_opens_after_a_row_and_probes() {
        let mut breaker = opened();
        let until = NOW.after(PAUSE.0);
        assert_eq!(breaker.flow(NOW), Flow::Nothing(until));
        assert!(!breaker.observe(true, NOW, 1.0), "what still ran tells nothing new");
        assert_eq!((breaker.flow(until), breaker.until()), (Flow::Probe(until), Some(until)));
        assert!(breaker.observe(false, until, 1.0));
        assert_eq!((breaker.flow(until), breaker.until()), (Flow::All, None));
    }

    #[test]
    fn pauses_grow_to_the_longest_and_start_anew() {
        let mut breaker = opened();
        let mut now = NOW;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let until = now.after(Duration::from_secs(seconds));
            assert_eq!(breaker.flow(now), Flow::Nothing(until));
            now = until;
            assert!(breaker.observe(true, now, 1.0));
        }
        breaker.observe(false, now, 1.0);
        assert_eq!([0; 3].map(|_| breaker.observe(true, now, 0.0)), [false, false, true]);
        assert_eq!(breaker.until(), Some(now.after(PAUSE.0 / 2)));
    }

    #[test]
    fn a_probe_is_not_the_one_before() {
        let mut breaker = opened();
        let first = breaker.flow(NOW.after(PAUSE.0));
        breaker.observe(true, NOW.after(PAUSE.0), 1.0);
        let second = breaker.flow(NOW.after(PAUSE.1));
        assert!(matches!((first, second), (Flow::Probe(_), Flow::Probe(_))) && first != second);
    }

    #[test]
    fn a_success_ends_the_row_and_none_opens_it() {
        let mut breaker = Breaker::new(2);
        for outside in [true, false, true, false, true] {
            assert!(!breaker.observe(outside, NOW, 1.0));
        }
        let mut never = Breaker::new(0);
        assert!((0..1_000).all(|_| !never.observe(true, NOW, 1.0)));
    }
}
