//! What became of a delivery in this process, on its way from the runner that had it to the settler.

use super::lanes::{Item, Lane};
use crate::clock::Timestamp;
use crate::dead::DeadLetter;
use crate::queue::{Delivery, Position};
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
    pub(super) end: End,
}

impl Ended {
    pub(super) fn new(item: &Item, end: End) -> Self {
        let Delivery { position, first_seen, .. } = item.delivery;
        Self { position, first_seen, lane: item.lane.clone(), claim: None, end }
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
    /// Not run, or without a say: given back as it was.
    GivenBack(Cause),
}

/// What a runner did with what it took.
pub(super) enum Done {
    /// It ended, and is to be settled.
    Ended(Ended),
    /// It is held here until this time.
    Park(Item, Timestamp),
    /// Its lease is gone: there is nothing to settle.
    Lapsed(Item),
}
