//! What runs now, in a file that outlives the process: an event whose handler kills the process is counted when the queue is opened
//! again. One small write to the page cache for each run, never synced; what ends costs nothing, as its slot is only used again.
//!
//! A slot is dead when its event has ended, which the database tells, or when another start of the machine wrote it: after a power loss
//! the file is whatever had reached the disk, and would count tries that were given back. So a power loss costs tries, and never adds any.
//!
//! Considered and left out: mapping the file. A write takes 0.45 µs here, and needs neither `unsafe` nor care for a disk that is full.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::clock::Timestamp;
use crate::queue::{QueueError, Tries};

/// The file in the queue's folder.
const FILE: &str = "running";

/// Most slots: several times what all handlers of a queue may run and hold for another try (4 MiB of file). Beyond it runs are not noted.
const SLOTS_MAX: u32 = 64 * 1024;

/// Bytes of a slot. It divides a page, so that no slot is written in two steps.
const SLOT_BYTES: usize = 64;

/// A subscription's id on disk and an event's number.
pub(super) type Key = (u32, u64);

/// How far an event had got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) key: Key,
    pub(super) tries: Tries,
}

/// Which slot belongs to which event. Pure.
#[derive(Debug, Default)]
pub(super) struct Slots {
    held: HashMap<Key, (u32, Tries)>,
    /// Used before, by events that have ended or wait on disk; the last one freed is used first, so that the file stays small.
    free: Vec<u32>,
    /// Slots from here on were never used.
    made: u32,
}

impl Slots {
    /// Slots behind those that are left as they are.
    pub(super) fn after(left: u32) -> Self {
        Self { made: left, ..Self::default() }
    }

    /// The slot where an event's tries are to be written; none when all are taken.
    pub(super) fn note(&mut self, key: Key, tries: Tries) -> Option<u32> {
        if let Some((slot, noted)) = self.held.get_mut(&key) {
            *noted = tries;
            return Some(*slot);
        }
        let unused = (self.made < SLOTS_MAX).then_some(self.made);
        let slot = self.free.pop().or_else(|| {
            self.made += u32::from(unused.is_some());
            unused
        })?;
        self.held.insert(key, (slot, tries));
        Some(slot)
    }

    /// The slot that must be written before an event is left with these tries; none when it says so, or there is none.
    pub(super) fn change(&mut self, key: Key, tries: Tries) -> Option<u32> {
        let (slot, noted) = self.held.get_mut(&key)?;
        if *noted == tries {
            return None;
        }
        *noted = tries;
        Some(*slot)
    }

    /// The slot of an event.
    pub(super) fn get(&self, key: Key) -> Option<u32> {
        self.held.get(&key).map(|(slot, _)| *slot)
    }

    /// Lets others have an event's slot: what it says is dead, or stands in the database.
    pub(super) fn free(&mut self, key: Key) {
        self.free.extend(self.held.remove(&key).map(|(slot, _)| slot));
    }

    /// Frees the slots of a subscription that was removed; its id is not used again.
    pub(super) fn forget(&mut self, subscription: u32) {
        let gone: Vec<Key> = self.held.keys().filter(|key| key.0 == subscription).copied().collect();
        gone.into_iter().for_each(|key| self.free(key));
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct Running {
    path: PathBuf,
    file: File,
    boot: Vec<u8>,
    said: AtomicBool,
}

impl Running {
    /// Opens or makes the file, and reads the notes that a killed process left.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Note>), QueueError> {
        let path = folder.join(FILE);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).and_then(|mut file| {
            let mut bytes = Vec::new();
            file.by_ref().take(u64::from(SLOTS_MAX) * SLOT_BYTES as u64).read_to_end(&mut bytes)?;
            Ok((file, bytes))
        });
        let (file, bytes) = opened.map_err(|error| {
            QueueError::Unavailable(format!("reading `{}` failed: {error} (check the folder's permissions)", path.display()))
        })?;
        let boot = boot();
        let notes = bytes.as_chunks::<SLOT_BYTES>().0.iter().filter_map(|slot| decode(slot, &boot)).collect();
        Ok((Self { path, file, boot, said: AtomicBool::new(false) }, notes))
    }

