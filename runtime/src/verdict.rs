//! What is done with a delivery after its handler ran: the table of delivery.md §1 as a pure function. No clock, no chance, no I/O:
//! the time and the jitter come in as arguments.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::RetryPolicy;
use crate::outcome::Outcome;
use crate::queue::Tries;

/// What is done with a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Done with.
    Ack,
    /// Again, not before `due`.
    Retry {
        /// Not before.
        due: Timestamp,
        /// What then went before.
        tries: Tries,
    },
    /// Given up.
    Dead,
    /// No instance can be made: given back as it was, and its subscription pauses.
    Pause,
}

impl Verdict {
    /// The same for an event that is tried once.
    #[must_use]
    pub fn at_last(self) -> Self {
        if matches!(self, Self::Retry { .. }) { Self::Dead } else { self }
    }

    /// The same, with a wait that ends at `latest` at the latest.
    #[must_use]
    pub fn within(self, latest: Timestamp) -> Self {
        match self {
            Self::Retry { due, tries } => Self::Retry { due: due.min(latest), tries },
            other => other,
        }
    }
}

/// Decides. `jitter` is drawn from 0 to 1.
#[must_use]
pub fn verdict(outcome: &Outcome, tries: Tries, policy: &RetryPolicy, now: Timestamp, jitter: f64) -> Verdict {
    let attempt = tries.failed.saturating_add(1);
    let failed = Tries { failed: attempt, outside: 0, outside_since: None };
    let again = |wait: Duration, tries: Tries| Verdict::Retry { due: now.after(wait), tries };
    let backoff = |step: u32| backoff(policy, step, jitter);
    match outcome {
        Outcome::Done => Verdict::Ack,
        Outcome::Reject { .. } => Verdict::Dead,
        Outcome::Retry { .. } | Outcome::Deadline { .. } | Outcome::Lost if attempt >= policy.attempts => Verdict::Dead,
        Outcome::Retry { after: Some(after), .. } => again((*after).min(policy.after_max), failed),
        Outcome::Retry { after: None, .. } | Outcome::Deadline { .. } | Outcome::Lost => again(backoff(attempt), failed),
        Outcome::Trap { .. } | Outcome::Fuel { .. } | Outcome::Memory { .. } | Outcome::Output { .. } => {
            if attempt >= policy.trap.min(policy.attempts) { Verdict::Dead } else { again(backoff(attempt), failed) }
        }
        Outcome::Host { after, .. } => {
            let since = tries.outside_since.unwrap_or(now);
            if now.since(since) >= policy.outage && tries.outside > 0 {
                return Verdict::Dead;
            }
            let outside = tries.outside.saturating_add(1);
            // The other side may have said when (Retry-After): sooner would be in vain, and a short wait does not undo the backoff.
            let wait = backoff(outside).max(after.unwrap_or_default().min(policy.after_max));
            again(wait, Tries { outside, outside_since: Some(since), ..tries })
        }
        Outcome::Load { .. } => Verdict::Pause,
    }
}

/// Whether an event arrives with more tries behind it than its policy allows: it is given up as `lost` without being run, so that an
/// event that kills the process does not loop for ever (delivery.md §2).
#[must_use]
pub fn is_exhausted(tries: Tries, policy: &RetryPolicy) -> bool {
    tries.failed >= policy.attempts
}

/// Tries that remain after this one if it asks for a retry.
#[must_use]
pub fn attempts_left(tries: Tries, policy: &RetryPolicy) -> u32 {
    policy.attempts.saturating_sub(tries.failed.saturating_add(1))
}

