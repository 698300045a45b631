//! A delivery that is given up becomes a dead letter.

use std::sync::Arc;

use super::Subscription;
use super::ended::{End, Ended};
use super::lanes::Item;
use crate::clock::{Timestamp, now};
use crate::dead::DeadLetter;
use crate::handler::Version;
use crate::outcome::Outcome;
use crate::queue::{Delivery, Tries};
use crate::sandbox::Report;

impl Subscription {
    /// How a delivery ended, with the letter that it may have.
    pub(super) fn ended(&self, item: &Item, end: End) -> Ended {
        let Delivery { tries, first_seen, .. } = item.delivery;
        let left = may_have_letter(tries, first_seen, self.alone_since);
        let left = left.then(|| DeadLetter::id_for(&self.queue_name, &self.handler.name, &item.delivery));
        Ended { left, ..Ended::new(item, end) }
    }

    /// Of one that ran.
    pub(super) fn letter(&self, delivery: &Delivery, version: &Version, report: Report) -> Box<DeadLetter> {
        let attempts = attempts(&report.outcome, delivery.tries);
        let letter = self.not_run_letter(delivery, report.outcome.reason(), Some(&report.outcome));
        let version = Some(version.program.digest.to_string());
        Box::new(DeadLetter { attempts, version, log: report.log, backtrace: report.backtrace, ..*letter })
    }

    /// Of one that did not, this time.
    pub(super) fn not_run_letter(&self, delivery: &Delivery, reason: String, outcome: Option<&Outcome>) -> Box<DeadLetter> {
        let (handler, queue, event, attempt) =
            (&*self.handler.name, &*self.queue_name, &*delivery.event.id, delivery.tries.failed);
        if outcome.is_none_or(|outcome| *outcome == Outcome::Lost) {
            tracing::warn!(handler, queue, event, attempt, reason, "event dead-lettered without being run");
        }
        Box::new(DeadLetter {
            id: DeadLetter::id_for(queue, handler, delivery),
            handler: handler.to_owned(),
            queue: queue.to_owned(),
            reason,
            outcome: outcome.map(Outcome::name),
            limit: outcome.and_then(Outcome::limit),
            attempts: delivery.tries.failed,
            first_at: delivery.first_seen,
            dead_at: now(),
            version: None,
            event: Arc::clone(&delivery.event),
            log: String::new(),
            backtrace: Vec::new(),
        })
    }
}

/// Whether an event that arrives like this may have a dead letter of an earlier time: its process was ended between letter and settlement,
/// or the settlement came too late. Then what it ended as was a try, and stands among those that went before ([`given_up`]). A queue that
/// one process has may have lost that as well, with the power of its machine: there, whatever is older than the process, `since`.
pub(super) fn may_have_letter(tries: Tries, first_seen: Timestamp, since: Option<Timestamp>) -> bool {
    tries != Tries::default() || since.is_some_and(|since| first_seen < since)
}

/// What an event that is given up has behind it, should it come again all the same: a failure from outside costs no attempt there either.
pub(super) fn given_up(outcome: Option<&Outcome>, before: Tries, now: Timestamp) -> Tries {
    match outcome {
        Some(Outcome::Host { .. }) => {
            let since = before.outside_since.unwrap_or(now);
            Tries { outside: before.outside.saturating_add(1), outside_since: Some(since), ..before }
        }
        _ => Tries { failed: before.failed.saturating_add(1), ..before },
    }
}

/// Tries that counted: an outside failure is none.
fn attempts(outcome: &Outcome, before: Tries) -> u32 {
    before.failed + u32::from(!matches!(outcome, Outcome::Host { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_tried_is_not_asked_for() {
        let tries = |failed, outside| Tries { failed, outside, outside_since: None };
        let start = Some(Timestamp(100));
        for (tries, first_seen, since, expected) in [
            (tries(0, 0), 50, None, false),
            (tries(0, 0), 100, start, false),
            (tries(0, 0), 99, start, true),
            (tries(1, 0), 100, start, true),
            (tries(0, 1), 50, None, true),
        ] {
            assert_eq!(may_have_letter(tries, Timestamp(first_seen), since), expected, "{tries:?} {first_seen} {since:?}");
        }
    }

    #[test]
    fn whatever_is_given_up_is_asked_for_when_it_comes_again() {
        let host = Outcome::Host { reason: String::new(), limit: None, after: None };
        let reject = Outcome::Reject { reason: String::new() };
        let before = Tries { failed: 3, outside: 2, outside_since: Some(Timestamp(7)) };
        for (outcome, before, expected) in [
            (Some(&reject), Tries::default(), Tries { failed: 1, ..Tries::default() }),
            (None, Tries::default(), Tries { failed: 1, ..Tries::default() }),
            (Some(&reject), before, Tries { failed: 4, ..before }),
            (Some(&host), Tries::default(), Tries { outside: 1, outside_since: Some(Timestamp(9)), ..Tries::default() }),
            (Some(&host), before, Tries { outside: 3, ..before }),
        ] {
            let tries = given_up(outcome, before, Timestamp(9));
            assert_eq!(tries, expected, "{outcome:?} {before:?}");
            assert!(may_have_letter(tries, Timestamp(0), None));
        }
    }
}
