//! A delivery that is given up becomes a dead letter.

use std::sync::Arc;

use super::Subscription;
use crate::clock::now;
use crate::dead::DeadLetter;
use crate::handler::Version;
use crate::outcome::Outcome;
use crate::queue::{Delivery, Tries};
use crate::sandbox::Report;

impl Subscription {
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

/// Tries that counted: an outside failure is none.
fn attempts(outcome: &Outcome, before: Tries) -> u32 {
    before.failed + u32::from(!matches!(outcome, Outcome::Host { .. }))
}