/// Exponential from the first wait to the longest, jitter between half and the whole. `step` counts from 1.
fn backoff(policy: &RetryPolicy, step: u32, jitter: f64) -> Duration {
    let doubled = policy.backoff_from.saturating_mul(1u32.checked_shl(step.saturating_sub(1)).unwrap_or(u32::MAX));
    doubled.min(policy.backoff_to).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Limit;

    const NOW: Timestamp = Timestamp(1_000_000);
    const LIMIT: Limit = Limit { name: "fuel", value: 1 };

    fn check(outcome: &Outcome, tries: Tries, expected: Verdict) {
        assert_eq!(verdict(outcome, tries, &RetryPolicy::default(), NOW, 1.0), expected, "{outcome:?} {tries:?}");
    }

    fn failed(failed: u32) -> Tries {
        Tries { failed, ..Tries::default() }
    }

    fn again(seconds: u64, tries: Tries) -> Verdict {
        Verdict::Retry { due: Timestamp(NOW.0 + seconds * 1000), tries }
    }

    #[test]
    fn answers_of_the_handler() {
        let retry = |after| Outcome::Retry { reason: String::new(), after };
        check(&Outcome::Done, failed(3), Verdict::Ack);
        check(&Outcome::Reject { reason: String::new() }, failed(0), Verdict::Dead);
        check(&retry(None), failed(0), again(1, failed(1)));
        check(&retry(None), failed(3), again(8, failed(4)));
        check(&retry(None), failed(7), Verdict::Dead);
        check(&retry(Some(Duration::from_secs(90))), failed(0), again(90, failed(1)));
        check(&retry(Some(Duration::MAX)), failed(0), again(24 * 3600, failed(1)));
        check(&retry(Some(Duration::ZERO)), failed(7), Verdict::Dead);
    }

    #[test]
    fn faults_get_two_tries_and_deadlines_all() {
        for outcome in [
            Outcome::Fuel { limit: LIMIT },
            Outcome::Memory { limit: LIMIT },
            Outcome::Output { limit: LIMIT },
            Outcome::Trap { reason: String::new(), limit: None },
        ] {
            check(&outcome, failed(0), again(1, failed(1)));
            check(&outcome, failed(1), Verdict::Dead);
        }
        check(&Outcome::Deadline { limit: LIMIT }, failed(1), again(2, failed(2)));
        check(&Outcome::Deadline { limit: LIMIT }, failed(7), Verdict::Dead);
        check(&Outcome::Lost, failed(6), again(64, failed(7)));
        check(&Outcome::Lost, failed(7), Verdict::Dead);
    }

    #[test]
    fn outside_failures_cost_no_attempt_until_the_outage_is_over() {
        let waiting = |after| Outcome::Host { reason: String::new(), limit: None, after };
        let host = waiting(None);
        let outside = |outside, since: u64| Tries { failed: 7, outside, outside_since: Some(Timestamp(since)) };
        check(&host, failed(7), again(1, outside(1, NOW.0)));
        check(&host, outside(4, NOW.0 - 1), again(16, outside(5, NOW.0 - 1)));
        check(&waiting(Some(Duration::from_secs(90))), failed(7), again(90, outside(1, NOW.0)));
        check(&waiting(Some(Duration::from_millis(1))), failed(7), again(1, outside(1, NOW.0)));
        check(&waiting(Some(Duration::MAX)), failed(7), again(24 * 3600, outside(1, NOW.0)));
        let day = Duration::from_secs(24 * 3600);
        let late = Timestamp(NOW.0 + crate::clock::millis(day));
        assert_eq!(verdict(&host, outside(99, NOW.0), &RetryPolicy::default(), late, 0.0), Verdict::Dead);
        // Something else in between begins a new row.
        check(&Outcome::Deadline { limit: LIMIT }, Tries { failed: 0, ..outside(9, 1) }, again(1, failed(1)));
    }

    #[test]
    fn what_cannot_be_loaded_costs_nothing() {
        check(&Outcome::Load { reason: String::new() }, failed(7), Verdict::Pause);
        assert!(is_exhausted(failed(8), &RetryPolicy::default()));
        assert_eq!(attempts_left(failed(7), &RetryPolicy::default()), 0);
    }

    #[test]
    fn a_wait_can_be_cut() {
        for (verdict, expected) in [
            (again(9, failed(1)), again(5, failed(1))),
            (again(4, failed(1)), again(4, failed(1))),
            (Verdict::Ack, Verdict::Ack),
            (Verdict::Dead, Verdict::Dead),
        ] {
            assert_eq!(verdict.within(Timestamp(NOW.0 + 5_000)), expected);
        }
        assert_eq!((again(9, failed(1)).at_last(), Verdict::Ack.at_last()), (Verdict::Dead, Verdict::Ack));
    }

    #[test]
    fn waits_stay_between_half_and_the_whole_of_the_backoff() {
        let policy = RetryPolicy::default();
        assert_eq!(backoff(&policy, 1, 0.0), Duration::from_millis(500));
        assert_eq!(backoff(&policy, 200, 1.0), policy.backoff_to);
    }
}