    /// Begins anew, once what was noted stands in the database; else leaves it for the next start, and uses what lies behind it.
    pub(super) fn begin(&self, counted: bool) -> Slots {
        if counted && let Err(error) = self.file.set_len(0) {
            self.say(&format!("emptying `{}` failed: {error}", self.path.display()));
        }
        // As long as it is now: what could not be emptied is left as well.
        let left = self.file.metadata().map_or(u64::MAX, |metadata| metadata.len().div_ceil(SLOT_BYTES as u64));
        Slots::after(u32::try_from(left).unwrap_or(SLOTS_MAX))
    }

    /// Writes slots. What can't be written is said once: then a kill costs fewer tries than it should.
    pub(super) fn write(&self, slots: impl IntoIterator<Item = (u32, Note)>) {
        for (slot, note) in slots {
            self.put(slot, &encode(note, &self.boot));
        }
    }

    /// Makes slots say nothing.
    pub(super) fn clear(&self, slots: impl IntoIterator<Item = u32>) {
        for slot in slots {
            self.put(slot, &[0; SLOT_BYTES]);
        }
    }

    fn put(&self, slot: u32, bytes: &[u8; SLOT_BYTES]) {
        if let Err(error) = self.file.write_all_at(bytes, u64::from(slot) * SLOT_BYTES as u64) {
            self.say(&format!("writing `{}` failed: {error}", self.path.display()));
        }
    }

    /// Says once that an event is not noted.
    pub(super) fn say(&self, why: &str) {
        if !self.said.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = why, "tries of running events are not noted; a kill of this process may not be counted");
        }
    }

    /// Nothing runs any more. A note that is still on its way goes into the void.
    pub(super) fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(error = %error, file = %self.path.display(), "notes of running events can't be removed");
        }
    }
}

/// Names this start of the machine; empty where it can't be told.
fn boot() -> Vec<u8> {
    std::fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

fn encode(Note { key: (subscription, seq), tries }: Note, boot: &[u8]) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[8..12].copy_from_slice(&subscription.to_le_bytes());
    slot[12..16].copy_from_slice(&tries.failed.to_le_bytes());
    slot[16..24].copy_from_slice(&seq.to_le_bytes());
    slot[24..32].copy_from_slice(&tries.outside_since.map_or(0, |since| since.0).to_le_bytes());
    slot[32..36].copy_from_slice(&tries.outside.to_le_bytes());
    let checksum = checksum(boot, &slot[8..]);
    slot[..8].copy_from_slice(&checksum.to_le_bytes());
    slot
}

