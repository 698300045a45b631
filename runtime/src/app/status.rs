//! What the running server knows of itself, for the HTTP side.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Queues;
use crate::admin::Backend;
use crate::admin::backend::Reloads;
use crate::admin::status::queue::QueueFacts;
use crate::admin::status::{HandlerState, HandlerStatus, QueueNames, QueueStatus, Readiness, Usage};
use crate::clock::now;
use crate::dead::DeadLetter;
use crate::dispatcher::Subscription;
use crate::handler::{Handler, State};
use crate::queue::BoxFuture;
use crate::stats::{Counts, SubscriptionStats};
use crate::store::{DeadFilter, Store};

/// See the module.
pub(super) struct Status {
    queues: Queues,
    group: String,
    handlers: Vec<Arc<Handler>>,
    stats: Vec<Arc<SubscriptionStats>>,
    store: Arc<Store>,
    draining: Arc<AtomicBool>,
}

impl Status {
    pub(super) fn new(
        queues: &Queues,
        group: &str,
        subscriptions: &[Arc<Subscription>],
        store: &Arc<Store>,
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
            stats: subscriptions.iter().map(|subscription| Arc::clone(&subscription.stats)).collect(),
            store: Arc::clone(store),
            draining: Arc::clone(draining),
        })
    }

    fn handler(&self, handler: &Handler) -> HandlerStatus {
        let version = handler.current();
        let (state, error) = match &*handler.state().borrow() {
            State::Running => (HandlerState::Running, None),
            State::Held { error } => (HandlerState::Paused, Some(error.clone())),
            State::Failed { error } => (HandlerState::Failed, Some(error.clone())),
        };
        let counts: Vec<Counts> =
            self.stats.iter().filter(|stats| *stats.handler == *handler.name).map(|stats| stats.snapshot()).collect();
        let limit = |limit| Usage { limit: Some(limit), ..Usage::default() };
        HandlerStatus {
            name: handler.name.to_string(),
            queue: QueueNames::from(handler.config.queues.as_slice()),
            state,
            paused_by: error.is_some().then(|| "load".to_owned()),
            version: Some(version.program.digest.to_string()),
            loaded_at: Some(version.loaded_at.to_string()),
            previous: handler.previous(),
            fuel: limit(handler.config.limits.fuel),
            memory: limit(handler.config.limits.memory),
            error: error.or_else(|| handler.refused()),
            ..HandlerStatus::default()
        }
        .with_counts(&counts)
    }

    async fn queue(&self, name: &str) -> Option<QueueStatus> {
        let (queue, config) = self.queues.get(name)?;
        let counts: Vec<(&str, Option<Counts>)> = self
            .stats
            .iter()
            .filter(|stats| stats.queue == name)
            .map(|stats| (stats.handler.as_str(), Some(stats.snapshot())))
            .collect();
        let depth = queue.depth().await;
        let facts = QueueFacts { name, config, features: queue.features(), group: &self.group, handlers: &counts };
        Some(QueueStatus::new(&facts, depth, now()))
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

    fn dead(&self, filter: DeadFilter) -> BoxFuture<'_, Result<(Vec<DeadLetter>, bool), String>> {
        Box::pin(async {
            let page = self.store.list_dead(filter).await.map_err(|error| error.to_string())?;
            for place in &page.missing {
                tracing::warn!(%place, "a list of dead letters lacks those of a place");
            }
            for one in &page.unreadable {
                tracing::warn!(id = %one.id, queue = %one.queue, reason = %one.reason, "a dead letter can't be read: it can be dropped");
            }
            Ok((page.letters, page.next.is_some()))
        })
    }

    fn dead_one<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, String>> {
        Box::pin(async { self.store.get_dead(id).await.map_err(|error| error.to_string()) })
    }

    fn dead_counts(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, String>> {
        Box::pin(async {
            let counts = self.store.dead_counts().await.map_err(|error| error.to_string())?;
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
        Readiness {
            draining: self.draining.load(Ordering::Relaxed),
            // Embedded queues are connected from the start.
            not_ready: Vec::new(),
            degraded: self.handlers.iter().filter_map(failed).collect(),
        }
    }

    fn stats(&self) -> Vec<Arc<SubscriptionStats>> {
        self.stats.clone()
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
