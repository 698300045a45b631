//! One delivery that is ours, and what is noted of it. Pure.

use std::time::{Duration, Instant};

use crate::queue::{Settle, Tries};

/// One delivery that is ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    /// Tells it from an earlier one of the same delivery.
    pub(super) number: u64,
    /// Before the command was sent that brought it.
    pub(super) since: Instant,
    /// Before the command was sent that renewed it last.
    pub(super) renewed: Instant,
    /// What it came with.
    pub(super) tries: Tries,
    /// What it has behind it when it is given back without an attempt: more, once it was tried and held here, or has a dead letter.
    pub(super) back: Tries,
    /// A try began and has not reported.
    pub(super) began: bool,
    /// Whether something of its tries may stand on the server.
    pub(super) kept: bool,
    /// A settlement of it is under way: it is neither renewed nor lapses.
    pub(super) settling: bool,
    /// A settlement of it was under way, and will be repeated: it may have taken effect, so only that can tell whether it was late.
    pub(super) asked: bool,
    /// That settlement acknowledges it.
    pub(super) ends: bool,
    pub(super) noted: Option<Note>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) tries: Tries,
    /// The server has it.
    pub(super) written: bool,
}

impl Lease {
    pub(super) fn new(number: u64, tries: Tries, kept: bool, leased: Instant) -> Self {
        Self {
            number,
            since: leased,
            renewed: leased,
            tries,
            back: tries,
            began: false,
            kept,
            settling: false,
            asked: false,
            ends: false,
            noted: None,
        }
    }

    /// Whether it is old enough to have been let lapse.
    pub(super) fn is_old(&self, now: Instant, age: Duration) -> bool {
        now.saturating_duration_since(self.renewed) >= age
    }

    /// Whether it is given up when it gets too old or somebody else has it; what is being settled, its settlement tells.
    pub(super) fn can_lapse(&self) -> bool {
        !self.settling && !self.asked
    }

    /// What is to stand of the tries after a settlement; none: what stands there now.
    pub(super) fn keeps(&self, settle: Settle) -> Option<Tries> {
        match settle {
            Settle::Retry { tries, .. } => Some(tries),
            Settle::Return if self.back != Tries::default() || self.kept => Some(self.back),
            Settle::Return | Settle::Ack => None,
        }
    }
}
