//! What waits: the server tells how much is ready in a queue, we what we hold. What other processes hold nobody tells.

use super::link::Live;
use super::problem::{NOT_FOUND, code};
use super::shared::Shared;
use super::subscription::Subscription;
use super::url::Place;
use crate::queue::{Depth, QueueError, SubscriptionDepth};

impl Shared {
    pub(super) async fn depth(&self) -> Result<Depth, QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let live = self.reading.up()?;
        let mut subscriptions = Vec::new();
        for subscription in self.subscriptions() {
            subscriptions.push(self.depth_of(&live, &subscription).await?);
        }
        let most = subscriptions.iter().filter_map(|subscription| subscription.events).max();
        let events = match (&self.url().place, most) {
            (Place::Queue(queue), None) => Some(self.waiting_in(&live, queue).await?),
            (_, most) => most,
        };
        let delayed = match &self.relay {
            Some(relay) => self.waiting_in(&live, &relay.queue).await? + count(relay.held()),
            None => 0,
        };
        Ok(Depth { events: events.map(|events| events + delayed), bytes: None, subscriptions })
    }

    async fn depth_of(&self, live: &Live, subscription: &Subscription) -> Result<SubscriptionDepth, QueueError> {
        let ready = self.waiting_in(live, &subscription.queue).await?;
        let out = subscription.inbox.hold().out();
        Ok(SubscriptionDepth {
            name: subscription.name.clone(),
            events: Some(ready + count(subscription.held())),
            oldest: None,
            in_flight: Some(count(out)),
            partitions: Vec::new(),
        })
    }

    /// What is ready in a queue, and in those that this process lets wait for it.
    async fn waiting_in(&self, live: &Live, queue: &str) -> Result<u64, QueueError> {
        let prefix = format!("{queue}.wait-");
        let waits: Vec<_> = self.waits().iter().map(|(_, name)| name.clone()).filter(|name| name.starts_with(&prefix)).collect();
        let mut ready = 0;
        for name in waits.iter().map(String::as_str).chain([queue]) {
            ready += match self.look(live, name).await {
                Ok(count) => count,
                Err(error) if code(&error) == Some(NOT_FOUND) => 0,
                Err(error) => return Err(self.problem(&error).into()),
            };
        }
        Ok(ready)
    }
}

fn count(many: usize) -> u64 {
    u64::try_from(many).unwrap_or(u64::MAX)
}
