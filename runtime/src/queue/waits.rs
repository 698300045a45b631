//! What waits in a queue for its time, seen before that has come: a second, small contract, for `weir move`, which takes it elsewhere with
//! the time at which it is due. Pulls never give it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;

use super::{BoxFuture, QueueError};
use crate::clock::Timestamp;
use crate::event::Event;

/// What a queue keeps until it is due. Called by one at a time; others may use the queue meanwhile.
pub trait Waits: Send + Sync {
    /// What is due at `from` or later, the first due first, at most `max`. It is not taken: it may arrive, or go, before it is ended.
    ///
    /// # Errors
    /// When it can't be read.
    fn list<'a>(&'a self, of: Waiters<'a>, from: Timestamp, max: NonZeroUsize)
    -> BoxFuture<'a, Result<Vec<Waiting>, QueueError>>;

    /// Ends what [`Waits::list`] showed, by its keys; what does not wait any more is left alone.
    ///
    /// # Errors
    /// When it is not known whether all of it was recorded: the call can be repeated.
    fn end<'a>(&'a self, of: Waiters<'a>, keys: Vec<Bytes>) -> BoxFuture<'a, Result<(), QueueError>>;
}

/// Whose waiting is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiters<'a> {
    /// Delayed publishes: they arrive in every subscription.
    Publishes,
    /// Retries of this subscription.
    Retries(&'a str),
}

/// Something that waits for its time.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// What it is.
    pub event: Arc<Event>,
    /// When it is due.
    pub due: Timestamp,
    /// Names it for [`Waits::end`].
    pub key: Bytes,
}
