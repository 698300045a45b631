//! What an operator asks of the running server: replays and drops of dead letters, pauses, and the end of what no handler reads.
//!
//! What changes something runs to its end in a task of its own, whatever becomes of the request that asked for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Queues;
use crate::admin::backend::{Forgotten, Refused};
use crate::dead::grave::{self, Risen};
use crate::dead::replay::{Readers, ReplayError, Replayed, replay};
use crate::dead::{DeadLetters as _, DeadPlaces};
use crate::handler::{Handler, PausedBy};
use crate::queue::QueueError;
use crate::store::{Store, StoreError};

/// How often the store is asked who is paused, as it can't tell when other processes write: well within the five seconds in which every process follows (delivery.md §11).
const PAUSES_EVERY: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct Operator {
    pub(super) letters: Arc<DeadPlaces>,
    queues: Queues,
    group: String,
    handlers: Vec<Arc<Handler>>,
    readers: Readers,
    store: Arc<Store>,
    // One replay at a time: two of the same letter would both find it. tokio's, because a publish is awaited under it.
    replaying: Mutex<()>,
    // A look that began before a change must not undo it.
    pausing: Mutex<()>,
}

impl Operator {
    pub(super) fn new(
        queues: &Queues,
        group: &str,
        handlers: &[Arc<Handler>],
        kept: (&Arc<Store>, &Arc<DeadPlaces>),
    ) -> Arc<Self> {
        let (store, letters) = kept;
        Arc::new(Self {
            letters: Arc::clone(letters),
            queues: queues.clone(),
            group: group.to_owned(),
            handlers: handlers.to_vec(),
            readers: Readers::new(handlers.iter().map(|handler| (handler.name.to_string(), handler.config.queues.clone()))),
            store: Arc::clone(store),
            replaying: Mutex::default(),
            pausing: Mutex::default(),
        })
    }

    pub(super) async fn replay(&self, id: &str, to: Option<&str>) -> Result<Replayed, ReplayError> {
        let _one = self.replaying.lock().await;
        let letter = self.letters.get(id).await.map_err(ReplayError::Unread)?;
        let letter = letter.ok_or_else(|| ReplayError::Unknown(id.chars().take(80).collect()))?;
        let handler = self.readers.address(&letter, to)?;
        let Some((queue, _)) = self.queues.get(&letter.queue) else {
            return Err(ReplayError::Queue { id: letter.id.clone(), name: letter.queue.clone() });
        };
        replay(&*self.letters, &**queue, &letter, handler).await
    }

    /// Replays the events of a queue that takes the dead letters of others.
    pub(super) async fn replay_queue(&self, name: &str) -> Result<Risen, Refused> {
        let _one = self.replaying.lock().await;
        let Some((grave, _)) = self.queues.get(name) else {
            let known: Vec<String> = self.queues.keys().map(|name| format!("`{name}`")).collect();
            return Err(Refused::Unknown(format!("queue `{name}` is not defined (known: {})", known.join(", "))));
        };
        let takes = self.queues.values().any(|(_, config)| config.dead.as_deref() == Some(name));
        if !takes {
            let text = format!("queue `{name}` takes no dead letters (no queue of weir.toml has `dead = \"{name}\"`)");
            return Err(Refused::Refused(text));
        }
        let queues = self.queues.iter().map(|(name, (queue, _))| (name.clone(), Arc::clone(queue))).collect();
        let subscription = format!("{}.replay", self.group);
        let risen = grave::replay_all(&**grave, &subscription, &queues, &self.readers).await;
        risen.map_err(|error| Refused::Unavailable(format!("queue `{name}`: {error}")))
    }

    pub(super) async fn remove(&self, id: &str) -> Result<bool, StoreError> {
        let removed = self.letters.remove(id).await?;
        if removed {
            tracing::info!(dead_letter = %id, "dead letter dropped");
        }
        Ok(removed)
    }

