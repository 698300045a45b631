//! How a delivery leaves a runner, and how it ends.

use std::fmt;
use std::sync::Arc;

use tokio::sync::Notify;

use super::lanes::{Item, Lane};
use crate::clock::Timestamp;
use crate::dead::DeadLetter;
use crate::queue::{Delivery, Position, Tries};
use crate::stats::Cause;
use crate::store::Sighting;
use crate::verdict::Verdict;

/// A delivery that ended: without its event, so that what waits to be settled is small.
pub(super) struct Ended {
    pub(super) position: Position,
    pub(super) first_seen: Timestamp,
    pub(super) lane: Option<Lane>,
    /// Its claim, where `duplicates` is on.
    pub(super) claim: Option<Sighting>,
    /// The id of a dead letter that an earlier end of it may have left.
    pub(super) left: Option<String>,
    pub(super) end: End,
}

impl Ended {
    pub(super) fn new(item: &Item, end: End) -> Self {
        let Delivery { position, first_seen, .. } = item.delivery;
        Self { position, first_seen, lane: item.lane.clone(), claim: None, left: None, end }
    }
}

/// How a delivery ended.
pub(super) enum End {
    /// By its verdict; with its dead letter when that is the verdict.
    Judged(Verdict, Option<Box<DeadLetter>>),
    /// Without being run: not for this handler, too old, or seen before.
    Filtered,
    Expired,
    Duplicate,
    /// Not run, or without a say: given back as it was, or with the tries that it had here, not to come again before that time.
    GivenBack(Cause, Option<(Timestamp, Tries)>),
}

/// What a runner did with what it took.
pub(super) enum Done {
    /// It ended, and is to be settled.
    Ended(Ended),
    /// It is held here until this time.
    Park(Item, Timestamp),
    /// Its lease is gone: there is nothing to settle.
    Lapsed(Item),
    /// The call that it was in says nothing of it: it runs again at once.
    Again(Item),
}

/// Stops a run from outside.
pub(super) type Cancel = Arc<Notify>;

/// That nothing is pulled because too much is parked: how much, and for which lane most of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParkedFull {
    /// How many are parked.
    pub parked: usize,
    /// The lane that holds most of them, and how many.
    pub longest: Option<(String, usize)>,
}

impl fmt::Display for ParkedFull {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "nothing is pulled: `parked` is full with {} events", self.parked)?;
        match &self.longest {
            Some((lane, count)) => write!(f, ", {count} of them wait behind one with the order key `{lane}`"),
            None => Ok(()),
        }
    }
}
