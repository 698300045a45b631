//! The pulling side of a subscription: as many events as there is room for, while its handler may run.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use super::Subscription;
use super::admit::{Admission, Rules, admit};
use super::ended::{End, Ended};
use super::gate::Gate;
use super::lanes::Item;
use super::letter::given_up;
use crate::clock::now;
use crate::filter::EvaluationError;
use crate::outcome::Outcome;
use crate::queue::{Delivery, QueueError, timer};
use crate::verdict::Verdict;

/// How long the runners of a subscription may take nothing while events wait, before each gets a runner of its own: a run is short in
/// time too, so that a slow handler does not hold up the events behind it.
const STALL: Duration = Duration::from_millis(2);

/// Waits between attempts at a queue that is away: doubled from the first to the longest.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

impl Subscription {
    /// Pulls until told to stop.
    pub(super) async fn pull_until(self: &Arc<Self>, stop: &CancellationToken) {
        let (mut state, mut paused, mut breaker) = (self.handler.state(), self.handler.paused(), self.breaker.subscribe());
        let mut wait = RECONNECT.0;
        let mut before = Gate::Open;
        loop {
            let gate = self.gate();
            if gate != before {
                self.turn(gate);
                before = gate;
            }
            // Errors would mean that the handler is gone, and it outlives its subscriptions.
            let changed = async {
                tokio::select! {
                    _ = state.changed() => {}
                    _ = paused.changed() => {}
                    _ = breaker.changed() => {}
                }
            };
            let pulled = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = changed => continue,
                () = until(gate) => continue,
                pulled = self.starting_runners(self.pull()), if matches!(gate, Gate::Open | Gate::Probe(_)) => pulled,
            };
            match pulled {
                Ok(deliveries) => {
                    wait = RECONNECT.0;
                    // What was lost may be among what came: first the one, then the other.
                    if let Some(lost) = self.queue.lapsed(&self.name).now_or_never() {
                        self.lose(&lost);
                    }
                    self.take_in(deliveries);
                }
                Err(QueueError::Closed) => return,
                Err(error) => {
                    if wait == RECONNECT.0 {
                        tracing::warn!(queue = %self.queue_name, handler = %self.handler.name, %error, "queue is away, trying again");
                    }
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = self.starting_runners(tokio::time::sleep(wait)) => {}
                    }
                    wait = (wait * 2).min(RECONNECT.1);
                }
            }
        }
    }

    /// What was pulled follows the gate: it may run, or goes back without an attempt. In order, it is held instead (delivery.md §11).
    fn turn(self: &Arc<Self>, gate: Gate) {
        let runners = match gate {
            Gate::Open | Gate::Held => self.work.allow(self.slots, false),
            Gate::Probe(_) => self.work.allow(1, true),
            Gate::Shut(_) => self.work.allow(0, false),
        };
        if matches!(gate, Gate::Shut(_)) && self.handler.config.order_by.is_none() {
            self.work.give_back();
        }
        self.start_runners(runners);
    }

    async fn pull(&self) -> Result<Vec<Delivery>, QueueError> {
        let room = self.work.room().await;
        self.queue.pull(&self.name, NonZeroUsize::new(room).unwrap_or(NonZeroUsize::MIN)).await
    }

    fn take_in(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        let config = &self.handler.config;
        let rules =
            Rules { handler: &self.handler.name, filter: config.filter.as_deref(), retry: &config.retry, hops: self.shared.hops };
        let (mut items, mut ended) = (Vec::with_capacity(deliveries.len()), Vec::new());
        for delivery in deliveries {
            let admission = admit(&delivery.event, delivery.tries, &rules);
            let lane = config.order_by.as_deref().and_then(|name| delivery.event.attribute(name)).map(Into::into);
            let item = Item { alone: self.runs_alone(delivery.tries), ..Item::new(delivery, lane) };
            let end = match admission {
                Admission::Run => {
                    items.push(item);
                    continue;
                }
                Admission::Filtered(error) => {
                    self.say_filter(error);
                    End::Filtered
                }
                Admission::Loop { hops } => {
                    self.queue.note(&self.name, item.delivery.position, given_up(None, item.delivery.tries, now()));
                    let reason =
                        format!("loop: it descends through {hops} handlers (at most {}: [ceilings] hops)", self.shared.hops);
                    End::Judged(Verdict::Dead, Some(self.not_run_letter(&item.delivery, reason, None)))
                }
                Admission::Lost => {
                    self.stats.count().outcomes[Outcome::Lost.index()] += 1;
                    End::Judged(
                        Verdict::Dead,
                        Some(self.not_run_letter(&item.delivery, Outcome::Lost.reason(), Some(&Outcome::Lost))),
                    )
                }
            };
            // It never was on its lane, so it leaves none.
            ended.push(Ended { lane: None, ..self.ended(&item, end) });
        }
        let (runners, behind) = self.work.push(items, ended);
        // A queue that one process has counts only what it was told of.
        for (position, tries) in behind.into_iter().filter(|_| self.queue.features().shared) {
            self.queue.note(&self.name, position, tries);
        }
        self.start_runners(runners);
    }

    /// An expression that has no value for an event is a mistake in it more often than not: said once.
    fn say_filter(&self, error: Option<EvaluationError>) {
        let (Some(error), Some(filter)) = (error, &self.handler.config.filter) else { return };
        if !self.filter_said.swap(true, Ordering::Relaxed) {
            let (queue, handler, error) = (&*self.queue_name, &*self.handler.name, filter.explain(&error));
            tracing::warn!(queue, handler, error, "the filter has no answer for an event, which ends as filtered (said once)");
        }
    }

    /// Waits for `future`, and meanwhile starts runners when those there are stand still.
    async fn starting_runners<F: Future>(self: &Arc<Self>, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            let Some(taken) = self.work.taken_while_waiting() else { return future.await };
            tokio::select! {
                output = &mut future => return output,
                () = tokio::time::sleep(STALL) => self.start_runners(self.work.unstall(taken)),
            }
        }
    }
}

/// Waits until a shut gate is to be looked at again: the time at which the breaker lets a probe through, and nothing else tells of it.
async fn until(gate: Gate) {
    match gate {
        Gate::Shut(until) => timer::until(until, std::future::pending()).await,
        _ => std::future::pending().await,
    }
}
