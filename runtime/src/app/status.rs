//! What the running server knows of itself, for the HTTP side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Queues;
use super::operator::Operator;
use crate::admin::Backend;
use crate::admin::backend::{Forgotten, Refused, Reloads};
use crate::admin::status::queue::{FallbackStatus, QueueFacts};
use crate::admin::status::{HandlerState, HandlerStatus, QueueNames, QueueStatus, Readiness, Usage};
use crate::clock::{Timestamp, now};
use crate::dead::grave::Risen;
use crate::dead::replay::{ReplayError, Replayed};
use crate::dead::{DeadFilter, DeadLetter, DeadLetters as _, DeadPage};
use crate::dispatcher::Subscription;
use crate::handler::{Handler, PausedBy, State};
use crate::queue::fallback::Fallback;
use crate::queue::{BoxFuture, Health};
use crate::stats::{Counts, SubscriptionStats};
use crate::store::StoreError;

/// See the module.
pub(super) struct Status {
    queues: Queues,
    group: String,
    handlers: Vec<Arc<Handler>>,
    subscriptions: Vec<Arc<Subscription>>,
    operator: Arc<Operator>,
    draining: Arc<AtomicBool>,
}

impl Status {
    pub(super) fn new(
        queues: &Queues,
        group: &str,
        subscriptions: &[Arc<Subscription>],
        operator: &Arc<Operator>,
        draining: &Arc<AtomicBool>,
    ) -> Arc<Self> {
        let mut handlers: Vec<Arc<Handler>> = Vec::new();
        for subscription in subscriptions {
            if !handlers.iter().any(|known| known.name == subscription.handler.name) {
                handlers.push(Arc::clone(&subscription.handler));
            }
        }
        Arc::new(Self {
            queues: queues.clone(),
            group: group.to_owned(),
            handlers,
            subscriptions: subscriptions.to_vec(),
            operator: Arc::clone(operator),
            draining: Arc::clone(draining),
        })
    }

    fn handler(&self, handler: &Handler) -> HandlerStatus {
        let version = handler.current();
        let own = || self.subscriptions.iter().filter(|subscription| subscription.handler.name == handler.name);
        let until = own().filter_map(|subscription| subscription.paused_until()).min();
        let (state, paused_by, error) = shown(&handler.state().borrow(), *handler.paused().borrow(), until);
        let counts: Vec<Counts> = own().map(|subscription| subscription.stats.snapshot()).collect();
        let full = || own().find_map(|subscription| subscription.parked_full()).map(|full| full.to_string());
        let limit = |limit| Usage { limit: Some(limit), ..Usage::default() };
        HandlerStatus {
            name: handler.name.to_string(),
            queue: QueueNames::from(handler.config.queues.as_slice()),
            state,
            paused_by: paused_by.map(str::to_owned),
            version: Some(version.program.digest.to_string()),
            loaded_at: Some(version.loaded_at.to_string()),
            previous: handler.previous(),
            fuel: limit(handler.config.limits.fuel),
            memory: limit(handler.config.limits.memory),
            until: until.filter(|_| paused_by == Some(BREAKER)).map(|until| until.to_string()),
            error: error.or_else(|| handler.refused()).or_else(full),
            ..HandlerStatus::default()
        }
        .with_counts(&counts)
    }

    async fn queue(&self, name: &str) -> Option<QueueStatus> {
        let (queue, config) = self.queues.get(name)?;
        let counts: Vec<(&str, Option<Counts>)> = self
            .subscriptions
            .iter()
            .map(|subscription| &subscription.stats)
            .filter(|stats| stats.queue == name)
            .map(|stats| (stats.handler.as_str(), Some(stats.snapshot())))
            .collect();
        let depth = queue.depth().await;
        let facts = QueueFacts { name, config, features: queue.features(), group: &self.group, handlers: &counts };
        let fallback = match queue.fallback() {
            Some(fallback) => Some(FallbackStatus::of(fallback).await),
            None => None,
        };
        Some(QueueStatus { fallback, dropped: queue.health().dropped, ..QueueStatus::new(&facts, depth, now()) })
    }
}

