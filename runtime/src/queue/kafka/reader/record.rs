//! A record becomes a delivery.

use std::sync::Arc;

use bytes::Bytes;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

use crate::clock::{self, Timestamp};
use crate::queue::kafka::desk::{Came, Slot};
use crate::queue::kafka::message;
use crate::queue::kafka::shared::Shared;
use crate::queue::kafka::subscription::Subscription;
use crate::queue::kafka::window::Note;

/// Takes in what has come.
pub(super) fn took_in(shared: &Shared, subscription: &Subscription, record: &BorrowedMessage) {
    let slot = Slot { retry: record.topic() != shared.url.topic, partition: record.partition() };
    let published = record.timestamp().to_millis().and_then(|millis| u64::try_from(millis).ok());
    let published = published.map_or_else(clock::now, Timestamp);
    let headers: Vec<(&str, &[u8])> = match record.headers() {
        Some(headers) => headers.iter().map(|header| (header.key, header.value.unwrap_or_default())).collect(),
        None => Vec::new(),
    };
    let payload = Bytes::copy_from_slice(record.payload().unwrap_or_default());
    let id = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
    let (mut event, waits) = message::event(&shared.wrapping, id, &headers, &payload, published);
    message::add_key(&mut event, &shared.key, record.key());
    let waits = waits.filter(|_| slot.retry);
    let came = Came {
        offset: record.offset(),
        event: Arc::new(event),
        first_seen: waits.map_or(published, |waits| waits.first_seen),
        own: waits.map_or_else(Note::default, |waits| Note { tries: waits.tries, due: Some(waits.due) }),
    };
    if subscription.desk().take(slot, came, clock::now()) {
        subscription.wake_pulls();
    }
}
