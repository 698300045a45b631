//! The granted rate of one handler: never more than `count` mails in any `per`, first come first served. Processes that share a store
//! share the rate: then the store counts the turns (`store/redis/turn.lua`), else this process does.
//!
//! Considered and left out: a token bucket (governor). It lets twice `count` pass in one `per` after a quiet time, and a `rate` is a
//! bound that somebody agreed with whoever runs the relay.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::Alarm;
use crate::config::Rate;
use crate::store::{Store, StoreError};

/// Most turns remembered; a larger count is held as this many in a window that is shorter in proportion, which implies it.
const TURNS_MAX: u32 = 10_000;

/// Gives each mail of one handler the time of its turn.
#[derive(Debug)]
pub(super) struct Limiter {
    handler: String,
    store: Option<Arc<Store>>,
    own: Turns,
}

/// Why a mail has no turn.
#[derive(Debug)]
pub(super) enum NoTurn {
    /// It comes later than the caller can wait.
    In(Duration),
    /// The store can't be asked.
    Unknown(StoreError),
}

impl Limiter {
    pub(super) fn new(handler: &str, rate: Rate, store: Option<Arc<Store>>) -> Self {
        Self { handler: handler.to_owned(), store, own: Turns::new(rate) }
    }

    /// Takes the next turn if it comes within `bound`; else takes nothing.
    pub(super) async fn turn(&self, bound: Duration) -> Result<Alarm, NoTurn> {
        if let Some(store) = &self.store
            && let Some(taken) = store.turn(&self.handler, self.own.rate, bound).await.map_err(NoTurn::Unknown)?
        {
            let wait = taken.map_err(NoTurn::In)?;
            return Ok(Alarm::new(None, wait));
        }
        let now = Instant::now();
        self.own.take(now, bound).map(|turn| Alarm::new(None, turn - now)).map_err(NoTurn::In)
    }
}

/// The turns of one process.
#[derive(Debug)]
struct Turns {
    rate: Rate,
    // When the last `count` mails had or will have their turn, oldest first. Held for one look.
    turns: Mutex<VecDeque<Instant>>,
}

impl Turns {
    fn new(rate: Rate) -> Self {
        let count = rate.count.clamp(1, TURNS_MAX);
        let per = if rate.count > TURNS_MAX { rate.per.mul_f64(f64::from(count) / f64::from(rate.count)) } else { rate.per };
        Self { rate: Rate { count, per }, turns: Mutex::default() }
    }

    /// Takes the next turn if it comes within `bound`; else says how long it would have been, and takes nothing.
    fn take(&self, now: Instant, bound: Duration) -> Result<Instant, Duration> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let full = turns.len() >= self.rate.count as usize;
        let turn = match turns.front() {
            Some(oldest) if full => now.max(*oldest + self.rate.per),
            _ => now,
        };
        let wait = turn - now;
        if wait > bound {
            return Err(wait);
        }
        if full {
            turns.pop_front();
        }
        turns.push_back(turn);
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_passes_then_turns_are_taken_in_order() {
        let limiter = Turns::new(Rate { count: 2, per: SECOND });
        let now = Instant::now();
        let waits: Vec<_> = (0..5).map(|_| limiter.take(now, Duration::MAX).unwrap() - now).collect();
        assert_eq!(waits, [Duration::ZERO, Duration::ZERO, SECOND, SECOND, 2 * SECOND]);
        assert_eq!(limiter.take(now, SECOND), Err(2 * SECOND), "beyond the bound");
        assert_eq!(limiter.take(now, 2 * SECOND), Ok(now + 2 * SECOND), "what was refused has taken no turn");
    }

    proptest! {
        #[test]
        fn never_more_than_count_in_any_window(count in 1..20u32, steps in prop::collection::vec(0..300u64, 1..200)) {
            let limiter = Turns::new(Rate { count, per: SECOND });
            let mut now = Instant::now();
            let mut turns = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                turns.extend(limiter.take(now, Duration::from_secs(5)));
            }
            for window in turns.windows(count as usize + 1) {
                prop_assert!(*window.last().unwrap() - window[0] >= SECOND);
            }
        }
    }

    #[test]
    fn a_huge_count_is_held_by_a_shorter_window() {
        let limiter = Turns::new(Rate { count: 1_000_000, per: Duration::from_secs(100) });
        let now = Instant::now();
        for _ in 0..TURNS_MAX {
            assert_eq!(limiter.take(now, Duration::ZERO), Ok(now));
        }
        assert_eq!(limiter.take(now, SECOND), Ok(now + SECOND));
    }
}