impl Backend for Status {
    fn handlers(&self) -> Vec<HandlerStatus> {
        self.handlers.iter().map(|handler| self.handler(handler)).collect()
    }

    fn queues(&self) -> BoxFuture<'_, Vec<QueueStatus>> {
        Box::pin(async {
            let mut queues = Vec::with_capacity(self.queues.len());
            for name in self.queues.keys() {
                queues.extend(self.queue(name).await);
            }
            queues
        })
    }

    fn dead(&self, filter: DeadFilter) -> BoxFuture<'_, Result<DeadPage, String>> {
        Box::pin(async {
            let page = self.operator.letters.list(filter).await.map_err(|error| error.to_string())?;
            for place in &page.missing {
                tracing::warn!(%place, "a list of dead letters lacks those of a place");
            }
            for one in &page.unreadable {
                tracing::warn!(id = %one.id, queue = %one.queue, reason = %one.reason, "a dead letter can't be read: it can be dropped");
            }
            Ok(page)
        })
    }

    fn dead_one<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, String>> {
        Box::pin(async { self.operator.letters.get(id).await.map_err(|error| error.to_string()) })
    }

    fn replay<'a>(&'a self, id: &'a str, to: Option<&'a str>) -> BoxFuture<'a, Result<Replayed, ReplayError>> {
        let (operator, id, to) = (Arc::clone(&self.operator), id.to_owned(), to.map(str::to_owned));
        Box::pin(async move {
            let done = finished(async move { operator.replay(&id, to.as_deref()).await }).await;
            done.unwrap_or_else(|why| Err(ReplayError::Unread(StoreError::Unavailable(why))))
        })
    }

    fn replay_queue<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<Risen, Refused>> {
        let (operator, queue) = (Arc::clone(&self.operator), queue.to_owned());
        Box::pin(async move {
            let done = finished(async move { operator.replay_queue(&queue).await }).await;
            done.unwrap_or_else(|why| Err(Refused::Unavailable(why)))
        })
    }

    fn drop_dead<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        let (operator, id) = (Arc::clone(&self.operator), id.to_owned());
        Box::pin(async move {
            let done = finished(async move { operator.remove(&id).await.map_err(|error| error.to_string()) }).await;
            done.unwrap_or_else(Err)
        })
    }

    fn set_paused<'a>(&'a self, handler: &'a str, paused: bool) -> BoxFuture<'a, Result<(), Refused>> {
        let (operator, handler) = (Arc::clone(&self.operator), handler.to_owned());
        Box::pin(async move {
            let done = finished(async move { operator.set_paused(&handler, paused).await }).await;
            done.unwrap_or_else(|why| Err(Refused::Unavailable(why)))
        })
    }

    fn forget<'a>(&'a self, handler: &'a str) -> BoxFuture<'a, Result<Vec<Forgotten>, Refused>> {
        let (operator, handler) = (Arc::clone(&self.operator), handler.to_owned());
        Box::pin(async move {
            let done = finished(async move { operator.forget(&handler).await }).await;
            done.unwrap_or_else(|why| Err(Refused::Unavailable(why)))
        })
    }

    fn dead_counts(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, String>> {
        Box::pin(async {
            let counts = self.operator.letters.counts().await.map_err(|error| error.to_string())?;
            let held = |name: &String| (name.clone(), counts.queues.get(name).map_or(0, |count| count.held));
            Ok(self.queues.keys().map(held).collect())
        })
    }

    fn readiness(&self) -> Readiness {
        let failed = |handler: &Arc<Handler>| match &*handler.state().borrow() {
            State::Running => None,
            State::Held { error } => Some(format!("handler `{}` waits: {error}", handler.name)),
            State::Failed { error } => Some(format!("handler `{}` failed: {error}", handler.name)),
        };
        let (mut not_ready, mut degraded) = (Vec::new(), Vec::new());
        for (name, (queue, config)) in &self.queues {
            let Health { connected_once, error, .. } = queue.health();
            let error = error.unwrap_or_default();
            match (connected_once, error.is_empty(), config.ingress) {
                (true, true, _) => {}
                (false, ..) => not_ready.push(format!("queue `{name}` has not been reached yet: {error}")),
                (true, false, true) => match queue.fallback().map(Fallback::problem) {
                    // It takes events all the same (delivery.md §10).
                    Some(None) => degraded.push(format!("queue `{name}` is away, its fallback takes events: {error}")),
                    Some(Some(why)) => {
                        not_ready.push(format!("queue `{name}` can't take events: {error}; nor can its fallback: {why}"))
                    }
                    None => not_ready.push(format!("queue `{name}` can't take events: {error}")),
                },
                (true, false, false) => degraded.push(format!("queue `{name}` is away: {error}")),
            }
        }
        Readiness {
            draining: self.draining.load(Ordering::Relaxed),
            not_ready,
            degraded: self.handlers.iter().filter_map(failed).chain(degraded).collect(),
        }
    }

    fn stats(&self) -> Vec<Arc<SubscriptionStats>> {
        self.subscriptions.iter().map(|subscription| Arc::clone(&subscription.stats)).collect()
    }

    fn reloads(&self) -> Vec<Reloads> {
        let reloads = |handler: &Arc<Handler>| Reloads {
            handler: handler.name.to_string(),
            succeeded: handler.reloads.swapped.load(Ordering::Relaxed),
            failed: handler.reloads.refused.load(Ordering::Relaxed),
        };
        self.handlers.iter().map(reloads).collect()
    }
}

