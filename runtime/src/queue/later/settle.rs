//! Settlements: what the store holds, what the broker holds, and retries that go from the one to the other.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::side::{Side, Token};
use super::{Shared, away, lock, refused};
use crate::clock::{self, Timestamp};
use crate::queue::{Position, QueueError, Settle, Settlement};
use crate::store::{DelayChange, DelayId, Delayed};

/// A retry of a delivery of the broker that goes to the store.
struct Moved {
    position: Position,
    item: Delayed,
    /// It is there, and only the broker has not confirmed.
    kept: bool,
}

impl Shared {
    /// Settles a batch. A retry is in the store before the broker's delivery ends; what can't be stored holds up nothing else.
    pub(super) async fn settle(
        &self,
        subscription: &str,
        side: &Side,
        batch: Vec<Settlement>,
    ) -> Result<Vec<Position>, QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let (ours, theirs): (Vec<_>, Vec<_>) = {
            let hold = side.inbox.hold();
            batch.into_iter().partition(|settlement| hold.knows(settlement.position))
        };
        let mut late = Vec::new();
        let stored = self.settle_ours(side, &ours, &mut late).await;
        let broker = self.settle_theirs(subscription, side, theirs, &mut late).await;
        stored.and(broker).map(|()| late)
    }

    async fn settle_ours(&self, side: &Side, batch: &[Settlement], late: &mut Vec<Position>) -> Result<(), QueueError> {
        if batch.is_empty() {
            return Ok(());
        }
        let plan = side.inbox.hold().plan(batch, Instant::now(), Some(self.young()));
        late.extend(plan.late);
        let now = clock::now();
        let changes: Vec<_> =
            plan.sent.iter().map(|(settlement, token)| (token.id, change(settlement.settle, token, now))).collect();
        // What is put back may be claimed again, by this process too, before the store has answered.
        let put_back: Vec<_> = {
            let mut hold = side.inbox.hold();
            let back = plan.sent.iter().map(|(settlement, _)| *settlement).filter(|settlement| settlement.settle != Settle::Ack);
            back.filter_map(|Settlement { position, .. }| Some((position, hold.let_go(position)?))).collect()
        };
        let changed = self.store.change_delayed(&side.shelf, self.holder, &changes).await;
        let mut hold = side.inbox.hold();
        match changed {
            Ok(gone) => {
                late.extend(gone.into_iter().map(|id| Position(id.0)));
                let acked = plan.sent.iter().filter(|(settlement, _)| settlement.settle == Settle::Ack);
                acked.for_each(|(settlement, _)| hold.settled(settlement.position));
                drop(hold);
                side.stirred.notify_one();
                Ok(())
            }
            Err(error) => {
                put_back.into_iter().for_each(|(position, held)| hold.hold_again(position, held));
                Err(away(error))
            }
        }
    }

    async fn settle_theirs(
        &self,
        subscription: &str,
        side: &Side,
        mut batch: Vec<Settlement>,
        late: &mut Vec<Position>,
    ) -> Result<(), QueueError> {
        let moved = self.moved(subscription, side, &mut batch);
        let new: Vec<Delayed> = moved.iter().filter(|moved| !moved.kept).map(|moved| moved.item.clone()).collect();
        let mut failed = Ok(());
        if !new.is_empty() {
            match self.store.delay(&side.shelf, &new).await {
                Ok(()) => {
                    let mut out = lock(&side.out);
                    for Moved { position, item, .. } in &moved {
                        if let Some(out) = out.get_mut(position) {
                            out.kept = Some(item.id);
                        }
                    }
                    drop(out);
                    side.stirred.notify_one();
                }
                Err(error) => {
                    let new: HashSet<Position> = moved.iter().filter(|moved| !moved.kept).map(|moved| moved.position).collect();
                    batch.retain(|settlement| !new.contains(&settlement.position));
                    failed = Err(refused(error));
                }
            }
        }
        if batch.is_empty() {
            return failed;
        }
        let positions: Vec<Position> = batch.iter().map(|settlement| settlement.position).collect();
        let gone = self.inner.settle(subscription, batch).await?;
        side.let_go(positions.iter());
        // The broker gives them to somebody else: there are two of each now.
        let twice: Vec<(DelayId, DelayChange)> = moved
            .iter()
            .filter(|moved| gone.contains(&moved.position))
            .map(|moved| (moved.item.id, DelayChange::Remove))
            .collect();
        if let Err(error) = self.store.change_delayed(&side.shelf, self.holder, &twice).await {
            tracing::warn!(queue = %self.name, %error, "retries whose lease was lost remain in the store too: they run once more");
        }
        late.extend(gone);
        failed
    }

    /// Finds the retries that go to the store; for the broker they are done with.
    fn moved(&self, subscription: &str, side: &Side, batch: &mut [Settlement]) -> Vec<Moved> {
        let Some(least) = self.later.retries.filter(|_| !side.ordered.load(Ordering::Relaxed)) else { return Vec::new() };
        let now = clock::now();
        let mut moved = Vec::new();
        for settlement in batch {
            let Settle::Retry { due, tries } = settlement.settle else { continue };
            let known = lock(&side.out).get(&settlement.position).cloned();
            // What is not out is nobody's.
            let Some(known) = known.filter(|known| known.kept.is_some() || due.since(now) >= least) else { continue };
            let is_ours = self.inner.holds(subscription, settlement.position);
            if !is_ours && known.kept.is_none() {
                settlement.settle = Settle::Return;
                continue;
            }
            let id = known.kept.unwrap_or_else(DelayId::new);
            let item = Delayed { id, event: known.event, due, first_seen: known.first_seen, tries };
            moved.push(Moved { position: settlement.position, item, kept: known.kept.is_some() });
            // Lost meanwhile: the broker says that it came too late, and what was kept goes again.
            settlement.settle = if is_ours { Settle::Ack } else { Settle::Return };
        }
        moved
    }
}

fn change(settle: Settle, token: &Token, now: Timestamp) -> DelayChange {
    match settle {
        Settle::Ack => DelayChange::Remove,
        Settle::Retry { due, tries } => DelayChange::PutBack { due, tries },
        Settle::Return => DelayChange::PutBack { due: now, tries: token.tries },
    }
}
