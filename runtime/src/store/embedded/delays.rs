//! What waits for its time in the embedded store: who has claimed what, in memory. The tables: `delays/rows.rs`; the face:
//! `store/delays.rs`.
//!
//! Claims end with the process, as everything does that it had claimed. How often an item was claimed is written down first where that
//! counts as a try: a retry that kills the process must not come for ever.

mod rows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

pub(super) use self::rows::{DelayDid, DelayWrite, prepare, write};
use super::tables::{Did, Write};
use super::{Embedded, blocking};
use crate::clock;
use crate::store::delays::DelayRow;
use crate::store::{DelayChange, DelayError, DelayId, DelayLease, DelayedCount, Due, Shelf, StoreError};

/// By shelf and item, who has claimed it and until when.
type Claimed = HashMap<Shelf, HashMap<DelayId, (u64, Instant)>>;

/// Who has claimed what.
#[derive(Debug, Default)]
pub(super) struct Leases {
    // Held for a look or a change, and while what is due is read: nothing is claimed twice.
    shelves: Mutex<Claimed>,
    // Who waits for which shelf; as many as there are queues and subscriptions. Held for a look.
    changed: Mutex<HashMap<Shelf, Arc<Notify>>>,
}

impl Leases {
    fn shelves(&self) -> MutexGuard<'_, Claimed> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self, shelf: &Shelf) -> Arc<Notify> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(changed.entry(shelf.clone()).or_default())
    }

    fn end(&self, shelf: &Shelf, ids: impl Iterator<Item = DelayId>) {
        let mut shelves = self.shelves();
        let Some(leases) = shelves.get_mut(shelf) else { return };
        for id in ids {
            leases.remove(&id);
        }
        if leases.is_empty() {
            shelves.remove(shelf);
        }
    }
}

impl Embedded {
    pub(in crate::store) async fn delay(&self, shelf: &Shelf, rows: Vec<DelayRow>, bounds: (u64, u64)) -> Result<(), DelayError> {
        let did = self.write_delays(shelf, DelayWrite::Put { rows, bounds }).await?;
        self.leases.changed(shelf).notify_waiters();
        did.map(drop).map_err(|(events, bytes)| DelayError::Full { events, bytes })
    }

    async fn write_delays(&self, shelf: &Shelf, write: DelayWrite) -> Result<DelayDid, StoreError> {
        match self.writer.ask(Write::Delays { shelf: shelf.clone(), write }).await? {
            Did::Delays(did) => Ok(did),
            _ => Err(StoreError::Unavailable("the store's writing thread mixed up its answers".to_owned())),
        }
    }

    pub(in crate::store) async fn claim_delayed(&self, shelf: &Shelf, lease: DelayLease, max: usize) -> Result<Due, StoreError> {
        let (shared, leases, of) = (Arc::clone(&self.shared), Arc::clone(&self.leases), shelf.clone());
        let due = blocking(move || {
            let (now, moment) = (clock::now(), Instant::now());
            let mut shelves = leases.shelves();
            let held = shelves.entry(of.clone()).or_default();
            held.retain(|_, (_, until)| *until > moment);
            let lapses = held.values().map(|(_, until)| now.after(until.duration_since(moment))).min();
            let mut due = shared.read(|transaction| rows::due(transaction, &of, (now, max), |id| held.contains_key(&id)))?;
            due.next = due.next.into_iter().chain(lapses).min();
            held.extend(due.items.iter().map(|item| (item.id, (lease.holder, moment + lease.length))));
            if held.is_empty() {
                shelves.remove(&of);
            }
            Ok(due)
        })
        .await?;
        if shelf.subscription.is_none() || due.items.is_empty() {
            return Ok(due);
        }
        let ids: Vec<DelayId> = due.items.iter().map(|item| item.id).collect();
        if let Err(error) = self.write_delays(shelf, DelayWrite::Claim(ids.clone())).await {
            self.leases.end(shelf, ids.into_iter());
            return Err(error);
        }
        Ok(due)
    }

    pub(in crate::store) fn renew_delayed(&self, shelf: &Shelf, lease: DelayLease, ids: &[DelayId]) -> Vec<DelayId> {
        let mut shelves = self.leases.shelves();
        let now = Instant::now();
        let mut held = shelves.get_mut(shelf);
        let gone = ids.iter().filter(|id| match held.as_mut().and_then(|held| held.get_mut(id)) {
            Some((holder, until)) if *holder == lease.holder && *until > now => {
                *until = now + lease.length;
                false
            }
            _ => true,
        });
        gone.copied().collect()
    }

    pub(in crate::store) async fn change_delayed(
        &self,
        shelf: &Shelf,
        holder: u64,
        changes: &[(DelayId, DelayChange)],
    ) -> Result<Vec<DelayId>, StoreError> {
        let (late, ours): (Vec<_>, Vec<_>) = {
            let (shelves, now) = (self.leases.shelves(), Instant::now());
            let held = shelves.get(shelf);
            let others =
                |id: &DelayId| held.and_then(|held| held.get(id)).is_some_and(|(by, until)| *by != holder && *until > now);
            changes.iter().copied().partition(|(id, _)| others(id))
        };
        if !ours.is_empty() {
            self.write_delays(shelf, DelayWrite::Change(ours.clone())).await?.ok();
        }
        let is_note = |change: &DelayChange| matches!(change, DelayChange::Note(_));
        self.leases.end(shelf, ours.iter().filter(|(_, change)| !is_note(change)).map(|(id, _)| *id));
        if ours.iter().any(|(_, change)| matches!(change, DelayChange::PutBack { .. })) {
            self.leases.changed(shelf).notify_waiters();
        }
        Ok(late.into_iter().map(|(id, _)| id).collect())
    }

    pub(in crate::store) async fn forget_delayed(&self, shelf: &Shelf) -> Result<u64, StoreError> {
        let forgotten = self.write_delays(shelf, DelayWrite::Forget).await?;
        self.leases.shelves().remove(shelf);
        Ok(forgotten.unwrap_or_default())
    }

    /// Reads a small page: fit for async code.
    pub(in crate::store) fn delayed(&self, queue: &str) -> Result<Vec<DelayedCount>, StoreError> {
        let counts = self.shared.read(|transaction| rows::counts(transaction, queue));
        let (mut counts, shelves, now) = (counts?, self.leases.shelves(), Instant::now());
        for count in &mut counts {
            let shelf = Shelf { queue: queue.to_owned(), subscription: count.subscription.clone() };
            let claimed = shelves.get(&shelf).map_or(0, |held| held.values().filter(|(_, until)| *until > now).count());
            count.claimed = (claimed as u64).min(count.events);
        }
        Ok(counts)
    }

    pub(in crate::store) fn delays_changed(&self, shelf: &Shelf) -> OwnedNotified {
        self.leases.changed(shelf).notified_owned()
    }
}
