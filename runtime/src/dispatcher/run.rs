//! The running side of a subscription: one runner takes events one after another, runs each on the version of its start, and judges it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Level;

use super::Subscription;
use super::admit::{is_addressed, is_expired};
use super::ended::{Cancel, Done, End, Ended};
use super::lanes::Item;
use super::letter::given_up;
use super::work::{RUN_EVENTS, Work};
use crate::clock::{Timestamp, now};
use crate::handler::Version;
use crate::outcome::Outcome;
use crate::queue::{Delivery, Tries};
use crate::sandbox::{self, Job, Report};
use crate::stats::Cause;
use crate::store::{Claimed, EventKey, Sighting};
use crate::verdict::{Verdict, attempts_left, verdict};

/// Longest that a runner goes on before others on its thread get their turn.
const TURN: Duration = Duration::from_millis(2);

/// Added to a handler's deadline for the claim of an event (`duplicates`): publishing and settling end well within it.
const CLAIM_MARGIN: Duration = Duration::from_secs(30);

/// Longest before a claim of another delivery is looked at again: it may have been given up.
const CLAIM_AGAIN: Duration = Duration::from_secs(1);

/// When what is held in its lane is tried again while no instance of its handler can be made.
const LOAD_AGAIN: Duration = Duration::from_secs(1);

