//! Publishes: what is due later waits in the store, and is published to the broker when it is due, confirmed, then removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::read::{PAUSE, soonest};
use super::side::CLAIM_MAX;
use super::{Shared, refused};
use crate::clock;
use crate::queue::{Publish, QueueError, Tries, timer};
use crate::store::{DelayChange, DelayId, Delayed, Shelf};

/// When what the broker refuses for what it is, is offered again: somebody may have changed a bound meanwhile.
const REFUSED_AGAIN: Duration = Duration::from_secs(3_600);

/// What became of a batch that was offered.
enum Offered {
    /// The broker has it.
    Taken,
    /// Away or full: later again.
    Away(QueueError),
    /// It does not take this.
    Refused(QueueError),
}

/// Forwards until the queue is closed.
pub(super) async fn forward(shared: Arc<Shared>) {
    let shelf = Shelf::publishes(&shared.name);
    let mut pause = PAUSE.0;
    while !shared.closed.is_cancelled() {
        // Made before looking, so that what comes between looking and waiting wakes as well.
        let changed = shared.store.delays_changed(&shelf);
        let problem = match shared.store.claim_delayed(&shelf, shared.lease(), CLAIM_MAX).await {
            Ok(due) if due.items.is_empty() => {
                pause = PAUSE.0;
                let next = soonest(due.next, shared.store.look_for_delayed());
                tokio::select! {
                    () = shared.closed.cancelled() => {}
                    () = shared.stirred.notified() => {}
                    () = timer::until(Some(next), changed) => {}
                }
                continue;
            }
            Ok(due) => shared.offer(&shelf, due.items).await.err().map(|error| error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        let Some(error) = problem else {
            pause = PAUSE.0;
            continue;
        };
        if pause == PAUSE.0 && !shared.closed.is_cancelled() {
            tracing::warn!(queue = %shared.name, error, "delayed events that are due can't be published, trying again");
        }
        tokio::select! {
            () = shared.closed.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE.1);
    }
}

impl Shared {
    /// Takes a batch: what is due later goes to the store, first, so that it can be taken back when the broker refuses the rest.
    pub(super) async fn publish(&self, batch: Vec<Publish>) -> Result<(), QueueError> {
        let Self { inner, store, name, later, closed, .. } = self;
        let Some(least) = later.publishes else { return inner.publish(batch).await };
        let now = clock::now();
        let waits = |publish: &Publish| publish.due.filter(|due| *due > now && due.since(now) >= least);
        if !batch.iter().any(|publish| waits(publish).is_some()) {
            return inner.publish(batch).await;
        }
        if closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if let Some(refused) = inner.too_large(&batch) {
            return Err(refused);
        }
        let (mut delayed, mut rest) = (Vec::new(), Vec::new());
        for publish in batch {
            match waits(&publish) {
                Some(due) => {
                    let id = DelayId::new();
                    delayed.push(Delayed { id, event: publish.event, due, first_seen: now, tries: Tries::default() });
                }
                None => rest.push(publish),
            }
        }
        let shelf = Shelf::publishes(name);
        store.delay(&shelf, &delayed).await.map_err(refused)?;
        if !rest.is_empty()
            && let Err(error) = inner.publish(rest).await
        {
            let undo: Vec<_> = delayed.iter().map(|item| (item.id, DelayChange::Remove)).collect();
            if let Err(error) = store.change_delayed(&shelf, self.holder, &undo).await {
                tracing::warn!(queue = %name, %error, "delayed events of a batch that was refused could not be taken back: they will come");
            }
            return Err(error);
        }
        self.stirred.notify_one();
        Ok(())
    }

    /// Publishes what is due, all at once; where the broker refuses that, one by one.
    async fn offer(&self, shelf: &Shelf, items: Vec<Delayed>) -> Result<(), QueueError> {
        match self.publish_due(&items).await {
            Offered::Refused(_) if items.len() > 1 => {
                for (at, item) in items.iter().enumerate() {
                    let offered = self.publish_due(std::slice::from_ref(item)).await;
                    if let Err(error) = self.conclude(shelf, std::slice::from_ref(item), offered).await {
                        let rest = items.get(at + 1..).unwrap_or_default();
                        self.give_back(shelf, rest, Duration::ZERO).await;
                        return Err(error);
                    }
                }
                Ok(())
            }
            offered => self.conclude(shelf, &items, offered).await,
        }
    }

    /// Stops waiting before the claim could have ended: somebody else would publish it too.
    async fn publish_due(&self, items: &[Delayed]) -> Offered {
        let batch = items.iter().map(|item| Publish { event: Arc::clone(&item.event), due: None }).collect();
        let published = tokio::select! {
            () = self.closed.cancelled() => Err(QueueError::Closed),
            published = tokio::time::timeout(self.young(), self.inner.publish(batch)) => {
                published.unwrap_or_else(|_| Err(QueueError::Unavailable(format!("no answer within {:?}", self.young()))))
            }
        };
        match published {
            Ok(()) => Offered::Taken,
            Err(error @ (QueueError::TooLarge { .. } | QueueError::Invalid(_) | QueueError::Unsupported(_))) => {
                Offered::Refused(error)
            }
            Err(error) => Offered::Away(error),
        }
    }

    async fn conclude(&self, shelf: &Shelf, items: &[Delayed], offered: Offered) -> Result<(), QueueError> {
        match offered {
            Offered::Taken => {
                self.remove(shelf, items).await;
                Ok(())
            }
            Offered::Away(error) => {
                self.give_back(shelf, items, Duration::ZERO).await;
                Err(error)
            }
            Offered::Refused(error) => {
                let id = items.first().map(|item| item.event.id.as_str());
                tracing::error!(queue = %self.name, event = id, %error, again = ?REFUSED_AGAIN, "a delayed event that is due is refused, and kept");
                self.give_back(shelf, items, REFUSED_AGAIN).await;
                Ok(())
            }
        }
    }

    /// Removes what the broker has. What can't be removed while it is claimed is published once more by whoever claims it next.
    async fn remove(&self, shelf: &Shelf, items: &[Delayed]) {
        let changes: Vec<_> = items.iter().map(|item| (item.id, DelayChange::Remove)).collect();
        let claimed_until = Instant::now() + self.young();
        let mut pause = PAUSE.0;
        while let Err(error) = self.store.change_delayed(shelf, self.holder, &changes).await {
            if Instant::now() + pause > claimed_until {
                tracing::warn!(queue = %self.name, count = items.len(), %error, "delayed events were published and could not be removed: they come again");
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    async fn give_back(&self, shelf: &Shelf, items: &[Delayed], wait: Duration) {
        let now = clock::now();
        let due = |item: &Delayed| if wait.is_zero() { item.due } else { now.after(wait) };
        let changes: Vec<_> =
            items.iter().map(|item| (item.id, DelayChange::PutBack { due: due(item), tries: item.tries })).collect();
        if let Err(error) = self.store.change_delayed(shelf, self.holder, &changes).await {
            tracing::debug!(queue = %self.name, %error, "delayed events could not be given back: they come again when their claim ends");
        }
    }
}
