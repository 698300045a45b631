//! Two tasks: of each subscription one that asks the server for as much as pulls wait for, and of the queue one that renews leases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Message;
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::hold::{Came, Lease};
use super::shared::Shared;
use super::subscription::Subscription;
use crate::clock::Timestamp;
use crate::queue::{Delivery, Position, QueueError};

/// How long the server keeps a request for messages. Short, as a request is forgotten when the server restarts.
const REQUEST_MAX: Duration = Duration::from_secs(2);

/// Bytes of one request's messages, whatever their number.
const REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// Looks at leases in the life of one.
const LOOKS: u32 = 6;

/// Reads for the pulls of a subscription until it ends.
pub(super) async fn read(shared: Arc<Shared>, subscription: Arc<Subscription>) {
    let ended = subscription.ended.clone();
    ended
        .run_until_cancelled(async {
            loop {
                let stirred = subscription.stirred.notified();
                let missing = subscription.hold().missing();
                if missing == 0 {
                    stirred.await;
                } else if let Err(problem) = read_some(&shared, &subscription, missing).await {
                    // Whoever pulls is told, and pulls again after a pause.
                    subscription.fail(problem);
                    subscription.stirred.notified().await;
                }
            }
        })
        .await;
    subscription.came.notify_waiters();
}

async fn read_some(shared: &Shared, subscription: &Subscription, count: usize) -> Result<(), QueueError> {
    let consumer = shared.consumer(subscription).await?;
    let away =
        |error: &dyn std::fmt::Display| QueueError::Unavailable(format!("reading stream `{}`: {error}", shared.url.stream));
    // Without the heartbeats that the client offers: a batch that receives one is not woken by what comes next (async-nats 0.51).
    let batch = consumer.batch().max_messages(count).max_bytes(REQUEST_BYTES).expires(REQUEST_MAX).messages().await;
    let mut batch = batch.map_err(|error| away(&error))?;
    while let Some(message) = batch.next().await {
        let message = message.map_err(|error| {
            // The consumer, or its stream, may be gone: it is looked for again.
            shared.forget(subscription);
            away(&error)
        })?;
        if let Some(came) = take(shared, subscription, message).await {
            subscription.hold().take_in(came);
            subscription.came.notify_waiters();
        }
    }
    // The client ends a batch quietly when the connection is lost.
    shared.server.check()
}

/// A message as a delivery; none: it has no number, so it is no message of a stream.
async fn take(shared: &Shared, subscription: &Subscription, message: Message) -> Option<Came> {
    let renewed = Instant::now();
    let info = message.info().ok()?;
    let (sequence, delivered) = (info.stream_sequence, u32::try_from(info.delivered).unwrap_or(u32::MAX));
    let published = Timestamp(u64::try_from(info.published.unix_timestamp_nanos() / 1_000_000).unwrap_or(0));
    let id = format!("{}/{sequence}", info.stream);
    let position = Position(u128::from(sequence));
    let noted = match delivered {
        1 => None,
        _ => shared.notes.read(&subscription.consumer, position).await,
    };
    let tries = super::tries::behind(delivered, noted);
    let reply = message.message.reply.clone()?;
    let event = shared.wrapping.event(id, message.message.headers.as_ref(), &message.message.payload, published);
    let delivery = Delivery { event: Arc::new(event), position, tries, first_seen: published };
    Some(Came { delivery, lease: Lease { reply, delivered, noted, renewed } })
}

/// Renews leases, lets go of those that could not be renewed, and writes notes, until the queue is closed.
pub(super) async fn beat(shared: Arc<Shared>) {
    let every = shared.url.lease / LOOKS;
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = shared.noted.notified() => {}
            () = shared.closed.cancelled() => return,
        }
        for subscription in shared.subscriptions() {
            let notes = subscription.hold().take_notes();
            for (position, note) in notes {
                shared.notes.write(&subscription.consumer, position, note).await;
            }
            renew(&shared, &subscription).await;
            if Instant::now().checked_sub(shared.young()).is_some_and(|before| subscription.hold().lapse(before)) {
                subscription.lapsing.notify_waiters();
            }
        }
    }
}

async fn renew(shared: &Shared, subscription: &Subscription) {
    let at = Instant::now();
    // A look before it would be too late: every third of a lease.
    let Some(before) = at.checked_sub(shared.url.lease / LOOKS) else { return };
    let due = subscription.hold().to_renew(before);
    if due.is_empty() || shared.server.check().is_err() {
        return;
    }
    for (_, reply) in &due {
        if shared.server.client.publish(reply.clone(), Bytes::from_static(b"+WPI")).await.is_err() {
            return;
        }
    }
    // The server has read them once it answers what came after.
    if tokio::time::timeout(shared.url.lease / LOOKS, shared.server.client.flush()).await.is_ok_and(|flushed| flushed.is_ok())
        && shared.server.check().is_ok()
    {
        subscription.hold().renewed(&due, at);
    }
}
