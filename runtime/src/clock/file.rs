//! The wall clock of a test: a file with a time, RFC 3339 or milliseconds since 1970, which the test writes beside and renames into place.
//! Every process that is given the same file has the same time; nothing else passes. Does not bound how far it is set, nor which way.

#![cfg_attr(not(feature = "test-clock"), expect(dead_code, reason = "of builds without it only the tests need this"))]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};

use uuid::{ContextV7, Uuid};

use super::Timestamp;

/// Names the file.
pub(super) const VARIABLE: &str = "WEIR_TEST_CLOCK";

/// Longest text in it: no time is longer.
const TEXT_MAX: usize = 64;

/// None: the variable is not set. A library's own tests go by the machine's clock then; a process does not start ([`check`]).
static CLOCK: LazyLock<Option<FileClock>> = LazyLock::new(|| std::env::var_os(VARIABLE).map(|path| FileClock::new(path.into())));

/// What makes the ids of one millisecond differ and sort.
static IDS: Mutex<ContextV7> = Mutex::new(ContextV7::new());

/// A file that says the time.
#[derive(Debug)]
struct FileClock {
    path: PathBuf,
    /// What it said last, for when it can't be read. Every thread looks at it; each writes what it has just read.
    last: AtomicU64,
}

/// What the file says; none when there is no such file to go by.
pub(super) fn now() -> Option<Timestamp> {
    CLOCK.as_ref().map(FileClock::now)
}

/// A UUIDv7 of this time.
pub(super) fn id(time: Timestamp) -> Uuid {
    let nanos = u32::try_from(time.0 % 1_000).unwrap_or_default() * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(&IDS, time.0 / 1_000, nanos))
}

pub(super) fn check() -> Result<(), String> {
    let Some(clock) = &*CLOCK else {
        return Err(format!(
            "this is a test build (feature `test-clock`): it takes the time from a file [name one in {VARIABLE}]"
        ));
    };
    clock.read().map(drop).map_err(|reason| format!("{VARIABLE}: `{}`: {reason}", clock.path.display()))
}

impl FileClock {
    fn new(path: PathBuf) -> Self {
        Self { path, last: AtomicU64::new(0) }
    }

    fn now(&self) -> Timestamp {
        match self.read() {
            Ok(time) => {
                self.last.store(time.0, Ordering::Relaxed);
                time
            }
            Err(_) => Timestamp(self.last.load(Ordering::Relaxed)),
        }
    }

    fn read(&self) -> Result<Timestamp, String> {
        parse(&read(&self.path)?)
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("can't be read: {error}"))
}

fn parse(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(millis) = text.parse() {
        return Ok(Timestamp(millis));
    }
    let shown: String = text.chars().take(TEXT_MAX).collect();
    let wrong = || format!("`{shown}` is no time [RFC 3339, or milliseconds since 1970]");
    let time: jiff::Timestamp = text.parse().map_err(|_| wrong())?;
    u64::try_from(time.as_millisecond()).map(Timestamp).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rfc_3339_or_milliseconds() {
        for (text, expected) in [
            ("1772953200000", Some(1_772_953_200_000)),
            ("2026-03-08T07:00:00Z\n", Some(1_772_953_200_000)),
            ("2026-03-08T02:00:00-05:00", Some(1_772_953_200_000)),
            ("2026-03-08T07:00:00.250Z", Some(1_772_953_200_250)),
            ("", None),
            ("soon", None),
            ("1969-12-31T23:59:59Z", None),
            ("-1", None),
        ] {
            assert_eq!(parse(text).ok(), expected.map(Timestamp), "{text}");
        }
    }

    #[test]
    fn it_follows_the_file_and_stands_still_while_that_can_t_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clock");
        let clock = FileClock::new(path.clone());
        assert!(clock.read().unwrap_err().contains("can't be read"));
        for (text, expected) in [("5000", 5_000), ("9000", 9_000), ("nothing", 9_000), ("3000", 3_000)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(clock.now(), Timestamp(expected), "{text}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(clock.now(), Timestamp(3_000));
    }

    #[test]
    fn ids_are_of_the_given_time_and_sort() {
        let ids: Vec<Uuid> = (0..1_000).map(|at| id(Timestamp(1_772_953_200_250 + at / 100))).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids[0].get_timestamp().map(|time| time.to_unix()), Some((1_772_953_200, 250_000_000)));
    }
}
