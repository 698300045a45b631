//! What waits in a stream: one script, whose cost follows the number of groups.

use super::Shared;
use super::answer::{millis, position, score};
use super::scripts;
use crate::clock::Timestamp;
use crate::queue::{Depth, QueueError, SubscriptionDepth};

/// Name, pending, lag (negative: not known), waiting, oldest pending, first unread.
type Group = (String, u64, i64, u64, String, String);

impl Shared {
    pub(super) async fn depth(&self) -> Result<Depth, QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let mut call = scripts::DEPTH.prepare_invoke();
        call.key(&self.keys.stream).key(&self.keys.delayed).arg(&self.keys.retries);
        let answer = self.redis.script(&call).await;
        let (length, delayed, due, groups): (u64, u64, String, Vec<Group>) = self.explained(answer).await?;
        let first_due = score(&due);
        let mut subscriptions: Vec<_> = groups.into_iter().map(|group| subscription(group, delayed, first_due)).collect();
        for subscription in &mut subscriptions {
            self.rename(&mut subscription.name);
        }
        subscriptions.sort_by(|one, other| one.name.cmp(&other.name));
        // Groups that are apart in the stream may need more between them than the one that needs most: this is the least it can be.
        let needed = subscriptions.iter().map(|subscription| subscription.events);
        let events = match subscriptions.is_empty() {
            true => Some(length + delayed),
            false => needed.collect::<Option<Vec<_>>>().and_then(|counts| counts.into_iter().max()),
        };
        Ok(Depth { events, bytes: None, subscriptions })
    }
}

fn subscription(group: Group, delayed: u64, first_due: Option<Timestamp>) -> SubscriptionDepth {
    let (name, pending, lag, waiting, oldest, unread) = group;
    let time = |id: &str| position(id.as_bytes()).map(|position| Timestamp(millis(position)));
    SubscriptionDepth {
        name,
        events: u64::try_from(lag).ok().map(|lag| lag + pending + delayed),
        oldest: time(&oldest).into_iter().chain(time(&unread)).chain(first_due).min(),
        in_flight: Some(pending.saturating_sub(waiting)),
        partitions: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_pending_unread_or_delayed() {
        let group = |lag| ("weir-a".to_owned(), 5, lag, 2, "1000-0".to_owned(), "2000-1".to_owned());
        let depth = subscription(group(7), 3, Some(Timestamp(500)));
        assert_eq!((depth.events, depth.in_flight, depth.oldest), (Some(15), Some(3), Some(Timestamp(500))));
        assert_eq!(subscription(group(-1), 0, None).events, None);
        assert_eq!(subscription(group(0), 0, None).oldest, Some(Timestamp(1_000)));
    }
}
