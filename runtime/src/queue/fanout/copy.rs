//! The copy that a handler gets when it must try again and others take the same message: for it alone, with the tries behind it. Pure.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::dead::grave::ATTEMPT;
use crate::event::Event;
use crate::outbox::HANDLER;
use crate::queue::Tries;

/// Weir's own attribute: outside failures in a row, and when the first of them was, as `count.milliseconds`.
const OUTSIDE: &str = "weiroutside";

/// The event for one handler, with what went before its next try.
pub(super) fn copy(event: &Event, handler: &str, tries: Tries) -> Event {
    let mut copy = event.clone();
    copy.extensions.retain(|(name, _)| !matches!(name.as_str(), HANDLER | ATTEMPT | OUTSIDE));
    let mut marks = vec![(HANDLER, handler.to_owned()), (ATTEMPT, tries.failed.to_string())];
    if tries.outside > 0 {
        let since = tries.outside_since.map(|since| since.0.to_string()).unwrap_or_default();
        marks.push((OUTSIDE, format!("{}.{since}", tries.outside)));
    }
    copy.extensions.extend(marks.into_iter().map(|(name, value)| (name.to_owned(), value)));
    copy
}

/// What a copy says of the tries behind it; nothing of an event that is not addressed: there the attribute is somebody else's history.
pub(super) fn tries(event: &Event) -> Tries {
    if event.extension(HANDLER).is_none() {
        return Tries::default();
    }
    let failed = event.extension(ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (outside, since) = event.extension(OUTSIDE).and_then(|text| text.split_once('.')).unwrap_or_default();
    Tries { failed, outside: outside.parse().unwrap_or(0), outside_since: since.parse().ok().map(Timestamp) }
}

/// What went before, in all: what the copy says, and what the queue has counted since.
pub(super) fn sum(said: Tries, below: Tries) -> Tries {
    let failed = said.failed.saturating_add(below.failed);
    match below == Tries::default() {
        true => said,
        false => Tries { failed, ..below },
    }
}

/// What the queue has to count of tries that come to this in all.
pub(super) fn rest(said: Tries, all: Tries) -> Tries {
    Tries { failed: all.failed.saturating_sub(said.failed), ..all }
}

/// The handler that an event is for alone.
pub(super) fn addressee(event: &Arc<Event>) -> Option<&str> {
    event.extension(HANDLER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_travel_with_the_copy() {
        let event = Event { id: "1".to_owned(), source: "/s".to_owned(), kind: "t".to_owned(), ..Event::default() };
        for all in [
            Tries { failed: 2, ..Tries::default() },
            Tries { failed: 0, outside: 3, outside_since: Some(Timestamp(1_700_000_000_000)) },
            Tries::default(),
        ] {
            // A copy of a copy says only the last.
            let copied = copy(&copy(&event, "other", Tries { failed: 9, outside: 9, outside_since: None }), "mailer", all);
            assert_eq!((copied.extension(HANDLER), tries(&copied)), (Some("mailer"), all));
            assert_eq!(copied.extensions.iter().filter(|(name, _)| name == ATTEMPT).count(), 1);
        }
        let mut dead = event.clone();
        dead.set(ATTEMPT, "7".to_owned()).unwrap();
        assert_eq!(tries(&dead), Tries::default(), "a dead letter in another queue begins anew");
        dead.set(HANDLER, "mailer".to_owned()).unwrap();
        dead.set(ATTEMPT, "many".to_owned()).unwrap();
        assert_eq!(tries(&dead), Tries::default());
    }

    #[test]
    fn the_queue_counts_what_the_copy_does_not_say() {
        let failed = |failed| Tries { failed, ..Tries::default() };
        for (said, below, all) in [(0, 0, 0), (2, 0, 2), (2, 1, 3), (0, 1, 1)] {
            assert_eq!(sum(failed(said), failed(below)), failed(all));
            assert_eq!(rest(failed(said), failed(all)), failed(below));
        }
        let said = Tries { failed: 1, outside: 2, outside_since: Some(Timestamp(5)) };
        assert_eq!(sum(said, Tries::default()), said);
        assert_eq!(sum(said, failed(1)), failed(2), "what the queue says of outside failures is newer");
    }
}
