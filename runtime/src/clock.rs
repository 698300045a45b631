//! The one place that asks what time it is. Decisions take the time as an argument, and so do scripts on a Redis server.
//!
//! What may last over restarts and over processes follows the wall clock: delays, retries, expiry, pauses, what is kept and for how long.
//! What is measured within one process does not, and is not asked here: deadlines, leases, heartbeats, time-outs, attempts to connect.
//!
//! With the feature `test-clock` the wall clock is what a file says (`clock/file.rs`), so that weeks pass in seconds with real processes.
//! Such a build is never a release (below), says what it is, and does not start without the file.

#[cfg(any(test, feature = "test-clock"))]
mod file;

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

#[cfg(all(feature = "test-clock", not(debug_assertions)))]
compile_error!(
    "the feature `test-clock` is for tests: whoever can write a file could set the time of a release [build without it]"
);

/// Whether the time comes from a file.
pub const IS_TEST: bool = cfg!(feature = "test-clock");

/// How often a test's clock is looked at by whoever waits for it.
#[cfg(feature = "test-clock")]
const LOOK: Duration = Duration::from_millis(4);

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// The wall clock now.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp(millis(wall()))
}

/// The same, as exact as the machine has it: the time since 1970-01-01T00:00:00Z.
#[must_use]
pub fn wall() -> Duration {
    if let Some(time) = given() {
        return Duration::from_millis(time.0);
    }
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// What a test's clock says, when there is one: for the few times that are somebody else's to say. None in every other build.
#[must_use]
pub fn given() -> Option<Timestamp> {
    #[cfg(feature = "test-clock")]
    return file::now();
    #[cfg(not(feature = "test-clock"))]
    None
}

/// A new UUIDv7 of now; those of one process sort in the order in which they were made.
#[must_use]
pub fn id() -> uuid::Uuid {
    #[cfg(feature = "test-clock")]
    if let Some(time) = file::now() {
        return file::id(time);
    }
    uuid::Uuid::now_v7()
}

/// Says whether there is a time to go by, before a process does anything.
///
/// # Errors
/// In a test build, when the file is not named or can't be read: what to do, for people.
pub fn check() -> Result<(), String> {
    #[cfg(feature = "test-clock")]
    file::check()?;
    Ok(())
}

/// A wait for a time of the wall clock, which is looked at again before long: that clock may be set, and the timers of a process follow
/// another one. Whoever waits looks at what is due when it has rung.
#[derive(Debug, Clone, Copy)]
pub struct Alarm {
    /// Rings here at the latest.
    at: Instant,
    #[cfg(feature = "test-clock")]
    due: Timestamp,
}

impl Alarm {
    /// Rings at `due`, never earlier by the millisecond while the clock is not set, and after `most` in any case.
    #[must_use]
    pub fn new(due: Option<Timestamp>, most: Duration) -> Self {
        let now = now();
        #[cfg(feature = "test-clock")]
        return Self { at: in_process(most), due: now.after(most).min(due.unwrap_or(Timestamp(u64::MAX))) };
        #[cfg(not(feature = "test-clock"))]
        Self { at: in_process(due.map_or(most, |due| due.since(now).min(most))) }
    }

    /// Whether it rings by now.
    #[must_use]
    pub fn rings(&self) -> bool {
        #[cfg(feature = "test-clock")]
        if now() >= self.due {
            return true;
        }
        Instant::now() >= self.at
    }

    /// How long a thread that waits for something else too may wait before it looks.
    #[must_use]
    pub fn look(&self) -> Duration {
        let left = self.at.saturating_duration_since(Instant::now());
        #[cfg(feature = "test-clock")]
        return left.min(LOOK);
        #[cfg(not(feature = "test-clock"))]
        left
    }

    /// Waits until it rings.
    pub async fn rung(&self) {
        #[cfg(feature = "test-clock")]
        while !self.rings() {
            tokio::time::sleep_until((Instant::now() + LOOK).min(self.at).into()).await;
        }
        #[cfg(not(feature = "test-clock"))]
        tokio::time::sleep_until(self.at.into()).await;
    }
}

/// The time of this process so long from now; a year, when that does not fit its clock.
fn in_process(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or_else(|| now + Duration::from_secs(366 * 86_400))
}

/// A length of time in whole milliseconds; more than `u64` holds becomes its maximum.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Timestamp {
    /// This long after; the far end of time when it does not fit.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// RFC 3339 in UTC with milliseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        match jiff::Timestamp::from_millisecond(millis) {
            Ok(time) => write!(f, "{time:.3}"),
            Err(_) => f.write_str("the far future"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_rings_at_its_time_and_after_a_while_at_the_latest() {
        const LONG: Duration = Duration::from_secs(3_600);
        const SHORT: Duration = Duration::from_millis(30);
        for (due, most) in [(Some(SHORT), LONG), (None, SHORT), (Some(LONG), SHORT), (Some(Duration::ZERO), LONG)] {
            let begun = now();
            let due = due.map(|wait| begun.after(wait));
            let alarm = Alarm::new(due, most);
            assert!(due == Some(begun) || !alarm.rings(), "{due:?}");
            alarm.rung().await;
            let expected = due.unwrap_or(begun.after(LONG)).min(begun.after(SHORT));
            assert!(alarm.rings() && now() >= expected, "{due:?}");
        }
    }

    #[test]
    fn ids_sort_as_they_were_made() {
        let ids: Vec<_> = (0..1_000).map(|_| id()).collect();
        assert!(ids.is_sorted() && ids.iter().all(|id| id.get_version_num() == 7));
    }
}
