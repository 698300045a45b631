//! What the HTTP side asks of the running server. The app implements it; nothing here knows a dispatcher or a store.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::admin::status::{HandlerStatus, QueueStatus, Readiness};
use crate::dead::grave::Risen;
use crate::dead::replay::{ReplayError, Replayed};
use crate::dead::{DeadFilter, DeadLetter, DeadPage};
use crate::queue::BoxFuture;
use crate::stats::SubscriptionStats;

/// What the HTTP side asks of the running server. Called concurrently, on any thread, once a request; each answer is bounded by a
/// time limit of the caller, which drops the future.
pub trait Backend: Send + Sync + 'static {
    /// Each configured handler, by name.
    fn handlers(&self) -> Vec<HandlerStatus>;

    /// Each configured queue, by name; one that can't be asked says why in `error`.
    fn queues(&self) -> BoxFuture<'_, Vec<QueueStatus>>;

    /// One page of the dead letters that `filter` matches, newest first, wherever they are kept.
    ///
    /// # Errors
    /// Why they can't be read, for people.
    fn dead(&self, filter: DeadFilter) -> BoxFuture<'_, Result<DeadPage, String>>;

    /// One dead letter.
    ///
    /// # Errors
    /// Why it can't be read, for people.
    fn dead_one<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, String>>;

    /// Publishes a dead letter's event again for `to`, else for its own handler, and removes the letter. What was begun is finished when
    /// the future is dropped.
    ///
    /// # Errors
    /// As [`ReplayError`] says.
    fn replay<'a>(&'a self, id: &'a str, to: Option<&'a str>) -> BoxFuture<'a, Result<Replayed, ReplayError>>;

    /// Replays all events of a queue that takes the dead letters of others. What was begun is finished when the future is dropped.
    ///
    /// # Errors
    /// As [`Refused`] says.
    fn replay_queue<'a>(&'a self, queue: &'a str) -> BoxFuture<'a, Result<Risen, Refused>>;

    /// Removes a dead letter; whether there was one. What was begun is finished when the future is dropped.
    ///
    /// # Errors
    /// Why it can't be removed, for people.
    fn drop_dead<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, String>>;

    /// Pauses a handler by hand, or ends such a pause, in every process that shares the store.
    ///
    /// # Errors
    /// As [`Refused`] says.
    fn set_paused<'a>(&'a self, handler: &'a str, paused: bool) -> BoxFuture<'a, Result<(), Refused>>;

    /// Removes the subscriptions of a handler from the queues that it does not read any more, with all that waits in them.
    ///
    /// # Errors
    /// As [`Refused`] says; also when it was removed from some queues only.
    fn forget<'a>(&'a self, handler: &'a str) -> BoxFuture<'a, Result<Vec<Forgotten>, Refused>>;

    /// How many dead letters each configured queue has.
    ///
    /// # Errors
    /// Why they can't be counted, for people.
    fn dead_counts(&self) -> BoxFuture<'_, Result<Vec<(String, u64)>, String>>;

    /// Whether the server can do its work, now.
    fn readiness(&self) -> Readiness;

    /// The counters of each subscription.
    fn stats(&self) -> Vec<Arc<SubscriptionStats>>;

    /// How often each handler was loaded anew since the start.
    fn reloads(&self) -> Vec<Reloads>;
}

/// Why something that an operator asked for was not done; for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such handler or subscription: HTTP 404.
    #[error("{0}")]
    Unknown(String),
    /// The configuration says otherwise: HTTP 409.
    #[error("{0}")]
    Refused(String),
    /// The store or a queue is away: HTTP 503.
    #[error("{0}")]
    Unavailable(String),
}

/// A subscription that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Of this queue.
    pub queue: String,
    /// How many events waited in it and are gone; none where the queue can't tell.
    pub events: Option<u64>,
}

/// How often one handler was loaded anew, by what came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reloads {
    /// The handler's name.
    pub handler: String,
    /// A new version runs.
    pub succeeded: u64,
    /// The old version still runs.
    pub failed: u64,
}
