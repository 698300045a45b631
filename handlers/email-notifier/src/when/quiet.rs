//! `quiet` of a rule: the hours in which nobody wants mail, by the clock where they are.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use weir_sdk::Event;

use super::Notes;
use super::zone::{self, Clock, Place};

/// Hours without mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quiet<'a> {
    from: Clock,
    to: Clock,
    place: Place<'a>,
}

impl<'a> Quiet<'a> {
    /// Reads `22:00-08:00 Europe/Berlin` or `22:00-08:00 data.owner.zone or Europe/Berlin`.
    ///
    /// # Errors
    /// What is wrong with it, and what is expected.
    pub(crate) fn parse(text: &'a str) -> Result<Self, String> {
        let read = || {
            let words: Vec<&str> = text.split_whitespace().collect();
            let (hours, place) = words.split_first().ok_or("is empty")?;
            let (from, to) = hours.split_once('-').ok_or_else(|| format!("`{hours}` is no span such as `22:00-08:00`"))?;
            let quiet = Quiet { from: Clock::parse(from)?, to: Clock::parse(to)?, place: Place::parse(place)? };
            if quiet.from == quiet.to { Err("begins when it ends".to_owned()) } else { Ok(quiet) }
        };
        let expected = "`22:00-08:00 Europe/Berlin` or `22:00-08:00 data.owner.zone or Europe/Berlin`";
        read().map_err(|what| format!("`{text}`: {what} (expected {expected})"))
    }

    /// The first moment from `time` on that is not quiet.
    pub(crate) fn end(&self, time: Timestamp, event: &Event, note: &mut Notes) -> Timestamp {
        let zone = self.place.find(event, note);
        if !self.covers(&zone, time) {
            return time;
        }
        // Both where a time comes twice, since it is quiet again after the first; one of a gap that is quiet itself is left out.
        let both = |local| {
            let instants = zone.to_ambiguous_timestamp(local);
            [instants.earlier().ok(), instants.later().ok()]
        };
        let ends = zone::around(&zone, self.to, time).flat_map(both).flatten();
        ends.filter(|end| *end > time && !self.covers(&zone, *end)).min().unwrap_or(time)
    }

    fn covers(&self, zone: &TimeZone, time: Timestamp) -> bool {
        let clock = zone.to_datetime(time).time();
        let (from, to) = (self.from.time(), self.to.time());
        if from < to { from <= clock && clock < to } else { from <= clock || clock < to }
    }
}
