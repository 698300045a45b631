//! When a mail is due, from what `handlers/email-notifier/README.md` promises, by looking at one minute after the other. Shares nothing
//! with the notifier: its zones are rules that are written here, not a database.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

const MINUTE: SignedDuration = SignedDuration::from_mins(1);
const AROUND: SignedDuration = SignedDuration::from_hours(26);

/// The zones of the test: name, rules of 2026, and the days on which clocks change.
pub(crate) const ZONES: [(&str, &str, [&str; 2]); 3] = [
    ("Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3", ["2026-03-29", "2026-10-25"]),
    ("America/New_York", "EST5EDT,M3.2.0,M11.1.0", ["2026-03-08", "2026-11-01"]),
    ("Australia/Sydney", "AEST-10AEDT,M10.1.0,M4.1.0/3", ["2026-04-05", "2026-10-04"]),
];

/// How far clocks go forward and back in all of them.
const CHANGE: SignedDuration = SignedDuration::from_hours(1);

pub(crate) fn zone(at: usize) -> TimeZone {
    TimeZone::posix(ZONES[at].1).unwrap()
}

/// Minutes from this one on; the first is not before it.
fn minutes(from: Timestamp) -> impl Iterator<Item = Timestamp> {
    let first = Timestamp::from_second((from.as_second() - 1).div_euclid(60) * 60 + 60).unwrap();
    let first = if from.subsec_nanosecond() > 0 && first == from { first + MINUTE } else { first };
    std::iter::successors(Some(first), |minute| Some(*minute + MINUTE))
}

/// The instant at which it is so late there on the day of this time: the first one of two, and for a time that is skipped the one that
/// comes as much later as the clocks go forward.
fn occurrence(zone: &TimeZone, local: DateTime) -> Timestamp {
    let noon = local.date().at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap().timestamp();
    // A day anywhere is within 26 hours of its noon in UTC.
    let find = |local: DateTime| minutes(noon - AROUND).take(52 * 60).find(|minute| zone.to_datetime(*minute) == local);
    find(local).or_else(|| find(local + CHANGE)).unwrap()
}

/// The next time from `from` on, or after it, that it is so late there.
pub(crate) fn next(zone: &TimeZone, clock: Time, from: Timestamp, inclusive: bool) -> Timestamp {
    let today = zone.to_datetime(from).date();
    let days = std::iter::successors(Some(today), |day| day.tomorrow().ok());
    let mut times = days.map(|day| occurrence(zone, day.to_datetime(clock)));
    times.find(|time| *time > from || (inclusive && *time == from)).unwrap()
}

/// The end of the hour, in UTC: a mail that comes at its end belongs to the next one.
pub(crate) fn hour(from: Timestamp) -> Timestamp {
    Timestamp::from_second((from.as_second().div_euclid(3_600) + 1) * 3_600).unwrap()
}

/// Hours without mail somewhere, over midnight.
#[derive(Debug, Clone)]
pub(crate) struct Quiet {
    pub(crate) zone: TimeZone,
    pub(crate) from: Time,
    pub(crate) to: Time,
}

impl Quiet {
    fn covers(&self, time: Timestamp) -> bool {
        let local = self.zone.to_datetime(time).time();
        local >= self.from || local < self.to
    }

    /// The first moment from this one on that is not quiet.
    pub(crate) fn end(&self, time: Timestamp) -> Timestamp {
        if self.covers(time) { minutes(time).find(|minute| !self.covers(*minute)).unwrap() } else { time }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Worked out by hand.
    #[test]
    fn what_a_person_reads_off_a_calendar() {
        let (berlin, york, sydney) = (zone(0), zone(1), zone(2));
        let clock = |hour, minute| Time::new(hour, minute, 0, 0).unwrap();
        for (zone, clock, from, expected) in [
            (&berlin, clock(9, 0), "2026-03-28T07:59:59Z", "2026-03-28T08:00:00Z"),
            (&berlin, clock(9, 0), "2026-03-28T08:00:00Z", "2026-03-28T08:00:00Z"),
            (&berlin, clock(9, 0), "2026-03-28T08:00:01Z", "2026-03-29T07:00:00Z"),
            // 02:30 is skipped: 03:30. And it comes twice: the first.
            (&berlin, clock(2, 30), "2026-03-28T22:00:00Z", "2026-03-29T01:30:00Z"),
            (&berlin, clock(2, 30), "2026-10-24T22:00:00Z", "2026-10-25T00:30:00Z"),
            (&berlin, clock(2, 30), "2026-10-25T00:30:01Z", "2026-10-26T01:30:00Z"),
            (&york, clock(2, 30), "2026-03-08T05:00:00Z", "2026-03-08T07:30:00Z"),
            (&york, clock(18, 0), "2026-11-01T05:30:00Z", "2026-11-01T23:00:00Z"),
            (&sydney, clock(2, 30), "2026-04-04T14:00:00Z", "2026-04-04T15:30:00Z"),
            (&sydney, clock(2, 30), "2026-10-03T14:00:00Z", "2026-10-03T16:30:00Z"),
        ] {
            assert_eq!(next(zone, clock, at(from), true), at(expected), "{clock} after {from}");
        }
        let quiet = Quiet { zone: berlin, from: clock(22, 0), to: clock(7, 0) };
        for (time, expected) in [
            ("2026-03-28T20:59:59Z", "2026-03-28T20:59:59Z"),
            ("2026-03-28T21:00:00Z", "2026-03-29T05:00:00Z"),
            ("2026-10-24T23:17:30Z", "2026-10-25T06:00:00Z"),
        ] {
            assert_eq!(quiet.end(at(time)), at(expected), "{time}");
        }
        assert_eq!([hour(at("2026-03-01T10:00:00Z")), hour(at("2026-03-01T10:59:59Z"))], [at("2026-03-01T11:00:00Z"); 2]);
    }
}
