//! The running side of a subscription: one runner takes events one after another, runs each on the version of its start, and judges it.

use std::sync::Arc;
use std::time::{Duration, Instant};

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
pub(super) const TURN: Duration = Duration::from_millis(2);

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
        let mut lost = Lost { work: &self.work, running: 0 };
        let mut done = None;
        let (mut turn, mut taken) = (Instant::now(), 0);
        while let Some(item) = self.work.next(done.take(), &cancel) {
            lost.running = 1;
            // Only the end of the grace time drops a run: the delivery then stays leased, and closing the queue gives it back.
            done = tokio::select! {
                biased;
                done = self.run_unless_lapsed(item, &cancel) => Some(done),
                () = abort.cancelled() => return,
            };
            lost.running = 0;
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
                self.say_lapsed(&item);
                return Done::Lapsed(item);
            }
        };
        self.hand_in(item, end)
    }

    /// As the runner hands it in.
    pub(super) fn hand_in(&self, item: Item, end: RunEnd) -> Done {
        match end {
            RunEnd::Ended(end, claim) => Done::Ended(Ended { claim, ..self.ended(&item, end) }),
            RunEnd::Park(due) => Done::Park(item, due),
        }
    }

    async fn run(&self, item: &mut Item) -> RunEnd {
        let config = &self.handler.config;
        let delivery = &item.delivery;
        if is_expired(&delivery.event, delivery.first_seen, config.expires, now()) || self.is_over(delivery) {
            self.work.not_run();
            return RunEnd::Ended(End::Expired, None);
        }
        let claim = match self.claim(delivery).await {
            Ok(claim) => claim,
            Err(end) => return self.not_begun(delivery, end),
        };
        self.note_begun(delivery);
        let version = self.handler.current();
        let mut report = sandbox::run(&version.program, &version.setup, self.job(item)).await;
        if report.outcome == Outcome::Done && !report.published.is_empty() {
            let left = version.setup.limits.deadline.saturating_sub(report.elapsed);
            if let Err(instead) = self.send(std::mem::take(&mut report.published), left).await {
                report.outcome = instead;
            }
        }
        if report.outcome == Outcome::Done {
            self.reply(delivery, report.reply.take()).await;
        }
        self.count(&report, 1, std::slice::from_ref(&report.outcome));
        self.say_log(&delivery.event.id, delivery.tries.failed + 1, &version, &report.log);
        let judged = self.judge(delivery, &version, report);
        self.conclude(item, &version, judged, claim).await
    }

    /// It ends, or waits, instead of being run.
    pub(super) fn not_begun(&self, delivery: &Delivery, end: RunEnd) -> RunEnd {
        if matches!(end, RunEnd::Park(_)) {
            self.queue.note(&self.name, delivery.position, delivery.tries);
        }
        self.work.not_run();
        end
    }

    /// For the case that this process is killed while it runs.
    pub(super) fn note_begun(&self, delivery: &Delivery) {
        let before = delivery.tries;
        self.queue.note(&self.name, delivery.position, Tries { failed: before.failed.saturating_add(1), ..before });
        let (queue, handler, event) = (&*self.queue_name, &*self.handler.name, &*delivery.event.id);
        // A run that never ends is known by this line alone.
        tracing::trace!(queue, handler, event, attempt = before.failed + 1, "event runs");
    }

    /// What is to become of a delivery by what its run came to; said, and told the circuit breaker.
    pub(super) fn judge(&self, delivery: &Delivery, version: &Version, report: Report) -> Judged {
        let now = now();
        let config = &self.handler.config;
        let verdict = verdict(&report.outcome, delivery.tries, &config.retry, now, fastrand::f64());
        let verdict = if self.answer_by(delivery).is_some() { verdict.at_last() } else { verdict };
        // Its lane waits with it, at most as long as the handler's own failures make it wait (delivery.md §4).
        let verdict = if config.order_by.is_some() { verdict.within(now.after(config.retry.backoff_to)) } else { verdict };
        self.say(delivery, version, &report.outcome, verdict);
        self.observe(&report.outcome, now);
        Judged { report, verdict, now }
    }

    /// Does to a delivery what can be done before it is settled.
    pub(super) async fn conclude(
        &self,
        item: &mut Item,
        version: &Arc<Version>,
        judged: Judged,
        claim: Option<Sighting>,
    ) -> RunEnd {
        let Judged { report, verdict, now } = judged;
        let before = item.delivery.tries;
        match verdict {
            Verdict::Pause => {
                self.handler.fail(version, &report.outcome.reason());
                if item.lane.is_some() {
                    self.park(item, now.after(LOAD_AGAIN), before)
                } else {
                    RunEnd::Ended(End::GivenBack(Cause::Pause, item.tried.then_some((Timestamp(0), before))), claim)
                }
            }
            Verdict::Dead => {
                self.queue.note(&self.name, item.delivery.position, given_up(Some(&report.outcome), before, now));
                self.refuse(&item.delivery, &report.outcome).await;
                RunEnd::Ended(End::Judged(verdict, Some(self.letter(&item.delivery, version, report))), claim)
            }
            Verdict::Retry { due, tries } if self.holds_retries() => {
                self.extend(claim, due.since(now)).await;
                self.park(item, due, tries)
            }
            Verdict::Ack | Verdict::Retry { .. } => RunEnd::Ended(End::Judged(verdict, None), claim),
        }
    }

    pub(super) fn job<'a>(&'a self, item: &'a Item) -> Job<'a> {
        let Delivery { event, tries, first_seen, .. } = &item.delivery;
        Job {
            event,
            queue: &self.queue_name,
            order_key: item.lane.as_deref(),
            attempt: tries.failed + 1,
            attempts_left: attempts_left(*tries, &self.handler.config.retry),
            first_seen: *first_seen,
            answer_by: self.answer_by(&item.delivery),
        }
    }

    /// Holds a retry here, and notes it for the case that this process is killed meanwhile.
    fn park(&self, item: &mut Item, due: Timestamp, tries: Tries) -> RunEnd {
        item.delivery.tries = tries;
        item.tried = true;
        item.alone |= self.runs_alone(tries);
        self.queue.note(&self.name, item.delivery.position, tries);
        RunEnd::Park(due)
    }

    /// Claims the event where `duplicates` is on (delivery.md §8); else nothing. An error is how the delivery ends or waits instead of
    /// being run.
    pub(super) async fn claim(&self, delivery: &Delivery) -> Result<Option<Sighting>, RunEnd> {
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
}

/// What a run came to, and what is to become of its delivery.
pub(super) struct Judged {
    pub(super) report: Report,
    pub(super) verdict: Verdict,
    now: Timestamp,
}

/// What a run came to for its delivery.
pub(super) enum RunEnd {
    /// It ended, with the claim that it had.
    Ended(End, Option<Sighting>),
    /// It is held here until then.
    Park(Timestamp),
}

/// Takes a runner that ends in the middle of a run out of the count: at the end of the grace time, or by a panic, which is a bug.
pub(super) struct Lost<'a> {
    pub(super) work: &'a Work,
    /// Events that it runs.
    pub(super) running: usize,
}

impl Drop for Lost<'_> {
    fn drop(&mut self) {
        if self.running > 0 {
            self.work.lose_runner(self.running);
        }
    }
}
