//! What ends an event before its handler sees it: addressed to another, filtered, looping, lost, too old. Pure.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::config::RetryPolicy;
use crate::event::Event;
use crate::filter::{EvaluationError, Filter};
use crate::outbox::{HANDLER, HOPS};
use crate::queue::Tries;
use crate::verdict::is_exhausted;

/// What a handler takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) handler: &'a str,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) retry: &'a RetryPolicy,
    /// Most handlers that an event may descend through.
    pub(crate) hops: u32,
}

/// What is to become of an event that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It runs.
    Run,
    /// The filter said no, or it is for another handler; with why the filter had no answer.
    Filtered(Option<EvaluationError>),
    /// It descends through more handlers than it may.
    Loop { hops: u32 },
    /// More tries began than it may have, and none of them reported.
    Lost,
}

/// Decides as the event arrives, before it is put on its lane.
pub(crate) fn admit(event: &Event, tries: Tries, rules: &Rules<'_>) -> Admission {
    match event.extension(HANDLER) {
        Some(handler) if handler == rules.handler => {}
        Some(_) => return Admission::Filtered(None),
        None => match rules.filter.map(|filter| filter.matches(event)) {
            None | Some(Ok(true)) => {}
            Some(Ok(false)) => return Admission::Filtered(None),
            Some(Err(error)) => return Admission::Filtered(Some(error)),
        },
    }
    let hops = event.extension(HOPS).map_or(0, |hops| hops.parse().unwrap_or(u32::MAX));
    if hops > rules.hops {
        return Admission::Loop { hops };
    }
    if is_exhausted(tries, rules.retry) { Admission::Lost } else { Admission::Run }
}

/// Whether an event is too old to run (delivery.md §8): older than `expires`, by when its queue had it first, or past its own
/// `expirytime`. What is addressed to one handler is as old as it likes.
pub(crate) fn is_expired(event: &Event, first_seen: Timestamp, expires: Option<Duration>, now: Timestamp) -> bool {
    if is_addressed(event) {
        return false;
    }
    if expires.is_some_and(|expires| now.since(first_seen) > expires) {
        return true;
    }
    let expiry = event.extension("expirytime").and_then(|time| time.parse::<jiff::Timestamp>().ok());
    expiry.is_some_and(|expiry| u64::try_from(expiry.as_millisecond()).map_or(true, |expiry| now.0 > expiry))
}

/// Whether it is for one handler: a replay, or what a handler published to itself.
pub(crate) fn is_addressed(event: &Event) -> bool {
    event.extension(HANDLER).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(extensions: &[(&str, &str)]) -> Event {
        let mut event = Event { id: "1".to_owned(), source: "/s".to_owned(), kind: "a".to_owned(), ..Event::default() };
        for (name, value) in extensions {
            event.set(name, (*value).to_owned()).unwrap();
        }
        event
    }

    fn admitted(extensions: &[(&str, &str)], failed: u32) -> Admission {
        let (filter, retry) = (Filter::parse("type = 'b' OR x = 'y'").unwrap(), RetryPolicy::default());
        let rules = Rules { handler: "me", filter: Some(&filter), retry: &retry, hops: 2 };
        admit(&event(extensions), Tries { failed, ..Tries::default() }, &rules)
    }

    #[test]
    fn what_does_not_run() {
        assert_eq!(admitted(&[("x", "y")], 0), Admission::Run);
        assert_eq!(admitted(&[("x", "z")], 0), Admission::Filtered(None));
        assert!(matches!(admitted(&[], 0), Admission::Filtered(Some(_))));
        assert_eq!(admitted(&[("x", "y"), (HANDLER, "other")], 0), Admission::Filtered(None));
        assert_eq!(admitted(&[("x", "z"), (HANDLER, "me")], 0), Admission::Run, "filters do not apply to what is addressed");
        assert_eq!(admitted(&[("x", "y"), (HOPS, "2")], 0), Admission::Run);
        assert_eq!(admitted(&[("x", "y"), (HOPS, "3")], 0), Admission::Loop { hops: 3 });
        assert_eq!(admitted(&[("x", "y")], 8), Admission::Lost);
        assert_eq!(admitted(&[("x", "z")], 8), Admission::Filtered(None));
    }

    #[test]
    fn age() {
        let expired = |extensions: &[(&str, &str)], expires: Option<u64>, now| {
            is_expired(&event(extensions), Timestamp(1_000), expires.map(Duration::from_millis), Timestamp(now))
        };
        assert!(!expired(&[], None, u64::MAX) && !expired(&[], Some(500), 1_500) && expired(&[], Some(500), 1_501));
        let own = [("expirytime", "1970-01-01T00:00:02Z")];
        assert!(!expired(&own, None, 2_000) && expired(&own, None, 2_001));
        assert!(!expired(&[own[0], (HANDLER, "me")], Some(1), 9_000));
        assert!(expired(&[("expirytime", "1960-01-01T00:00:00Z")], None, 1_000));
        assert!(!expired(&[("expirytime", "tomorrow")], None, 1_000), "what is no time does not expire");
    }
}
