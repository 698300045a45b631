//! What an app would be behind the HTTP side, small.

use super::super::backend::{Forgotten, Refused, Reloads};
use super::super::status::{HandlerStatus, QueueFacts, QueueStatus, Readiness};
use super::super::*;
use crate::clock;
use crate::dead::grave::Risen;
use crate::dead::replay::{Readers, ReplayError, Replayed, replay};
use crate::dead::{DeadBounds, DeadFilter, DeadLetter, DeadPage};
use crate::queue::url::QueueUrl;
use crate::queue::{BoxFuture, Start};
use crate::stats::SubscriptionStats;
use crate::store::Store;

/// One queue, one handler, a store.
pub(super) struct Parts {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) store: Arc<Store>,
    pub(super) stats: Arc<SubscriptionStats>,
    pub(super) readiness: Readiness,
}

pub(super) fn queue_config(ingress: bool) -> QueueConfig {
    QueueConfig {
        url: QueueUrl::Memory,
        kind: "com.example.raw".to_owned(),
        key: None,
        map: None,
        start: Start::New,
        ingress,
        max_size: 1 << 20,
        dead_bounds: DeadBounds::default(),
        dead: None,
        fallback: None,
    }
}

impl Backend for Parts {
    fn handlers(&self) -> Vec<HandlerStatus> {
        let version = Some("sha256:00".to_owned());
        vec![
            HandlerStatus { name: "mailer".to_owned(), version, ..HandlerStatus::default() }
                .with_counts(&[self.stats.snapshot()]),
        ]
    }

    fn queues(&self) -> BoxFuture<'_, Vec<QueueStatus>> {
        Box::pin(async {
            let (config, handlers) = (queue_config(true), [("mailer", Some(self.stats.snapshot()))]);
            let features = self.queue.features();
            let facts = QueueFacts { name: "events", config: &config, features, group: "weir", handlers: &handlers };
            vec![QueueStatus::new(&facts, self.queue.depth().await, clock::now())]
        })
    }

    fn dead(&self, filter: DeadFilter) -> BoxFuture<'_, Result<DeadPage, String>> {
        Box::pin(async { self.store.list_dead(filter).await.map_err(|error| error.to_string()) })
    }

    fn dead_one<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, String>> {
        Box::pin(async { self.store.get_dead(id).await.map_err(|error| error.to_string()) })
    }

    fn replay<'a>(&'a self, id: &'a str, to: Option<&'a str>) -> BoxFuture<'a, Result<Replayed, ReplayError>> {
        Box::pin(async move {
            let letter =
                self.store.get_dead(id).await.map_err(ReplayError::Unread)?.ok_or_else(|| ReplayError::Unknown(id.to_owned()))?;
            let readers = Readers::new([("mailer".to_owned(), vec!["events".to_owned()])]);
            let handler = readers.address(&letter, to)?;
            replay(&*self.store, &*self.queue, &letter, handler).await
        })
    }

    fn replay_queue<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<Risen, Refused>> {
        Box::pin(async move { Err(Refused::Refused(format!("queue `{queue}` takes no dead letters"))) })
    }

    fn drop_dead<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, String>> {
        Box::pin(async { self.store.remove_dead(id).await.map_err(|error| error.to_string()) })
    }

    fn set_paused<'a>(&'a self, handler: &'a str, paused: bool) -> BoxFuture<'a, Result<(), Refused>> {
        Box::pin(async move {
            if handler != "mailer" {
                return Err(Refused::Unknown(format!("handler `{handler}` is not defined (known: `mailer`)")));
            }
            self.store.set_pause(handler, paused).await.map_err(|error| Refused::Unavailable(error.to_string()))
        })
    }

    fn forget<'a>(&'a self, handler: &'a str) -> BoxFuture<'a, Result<Vec<Forgotten>, Refused>> {
        Box::pin(async move {
            if handler == "mailer" {
                return Err(Refused::Refused("handler `mailer` is defined".to_owned()));
            }
            let gone = self.queue.unsubscribe(&format!("weir-{handler}")).await;
            gone.map_err(|error| Refused::Unavailable(error.to_string()))?;
            Ok(vec![Forgotten { queue: "events".to_owned(), events: Some(0) }])
        })
    }

    fn dead_counts(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, String>> {
        Box::pin(async {
            let counts = self.store.dead_counts().await.map_err(|error| error.to_string())?;
            Ok(counts.queues.into_iter().map(|(queue, count)| (queue, count.held)).collect())
        })
    }

    fn readiness(&self) -> Readiness {
        self.readiness.clone()
    }

    fn stats(&self) -> Vec<Arc<SubscriptionStats>> {
        vec![self.stats.clone()]
    }

    fn reloads(&self) -> Vec<Reloads> {
        Vec::new()
    }
}
