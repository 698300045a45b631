//! Publishing: an idempotent producer, each record confirmed by all copies that are in step.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer as _};

use super::client::{self, ANSWER_MAX, Context, failed};
use super::lock;
use super::message::{self, Record};
use super::shared::Shared;
use crate::queue::{Publish, QueueError};

/// What a record takes beside its headers, key and payload, at most.
const FRAME_BYTES: u64 = 128;

/// The producer; made with the first publish, and anew after an error that it does not survive.
#[derive(Default)]
pub(super) struct Publisher(Mutex<Option<FutureProducer<Context>>>);

impl Publisher {
    /// Lets go of the producer.
    pub(super) fn close(&self) -> Option<FutureProducer<Context>> {
        lock(&self.0).take()
    }
}

impl Shared {
    /// Publishes a batch; answers when the cluster has all of it. A failure in the middle leaves what came before it.
    pub(super) async fn publish(&self, batch: &[Publish]) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let now = crate::clock::now();
        if batch.iter().any(|publish| publish.due.is_some_and(|due| due > now)) {
            return Err(QueueError::Unsupported("delay"));
        }
        // Subscriptions that are not made yet would miss it.
        self.ready().await?;
        let records: Vec<Record> = batch.iter().map(|publish| message::record(&publish.event, &self.key)).collect();
        self.send(&self.url.topic, &records).await
    }

    /// Whether one of a batch is larger than the topic takes.
    pub(super) fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        let bound = self.message_bytes.load(Ordering::Relaxed);
        let size = batch.iter().map(|publish| size(&message::record(&publish.event, &self.key))).max().unwrap_or(0);
        (bound > 0 && size > bound).then_some(QueueError::TooLarge { size, bound })
    }

    /// Sends records to a topic; answers when the cluster has all of them.
    pub(super) async fn send(&self, topic: &str, records: &[Record]) -> Result<(), QueueError> {
        let bound = self.message_bytes.load(Ordering::Relaxed);
        let size = records.iter().map(size).max().unwrap_or(0);
        if size > bound && bound > 0 {
            return Err(QueueError::TooLarge { size, bound });
        }
        let producer = self.producer()?;
        let mut unconfirmed: VecDeque<DeliveryFuture> = VecDeque::with_capacity(records.len());
        for record in records {
            loop {
                match producer.send_result(prepared(topic, record)) {
                    Ok(confirmation) => {
                        unconfirmed.push_back(confirmation);
                        break;
                    }
                    // Room comes with each confirmation.
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => match unconfirmed.pop_front() {
                        Some(first) => self.confirmed(topic, first).await?,
                        None => return Err(QueueError::Unavailable("too much waits for its confirmation".to_owned())),
                    },
                    Err((error, _)) => return Err(self.not_sent(topic, &error)),
                }
            }
        }
        for confirmation in unconfirmed {
            self.confirmed(topic, confirmation).await?;
        }
        Ok(())
    }

    async fn confirmed(&self, topic: &str, confirmation: DeliveryFuture) -> Result<(), QueueError> {
        match confirmation.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err((error, _))) => Err(self.not_sent(topic, &error)),
            Err(_) => Err(QueueError::Closed),
        }
    }

    fn not_sent(&self, topic: &str, error: &KafkaError) -> QueueError {
        self.stir();
        let what = format!("publishing to topic `{topic}`");
        match client::code(error) {
            Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize) => {
                let bound = self.message_bytes.load(Ordering::Relaxed);
                QueueError::TooLarge { size: bound + 1, bound }
            }
            Some(RDKafkaErrorCode::MessageTimedOut) => {
                QueueError::Unavailable(format!("{what}: not confirmed within {ANSWER_MAX:?}"))
            }
            // Who publishes can't do anything about it, and somebody may while the server runs.
            _ => match failed(&what, error) {
                QueueError::Invalid(text) => QueueError::Unavailable(text),
                other => other,
            },
        }
    }

    fn producer(&self) -> Result<FutureProducer<Context>, QueueError> {
        let mut producer = lock(&self.publisher.0);
        if let Some(made) = producer.as_ref().filter(|made| made.client().fatal_error().is_none()) {
            return Ok(made.clone());
        }
        let bytes = self.message_bytes.load(Ordering::Relaxed).max(1_000);
        let context = Context::new(&self.name, Arc::default());
        let made = client::producer(&self.url, &self.process, bytes).create_with_context(context);
        let made: FutureProducer<Context> = made.map_err(|error| failed("publishing", &error))?;
        *producer = Some(made.clone());
        Ok(made)
    }
}

fn prepared<'a>(topic: &'a str, record: &'a Record) -> FutureRecord<'a, str, [u8]> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: name, value: Some(value) });
    }
    let mut prepared = FutureRecord::to(topic).headers(headers);
    if let Some(payload) = &record.payload {
        prepared = prepared.payload(&payload[..]);
    }
    if let Some(key) = &record.key {
        prepared = prepared.key(key.as_str());
    }
    prepared
}

/// Bytes of a record as it travels, or a little more.
pub(super) fn size(record: &Record) -> u64 {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len() + 10).sum();
    let payload = record.payload.as_ref().map_or(0, bytes::Bytes::len);
    (headers + payload + record.key.as_ref().map_or(0, String::len)) as u64 + FRAME_BYTES
}
