//! `when` of a rule: at once, after a while, at a time of day, or gathered. Text in, decisions out; no clock is asked here.
//!
//! Windows of a length (`digest 1h`) are counted from 1970-01-01T00:00Z, so every process has the same ones and no change of clocks
//! moves them. Times of day are those of their zone: one that is skipped when clocks go forward comes as much later as they went
//! forward, one that comes twice counts the first time.

pub(crate) mod quiet;
pub(crate) mod zone;

use std::time::Duration;

use jiff::Timestamp;
use weir_sdk::Event;

use crate::path::Path;
use zone::{Clock, Place};

/// The longest wait: the server holds an event back for 366 days, and quiet hours may come after it.
const WAIT_MAX: Duration = Duration::from_secs(360 * 86_400);
/// How much longer than a day a time of day may be away: a day on which clocks go back, or one that a zone left out.
const DAY_MAX: Duration = Duration::from_secs(2 * 86_400);

/// When the mails of a rule leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When<'a> {
    /// With the event.
    Now,
    /// So long after the event came.
    After(Duration),
    /// The next time that it is so late there.
    At(Daily<'a>),
    /// Together with others of the same window.
    Digest {
        /// When it ends.
        window: Window<'a>,
        /// What the events of one digest have in common, beside their recipients.
        by: Option<Path<'a>>,
    },
}

/// A time of day somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Daily<'a> {
    /// How late it is.
    pub(crate) clock: Clock,
    /// Where.
    pub(crate) place: Place<'a>,
}

/// What a digest gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Window<'a> {
    /// Everything of an hour, of a day, counted in UTC.
    Every(Duration),
    /// Everything up to a time of day.
    Until(Daily<'a>),
}

impl<'a> When<'a> {
    /// Reads the value of `when`.
    ///
    /// # Errors
    /// What is wrong with it, and what is expected.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let when = match words.as_slice() {
            ["now"] => Ok(When::Now),
            ["after", length] => duration(length).map(When::After),
            ["at", rest @ ..] if !rest.is_empty() => Daily::parse(rest).map(When::At),
            ["digest", rest @ ..] if !rest.is_empty() => digest(rest),
            _ => Err("not known".to_owned()),
        };
        let known = "`now`, `after 10m`, `at 09:00 Europe/Berlin`, `digest 1h by data.owner.email`, \
                     `digest at 18:00 Europe/Berlin by data.owner.email`";
        when.map_err(|what| format!("`{text}`: {what} (expected {known})"))
    }

    /// When the mail of an event is due that came at `came` and is looked at `now`; for a digest, when its window ends.
    ///
    /// A length of time counts from when the event came. A time of day is the next one from now: an event that was held up is not sent
    /// at any hour.
    pub(crate) fn due(&self, came: Timestamp, now: Timestamp, event: &Event, note: &mut Notes) -> Timestamp {
        match self {
            When::Now => now,
            When::After(wait) => later(came, *wait),
            When::At(daily) => daily.next(now, event, note, true),
            When::Digest { window, .. } => window.end(now, event, note),
        }
    }

    /// The longest that an event waits by this.
    pub(crate) fn wait_max(&self) -> Duration {
        match self {
            When::Now => Duration::ZERO,
            When::After(wait) | When::Digest { window: Window::Every(wait), .. } => *wait,
            When::At(_) | When::Digest { window: Window::Until(_), .. } => DAY_MAX,
        }
    }
}

impl Window<'_> {
    /// The end of the window that `time` falls into; a window's end belongs to the next one.
    pub(crate) fn end(&self, time: Timestamp, event: &Event, note: &mut Notes) -> Timestamp {
        match self {
            Window::Every(length) => {
                let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1);
                let end = (time.as_millisecond().div_euclid(length) + 1).saturating_mul(length);
                Timestamp::from_millisecond(end).unwrap_or(Timestamp::MAX)
            }
            Window::Until(daily) => daily.next(time, event, note, false),
        }
    }
}

impl<'a> Daily<'a> {
    /// Reads `09:00 Europe/Berlin`, as words.
    fn parse(words: &[&'a str]) -> Result<Self, String> {
        let Some((clock, place)) = words.split_first() else { return Err("the time of day is missing".to_owned()) };
        Ok(Daily { clock: Clock::parse(clock)?, place: Place::parse(place)? })
    }

    fn next(&self, from: Timestamp, event: &Event, note: &mut Notes, inclusive: bool) -> Timestamp {
        let zone = self.place.find(event, note);
        zone::next(&zone, self.clock, from, inclusive)
    }
}

/// What is said in the log about an event.
pub(crate) type Notes = Vec<String>;

/// A length of time: one number and its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no length of time such as `90s`, `10m`, `2h`, `1d`");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let good = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = if good { number.parse().map_err(|_| wrong())? } else { return Err(wrong()) };
    let length = Duration::from_secs(number.saturating_mul(seconds));
    if length.is_zero() || length > WAIT_MAX {
        return Err(format!("`{text}` is not between `1s` and `360d`"));
    }
    Ok(length)
}

fn digest<'a>(words: &[&'a str]) -> Result<When<'a>, String> {
    let (words, by) = match words {
        [words @ .., "by", path] => (words, Some(Path::parse(path)?)),
        [.., "by"] => return Err("after `by` a path is missing".to_owned()),
        _ => (words, None),
    };
    let window = match words {
        ["at", rest @ ..] => Window::Until(Daily::parse(rest)?),
        [length] => Window::Every(duration(length)?),
        _ => return Err(format!("`{}` is no window", words.join(" "))),
    };
    Ok(When::Digest { window, by })
}

/// So much later, or the end of time.
pub(crate) fn later(time: Timestamp, wait: Duration) -> Timestamp {
    let wait = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(time.as_millisecond().saturating_add(wait)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
