//! What both sides know of a queue and its subscriptions.

use super::{Shared, away, lock};
use crate::queue::{Depth, QueueError, SubscriptionDepth};
use crate::store::Shelf;

impl Shared {
    /// What waits on both sides.
    pub(super) async fn depth(&self) -> Result<Depth, QueueError> {
        let Self { inner, store, name, .. } = self;
        let mut depth = inner.depth().await?;
        let waits = store.delayed(name).await.map_err(away)?;
        let publishes = waits.iter().filter(|count| count.subscription.is_none()).map(|count| count.events).sum::<u64>();
        let add = |to: &mut Option<u64>, more: u64| *to = to.map(|held| held + more);
        for count in waits {
            add(&mut depth.events, count.events);
            add(&mut depth.bytes, count.bytes);
            let Some(of) = count.subscription else { continue };
            match depth.subscriptions.iter_mut().find(|known| known.name == of) {
                Some(known) => {
                    add(&mut known.events, count.events);
                    add(&mut known.in_flight, count.claimed);
                }
                // What nobody else knows any more, but the store.
                None => depth.subscriptions.push(SubscriptionDepth {
                    name: of,
                    events: Some(count.events),
                    oldest: None,
                    in_flight: Some(count.claimed),
                    partitions: Vec::new(),
                }),
            }
        }
        depth.subscriptions.iter_mut().for_each(|known| add(&mut known.events, publishes));
        Ok(depth)
    }

    /// Removes a subscription on both sides.
    pub(super) async fn unsubscribe(&self, subscription: &str) -> Result<(), QueueError> {
        let Self { inner, store, name, sides, later, .. } = self;
        let removed = inner.unsubscribe(subscription).await;
        if later.retries.is_none() || !matches!(removed, Ok(()) | Err(QueueError::Unsupported(_))) {
            return removed;
        }
        if let Some(side) = lock(sides).remove(subscription) {
            side.inbox.ended.cancel();
        }
        let forgotten = store.forget_delayed(&Shelf::retries(name, subscription)).await.map_err(away)?;
        if forgotten > 0 { Ok(()) } else { removed }
    }
}
