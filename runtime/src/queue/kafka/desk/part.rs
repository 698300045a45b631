//! One partition that is ours. Pure but for the senders that answer settlements.

use std::time::Instant;

use tokio::sync::oneshot;

use super::Confirmed;
use crate::queue::kafka::window::{Commit, Note, Window};
use crate::queue::{Position, QueueError, Tries};

/// A partition of the topic, or of the one that holds long waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::queue::kafka) struct Slot {
    pub(in crate::queue::kafka) retry: bool,
    pub(in crate::queue::kafka) partition: i32,
}

/// The bit of a position that says that it lies in the topic of long waits; below it 32 bits of the partition and 64 of the offset.
const RETRY_BIT: u32 = 96;

impl Slot {
    /// The position of an offset: the same at every delivery.
    pub(in crate::queue::kafka) fn position(self, offset: i64) -> Position {
        let partition = u128::from(self.partition.cast_unsigned());
        Position(u128::from(self.retry) << RETRY_BIT | partition << 64 | u128::from(offset.cast_unsigned()))
    }

    /// The partition and offset of a position.
    pub(in crate::queue::kafka) fn of(position: Position) -> (Self, i64) {
        let Position(bits) = position;
        let partition = ((bits >> 64) as u32).cast_signed();
        (Self { retry: bits >> RETRY_BIT & 1 == 1, partition }, (bits as u64).cast_signed())
    }
}

/// A commit on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::queue::kafka) struct Planned {
    pub(in crate::queue::kafka) slot: Slot,
    /// The change that it holds, and which time the partition was given to us.
    pub(super) version: u64,
    pub(super) assigned: u64,
    /// How far the window is open by it.
    pub(super) open: i64,
    pub(in crate::queue::kafka) commit: Commit,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) window: Window,
    /// Changes so far, and the last that was committed.
    version: u64,
    committed: u64,
    assigned: u64,
    /// What lies below may have run with an owner that did not say how it ended.
    suspects: i64,
    /// The lowest offset that reading can come to: what lies below came before.
    reads: i64,
    /// What lies below may be handed out: a commit says so.
    open: i64,
    /// How many wait for the commit of their start.
    pub(super) starting: usize,
    leaving: Option<Instant>,
    waiters: Vec<(u64, oneshot::Sender<Result<(), QueueError>>)>,
}

impl Part {
    pub(super) fn new(mut window: Window, assigned: u64) -> Self {
        let (suspects, base) = (window.open(), window.base());
        window.reserve();
        Self {
            window,
            version: 1,
            committed: 0,
            assigned,
            suspects,
            reads: base,
            open: base,
            starting: 0,
            leaving: None,
            waiters: Vec::new(),
        }
    }

    pub(super) fn may_take(&self) -> bool {
        self.leaving.is_none() && self.starting == 0 && self.window.next() < self.open && !self.window.is_full()
    }

    /// Whether an offset can't come any more.
    pub(super) fn is_behind(&self, offset: i64) -> bool {
        offset < self.reads
    }

    /// An offset has come: whether it is to be done.
    pub(super) fn see(&mut self, offset: i64) -> bool {
        self.reads = offset + 1;
        let new = self.window.see(offset);
        // What was passed over may have moved the watermark: that is worth no commit of its own.
        if self.window.reserve() {
            self.changed();
        }
        new
    }

    pub(super) fn changed(&mut self) {
        self.version += 1;
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.version > self.committed
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// The change that has to be committed before an event may run; none: it may.
    pub(super) fn start(&mut self, offset: i64, tries: Tries) -> Option<u64> {
        if offset >= self.suspects {
            return None;
        }
        self.starting += 1;
        self.window.note(offset, Some(Note { tries: Tries { failed: tries.failed.saturating_add(1), ..tries }, due: None }));
        self.changed();
        Some(self.version)
    }

    pub(super) fn started(&mut self) {
        self.starting = self.starting.saturating_sub(1);
    }

    /// The last change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Notes tries, unless they are what the event brings with it; whether that is news.
    pub(super) fn note(&mut self, offset: i64, tries: Tries, own: Tries) -> bool {
        let note = (tries != own).then_some(Note { tries, due: None });
        let news = self.window.note(offset, note);
        self.version += u64::from(news);
        news
    }

    /// Notes tries and a time; whether that is news.
    pub(super) fn note_until(&mut self, offset: i64, note: Note) -> bool {
        let news = self.window.note(offset, Some(note));
        self.version += u64::from(news);
        news
    }

    /// Answers once everything up to now is committed; none: it is.
    pub(super) fn wait(&mut self) -> Option<Confirmed> {
        if !self.is_dirty() {
            return None;
        }
        let (answer, confirmed) = oneshot::channel();
        self.waiters.push((self.version, answer));
        Some(confirmed)
    }

    pub(super) fn plan(&mut self, slot: Slot) -> Option<Planned> {
        self.is_dirty().then(|| Planned {
            slot,
            version: self.version,
            assigned: self.assigned,
            open: self.window.open(),
            commit: self.window.commit(),
        })
    }

    /// Whether it was this assignment's.
    pub(super) fn committed(&mut self, planned: &Planned) -> bool {
        if planned.assigned != self.assigned {
            return false;
        }
        (self.committed, self.open) = (planned.version, planned.open);
        for (_, answer) in self.waiters.extract_if(.., |(version, _)| *version <= planned.version) {
            // Who asked may have stopped waiting.
            let _ = answer.send(Ok(()));
        }
        true
    }

    pub(super) fn refused(&mut self, error: &QueueError) {
        for (_, answer) in self.waiters.drain(..) {
            let _ = answer.send(Err(error.clone()));
        }
    }

    pub(super) fn leave(&mut self, until: Instant) {
        self.leaving.get_or_insert(until);
        self.starting = 0;
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.leaving.is_none_or(|until| now >= until)
    }
}
