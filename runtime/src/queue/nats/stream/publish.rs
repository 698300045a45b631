//! Publishing, each message confirmed by the server; what is due later is a schedule of the stream (NATS 2.12).

use async_nats::HeaderMap;
use async_nats::header::{NATS_MESSAGE_ID, NATS_SCHEDULE, NATS_SCHEDULE_TARGET};
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use bytes::Bytes;
use futures_util::future::try_join_all;

use super::shared::Shared;
use crate::clock::{self, Timestamp};
use crate::event::Event;
use crate::outbox::HANDLER;
use crate::queue::nats::message;
use crate::queue::nats::server::PUBLISHES_MAX;
use crate::queue::{Publish, QueueError};

/// Messages of one batch that wait for their confirmation at once.
const UNCONFIRMED_MAX: usize = PUBLISHES_MAX / 2;

/// Where the schedules of a stream stand.
pub(super) fn delay_subject(stream: &str, rest: &str) -> String {
    format!("_weir.delay.{stream}.{rest}")
}

impl Shared {
    /// Publishes a batch; answers when the server has all of it. A failure in the middle leaves what came before it: the ids of its
    /// messages make the server drop a second copy, within the stream's window of duplicates.
    pub(super) async fn publish(&self, batch: &[Publish]) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if self.url.has_wildcards() {
            return Err(self.server.invalid(format!("`{}` stands for several subjects, so it is only read", self.url.subject)));
        }
        if let Some(refused) = self.server.too_large(batch) {
            return Err(refused);
        }
        // Consumers that are not made yet would miss it.
        for subscription in self.subscriptions() {
            if subscription.start.get().is_some() {
                self.consumer(&subscription).await?;
            }
        }
        let schedules = self.stream().await?.cached_info().config.allow_message_schedules;
        let now = clock::now();
        if !schedules && batch.iter().any(|publish| publish.due.is_some_and(|due| due > now)) {
            return Err(QueueError::Unsupported("delay (its stream has no message schedules: NATS 2.12, `allow_msg_schedules`)"));
        }
        for some in batch.chunks(UNCONFIRMED_MAX) {
            let count = u32::try_from(some.len()).unwrap_or(u32::MAX);
            let _room = self.publishing.acquire_many(count).await.map_err(|_| QueueError::Closed)?;
            let sending = async {
                let mut confirmations = Vec::with_capacity(some.len());
                for publish in some {
                    let (subject, headers, body) = self.envelope(publish, now);
                    confirmations.push(self.server.jetstream.publish_with_headers(subject, headers, body).await?);
                }
                let confirmed = confirmations.into_iter().map(std::future::IntoFuture::into_future);
                try_join_all(confirmed).await
            };
            self.server.unless_refused(sending).await?.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    fn envelope(&self, publish: &Publish, now: Timestamp) -> (String, HeaderMap, Bytes) {
        let (mut headers, body) = message::written(&publish.event);
        headers.insert(NATS_MESSAGE_ID, id(&publish.event).as_str());
        match publish.due.filter(|due| *due > now) {
            None => (self.url.subject.clone(), headers, body),
            Some(due) => {
                headers.insert(NATS_SCHEDULE, format!("@at {due}").as_str());
                headers.insert(NATS_SCHEDULE_TARGET, self.url.subject.as_str());
                (delay_subject(&self.stream_name, &uuid::Uuid::now_v7().simple().to_string()), headers, body)
            }
        }
    }

    fn failed(&self, error: &PublishError) -> QueueError {
        let subject = &self.url.subject;
        match error.kind() {
            PublishErrorKind::StreamNotFound => self.server.away(format!("no stream takes `{subject}` any more: {error}")),
            PublishErrorKind::MaxPayloadExceeded => {
                let bound = self.server.client.max_payload() as u64;
                QueueError::TooLarge { size: bound + 1, bound }
            }
            _ => self.server.away(error),
        }
    }
}

/// From source and id, so that a second copy is dropped; of a copy for one handler alone its own number, or a replay would be.
fn id(event: &Event) -> String {
    if event.extension(HANDLER).is_some() {
        return uuid::Uuid::now_v7().to_string();
    }
    let mut hash = blake3::Hasher::new();
    // The length keeps apart what would be equal when joined.
    hash.update(&(event.source.len() as u64).to_le_bytes());
    hash.update(event.source.as_bytes()).update(event.id.as_bytes());
    hash.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_of_source_and_id() {
        let event = |source: &str, id: &str| Event { source: source.to_owned(), id: id.to_owned(), ..Event::default() };
        assert_eq!(id(&event("/a", "1")), id(&event("/a", "1")));
        assert_ne!(id(&event("/a", "1")), id(&event("/", "a1")));
        let mut copy = event("/a", "1");
        copy.set(HANDLER, "one".to_owned()).unwrap();
        assert_ne!(id(&copy), id(&copy));
    }
}
