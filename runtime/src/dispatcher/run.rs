//! The running side of a subscription: one runner takes events one after another, runs each on the version of its start, and judges it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::Level;

use super::Subscription;
use super::work::{End, Ended, RUN_EVENTS, Work};
use crate::clock::now;
use crate::dead::DeadLetter;
use crate::handler::Version;
use crate::outcome::Outcome;
use crate::queue::{Delivery, Tries};
use crate::sandbox::{self, Job, Report};
use crate::stats::Cause;
use crate::verdict::{Verdict, attempts_left, is_exhausted, verdict};

/// Longest that a runner goes on before others on its thread get their turn.
const TURN: Duration = Duration::from_millis(2);

impl Subscription {
    /// Takes events until none waits.
    pub(super) async fn run_what_waits(self: Arc<Self>) {
        let abort = self.abort.clone();
        let mut lost = Lost { work: &self.work, running: false };
        let mut ended = None;
        let (mut turn, mut taken) = (Instant::now(), 0);
        while let Some(delivery) = self.work.next(ended.take()) {
            lost.running = true;
            // Only the end of the grace time drops a run: the delivery then stays leased, and closing the queue gives it back.
            ended = tokio::select! {
                biased;
                ended = self.run(delivery) => Some(ended),
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

    async fn run(&self, delivery: Delivery) -> Ended {
        let policy = &self.handler.config.retry;
        if is_exhausted(delivery.tries, policy) {
            self.stats.count().outcomes[Outcome::Lost.index()] += 1;
            let letter = self.dead_letter(&delivery, &Outcome::Lost, delivery.tries.failed, None);
            return Ended::new(&delivery, End::Judged(Verdict::Dead, Some(letter)));
        }
        let version = self.handler.current();
        let job = Job {
            event: &delivery.event,
            queue: &self.queue_name,
            attempt: delivery.tries.failed + 1,
            attempts_left: attempts_left(delivery.tries, policy),
            first_seen: delivery.first_seen,
        };
        // For the case that the process is killed by it.
        let begun = Tries { failed: delivery.tries.failed + 1, ..delivery.tries };
        self.queue.note(&self.name, delivery.position, begun);
        let report = sandbox::run(&version.program, &version.setup, job).await;
        self.count(&report);
        let verdict = verdict(&report.outcome, delivery.tries, policy, now(), fastrand::f64());
        self.say(&delivery, &version, &report, verdict);
        let end = match verdict {
            Verdict::Pause => {
                self.handler.fail(&version, &report.outcome.reason());
                End::GivenBack(Cause::Pause)
            }
            Verdict::Dead => {
                let attempts = attempts(&report.outcome, delivery.tries);
                let letter =
                    self.dead_letter(&delivery, &report.outcome, attempts, Some((&version, report.log, report.backtrace)));
                End::Judged(verdict, Some(letter))
            }
            Verdict::Ack | Verdict::Retry { .. } => End::Judged(verdict, None),
        };
        Ended::new(&delivery, end)
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

    fn dead_letter(
        &self,
        delivery: &Delivery,
        outcome: &Outcome,
        attempts: u32,
        run: Option<(&Version, String, Vec<String>)>,
    ) -> Box<DeadLetter> {
        let (version, log, backtrace) = match run {
            Some((version, log, backtrace)) => (Some(version.program.digest.to_string()), log, backtrace),
            None => (None, String::new(), Vec::new()),
        };
        Box::new(DeadLetter {
            id: DeadLetter::id_for(&self.queue_name, &self.handler.name, delivery),
            handler: self.handler.name.to_string(),
            queue: self.queue_name.to_string(),
            reason: outcome.reason(),
            outcome: Some(outcome.name()),
            limit: outcome.limit(),
            attempts,
            first_at: delivery.first_seen,
            dead_at: now(),
            version,
            event: Arc::clone(&delivery.event),
            log,
            backtrace,
        })
    }
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

/// Tries that counted: an outside failure is none.
fn attempts(outcome: &Outcome, before: Tries) -> u32 {
    before.failed + u32::from(!matches!(outcome, Outcome::Host { .. }))
}
