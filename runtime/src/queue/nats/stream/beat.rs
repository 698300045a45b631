//! The heartbeat of a queue: renews leases, lets go of those that could not be renewed, writes notes, and empties a stream of Weir's own
//! of what all have ended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::shared::Shared;
use super::subscription::Subscription;
use crate::queue::QueueError;

/// Looks at leases in the life of one: each is renewed every third of it, before it would be too late.
pub(super) const LOOKS: u32 = 6;

/// How long notes are gathered before they are written: most are of events that run within it, and need none then.
const GATHER: Duration = Duration::from_millis(20);

/// How often what has ended is removed from a stream of Weir's own: two requests.
const TRIM: Duration = Duration::from_secs(10);

/// Goes on until the queue is closed.
pub(super) async fn beat(shared: Arc<Shared>) {
    let every = shared.lease / LOOKS;
    let (mut look, mut trimmed) = (Instant::now() + every, Instant::now());
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(look.into()) => {}
            () = shared.noted.notified() => tokio::time::sleep(GATHER).await,
            () = shared.closed.cancelled() => return,
        }
        let subscriptions = shared.subscriptions();
        for subscription in &subscriptions {
            let notes = subscription.take_notes();
            if !notes.is_empty() {
                shared.bucket.write_soon(&subscription.consumer, notes).await;
            }
        }
        if look > Instant::now() {
            continue;
        }
        look = Instant::now() + every;
        for subscription in &subscriptions {
            lead(&shared, subscription).await;
            if let Err(error) = renew(&shared, subscription).await {
                tracing::debug!(queue = %shared.name, %error, "leases could not be renewed");
            }
            let (now, young) = (Instant::now(), shared.young());
            subscription.inbox.lapse(|held| now.duration_since(held.renewed) > young);
        }
        if trimmed.elapsed() >= TRIM && shared.acked.swap(false, Ordering::Relaxed) {
            trimmed = Instant::now();
            shared.trim().await;
        }
    }
}

/// Of a subscription that one process reads: stays that one, or lets go of everything.
async fn lead(shared: &Shared, subscription: &Subscription) {
    let Some(lead) = subscription.lead.get() else { return };
    let Ok(store) = shared.bucket.store().await else { return };
    match lead.renew(store).await {
        Ok(true) => {}
        Ok(false) => {
            tracing::warn!(queue = %shared.name, subscription = subscription.name, "another process reads this subscription now");
            subscription.inbox.lapse(|_| true);
        }
        Err(error) => tracing::debug!(queue = %shared.name, %error, "the place of the reader could not be renewed"),
    }
}

async fn renew(shared: &Shared, subscription: &Subscription) -> Result<(), QueueError> {
    let at = Instant::now();
    let Some(before) = at.checked_sub(shared.lease / LOOKS) else { return Ok(()) };
    let due = subscription.to_renew(before);
    let Some((last, others)) = due.split_last() else { return Ok(()) };
    // Who comes after us waits a lease from the last renewal of our place.
    if !subscription.leads(shared.young()) {
        return Ok(());
    }
    shared.server.check()?;
    let (client, progress) = (&shared.server.client, Bytes::from_static(b"+WPI"));
    for (_, reply) in others {
        let sent = client.publish(reply.clone(), progress.clone()).await;
        sent.map_err(|error| shared.server.away(error))?;
    }
    // The server reads them in order: when it has answered the last one it has read all.
    match tokio::time::timeout(shared.lease / 2, client.request(last.1.clone(), progress)).await {
        Ok(Ok(_)) => subscription.renewed(&due, at),
        Ok(Err(error)) => return Err(shared.server.away(error)),
        Err(_) => shared.server.stalled().await,
    }
    Ok(())
}
