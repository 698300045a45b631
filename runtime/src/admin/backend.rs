//! What the HTTP side asks of the running server. The app implements it; nothing here knows a dispatcher or a store.

use std::sync::Arc;

use crate::admin::status::{HandlerStatus, QueueStatus, Readiness};
use crate::dead::DeadLetter;
use crate::queue::BoxFuture;
use crate::stats::SubscriptionStats;
use crate::store::DeadFilter;

/// What the HTTP side asks of the running server. Called concurrently, on any thread, once a request; each answer is bounded by a
/// time limit of the caller, which drops the future.
pub trait Backend: Send + Sync + 'static {
    /// Each configured handler, by name.
    fn handlers(&self) -> Vec<HandlerStatus>;

    /// Each configured queue, by name; one that can't be asked says why in `error`.
    fn queues(&self) -> BoxFuture<'_, Vec<QueueStatus>>;

    /// Dead letters that `filter` matches, newest first, and whether there are more than it asks for.
    ///
    /// # Errors
    /// Why they can't be read, for people.
    fn dead(&self, filter: DeadFilter) -> BoxFuture<'_, Result<(Vec<DeadLetter>, bool), String>>;

    /// One dead letter.
    ///
    /// # Errors
    /// Why it can't be read, for people.
    fn dead_one<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, String>>;

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