    /// Pauses a handler in every process that shares the store, or ends that; in this one at once.
    pub(super) async fn set_paused(&self, name: &str, paused: bool) -> Result<(), Refused> {
        let handler = self.handlers.iter().find(|handler| *handler.name == *name);
        let Some(handler) = handler else {
            return Err(Refused::Unknown(format!("handler `{name}` is not defined (known: {})", self.readers.names())));
        };
        if !paused && handler.config.paused {
            let text = format!("handler `{name}` is paused by weir.toml (take out `paused = true` and start the server again)");
            return Err(Refused::Refused(text));
        }
        let _one = self.pausing.lock().await;
        self.store.set_pause(name, paused).await.map_err(|error| Refused::Unavailable(error.to_string()))?;
        handler.pause(paused.then_some(PausedBy::Operator));
        Ok(())
    }

    /// Removes the subscriptions of a handler from queues that it does not read by the configuration, with what waits in them.
    pub(super) async fn forget(&self, name: &str) -> Result<Vec<Forgotten>, Refused> {
        let subscription = format!("{}-{name}", self.group);
        let away = |queue: &str, error: &QueueError| Refused::Unavailable(format!("queue `{queue}`: {error}"));
        let (mut forgotten, mut is_read) = (Vec::new(), false);
        for (queue_name, (queue, _)) in &self.queues {
            if self.readers.reads(name, queue_name) {
                is_read = true;
                continue;
            }
            let depth = queue.depth().await.map_err(|error| away(queue_name, &error))?;
            let Some(known) = depth.subscriptions.iter().find(|known| known.name == subscription) else { continue };
            queue.unsubscribe(&subscription).await.map_err(|error| {
                let before = if forgotten.is_empty() { "" } else { " (it was forgotten elsewhere)" };
                Refused::Unavailable(format!("queue `{queue_name}`: {error}{before}"))
            })?;
            tracing::warn!(queue = %queue_name, handler = %name, depth = known.events, "subscription forgotten, with what waited in it");
            forgotten.push(Forgotten { queue: queue_name.clone(), events: known.events });
        }
        match (forgotten.is_empty(), is_read) {
            (false, _) => {}
            (true, true) => {
                return Err(Refused::Refused(format!(
                    "handler `{name}` is defined in weir.toml and reads its queues (take it out and start the server again, then forget it)"
                )));
            }
            (true, false) => {
                let group = &self.group;
                let text =
                    format!("no queue has a subscription of handler `{name}` in group `{group}` (`weir queues` shows all)");
                return Err(Refused::Unknown(text));
            }
        }
        if !self.readers.knows(name) {
            // A handler that gets the name later begins unpaused.
            self.store.set_pause(name, false).await.map_err(|error| Refused::Unavailable(error.to_string()))?;
        }
        Ok(forgotten)
    }

    /// Reads once who is paused; on an error all stay as they are.
    pub(super) async fn read_pauses(&self) -> Result<(), StoreError> {
        let _one = self.pausing.lock().await;
        let paused = self.store.pauses().await?;
        for handler in &self.handlers {
            handler.pause(paused.contains(&*handler.name).then_some(PausedBy::Operator));
        }
        Ok(())
    }

    /// Until it is known who is paused: what a person has paused must not run because the store is away (delivery.md §11).
    pub(super) fn pause_all(&self) {
        for handler in &self.handlers {
            handler.pause(Some(PausedBy::Operator));
        }
    }

    /// Follows the pauses of all processes that share the store, until `stop`.
    pub(super) async fn follow_pauses(self: Arc<Self>, stop: CancellationToken) {
        let mut is_away = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSES_EVERY) => {}
            }
            match self.read_pauses().await {
                Ok(()) => is_away = false,
                Err(error) if !is_away => {
                    is_away = true;
                    tracing::warn!(%error, "who is paused can't be read: all stay as they are");
                }
                Err(_) => {}
            }
        }
    }
}
