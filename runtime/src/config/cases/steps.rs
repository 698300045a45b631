//! What happens in a case: one event, or several with time between them.

use std::time::Duration;

use super::super::reader::Field;
use super::super::section::Section;
use super::super::tree::Value;
use super::super::values::Form;
use super::file::here;
use super::{Clock, Step, event, expect};
use crate::clock::Timestamp;

const EVENT: Form = Form::new("an event", "`event = { type = \"…\" }`; or `events`, a list of them");
const EVENTS: Form = Form::new("a list of steps", "such as `[{ type = \"…\" }, { until = \"2026-03-29T00:30:00Z\" }]`");
const TIME: Form = Form::new("a time", "with its zone, such as `2026-03-29T00:30:00Z`");

/// Ten years, as durations are bounded everywhere.
const ADVANCE_MAX: Duration = Duration::from_secs(3_650 * 24 * 3_600);

/// The steps of a case that begins at `now`, and when it begins.
pub(super) fn read(section: &mut Section<'_, '_>, now: Option<Timestamp>) -> Option<(Option<Timestamp>, Vec<Step>)> {
    let (one, several) = (section.take("event"), section.take("events"));
    match (one, several) {
        (Some(field), None) => {
            let event = event::read(section, field)?;
            Some((now, vec![Step { clock: Clock::Still, event: Some(event), expect: None }]))
        }
        (None, Some(field)) => {
            let items = section.reader.list(&field, &EVENTS)?;
            if items.is_empty() {
                section.reader.refuse_form(&field, &EVENTS, String::new());
                return None;
            }
            let (pattern, mut begin, mut shown) = (section.any(), now, now);
            let mut steps = Vec::new();
            let mut whole = true;
            for (at, item) in items.into_iter().enumerate() {
                match section.descend(here(item), pattern.clone(), |section| step(section, shown)) {
                    Some(step) => {
                        (begin, shown) = moved(step.clock, at == 0, begin, shown);
                        steps.push(step);
                    }
                    None => whole = false,
                }
            }
            whole.then_some((begin, steps))
        }
        (Some(field), Some(_)) => {
            let message = "`event` and `events` stand in one case".to_owned();
            section.reader.refuse(&field, message, "one of the two".to_owned(), None);
            None
        }
        (None, None) => {
            section.missing("event", &EVENT);
            None
        }
    }
}

/// When the case begins and what its clock then shows: a case that names no `now` begins with the time of its first step.
fn moved(
    clock: Clock,
    is_first: bool,
    begin: Option<Timestamp>,
    shown: Option<Timestamp>,
) -> (Option<Timestamp>, Option<Timestamp>) {
    match clock {
        Clock::Still => (begin, shown),
        Clock::To(time) if is_first && begin.is_none() => (Some(time), Some(time)),
        Clock::To(time) => (begin, Some(time)),
        Clock::By(wait) => (begin, shown.map(|shown| shown.after(wait))),
    }
}

/// One step; `shown` is what the clock shows before it, as far as that is known.
fn step(section: &mut Section<'_, '_>, shown: Option<Timestamp>) -> Option<Step> {
    let (at, until) = (section.take("at"), section.take("until"));
    let is_timed = section.has("advance");
    let advance = section.duration("advance", Duration::ZERO..=ADVANCE_MAX);
    let expect = section.optional("expect", expect::read);
    let event = match section.take("event") {
        Some(field) => Some(event::read(section, field)?),
        None if section.is_read() => None,
        None => Some(event::attributes(section)?),
    };
    // An event arrives at a time; without one it is until a time that the case waits.
    let (right, wrong) = if event.is_some() { (at, until) } else { (until, at) };
    if let Some(field) = wrong {
        let (message, expected) = match event {
            Some(_) => ("`until` lets time pass without an event", "`at`, when the event arrives"),
            None => ("`at` is when an event arrives, and there is none", "`until`, or an event"),
        };
        section.reader.refuse(&field, message.to_owned(), expected.to_owned(), None);
        return None;
    }
    let clock = match (right, advance) {
        (Some(field), Some(_)) => {
            section.reader.refuse(&field, "a time and `advance` in one step".to_owned(), "one of the two".to_owned(), None);
            return None;
        }
        (Some(field), None) => Clock::To(instant(section, &field, shown)?),
        (None, Some(wait)) => Clock::By(wait),
        (None, None) if is_timed => return None,
        (None, None) if event.is_none() => {
            section.missing("type", &EVENTS);
            return None;
        }
        (None, None) => Clock::Still,
    };
    Some(Step { clock, event, expect })
}

/// A time that does not lie before what the clock shows.
fn instant(section: &mut Section<'_, '_>, field: &Field, shown: Option<Timestamp>) -> Option<Timestamp> {
    let time = parse(section, field)?;
    if let Some(shown) = shown.filter(|shown| time < *shown) {
        let message = format!("`{}` goes back: the clock shows {shown} already", field.key);
        section.reader.refuse(field, message, "a time that is not earlier".to_owned(), None);
        return None;
    }
    Some(time)
}

/// A time, as a text or as TOML writes it.
pub(super) fn time(section: &mut Section<'_, '_>, name: &'static str) -> Option<Timestamp> {
    let field = section.take(name)?;
    parse(section, &field)
}

fn parse(section: &mut Section<'_, '_>, field: &Field) -> Option<Timestamp> {
    let read = match &field.node.value {
        Value::Text(text) | Value::Time(text) => text.replacen(' ', "T", 1).parse::<jiff::Timestamp>().ok(),
        _ => None,
    };
    let time = read.and_then(|time| u64::try_from(time.as_millisecond()).ok()).map(Timestamp);
    if time.is_none() {
        section.reader.refuse_form(field, &TIME, String::new());
    }
    time
}
