//! How far deliveries have got, noted on the server for the case that this process is killed. Pure.

use std::time::{Duration, Instant};

use super::Hold;
use super::lease::{Lease, Note};
use crate::queue::{Position, Tries};

impl Hold {
    /// Notes tries, if they are not what a lapsed lease would count by itself. Whether there is something to write.
    pub(in super::super) fn note(&mut self, position: Position, tries: Tries) -> bool {
        let Some(lease) = self.leases.get_mut(&position) else { return false };
        lease.began = !lease.began && tries == Tries { failed: lease.back.failed.saturating_add(1), ..lease.back };
        if !lease.began {
            lease.back = tries;
        }
        let same = (tries.outside, tries.outside_since) == (lease.tries.outside, lease.tries.outside_since);
        let counts_itself = lease.noted.is_none() && same && tries.failed == lease.tries.failed.saturating_add(1);
        if counts_itself || lease.noted.is_some_and(|note| note.tries == tries) {
            return false;
        }
        lease.noted = Some(Note { tries, written: false });
        lease.kept = true;
        true
    }

    /// Notes what was leased for so long and has not begun: a kill of this process costs it no try. Each once; when it begins, that is
    /// noted as well. What begins sooner needs no note, as what lapses counts a try by itself.
    pub(in super::super) fn note_unbegun(&mut self, now: Instant, age: Duration) {
        for lease in self.leases.values_mut() {
            let waits = now.saturating_duration_since(lease.since) >= age;
            if waits && !lease.began && !lease.settling && lease.noted.is_none() {
                lease.noted = Some(Note { tries: lease.back, written: false });
                lease.kept = true;
            }
        }
    }

    /// Notes that the server does not have.
    pub(in super::super) fn notes(&self) -> Vec<(Position, Tries)> {
        let unwritten = |lease: &Lease| lease.noted.filter(|note| !note.written).map(|note| note.tries);
        self.leases.iter().filter_map(|(position, lease)| Some((*position, unwritten(lease)?))).collect()
    }

    /// The server has these; what was noted since is still to be written.
    pub(in super::super) fn wrote(&mut self, notes: &[(Position, Tries)]) {
        for (position, tries) in notes {
            let noted = self.leases.get_mut(position).and_then(|lease| lease.noted.as_mut());
            if let Some(note) = noted.filter(|note| note.tries == *tries) {
                note.written = true;
            }
        }
    }
}
