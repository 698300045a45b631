//! Looks after the cluster: whether it can be used, and whether everything is made.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::shared::Shared;
use crate::queue::QueueError;

/// Between two looks at a cluster that is away: doubling, with jitter.
const AWAY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Between two looks at one that is there; a problem of a reader or a publish has it looked at sooner.
const THERE: Duration = Duration::from_secs(10);

pub(super) async fn keep(shared: Arc<Shared>) {
    let closed = shared.closed.clone();
    closed.run_until_cancelled(look_after(&shared)).await;
}

async fn look_after(shared: &Shared) {
    let mut wait = AWAY.0;
    loop {
        match look(shared).await {
            Ok(()) => {
                wait = AWAY.0;
                tokio::select! {
                    () = tokio::time::sleep(THERE) => {}
                    // What stirred it is told for each record: one look for all of them.
                    () = shared.stirred() => tokio::time::sleep(AWAY.0).await,
                }
            }
            Err(error) => {
                tracing::debug!(queue = %shared.name, %error, "the cluster is away");
                // Between half and the whole, so that processes that lost it together don't come back together.
                tokio::time::sleep(wait.mul_f64(fastrand::f64() / 2.0 + 0.5)).await;
                wait = (wait * 2).min(AWAY.1);
            }
        }
    }
}

async fn look(shared: &Shared) -> Result<(), QueueError> {
    shared.look().await?;
    shared.ready().await?;
    let subscriptions: Vec<_> = shared.subscriptions().into_iter().filter(|one| one.reading.load(Ordering::Relaxed)).collect();
    for subscription in subscriptions.iter().filter(|one| !one.has_retries.load(Ordering::Relaxed)) {
        // Another process of the group may have made it.
        let topic = shared.url.retry_topic(&subscription.group);
        if shared.ask(move |cluster| cluster.partitions(&topic, THERE)).await?.is_some() {
            subscription.has_retries.store(true, Ordering::Relaxed);
            subscription.waker.wake();
        }
    }
    Ok(())
}
