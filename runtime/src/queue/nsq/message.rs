//! A message of NSQ becomes an event, and an event a message: structured JSON, as a message is a body and nothing else (surface.md §5). Pure.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::event::{Event, json};
use crate::queue::wrapping::Wrapping;
use crate::queue::{Position, Publish};

use super::client::frame::{Message, MessageId};
use super::url::Address;

/// The extension that says when an event is due that was published for later, in milliseconds since 1970: a server forgets it when it
/// restarts or its memory is full, and its bound may be shorter. What carries it and came early is put back.
const DUE: &str = "weirdue";

/// A message on its way to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) body: Vec<u8>,
    /// How long from now until it is delivered; none: at once.
    pub(super) wait: Option<Duration>,
}

/// The message of an event.
pub(super) fn outgoing(publish: &Publish, now: Timestamp) -> Outgoing {
    match publish.due.filter(|due| *due > now) {
        None => Outgoing { body: json::write(&publish.event), wait: None },
        Some(due) => {
            let mut event = (*publish.event).clone();
            event.extensions.retain(|(name, _)| name != DUE);
            event.extensions.push((DUE.to_owned(), due.0.to_string()));
            Outgoing { body: json::write(&event), wait: Some(due.since(now)) }
        }
    }
}

/// The event of a message, and when it is due if it was published for later.
pub(super) fn event(server: &Address, message: &Message, wrapping: &Wrapping) -> (Event, Option<Timestamp>) {
    let mut event = wrapping.body(format!("{server}/{}", message.id), &message.body, published(message));
    let due = event.extension(DUE).and_then(|text| text.parse().ok()).map(Timestamp);
    event.extensions.retain(|(name, _)| name != DUE);
    (event, due)
}

/// When the server took it in.
pub(super) fn published(message: &Message) -> Timestamp {
    Timestamp(message.published / 1_000_000)
}

/// Which server it is: ids are unique on each of them only, and two on one machine give the same ones.
pub(super) fn server_number(server: &Address) -> u64 {
    let hash = blake3::hash(server.to_string().as_bytes());
    hash.as_bytes().first_chunk().copied().map_or(0, u64::from_le_bytes)
}

/// A message's position: its server, and its id there.
pub(super) fn position(server: u64, id: MessageId) -> Position {
    // Sixteen hexadecimal digits; should a server ever use others, their hash is as good.
    let digits = std::str::from_utf8(&id.0).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
    let number = digits.unwrap_or_else(|| blake3::hash(&id.0).as_bytes().first_chunk().copied().map_or(0, u64::from_le_bytes));
    Position(u128::from(server) << 64 | u128::from(number))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;

    fn came(body: Vec<u8>) -> (Event, Option<Timestamp>) {
        let server = Address { host: "h".to_owned(), port: 4150 };
        let id = MessageId(*b"0d5a7c3f9b1e2468");
        let message = Message { published: 1_700_000_000_000_000_000, attempts: 1, id, body: Bytes::from(body) };
        event(&server, &message, &Wrapping::new("orders", "com.example.raw"))
    }

    #[test]
    fn what_is_written_is_read_again_and_when_it_is_due() {
        let text = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","partitionkey":"k","data":{"a":1}}"#;
        let event = Arc::new(json::read(text.as_bytes()).unwrap());
        let now = Timestamp(1_000);
        let at = |due| outgoing(&Publish { event: Arc::clone(&event), due }, now);
        assert_eq!(came(at(None).body), ((*event).clone(), None));
        assert_eq!(at(Some(now)).wait, None);
        let later = at(Some(Timestamp(4_000)));
        assert_eq!(later.wait, Some(Duration::from_secs(3)));
        assert_eq!(came(later.body), ((*event).clone(), Some(Timestamp(4_000))));
    }

    #[test]
    fn anything_else_is_wrapped() {
        let (event, due) = came(b"hello".to_vec());
        assert_eq!((event.id.as_str(), event.source.as_str()), ("h:4150/0d5a7c3f9b1e2468", "/weir/queue/orders"));
        assert_eq!((event.kind.as_str(), due), ("com.example.raw", None));
    }

    #[test]
    fn positions_tell_servers_and_messages_apart() {
        let [a, b] = ["a", "b"].map(|host| server_number(&Address { host: host.to_owned(), port: 4150 }));
        let [one, two] = [*b"0d5a7c3f9b1e2468", *b"0d5a7c3f9b1e2469"].map(MessageId);
        assert_ne!(position(a, one), position(b, one));
        assert_ne!(position(a, one), position(a, two));
        assert_eq!(position(a, one).0 & u128::from(u64::MAX), 0x0d5a_7c3f_9b1e_2468);
    }
}
