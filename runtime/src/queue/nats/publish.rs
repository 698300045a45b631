//! Publishing, each message confirmed by the server; what is due later is a schedule of the stream (NATS 2.12).

use async_nats::HeaderMap;
use async_nats::header::{NATS_MESSAGE_ID, NATS_SCHEDULE, NATS_SCHEDULE_TARGET};
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use futures_util::future::try_join_all;

use super::message;
use super::shared::Shared;
use crate::clock::{self, Timestamp};
use crate::event::Event;
use crate::queue::{Publish, QueueError};

/// Messages that wait for their confirmation at once.
const UNCONFIRMED_MAX: usize = 512;

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
            return Err(QueueError::Invalid(format!("`{}` stands for several subjects, so it is only read", self.url.subject)));
        }
        let bound = self.server.client.max_payload() as u64;
        let size = batch.iter().map(|publish| publish.event.size() as u64).max().unwrap_or(0);
        if size > bound {
            return Err(QueueError::TooLarge { size, bound });
        }
        // Consumers that are not made yet would miss it.
        for subscription in self.subscriptions() {
            self.consumer(&subscription).await?;
        }
        let stream = self.stream().await?;
        let schedules = stream.cached_info().config.allow_message_schedules;
        let now = clock::now();
        if !schedules && batch.iter().any(|publish| publish.due.is_some_and(|due| due > now)) {
            return Err(QueueError::Unsupported("delay (its stream has no message schedules: NATS 2.12, `allow_msg_schedules`)"));
        }
        for some in batch.chunks(UNCONFIRMED_MAX) {
            let mut confirmations = Vec::with_capacity(some.len());
            for publish in some {
                let (subject, headers) = self.envelope(publish, now);
                let body = publish.event.data.clone().unwrap_or_default();
                let sent = self.server.jetstream.publish_with_headers(subject, headers, body).await;
                confirmations.push(sent.map_err(failed)?);
            }
            let confirmed = confirmations.into_iter().map(std::future::IntoFuture::into_future);
            try_join_all(confirmed).await.map_err(failed)?;
        }
        Ok(())
    }

    fn envelope(&self, publish: &Publish, now: Timestamp) -> (String, HeaderMap) {
        let mut headers = message::headers(&publish.event);
        match publish.due.filter(|due| *due > now) {
            None => {
                headers.insert(NATS_MESSAGE_ID, id(&publish.event).as_str());
                (self.url.subject.clone(), headers)
            }
            Some(due) => {
                headers.insert(NATS_SCHEDULE, format!("@at {due}").as_str());
                headers.insert(NATS_SCHEDULE_TARGET, self.url.subject.as_str());
                (delay_subject(&self.url.stream, &uuid::Uuid::now_v7().simple().to_string()), headers)
            }
        }
    }
}

/// From source and id, so that a second copy is dropped; of a copy for one handler alone its own number, or a replay would be.
fn id(event: &Event) -> String {
    if event.extension("weirhandler").is_some() {
        return uuid::Uuid::now_v7().to_string();
    }
    let mut hash = blake3::Hasher::new();
    // The length keeps apart what would be equal when joined.
    hash.update(&(event.source.len() as u64).to_le_bytes());
    hash.update(event.source.as_bytes()).update(event.id.as_bytes());
    hash.finalize().to_hex().to_string()
}

fn failed(error: PublishError) -> QueueError {
    match error.kind() {
        PublishErrorKind::StreamNotFound => QueueError::Unavailable(format!("{error} [no stream takes this subject]")),
        _ => QueueError::Unavailable(error.to_string()),
    }
}
