//! Times of day, windows and quiet hours over both changes of clocks in three zones, leap days, a day that was left out.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use weir_sdk::{Event, testing};

use super::quiet::Quiet;
use super::{Notes, When, later};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn event(data: Value) -> Event {
    testing::event("t", data).decode().unwrap()
}

#[track_caller]
fn due(when: &str, from: &str) -> String {
    let mut notes = Notes::new();
    let due = When::parse(when).unwrap().due(time(from), time(from), &event(json!({})), &mut notes);
    assert_eq!(notes, Notes::new());
    due.to_string()
}

#[test]
fn times_of_day_are_those_of_their_zone() {
    for (when, from, expected) in [
        ("at 09:00 Europe/Berlin", "2026-06-01T06:59:59.999Z", "2026-06-01T07:00:00Z"),
        ("at 09:00 Europe/Berlin", "2026-06-01T07:00:00Z", "2026-06-01T07:00:00Z"),
        ("at 09:00 Europe/Berlin", "2026-06-01T07:00:00.001Z", "2026-06-02T07:00:00Z"),
        // Berlin: forward on 29 March at 01:00Z, back on 25 October at 01:00Z.
        ("at 09:00 Europe/Berlin", "2026-03-28T08:00:01Z", "2026-03-29T07:00:00Z"),
        ("at 02:30 Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
        ("at 09:00 Europe/Berlin", "2026-10-24T07:00:01Z", "2026-10-25T08:00:00Z"),
        ("at 02:30 Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
        ("at 02:30 Europe/Berlin", "2026-10-25T00:30:01Z", "2026-10-26T01:30:00Z"),
        // New York: forward on 8 March at 07:00Z, back on 1 November at 06:00Z.
        ("at 09:00 America/New_York", "2026-03-07T14:00:01Z", "2026-03-08T13:00:00Z"),
        ("at 02:30 America/New_York", "2026-03-07T12:00:00Z", "2026-03-08T07:30:00Z"),
        ("at 01:30 America/New_York", "2026-10-31T12:00:00Z", "2026-11-01T05:30:00Z"),
        ("at 01:30 America/New_York", "2026-11-01T05:30:01Z", "2026-11-02T06:30:00Z"),
        // Lord Howe, by half an hour: back on 5 April at 15:00Z of the 4th, forward on 4 October at 15:30Z of the 3rd.
        ("at 09:00 Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-04T22:30:00Z"),
        ("at 01:45 Australia/Lord_Howe", "2026-04-04T00:00:00Z", "2026-04-04T14:45:00Z"),
        ("at 01:45 Australia/Lord_Howe", "2026-04-04T14:45:01Z", "2026-04-05T15:15:00Z"),
        ("at 02:15 Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-03T15:45:00Z"),
        ("at 09:00 Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-03T22:00:00Z"),
        // Leap days.
        ("at 09:00 UTC", "2028-02-28T09:00:01Z", "2028-02-29T09:00:00Z"),
        ("at 09:00 UTC", "2028-02-29T09:00:01Z", "2028-03-01T09:00:00Z"),
        ("at 09:00 UTC", "2027-02-28T09:00:01Z", "2027-03-01T09:00:00Z"),
        // Samoa went from 29 to 31 December 2011.
        ("at 09:00 Pacific/Apia", "2011-12-29T20:00:00Z", "2011-12-30T19:00:00Z"),
        // A length of time knows no clocks.
        ("after 1d", "2026-03-28T12:00:00Z", "2026-03-29T12:00:00Z"),
        ("after 90s", "2028-02-28T23:59:00Z", "2028-02-29T00:00:30Z"),
        ("now", "2026-06-01T07:00:00Z", "2026-06-01T07:00:00Z"),
    ] {
        assert_eq!(due(when, from), expected, "{when}, from {from}");
    }
}

#[test]
fn windows_end_after_what_is_in_them() {
    for (when, from, expected) in [
        ("digest 1h", "2026-06-01T10:00:00Z", "2026-06-01T11:00:00Z"),
        ("digest 1h by data.x", "2026-06-01T10:59:59.999Z", "2026-06-01T11:00:00Z"),
        ("digest 1d", "2028-02-28T23:00:00Z", "2028-02-29T00:00:00Z"),
        ("digest 15m", "2026-10-25T00:59:00Z", "2026-10-25T01:00:00Z"),
        ("digest 15m", "2026-10-25T01:01:00Z", "2026-10-25T01:15:00Z"),
        ("digest at 18:00 Europe/Berlin", "2026-06-01T15:59:59Z", "2026-06-01T16:00:00Z"),
        ("digest at 18:00 Europe/Berlin", "2026-06-01T16:00:00Z", "2026-06-02T16:00:00Z"),
        // Windows of 23 and 25 hours.
        ("digest at 18:00 Europe/Berlin by data.x", "2026-03-28T17:00:00Z", "2026-03-29T16:00:00Z"),
        ("digest at 18:00 Europe/Berlin", "2026-10-24T16:00:00Z", "2026-10-25T17:00:00Z"),
        ("digest at 18:00 America/New_York", "2026-03-07T23:00:00Z", "2026-03-08T22:00:00Z"),
        ("digest at 18:00 America/New_York", "2026-10-31T22:00:00Z", "2026-11-01T23:00:00Z"),
        ("digest at 18:00 Australia/Lord_Howe", "2026-04-04T07:00:00Z", "2026-04-05T07:30:00Z"),
        ("digest at 18:00 Australia/Lord_Howe", "2026-10-03T07:30:00Z", "2026-10-04T07:00:00Z"),
        // The end comes twice, and counts once.
        ("digest at 02:30 Europe/Berlin", "2026-10-25T00:29:59Z", "2026-10-25T00:30:00Z"),
        ("digest at 02:30 Europe/Berlin", "2026-10-25T01:00:00Z", "2026-10-26T01:30:00Z"),
    ] {
        assert_eq!(due(when, from), expected, "{when}, from {from}");
    }
}

#[test]
fn lengths_count_from_when_the_event_came_and_times_of_day_from_now() {
    let (came, now) = (time("2026-06-01T10:00:00Z"), time("2026-06-03T12:00:00Z"));
    let event = event(json!({}));
    for (when, expected) in [
        ("after 10m", "2026-06-01T10:10:00Z"),
        ("at 09:00 Europe/Berlin", "2026-06-04T07:00:00Z"),
        ("digest 1h", "2026-06-03T13:00:00Z"),
    ] {
        let due = When::parse(when).unwrap().due(came, now, &event, &mut Notes::new());
        assert_eq!(due.to_string(), expected, "{when}");
    }
    assert_eq!(later(Timestamp::MAX, Duration::MAX), Timestamp::MAX);
}

#[test]
fn quiet_hours_end_when_the_clock_says_so() {
    for (quiet, from, expected) in [
        ("22:00-08:00 Europe/Berlin", "2026-06-01T19:59:59Z", "2026-06-01T19:59:59Z"),
        ("22:00-08:00 Europe/Berlin", "2026-06-01T20:00:00Z", "2026-06-02T06:00:00Z"),
        ("22:00-08:00 Europe/Berlin", "2026-06-01T22:30:00Z", "2026-06-02T06:00:00Z"),
        ("22:00-08:00 Europe/Berlin", "2026-06-02T05:59:59Z", "2026-06-02T06:00:00Z"),
        ("22:00-08:00 Europe/Berlin", "2026-06-02T06:00:00Z", "2026-06-02T06:00:00Z"),
        ("12:00-13:00 America/New_York", "2026-06-01T16:30:00Z", "2026-06-01T17:00:00Z"),
        ("12:00-13:00 America/New_York", "2026-06-01T15:59:00Z", "2026-06-01T15:59:00Z"),
        // Nights of 9 and 11 hours.
        ("22:00-08:00 Europe/Berlin", "2026-03-28T22:00:00Z", "2026-03-29T06:00:00Z"),
        ("22:00-08:00 Europe/Berlin", "2026-10-24T21:00:00Z", "2026-10-25T07:00:00Z"),
        ("22:00-08:00 America/New_York", "2026-03-08T04:00:00Z", "2026-03-08T12:00:00Z"),
        ("22:00-08:00 America/New_York", "2026-11-01T03:00:00Z", "2026-11-01T13:00:00Z"),
        ("22:00-08:00 Australia/Lord_Howe", "2026-04-04T12:00:00Z", "2026-04-04T21:30:00Z"),
        ("22:00-08:00 Australia/Lord_Howe", "2026-10-03T12:00:00Z", "2026-10-03T21:00:00Z"),
        // The end is skipped, or comes twice: it is quiet again after the first.
        ("22:00-02:30 Europe/Berlin", "2026-03-28T22:00:00Z", "2026-03-29T01:30:00Z"),
        ("22:00-02:30 Europe/Berlin", "2026-10-25T00:15:00Z", "2026-10-25T00:30:00Z"),
        ("22:00-02:30 Europe/Berlin", "2026-10-25T01:15:00Z", "2026-10-25T01:30:00Z"),
        ("22:00-01:45 Australia/Lord_Howe", "2026-04-04T14:30:00Z", "2026-04-04T14:45:00Z"),
        ("22:00-01:45 Australia/Lord_Howe", "2026-04-04T15:00:00Z", "2026-04-04T15:15:00Z"),
        ("22:00-08:00 UTC", "2028-02-28T23:00:00Z", "2028-02-29T08:00:00Z"),
    ] {
        let end = Quiet::parse(quiet).unwrap().end(time(from), &event(json!({})), &mut Notes::new());
        assert_eq!(end.to_string(), expected, "{quiet}, from {from}");
    }
}

#[test]
fn quiet_hours_never_end_in_quiet_hours() {
    // Every quarter of an hour of a year, where clocks change by an hour and by half of one.
    for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"] {
        for hours in ["22:00-08:00", "23:30-02:15", "01:45-02:45", "02:00-02:30"] {
            let text = format!("{hours} {zone}");
            let quiet = Quiet::parse(&text).unwrap();
            let (event, mut notes) = (event(json!({})), Notes::new());
            let mut now = time("2026-01-01T00:00:00Z");
            while now < time("2027-01-01T00:00:00Z") {
                let end = quiet.end(now, &event, &mut notes);
                assert!(end >= now && end < later(now, Duration::from_secs(12 * 3_600)), "{text}: {now}, {end}");
                assert_eq!(quiet.end(end, &event, &mut notes), end, "{text}: {now}");
                now = later(now, Duration::from_secs(900));
            }
        }
    }
}

#[test]
fn the_zone_may_come_from_the_event() {
    let berlin = "2026-06-02T06:00:00Z";
    for (zone, expected, noted) in [
        (json!("America/New_York"), "2026-06-01T22:30:00Z", None),
        (json!("america/new_york"), "2026-06-01T22:30:00Z", None),
        (json!(null), berlin, None),
        (json!("Europe/Bonn"), berlin, Some("`data.zone`: `Europe/Bonn` is no time zone, `Europe/Berlin` is used")),
        (json!(""), berlin, Some("`data.zone`: `` is no time zone, `Europe/Berlin` is used")),
        (json!("../x\n"), berlin, Some("`data.zone`: `../x\\n` is no time zone, `Europe/Berlin` is used")),
        (json!(7), berlin, Some("`data.zone` is a number, no time zone: `Europe/Berlin` is used")),
    ] {
        let mut notes = Notes::new();
        let quiet = Quiet::parse("22:00-08:00 data.zone or Europe/Berlin").unwrap();
        let end = quiet.end(time("2026-06-01T22:30:00Z"), &event(json!({ "zone": zone })), &mut notes);
        assert_eq!((end.to_string().as_str(), notes.first().map(String::as_str)), (expected, noted), "{zone}");
    }
    let mut notes = Notes::new();
    let when = When::parse("at 09:00 data.zone or UTC").unwrap();
    let due =
        when.due(time("2026-06-01T00:00:00Z"), time("2026-06-01T00:00:00Z"), &event(json!({ "zone": "Asia/Tokyo" })), &mut notes);
    assert_eq!(due.to_string(), "2026-06-01T00:00:00Z");
}

#[test]
fn what_is_wrong_is_said() {
    let known = "(expected `now`, `after 10m`, `at 09:00 Europe/Berlin`, `digest 1h by data.owner.email`, \
                 `digest at 18:00 Europe/Berlin by data.owner.email`)";
    for (text, what) in [
        ("", "not known"),
        ("later", "not known"),
        ("after", "not known"),
        ("after 10", "`10` is no length of time such as `90s`, `10m`, `2h`, `1d`"),
        ("after m", "`m` is no length of time such as `90s`, `10m`, `2h`, `1d`"),
        ("after -5m", "`-5m` is no length of time such as `90s`, `10m`, `2h`, `1d`"),
        ("after 5ü", "`5ü` is no length of time such as `90s`, `10m`, `2h`, `1d`"),
        ("after 0s", "`0s` is not between `1s` and `360d`"),
        ("after 361d", "`361d` is not between `1s` and `360d`"),
        ("after 99999999999999999999d", "`99999999999999999999d` is no length of time such as `90s`, `10m`, `2h`, `1d`"),
        ("at", "not known"),
        ("at 9:00 UTC", "`9:00` is no time of day such as `09:00`"),
        ("at 24:00 UTC", "`24:00` is no time of day such as `09:00`"),
        ("at 09:00", "the time zone is missing (expected such as `Europe/Berlin`)"),
        ("at 09:00 Berlin", "`Berlin` is no time zone (expected a name of the IANA database such as `Europe/Berlin`)"),
        ("at 09:00 data.zone", "`data.zone` needs a zone for when the event names none: `data.zone or Europe/Berlin`"),
        ("at 09:00 data.zone or X", "`X` is no time zone (expected a name of the IANA database such as `Europe/Berlin`)"),
        (
            "at 09:00 zone or UTC",
            "`zone` is no path (expected a path such as `data.owner.email`, with `?` at its end if it may be missing)",
        ),
        ("digest", "not known"),
        ("digest daily", "`daily` is no length of time such as `90s`, `10m`, `2h`, `1d`"),
        ("digest 1h by", "after `by` a path is missing"),
        ("digest 1h data.x", "`1h data.x` is no window"),
        ("digest at 18:00 by data.x", "the time zone is missing (expected such as `Europe/Berlin`)"),
    ] {
        assert_eq!(When::parse(text).unwrap_err(), format!("`{text}`: {what} {known}"));
    }
    for (text, what) in [
        ("", "is empty"),
        ("22:00 08:00 UTC", "`22:00` is no span such as `22:00-08:00`"),
        ("22:00-8 UTC", "`8` is no time of day such as `09:00`"),
        ("22:00-22:00 UTC", "begins when it ends"),
        ("22:00-08:00", "the time zone is missing (expected such as `Europe/Berlin`)"),
    ] {
        let said = Quiet::parse(text).unwrap_err();
        assert!(said.starts_with(&format!("`{text}`: {what} (expected `22:00-08:00 Europe/Berlin` or")), "{said}");
    }
}
