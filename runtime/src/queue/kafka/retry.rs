//! Long waits: a copy in a topic of its own, `<topic>.<group>.retry`, read by this group alone. The copy is confirmed before the event it
//! was made of counts as ended (delivery.md §13); so an event may come twice, and never not at all.
//!
//! The copy is the same event, with what it remembers in a header. Where the topic can't be made, long waits stay in this process like
//! short ones, and hold the watermark.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::making::wait_for;
use super::message::{self, Record, WAITS, Waits};
use super::shared::Shared;
use super::subscription::Subscription;
use crate::clock::{self, Timestamp};
use crate::queue::{Position, QueueError, Settle, Settlement, Tries};

/// Longest wait in this process: it holds the watermark, and what has ended above it needs room in the commit.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How long the broker keeps copies: more than any wait (`after-max`, `outage`) is likely to be.
const KEPT_MILLIS: &str = "2592000000";

impl Shared {
    /// Settles; what waits long is copied first.
    pub(super) async fn settle(
        &self,
        subscription: &Subscription,
        mut batch: Vec<Settlement>,
    ) -> Result<Vec<Position>, QueueError> {
        let now = clock::now();
        let mut copies = Vec::new();
        for (at, settlement) in batch.iter().enumerate() {
            if let Some((due, tries)) = waits_long(settlement.settle, now)
                && let Some(came) = subscription.desk().out(settlement.position)
            {
                let waits = Waits { tries, due, first_seen: came.first_seen };
                copies.push((at, copy(&came.event, &self.key, waits)?));
            }
        }
        if !copies.is_empty()
            && let Some(topic) = self.retries(subscription).await?
        {
            let (places, records): (Vec<usize>, Vec<Record>) = copies.into_iter().unzip();
            self.send(&topic, &records).await?;
            for at in places {
                if let Some(settlement) = batch.get_mut(at) {
                    settlement.settle = Settle::Ack;
                }
            }
        }
        subscription.settle(&batch).await
    }

    /// The topic of long waits; none: it is not there, and may not be made.
    async fn retries(&self, subscription: &Subscription) -> Result<Option<String>, QueueError> {
        let topic = self.url.retry_topic(&subscription.group);
        if subscription.has_retries.load(Ordering::Relaxed) {
            return Ok(Some(topic));
        }
        if subscription.no_retries.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let partitions = self.topic(super::client::ANSWER_MAX).await?.len();
        let name = topic.clone();
        let made = self.ask(move |cluster| {
            cluster.make(&name, partitions, &[("retention.ms", KEPT_MILLIS)])?;
            wait_for(cluster, &name).map(drop)
        });
        match made.await {
            Ok(()) => {
                subscription.has_retries.store(true, Ordering::Relaxed);
                subscription.waker.wake();
                Ok(Some(topic))
            }
            Err(QueueError::Invalid(error)) => {
                subscription.no_retries.store(true, Ordering::Relaxed);
                tracing::warn!(queue = %self.name, topic, error, "retries that wait for more than a minute wait in this process [make the topic, and start again]");
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }
}

fn waits_long(settle: Settle, now: Timestamp) -> Option<(Timestamp, Tries)> {
    match settle {
        Settle::Retry { due, tries } if due.since(now) > WAIT_MAX => Some((due, tries)),
        _ => None,
    }
}

fn copy(event: &crate::event::Event, key: &str, waits: Waits) -> Result<Record, QueueError> {
    let mut record = message::record(event, key);
    let text =
        serde_json::to_vec(&waits).map_err(|error| QueueError::Unavailable(format!("a copy can't be written: {error}")))?;
    record.headers.push((WAITS.to_owned(), text));
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_more_than_a_minute_is_long() {
        let (now, tries) = (Timestamp(1_000_000), Tries { failed: 2, ..Tries::default() });
        for (wait, long) in [(0, false), (60_000, false), (60_001, true), (86_400_000, true)] {
            let due = Timestamp(now.0 + wait);
            assert_eq!(waits_long(Settle::Retry { due, tries }, now), long.then_some((due, tries)), "{wait}");
        }
        assert_eq!(waits_long(Settle::Retry { due: Timestamp(0), tries }, now), None);
        assert_eq!((waits_long(Settle::Ack, now), waits_long(Settle::Return, now)), (None, None));
    }
}
