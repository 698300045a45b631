//! What takes events out of a fallback and publishes them to the broker, as soon as that is back.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ANSWER_MAX, Fallback, SUBSCRIPTION};
use crate::clock;
use crate::queue::batch::split;
use crate::queue::{Delivery, Publish, Queue, QueueError, Settle, Settlement, Tries};

/// Events forwarded at once: what is repeated at most after a kill.
const BATCH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);

/// Waits between tries while the broker is away. Nothing tells that it is back, but publishes of others that succeed.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How long what is under way may take once the queue is closed: what the broker has taken by then should not be given to it again.
const END_MAX: Duration = Duration::from_secs(2);

/// How long an event is left alone that the broker refuses by itself: somebody has to change something first.
const REFUSED: Duration = Duration::from_secs(60);

/// Forwards until the queue is closed.
pub(super) struct Forwarder {
    pub(super) main: Arc<dyn Queue>,
    pub(super) fallback: Arc<Fallback>,
    pub(super) closed: CancellationToken,
}

impl Forwarder {
    /// Runs until the queue is closed. What is held then stays in the fallback.
    pub(super) async fn run(self) {
        let overdue = async {
            self.closed.cancelled().await;
            tokio::time::sleep(END_MAX).await;
        };
        tokio::select! {
            () = overdue => {}
            () = self.forward() => {}
        }
    }

    async fn forward(&self) {
        let mut failures = 0;
        loop {
            let pulled = tokio::select! {
                () = self.closed.cancelled() => return,
                pulled = self.fallback.late.pull(SUBSCRIPTION, BATCH) => pulled,
            };
            match pulled {
                Ok(pulled) => {
                    failures = 0;
                    for batch in split(pulled) {
                        self.send(batch).await;
                    }
                    self.say_if_empty().await;
                }
                Err(QueueError::Closed) => return,
                Err(error) => {
                    if failures == 0 {
                        tracing::error!(queue = %self.fallback.name, %error, "fallback can't be read: trying again");
                    }
                    failures += 1;
                    tokio::time::sleep(wait(failures, fastrand::f64())).await;
                }
            }
        }
    }

    /// Publishes a batch, whatever time it takes, and acknowledges it; nothing more once the queue is closed.
    async fn send(&self, batch: Vec<Delivery>) {
        let mut failures = 0;
        while !self.closed.is_cancelled() {
            let publishes = batch.iter().map(|delivery| Publish { event: Arc::clone(&delivery.event), due: None }).collect();
            let published = tokio::time::timeout(ANSWER_MAX, self.main.publish(publishes)).await;
            match published {
                Ok(Ok(())) => {
                    self.fallback.forwarded.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    return self.settle(batch, Settle::Ack).await;
                }
                Ok(Err(error)) if is_its_own(&error) => return self.apart(batch, &error).await,
                // Away, or full: tried again for as long as it takes. Others see it in `health`.
                Ok(Err(_)) | Err(_) => {}
            }
            failures += 1;
            tokio::select! {
                () = tokio::time::sleep(wait(failures, fastrand::f64())) => {}
                () = self.fallback.reached.notified() => {}
                () = self.closed.cancelled() => {}
            }
        }
    }

    /// Something in the batch is what the broker refuses: found out one by one, and kept.
    async fn apart(&self, batch: Vec<Delivery>, error: &QueueError) {
        if let [refused] = batch.as_slice() {
            let (queue, event) = (&self.fallback.name, &refused.event.id);
            tracing::error!(%queue, %event, %error, "broker refuses an event of the fallback: it is kept there");
            let due = clock::now().after(REFUSED);
            return self.settle(batch, Settle::Retry { due, tries: Tries::default() }).await;
        }
        for one in batch {
            Box::pin(self.send(vec![one])).await;
        }
    }

    async fn settle(&self, batch: Vec<Delivery>, settle: Settle) {
        let settlements: Vec<Settlement> = batch.into_iter().map(|delivery| delivery.settle(settle).1).collect();
        let mut failures = 0;
        while let Err(error) = self.fallback.late.settle(SUBSCRIPTION, settlements.clone()).await {
            if failures == 0 {
                tracing::error!(queue = %self.fallback.name, %error, "fallback can't be written: trying again");
            }
            failures += 1;
            tokio::time::sleep(wait(failures, fastrand::f64())).await;
        }
    }

    async fn say_if_empty(&self) {
        let Fallback { late, in_use, name, .. } = &*self.fallback;
        if matches!(late.depth().await, Ok(depth) if depth.events == Some(0)) && in_use.swap(false, Ordering::Relaxed) {
            tracing::info!(queue = %name, "broker is back: all that the fallback held is forwarded");
        }
    }
}

/// Whether an error is about what was published, not about the broker.
fn is_its_own(error: &QueueError) -> bool {
    matches!(error, QueueError::TooLarge { .. } | QueueError::Invalid(_) | QueueError::Unsupported(_))
}

/// Doubling from the first to the last of [`AGAIN`], between half and the whole of it.
fn wait(failures: u32, chance: f64) -> Duration {
    let whole = AGAIN.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(AGAIN.1);
    whole.mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        for (failures, chance, expected) in [(1, 1.0, 100), (1, 0.0, 50), (2, 1.0, 200), (6, 1.0, 2_000), (1_000, 0.0, 1_000)] {
            assert_eq!(wait(failures, chance), Duration::from_millis(expected), "{failures}");
        }
    }
}