/// None for a slot that says nothing, is torn or was written before the machine started.
fn decode(slot: &[u8; SLOT_BYTES], boot: &[u8]) -> Option<Note> {
    let long = |at: usize| slot[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    let short = |at: usize| slot[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    if long(0)? != checksum(boot, &slot[8..]) {
        return None;
    }
    let since = long(24)?;
    let tries = Tries { failed: short(12)?, outside: short(32)?, outside_since: (since > 0).then_some(Timestamp(since)) };
    Some(Note { key: (short(8)?, long(16)?), tries })
}

/// FNV-1a: against torn slots and those of another start, not against anyone's malice; never 0 of zeros.
fn checksum(boot: &[u8], bytes: &[u8]) -> u64 {
    boot.iter().chain(bytes).fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tries(failed: u32) -> Tries {
        Tries { failed, ..Tries::default() }
    }

    fn note(seq: u64, failed: u32) -> Note {
        Note { key: (7, seq), tries: tries(failed) }
    }

    #[test]
    fn a_slot_reads_as_it_was_written_or_not_at_all() {
        let whole = Note { key: (u32::MAX, u64::MAX), tries: Tries { failed: 3, outside: 4, outside_since: Some(Timestamp(5)) } };
        for written in [note(0, 0), note(1, 2), whole] {
            assert_eq!(decode(&encode(written, b"boot"), b"boot"), Some(written));
            assert_eq!(decode(&encode(written, b"boot"), b"another"), None, "a note of another start");
            assert_eq!(decode(&encode(written, b"boot"), b""), None);
        }
        assert_eq!(decode(&[0; SLOT_BYTES], b"boot"), None);
        assert_eq!(decode(&[0; SLOT_BYTES], b""), None);
        // Torn at any byte, between any two notes.
        let (old, new) = (encode(whole, b"boot"), encode(note(1, 2), b"boot"));
        for at in 1..SLOT_BYTES {
            let mut torn = new;
            torn[at..].copy_from_slice(&old[at..]);
            let read = decode(&torn, b"boot");
            assert!(read.is_none() || torn == new, "torn at {at}: {read:?}");
        }
    }

    #[test]
    fn slots_are_used_again_and_bounded() {
        let mut slots = Slots::default();
        assert_eq!(
            [slots.note((1, 1), tries(1)), slots.note((1, 2), tries(1)), slots.note((2, 1), tries(1))],
            [Some(0), Some(1), Some(2)]
        );
        assert_eq!(slots.note((1, 2), tries(2)), Some(1), "an event has one slot");
        assert_eq!(
            (slots.change((1, 2), tries(2)), slots.change((1, 2), tries(1)), slots.change((9, 9), tries(1))),
            (None, Some(1), None)
        );
        slots.free((1, 2));
        slots.free((1, 2));
        assert_eq!((slots.note((1, 3), tries(1)), slots.note((1, 4), tries(1))), (Some(1), Some(3)));
        slots.forget(1);
        assert_eq!((slots.get((1, 1)), slots.get((2, 1)), slots.free.len()), (None, Some(2), 3));
        let taken = (0..u64::from(SLOTS_MAX)).filter(|seq| slots.note((3, *seq), tries(1)).is_some()).count();
        assert_eq!(taken, SLOTS_MAX as usize - 1);
        assert_eq!((slots.note((4, 0), tries(1)), Slots::after(SLOTS_MAX).note((4, 0), tries(1))), (None, None));
        assert_eq!(slots.note((3, 0), tries(2)).map(|slot| slot < SLOTS_MAX), Some(true), "those that have a slot keep it");
    }

    #[test]
    fn a_file_is_read_whole_or_in_part() {
        let folder = tempfile::tempdir().unwrap();
        let (running, notes) = Running::open(folder.path()).unwrap();
        assert_eq!(notes, []);
        running.write([(0, note(10, 1)), (1, note(11, 1)), (5, note(12, 1))]);
        running.clear([1]);
        // Cut off in the middle of a slot.
        running.file.write_all_at(&[1; SLOT_BYTES / 2], 6 * SLOT_BYTES as u64).unwrap();
        let (running, notes) = Running::open(folder.path()).unwrap();
        assert_eq!(notes, [note(10, 1), note(12, 1)]);
        let mut slots = running.begin(false);
        assert_eq!(slots.note((7, 13), tries(1)), Some(7), "behind what is left");
        assert_eq!(Running::open(folder.path()).unwrap().1, notes);
        assert_eq!(running.begin(true).note((7, 13), tries(1)), Some(0));
        assert_eq!(Running::open(folder.path()).unwrap().1, []);
        running.remove();
        running.write([(0, note(14, 1))]);
        assert_eq!(Running::open(folder.path()).unwrap().1, [], "a late note is void");
    }

    #[test]
    fn a_file_without_end_is_read_up_to_the_bound() {
        let folder = tempfile::tempdir().unwrap();
        let file = File::create(folder.path().join(FILE)).unwrap();
        file.set_len(1 << 40).unwrap();
        let (running, notes) = Running::open(folder.path()).unwrap();
        assert_eq!((notes.len(), running.begin(true).note((1, 1), tries(1))), (0, Some(0)));
    }
}
