//! The metadata of a commit: `weir1.` and base64 of numbers, seven bits a byte. Pure.
//!
//! ```text
//! how far it is open, from the offset of the commit
//! how many runs have ended above it; of each the distance from what was before, and its length
//! until the end, runs of offsets with the same note: the distance, times two, odd where a length (from two) follows;
//!     a byte: bits 0 to 4 failed tries, 31 for 31 and what follows; 5 outside failures, 6 since when, 7 when due; what the bits announce;
//!     times as distances from the one before, in zigzag
//! ```
//!
//! What finds no room is left out from the end: then an event is run once more, or with fewer tries behind it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Note, Window};
use crate::clock::Timestamp;
use crate::queue::Tries;

/// The most that a broker takes, unless it is told otherwise (`offset.metadata.max.bytes`).
pub(super) const METADATA_MAX: usize = 4_096;

const PREFIX: &str = "weir1.";

/// The same before it is base64.
const RAW_MAX: usize = (METADATA_MAX - PREFIX.len()) / 4 * 3;

/// Longest number: 64 bits by seven.
const NUMBER_MAX: usize = 10;

/// More than any process holds (`[ceilings]`): metadata that claims more is not ours.
const NOTES_MAX: u64 = 100_000;

const FAILED_MASK: u8 = 31;
const OUTSIDE: u8 = 1 << 5;
const SINCE: u8 = 1 << 6;
const DUE: u8 = 1 << 7;

pub(super) fn write(window: &Window) -> String {
    let mut raw = Vec::new();
    number(&mut raw, window.open.abs_diff(window.base.min(window.open)));
    let mut runs = Vec::new();
    let (mut count, mut at) = (0, window.base);
    for (from, to) in &window.ended {
        let before = runs.len();
        number(&mut runs, from.abs_diff(at));
        number(&mut runs, to.abs_diff(*from));
        if raw.len() + NUMBER_MAX + runs.len() > RAW_MAX {
            runs.truncate(before);
            break;
        }
        (count, at) = (count + 1, *to);
    }
    number(&mut raw, count);
    raw.extend(runs);
    write_notes(&mut raw, window);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(raw))
}

fn write_notes(raw: &mut Vec<u8>, window: &Window) {
    let mut notes = window.noted().peekable();
    let (mut at, mut times) = (window.base, Times::default());
    while let Some((offset, note)) = notes.next() {
        let mut length = 1_u64;
        while notes.next_if(|(next, other)| *next == offset + length.cast_signed() && *other == note).is_some() {
            length += 1;
        }
        let before = raw.len();
        number(raw, offset.abs_diff(at) << 1 | u64::from(length > 1));
        if length > 1 {
            number(raw, length - 2);
        }
        write_note(raw, note, &mut times);
        if raw.len() > RAW_MAX {
            raw.truncate(before);
            return;
        }
        at = offset + length.cast_signed();
    }
}

fn write_note(raw: &mut Vec<u8>, note: Note, times: &mut Times) {
    let Tries { failed, outside, outside_since } = note.tries;
    let few = u8::try_from(failed).unwrap_or(FAILED_MASK).min(FAILED_MASK);
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    raw.push(few | bit(outside > 0, OUTSIDE) | bit(outside_since.is_some(), SINCE) | bit(note.due.is_some(), DUE));
    if few == FAILED_MASK {
        number(raw, u64::from(failed - u32::from(FAILED_MASK)));
    }
    if outside > 0 {
        number(raw, u64::from(outside));
    }
    if let Some(since) = outside_since {
        number(raw, distance(&mut times.since, since));
    }
    if let Some(due) = note.due {
        number(raw, distance(&mut times.due, due));
    }
}

/// None: it is not ours, or it is broken.
pub(super) fn read(offset: i64, metadata: &str) -> Option<Window> {
    let raw = URL_SAFE_NO_PAD.decode(metadata.strip_prefix(PREFIX)?).ok()?;
    let mut rest = raw.as_slice();
    let mut window = Window::new(offset);
    window.open = offset.checked_add_unsigned(take(&mut rest)?)?;
    let mut at = offset;
    for _ in 0..take(&mut rest)? {
        let from = at.checked_add_unsigned(take(&mut rest)?)?;
        at = from.checked_add_unsigned(take(&mut rest)?)?;
        if from > offset {
            window.ended.insert(from, at);
        }
    }
    let (mut at, mut times) = (offset, Times::default());
    while !rest.is_empty() {
        let head = take(&mut rest)?;
        let length = if head & 1 == 1 { take(&mut rest)?.checked_add(2)? } else { 1 };
        let from = at.checked_add_unsigned(head >> 1)?;
        let note = read_note(&mut rest, &mut times)?;
        at = from.checked_add_unsigned(length)?;
        if window.notes.len() as u64 + length > NOTES_MAX {
            return None;
        }
        window.notes.extend((from..at).map(|offset| (offset, note)));
    }
    Some(window)
}

fn read_note(rest: &mut &[u8], times: &mut Times) -> Option<Note> {
    let (bits, after) = rest.split_first()?;
    *rest = after;
    let mut failed = u32::from(bits & FAILED_MASK);
    if bits & FAILED_MASK == FAILED_MASK {
        failed = u32::try_from(take(rest)?).ok()?.checked_add(failed)?;
    }
    let outside = if bits & OUTSIDE == 0 { 0 } else { u32::try_from(take(rest)?).ok()? };
    let outside_since = if bits & SINCE == 0 { None } else { Some(time(&mut times.since, take(rest)?)) };
    let due = if bits & DUE == 0 { None } else { Some(time(&mut times.due, take(rest)?)) };
    Some(Note { tries: Tries { failed, outside, outside_since }, due })
}

/// The times of the note before.
#[derive(Default)]
struct Times {
    since: u64,
    due: u64,
}

fn distance(before: &mut u64, time: Timestamp) -> u64 {
    let distance = time.0.wrapping_sub(*before).cast_signed();
    *before = time.0;
    (distance << 1 ^ distance >> 63).cast_unsigned()
}

fn time(before: &mut u64, coded: u64) -> Timestamp {
    let distance = (coded >> 1).cast_signed() ^ -(coded & 1).cast_signed();
    *before = before.wrapping_add(distance.cast_unsigned());
    Timestamp(*before)
}

fn number(raw: &mut Vec<u8>, mut number: u64) {
    while number >= 128 {
        raw.push((number & 127) as u8 | 128);
        number >>= 7;
    }
    raw.push(number as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for (at, byte) in rest.iter().take(NUMBER_MAX).enumerate() {
        number |= u64::from(byte & 127).checked_shl(u32::try_from(at).ok()? * 7)?;
        if byte & 128 == 0 {
            *rest = rest.get(at + 1..)?;
            return Some(number);
        }
    }
    None
}