/// `paused_by` of a handler whose circuit breaker is open on one of its queues.
const BREAKER: &str = "breaker";

/// What a handler's state is called, by whom it is paused, and what is wrong. A failure is told before a pause: it needs somebody.
fn shown(
    state: &State,
    paused: Option<PausedBy>,
    until: Option<Timestamp>,
) -> (HandlerState, Option<&'static str>, Option<String>) {
    match (state, paused) {
        (State::Failed { error }, _) => (HandlerState::Failed, Some("load"), Some(error.clone())),
        (State::Held { error }, by) => (HandlerState::Paused, Some(by.map_or("load", PausedBy::name)), Some(error.clone())),
        (State::Running, Some(by)) => (HandlerState::Paused, Some(by.name()), None),
        (State::Running, None) if until.is_some() => (HandlerState::Paused, Some(BREAKER), None),
        (State::Running, None) => (HandlerState::Running, None, None),
    }
}

/// Runs it to its end, also when nobody waits for it any more: half of a replay is worse than all or none of it.
async fn finished<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
    tokio::spawn(work).await.map_err(|error| format!("it was stopped: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_before_a_pause() {
        let failed = State::Failed { error: "no instance".to_owned() };
        let held = State::Held { error: "disk is full".to_owned() };
        for (state, paused, expected) in [
            (&State::Running, None, (HandlerState::Running, None, None)),
            (&State::Running, Some(PausedBy::Operator), (HandlerState::Paused, Some("operator"), None)),
            (&State::Running, Some(PausedBy::Config), (HandlerState::Paused, Some("config"), None)),
            (&held, None, (HandlerState::Paused, Some("load"), Some("disk is full"))),
            (&held, Some(PausedBy::Operator), (HandlerState::Paused, Some("operator"), Some("disk is full"))),
            (&failed, Some(PausedBy::Operator), (HandlerState::Failed, Some("load"), Some("no instance"))),
        ] {
            let (shown, by, error) = shown(state, paused, None);
            assert_eq!((shown, by, error.as_deref()), expected, "{state:?} {paused:?}");
        }
    }
}
