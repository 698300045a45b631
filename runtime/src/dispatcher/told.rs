//! What is told of a run: counted, logged, and said to the circuit breaker. Decides nothing.

use tracing::Level;

use super::Subscription;
use super::lanes::Item;
use crate::clock::Timestamp;
use crate::handler::Version;
use crate::outcome::Outcome;
use crate::queue::Delivery;
use crate::sandbox::{self, Report};
use crate::verdict::Verdict;

impl Subscription {
    /// Tells the circuit breaker how a run ended.
    pub(super) fn observe(&self, outcome: &Outcome, now: Timestamp) {
        // No instance was made: it says nothing of what is outside.
        if matches!(outcome, Outcome::Load { .. }) {
            self.work.not_run();
            return;
        }
        let outside = matches!(outcome, Outcome::Host { .. });
        let changed = self.breaker.send_if_modified(|breaker| breaker.observe(outside, now, fastrand::f64()));
        if changed {
            let (queue, handler, reason) = (&*self.queue_name, &*self.handler.name, outcome.reason());
            match self.paused_until() {
                Some(until) => {
                    tracing::warn!(queue, handler, reason, %until, "everything fails from outside: paused, one event is tried then")
                }
                None => tracing::info!(queue, handler, "it works again: all events are taken"),
            }
        }
    }

    /// Counts a call. Each of its events is an attempt with its outcome; none are given where the call says nothing of them. Time and
    /// memory are the call's, as their limits are; each event has its share of the fuel, whose limit is by event.
    pub(super) fn count(&self, report: &Report, events: usize, outcomes: &[Outcome]) {
        let mut counts = self.stats.count();
        counts.attempts += outcomes.len() as u64;
        for outcome in outcomes {
            counts.outcomes[outcome.index()] += 1;
        }
        counts.seconds.observe(report.elapsed.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a histogram's sum needs no more than 52 bits")]
        {
            let share = report.fuel as f64 / events.max(1) as f64;
            (0..events).for_each(|_| counts.fuel.observe(share));
            counts.memory.observe(report.memory as f64);
        }
    }

    /// What the guest wrote: bounded by its limit `output`.
    pub(super) fn say_log(&self, event: &str, attempt: u32, version: &Version, log: &str) {
        let (handler, queue, version) = (&*self.handler.name, &*self.queue_name, version.short());
        for line in log.lines() {
            match sandbox::level(line) {
                (Level::ERROR, line) => tracing::error!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
                (Level::WARN, line) => tracing::warn!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
                (Level::INFO, line) => tracing::info!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
                (Level::DEBUG, line) => tracing::debug!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
                (Level::TRACE, line) => tracing::trace!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
            }
        }
    }

    /// Levels by what an operator has to do: nothing, look, act (style.md 34).
    pub(super) fn say(&self, delivery: &Delivery, version: &Version, outcome: &Outcome, verdict: Verdict) {
        let (handler, queue, event, version) = (&*self.handler.name, &*self.queue_name, &*delivery.event.id, version.short());
        let attempt = delivery.tries.failed + 1;
        let (reason, limit) = (|| outcome.reason(), outcome.limit().map(|limit| limit.name));
        let outcome = outcome.name();
        match verdict {
            Verdict::Ack => tracing::debug!(handler, queue, event, attempt, version, outcome, "event acknowledged"),
            Verdict::Retry { due, .. } => {
                let reason = reason();
                tracing::info!(handler, queue, event, attempt, version, outcome, limit, %due, %reason, "event will be tried again");
            }
            Verdict::Dead => {
                let reason = reason();
                tracing::warn!(handler, queue, event, attempt, version, outcome, limit, %reason, "event dead-lettered");
            }
            Verdict::Pause => tracing::warn!(handler, queue, event, attempt, version, outcome, "event given back"),
        }
    }

    pub(super) fn say_lapsed(&self, item: &Item) {
        let (queue, handler, event) = (&*self.queue_name, &*self.handler.name, &*item.delivery.event.id);
        tracing::info!(queue, handler, event, attempt = item.delivery.tries.failed + 1, "event stopped: its lease is gone");
    }

    /// A call of several events that came to nothing.
    pub(super) fn say_failed(&self, events: usize, version: &Version, outcome: &Outcome) {
        let (handler, queue, version) = (&*self.handler.name, &*self.queue_name, version.short());
        let (reason, limit) = (outcome.reason(), outcome.limit().map(|limit| limit.name));
        let outcome = outcome.name();
        tracing::info!(handler, queue, events, version, outcome, limit, %reason, "batch failed: each of its events runs once more, alone");
    }
}
