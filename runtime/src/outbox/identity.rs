//! The id of a published event that was given none (delivery.md §9), so that a duplicate window knows a second copy after a crash.
//!
//! By position alone, a rerun that takes another path would give a different event the id of one that has left, and that event would be
//! dropped as its duplicate. So the id is made of the content too. Left out of it: `time`, which guests set to now, and when the
//! event is due, which is no part of it.

use sha2::{Digest as _, Sha256};

use crate::event::Event;

/// What an event says and where it goes.
pub(super) type Digest = [u8; 32];

/// Bytes of an id before they are written as hexadecimal digits: enough that no two are ever the same by chance.
const ID_BYTES: usize = 16;

/// What two events without an id must have in common to be equal: the queue and everything that they say but their time.
pub(super) fn content(queue: &str, event: &Event) -> Digest {
    let mut hash = Sha256::new();
    let optional = [&event.subject, &event.datacontenttype, &event.dataschema].map(|text| text.as_ref().map(String::as_bytes));
    for text in [queue, &event.source, &event.kind] {
        part(&mut hash, Some(text.as_bytes()));
    }
    for text in optional.into_iter().chain([event.data.as_deref()]) {
        part(&mut hash, text);
    }
    for text in event.extensions.iter().flat_map(|(name, value)| [name, value]) {
        part(&mut hash, Some(text.as_bytes()));
    }
    hash.finalize().into()
}

/// The id of an event of this content, of which the run published `before` equal ones, made of the event in hand by a handler.
pub(super) fn id(parent: &Event, handler: &str, content: &Digest, before: u32) -> String {
    let mut hash = Sha256::new();
    for bytes in [parent.source.as_bytes(), parent.id.as_bytes(), handler.as_bytes(), content, &before.to_le_bytes()] {
        part(&mut hash, Some(bytes));
    }
    let mut id = hex::encode(hash.finalize());
    id.truncate(2 * ID_BYTES);
    id
}

/// Parts can't run into each other, and an empty one is not an absent one.
fn part(hash: &mut Sha256, bytes: Option<&[u8]>) {
    hash.update(bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
    hash.update(bytes.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn event() -> Event {
        Event { kind: "t".to_owned(), data: Some("{}".into()), ..Event::default() }
    }

    fn parent(source: &str, id: &str) -> Event {
        Event { source: source.to_owned(), id: id.to_owned(), kind: "order.paid".to_owned(), ..Event::default() }
    }

    #[test]
    fn everything_that_an_event_says_tells_it_apart() {
        let some = |text: &str| Some(text.to_owned());
        let extension = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let table: [(&str, Event); 14] = [
            ("q", event()),
            ("r", event()),
            ("q", Event { kind: "u".to_owned(), ..event() }),
            ("q", Event { source: "/s".to_owned(), ..event() }),
            ("q", Event { subject: some("x"), ..event() }),
            ("q", Event { datacontenttype: some("x"), ..event() }),
            ("q", Event { dataschema: some("x"), ..event() }),
            ("q", Event { data: None, ..event() }),
            ("q", Event { data: Some("".into()), ..event() }),
            ("q", Event { data: Some("{ }".into()), ..event() }),
            ("q", Event { extensions: extension(&[("a", "b")]), ..event() }),
            ("q", Event { extensions: extension(&[("a", "b"), ("c", "d")]), ..event() }),
            ("q", Event { extensions: extension(&[("a", "bc"), ("d", "")]), ..event() }),
            ("q", Event { extensions: extension(&[("ab", "")]), ..event() }),
        ];
        let told: BTreeSet<Digest> = table.iter().map(|(queue, event)| content(queue, event)).collect();
        assert_eq!(told.len(), table.len());
    }

    #[test]
    fn time_is_no_part_of_it() {
        let stamped = Event { time: Some("2026-11-21T10:00:00Z".to_owned()), ..event() };
        assert_eq!(content("q", &stamped), content("q", &event()));
    }

    #[test]
    fn the_event_in_hand_the_handler_and_the_number_are_part_of_an_id() {
        let content = content("q", &event());
        let first = id(&parent("/s", "1"), "h", &content, 0);
        assert_eq!(first.len(), 32);
        assert_eq!(first, id(&parent("/s", "1"), "h", &content, 0), "the same in every attempt");
        let others = [
            id(&parent("/s", "2"), "h", &content, 0),
            id(&parent("/t", "1"), "h", &content, 0),
            id(&parent("/s1", ""), "h", &content, 0),
            id(&parent("/s", "1"), "i", &content, 0),
            id(&parent("/s", "1"), "h", &[0; 32], 0),
            id(&parent("/s", "1"), "h", &content, 1),
        ];
        let all: BTreeSet<&String> = others.iter().chain([&first]).collect();
        assert_eq!(all.len(), others.len() + 1);
    }
}
