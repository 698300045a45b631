//! How far one partition is done: the lowest offset that has not ended, what has ended above it, and the tries of what waits. It goes into
//! the commit (`window/code.rs`), so that a new owner begins where the old one was. Pure: it knows no broker, no event and no clock.

mod code;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::queue::Tries;

/// Offsets that are reserved at once. What is handed out lies in a commit's reservation, so that after an unclean end the next owner knows
/// what may have run; each of it that has not ended costs that owner a commit of its own, some milliseconds.
pub(super) const RESERVED: i64 = 1_000;

/// What is kept of an offset that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Note {
    /// What lies behind its next try.
    pub(super) tries: Tries,
    /// Not before.
    pub(super) due: Option<Timestamp>,
}

/// What is committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Commit {
    /// The lowest offset that has not ended.
    pub(super) offset: i64,
    /// What there is to say about those above it.
    pub(super) metadata: String,
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Window {
    /// The lowest offset that has not ended.
    base: i64,
    /// The lowest offset that was never seen.
    next: i64,
    /// What has ended above `base`: from, and the first that has not. Never touching each other or `base`.
    ended: BTreeMap<i64, i64>,
    notes: BTreeMap<i64, Note>,
    /// Offsets below may be handed out; `base` or less: none are.
    open: i64,
    /// Bytes of the metadata that was last made.
    coded: usize,
}

impl Window {
    /// A partition that begins here.
    pub(super) fn new(base: i64) -> Self {
        Self { base, next: base, ended: BTreeMap::new(), notes: BTreeMap::new(), open: base, coded: 0 }
    }

    /// The partition as its last owner committed it. Metadata of others says nothing.
    pub(super) fn read(offset: i64, metadata: &str) -> Self {
        code::read(offset, metadata).unwrap_or_else(|| Self::new(offset))
    }

    /// Whether Weir wrote this.
    pub(super) fn is_ours(metadata: &str) -> bool {
        code::read(0, metadata).is_some()
    }

    /// The lowest offset that has not ended.
    pub(super) fn base(&self) -> i64 {
        self.base
    }

    /// The lowest offset that was never seen.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Offsets below may have been handed out.
    pub(super) fn open(&self) -> i64 {
        self.open
    }

    /// How many of those that were seen, or are said to have ended, have ended above the lowest that has not.
    pub(super) fn ended_above(&self) -> u64 {
        self.ended.iter().map(|(from, to)| to.abs_diff(*from)).sum()
    }

    /// Those of which something is noted.
    pub(super) fn noted(&self) -> impl Iterator<Item = (i64, Note)> {
        self.notes.iter().map(|(offset, note)| (*offset, *note))
    }

    /// Lets so many more be handed out; whether that is news.
    pub(super) fn reserve(&mut self) -> bool {
        // Ahead of time, so that nobody waits for the commit.
        let due = self.open - self.next < RESERVED / 2;
        if due {
            self.open = self.next + RESERVED;
        }
        due
    }

    /// Nothing is handed out any more.
    pub(super) fn close(&mut self) {
        self.open = self.base;
    }

    /// An offset has come: whether it is still to be done. What was passed over is not there (compacted, expired, a transaction's mark),
    /// and has ended by that.
    pub(super) fn see(&mut self, offset: i64) -> bool {
        if offset >= self.next {
            let from = self.next;
            self.next = offset + 1;
            self.end_all(from, offset);
        }
        !self.has_ended(offset)
    }

    /// Whether an offset has ended.
    pub(super) fn has_ended(&self, offset: i64) -> bool {
        offset < self.base || self.ended.range(..=offset).next_back().is_some_and(|(_, to)| offset < *to)
    }

    /// What is noted of an offset.
    pub(super) fn note_of(&self, offset: i64) -> Option<Note> {
        self.notes.get(&offset).copied()
    }

    /// Notes something of an offset that has not ended, or that nothing is to be noted; whether that is news.
    pub(super) fn note(&mut self, offset: i64, note: Option<Note>) -> bool {
        match note {
            Some(note) if !self.has_ended(offset) => self.notes.insert(offset, note) != Some(note),
            _ => self.notes.remove(&offset).is_some(),
        }
    }

    /// An offset has ended.
    pub(super) fn end(&mut self, offset: i64) {
        self.next = self.next.max(offset + 1);
        self.end_all(offset, offset + 1);
    }

    /// All from the first up to, without, the last.
    fn end_all(&mut self, from: i64, to: i64) {
        let (mut from, mut to) = (from.max(self.base), to);
        if from >= to {
            return;
        }
        let noted: Vec<i64> = self.notes.range(from..to).map(|(offset, _)| *offset).collect();
        for offset in noted {
            self.notes.remove(&offset);
        }
        // What it touches becomes one with it.
        while let Some((begins, ends)) = self.ended.range(..=to).next_back().map(|(begins, ends)| (*begins, *ends)) {
            if ends < from {
                break;
            }
            (from, to) = (from.min(begins), to.max(ends));
            self.ended.remove(&begins);
        }
        if from == self.base {
            self.base = to;
        } else {
            self.ended.insert(from, to);
        }
        self.next = self.next.max(self.base);
    }

    /// What is to be committed.
    pub(super) fn commit(&mut self) -> Commit {
        let metadata = code::write(self);
        self.coded = metadata.len();
        Commit { offset: self.base, metadata }
    }

    /// Whether so much is to be said that nothing new is taken until something has ended: three quarters of what a commit may hold
    /// (delivery.md §13). The last quarter is for what is in hand. What a last owner knew of is not new.
    pub(super) fn is_full(&self) -> bool {
        let ended = self.ended.last_key_value().map_or(0, |(_, to)| *to);
        let noted = self.notes.last_key_value().map_or(0, |(offset, _)| *offset + 1);
        self.coded >= code::METADATA_MAX / 4 * 3 && self.next >= ended.max(noted)
    }
}