impl Subscription {
    /// Takes events until none may run.
    pub(super) async fn run_what_waits(self: Arc<Self>) {
        let abort = self.abort.clone();
        let cancel = Cancel::default();
        let mut lost = Lost { work: &self.work, running: false };
        let mut done = None;
        let (mut turn, mut taken) = (Instant::now(), 0);
        while let Some(item) = self.work.next(done.take(), &cancel) {
            lost.running = true;
            // Only the end of the grace time drops a run: the delivery then stays leased, and closing the queue gives it back.
            done = tokio::select! {
                biased;
                done = self.run_unless_lapsed(item, &cancel) => Some(done),
                () = abort.cancelled() => return,
            };
            lost.running = false;
            taken += 1;
            if taken % RUN_EVENTS == 0 && turn.elapsed() >= TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
    }

    /// A run is stopped once its lease is gone (delivery.md §3).
    async fn run_unless_lapsed(&self, mut item: Item, cancel: &Cancel) -> Done {
        let position = item.delivery.position;
        let lapsed = async {
            loop {
                cancel.notified().await;
                // It may have been meant for the run before.
                if self.work.is_lapsed(position) {
                    return;
                }
            }
        };
        let end = tokio::select! {
            biased;
            end = self.run(&mut item) => end,
            () = lapsed => {
                let (queue, handler, event) = (&*self.queue_name, &*self.handler.name, &*item.delivery.event.id);
                tracing::info!(queue, handler, event, attempt = item.delivery.tries.failed + 1, "event stopped: its lease is gone");
                return Done::Lapsed(item);
            }
        };
        match end {
            RunEnd::Ended(end, claim) => Done::Ended(Ended { claim, ..self.ended(&item, end) }),
            RunEnd::Park(due) => Done::Park(item, due),
        }
    }

    async fn run(&self, item: &mut Item) -> RunEnd {
        let config = &self.handler.config;
        let delivery = &item.delivery;
        if is_expired(&delivery.event, delivery.first_seen, config.expires, now()) {
            self.work.not_run();
            return RunEnd::Ended(End::Expired, None);
        }
        let claim = match self.claim(delivery).await {
            Ok(claim) => claim,
            Err(end) => {
                if matches!(end, RunEnd::Park(_)) {
                    // It has not begun.
                    self.queue.note(&self.name, delivery.position, delivery.tries);
                }
                self.work.not_run();
                return end;
            }
        };
        let before = delivery.tries;
        self.queue.note(&self.name, delivery.position, Tries { failed: before.failed.saturating_add(1), ..before });
        let version = self.handler.current();
        let (queue, handler, event) = (&*self.queue_name, &*self.handler.name, &*delivery.event.id);
        // A run that never ends is known by this line alone.
        tracing::trace!(queue, handler, event, attempt = before.failed + 1, "event runs");
        let mut report = sandbox::run(&version.program, &version.setup, self.job(item)).await;
        if report.outcome == Outcome::Done && !report.published.is_empty() {
            let left = version.setup.limits.deadline.saturating_sub(report.elapsed);
            if let Err(instead) = self.send(std::mem::take(&mut report.published), left).await {
                report.outcome = instead;
            }
        }
        self.count(&report);
        let now = now();
        let verdict = verdict(&report.outcome, before, &config.retry, now, fastrand::f64());
        // Its lane waits with it, at most as long as the handler's own failures make it wait (delivery.md §4).
        let verdict = if config.order_by.is_some() { verdict.within(now.after(config.retry.backoff_to)) } else { verdict };
        self.say(delivery, &version, &report, verdict);
        self.observe(&report.outcome, now);
        match verdict {
            Verdict::Pause => {
                self.handler.fail(&version, &report.outcome.reason());
                if item.lane.is_some() {
                    self.park(item, now.after(LOAD_AGAIN), before)
                } else {
                    RunEnd::Ended(End::GivenBack(Cause::Pause, item.tried.then_some((Timestamp(0), before))), claim)
                }
            }
            Verdict::Dead => {
                self.queue.note(&self.name, delivery.position, given_up(Some(&report.outcome), before, now));
                RunEnd::Ended(End::Judged(verdict, Some(self.letter(delivery, &version, report))), claim)
            }
            Verdict::Retry { due, tries } if self.holds_retries() => {
                self.extend(claim, due.since(now)).await;
                self.park(item, due, tries)
            }
            Verdict::Ack | Verdict::Retry { .. } => RunEnd::Ended(End::Judged(verdict, None), claim),
        }
    }

    fn job<'a>(&'a self, item: &'a Item) -> Job<'a> {
        let Delivery { event, tries, first_seen, .. } = &item.delivery;
        Job {
            event,
            queue: &self.queue_name,
            order_key: item.lane.as_deref(),
            attempt: tries.failed + 1,
            attempts_left: attempts_left(*tries, &self.handler.config.retry),
            first_seen: *first_seen,
        }
    }

    /// Holds a retry here, and notes it for the case that this process is killed meanwhile.
    fn park(&self, item: &mut Item, due: Timestamp, tries: Tries) -> RunEnd {
        item.delivery.tries = tries;
        item.tried = true;
        self.queue.note(&self.name, item.delivery.position, tries);
        RunEnd::Park(due)
    }

    /// Claims the event where `duplicates` is on (delivery.md §8); else nothing. An error is how the delivery ends or waits instead of
    /// being run.
    async fn claim(&self, delivery: &Delivery) -> Result<Option<Sighting>, RunEnd> {
        if self.handler.config.duplicates.is_none() || is_addressed(&delivery.event) {
            return Ok(None);
        }
        // A handler may read several queues, whose positions are of each its own.
        let position = self.queue.features().stable_position.then_some(delivery.position.0 ^ self.place);
        let claim = Sighting { key: EventKey::of(&delivery.event.source, &delivery.event.id), position };
        let lease = self.handler.config.limits.deadline + CLAIM_MARGIN;
        match self.shared.store.claim(&self.handler.name, lease, &[claim]).await {
            Ok(claimed) => match claimed.first() {
                Some(Claimed::Seen) => Err(RunEnd::Ended(End::Duplicate, None)),
                Some(Claimed::Taken { until }) => Err(RunEnd::Park((*until).min(now().after(CLAIM_AGAIN)))),
                Some(Claimed::Mine) | None => Ok(Some(claim)),
            },
            Err(error) => {
                let (queue, handler, event) = (&*self.queue_name, &*self.handler.name, &*delivery.event.id);
                tracing::warn!(queue, handler, event, %error, "whether it is a duplicate can't be told now: it waits");
                Err(RunEnd::Park(now().after(CLAIM_AGAIN)))
            }
        }
    }

    /// What waits here keeps its claim: no copy of it runs meanwhile. Where it can't, it is claimed again before it runs.
    async fn extend(&self, claim: Option<Sighting>, wait: Duration) {
        let Some(claim) = claim else { return };
        let lease = wait + self.handler.config.limits.deadline + CLAIM_MARGIN;
        if let Err(error) = self.shared.store.claim(&self.handler.name, lease, &[claim]).await {
            tracing::debug!(handler = %self.handler.name, %error, "a claim ends before the event that waits is tried again");
        }
    }

    /// Tells the circuit breaker how a run ended.
    fn observe(&self, outcome: &Outcome, now: Timestamp) {
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

    fn count(&self, report: &Report) {
        let mut counts = self.stats.count();
        counts.attempts += 1;
        counts.outcomes[report.outcome.index()] += 1;
        counts.seconds.observe(report.elapsed.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a histogram's sum needs no more than 52 bits")]
        {
            counts.fuel.observe(report.fuel as f64);
            counts.memory.observe(report.memory as f64);
        }
    }

    /// Levels by what an operator has to do: nothing, look, act (style.md 34). What the guest wrote is bounded by its limit `output`.
    fn say(&self, delivery: &Delivery, version: &Version, report: &Report, verdict: Verdict) {
        let (handler, queue, event, version) = (&*self.handler.name, &*self.queue_name, &*delivery.event.id, version.short());
        let attempt = delivery.tries.failed + 1;
        for line in report.log.lines() {
            match sandbox::level(line) {
                (Level::ERROR, line) => tracing::error!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
                (Level::WARN, line) => tracing::warn!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
                (Level::INFO, line) => tracing::info!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
                (Level::DEBUG, line) => tracing::debug!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
                (Level::TRACE, line) => tracing::trace!(target: "weir::guest", handler, queue, event, attempt, version, "{line}"),
            }
        }
        let outcome = report.outcome.name();
        let limit = report.outcome.limit().map(|limit| limit.name);
        match verdict {
            Verdict::Ack => tracing::debug!(handler, queue, event, attempt, version, outcome, "event acknowledged"),
            Verdict::Retry { due, .. } => {
                let reason = report.outcome.reason();
                tracing::info!(handler, queue, event, attempt, version, outcome, limit, %due, %reason, "event will be tried again");
            }
            Verdict::Dead => {
                let reason = report.outcome.reason();
                tracing::warn!(handler, queue, event, attempt, version, outcome, limit, %reason, "event dead-lettered");
            }
            Verdict::Pause => tracing::warn!(handler, queue, event, attempt, version, outcome, "event given back"),
        }
    }
}

/// What a run came to for its delivery.
enum RunEnd {
    /// It ended, with the claim that it had.
    Ended(End, Option<Sighting>),
    /// It is held here until then.
    Park(Timestamp),
}

/// Takes a runner that ends in the middle of a run out of the count: at the end of the grace time, or by a panic, which is a bug.
struct Lost<'a> {
    work: &'a Work,
    running: bool,
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        if self.running {
            self.work.lose_runner();
        }
    }
}
