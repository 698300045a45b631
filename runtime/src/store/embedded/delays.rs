//! What waits for its time in the embedded store: tables, what one commit does to them, and who has claimed what, in memory. The face:
//! `store/delays.rs`.
//!
//! Claims end with the process, as everything does that it had claimed. How often an item was claimed is written down first where that
//! counts as a try: a retry that kills the process must not come for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::tables::{Did, Error, Write};
use super::{Embedded, blocking};
use crate::clock::{self, Timestamp};
use crate::store::delays::{CLAIM_BYTES_MAX, DELAY_OVERHEAD_BYTES, DelayRow, tries_text};
use crate::store::{DelayChange, DelayError, DelayId, DelayLease, DelayedCount, Due, Shelf, StoreError};

/// Queue, subscription (empty: publishes).
type Of = (&'static str, &'static str);

/// An item → when it is due, when its event was first seen, claims since its tries were written, its tries.
const STATES: TableDefinition<(&str, &str, u128), (u64, u64, u32, &str)> = TableDefinition::new("delayed");
/// An item → its event.
const EVENTS: TableDefinition<(&str, &str, u128), &[u8]> = TableDefinition::new("delayed-events");
/// Items by when they are due.
const BY_DUE: TableDefinition<(&str, &str, u64, u128), ()> = TableDefinition::new("delayed-by-due");
/// How many there are, and their bytes.
const COUNTS: TableDefinition<Of, (u64, u64)> = TableDefinition::new("delayed-counts");

/// One thing to write.
#[derive(Debug)]
pub(super) enum DelayWrite {
    Put { rows: Vec<DelayRow>, bounds: (u64, u64) },
    Claim(Vec<DelayId>),
    Change(Vec<(DelayId, DelayChange)>),
    Forget,
}

/// What became of it: how many items it was about, or what is held where there is no room.
pub(super) type DelayDid = Result<u64, (u64, u64)>;

/// Who has claimed what.
#[derive(Debug, Default)]
pub(super) struct Leases {
    // Held for a look or a change, and while what is due is read: nothing is claimed twice.
    shelves: Mutex<HashMap<Shelf, HashMap<DelayId, (u64, Instant)>>>,
    // Who waits for which shelf; as many as there are queues and subscriptions. Held for a look.
    changed: Mutex<HashMap<Shelf, Arc<Notify>>>,
}

impl Leases {
    fn shelves(&self) -> MutexGuard<'_, HashMap<Shelf, HashMap<DelayId, (u64, Instant)>>> {
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

/// Makes the tables.
pub(super) fn prepare(transaction: &WriteTransaction) -> Result<(), Error> {
    transaction.open_table(STATES)?;
    transaction.open_table(EVENTS)?;
    transaction.open_table(BY_DUE)?;
    transaction.open_table(COUNTS)?;
    Ok(())
}

/// Makes one change.
pub(super) fn write(transaction: &WriteTransaction, shelf: &Shelf, write: &DelayWrite) -> Result<DelayDid, Error> {
    let of = of(shelf);
    let mut counts = transaction.open_table(COUNTS)?;
    let (mut events, mut bytes) = counts.get(of)?.map(|row| row.value()).unwrap_or_default();
    let mut count = 0;
    match write {
        DelayWrite::Put { rows, bounds } => {
            let size: u64 = rows.iter().map(DelayRow::size).sum();
            if events + rows.len() as u64 > bounds.0 || bytes + size > bounds.1 {
                return Ok(Err((events, bytes)));
            }
            for row in rows {
                if let Some(gone) = remove(transaction, of, row.id)? {
                    (events, bytes) = (events.saturating_sub(1), bytes.saturating_sub(gone));
                }
                put(transaction, of, row)?;
                (events, bytes, count) = (events + 1, bytes + row.size(), count + 1);
            }
        }
        DelayWrite::Claim(ids) => {
            for id in ids {
                count += u64::from(rewrite(transaction, of, *id, Rewrite::Claimed)?);
            }
        }
        DelayWrite::Change(changes) => {
            for (id, change) in changes {
                let rewritten = match change {
                    DelayChange::Remove => {
                        if let Some(gone) = remove(transaction, of, *id)? {
                            (events, bytes, count) = (events.saturating_sub(1), bytes.saturating_sub(gone), count + 1);
                        }
                        continue;
                    }
                    DelayChange::PutBack { due, tries } => Rewrite::Tries(Some(*due), tries_text(*tries)),
                    DelayChange::Note(tries) => Rewrite::Tries(None, tries_text(*tries)),
                };
                count += u64::from(rewrite(transaction, of, *id, rewritten)?);
            }
        }
        DelayWrite::Forget => {
            let (from, to) = ((of.0, of.1, 0), (of.0, of.1, u128::MAX));
            transaction.open_table(STATES)?.retain_in(from..=to, |_, _| false)?;
            transaction.open_table(EVENTS)?.retain_in(from..=to, |_, _| false)?;
            transaction.open_table(BY_DUE)?.retain_in((of.0, of.1, 0, 0)..=(of.0, of.1, u64::MAX, u128::MAX), |_, ()| false)?;
            (count, events, bytes) = (events, 0, 0);
        }
    }
    match events {
        0 => drop(counts.remove(of)?),
        _ => drop(counts.insert(of, (events, bytes))?),
    }
    Ok(Ok(count))
}

fn of(shelf: &Shelf) -> (&str, &str) {
    (&shelf.queue, shelf.subscription.as_deref().unwrap_or_default())
}

fn put(transaction: &WriteTransaction, of: (&str, &str), row: &DelayRow) -> Result<(), Error> {
    let key = (of.0, of.1, row.id.0);
    transaction.open_table(STATES)?.insert(key, (row.due.0, row.first_seen.0, 0, row.tries.as_str()))?;
    transaction.open_table(EVENTS)?.insert(key, row.event.as_slice())?;
    transaction.open_table(BY_DUE)?.insert((of.0, of.1, row.due.0, row.id.0), ())?;
    Ok(())
}

/// Removes an item; what it counted for.
fn remove(transaction: &WriteTransaction, of: (&str, &str), id: DelayId) -> Result<Option<u64>, Error> {
    let key = (of.0, of.1, id.0);
    let Some(due) = transaction.open_table(STATES)?.remove(key)?.map(|row| row.value().0) else { return Ok(None) };
    transaction.open_table(BY_DUE)?.remove((of.0, of.1, due, id.0))?;
    let bytes = transaction.open_table(EVENTS)?.remove(key)?.map_or(0, |event| event.value().len() as u64);
    Ok(Some(bytes + DELAY_OVERHEAD_BYTES))
}

enum Rewrite {
    Claimed,
    Tries(Option<Timestamp>, String),
}

/// Changes an item's state; whether it is there.
fn rewrite(transaction: &WriteTransaction, of: (&str, &str), id: DelayId, rewrite: Rewrite) -> Result<bool, Error> {
    let mut states = transaction.open_table(STATES)?;
    let key = (of.0, of.1, id.0);
    let Some((before, first_seen, claims, tries)) = states.get(key)?.map(|row| {
        let (due, first_seen, claims, tries) = row.value();
        (due, first_seen, claims, tries.to_owned())
    }) else {
        return Ok(false);
    };
    let (due, claims, tries) = match rewrite {
        Rewrite::Claimed => (before, claims.saturating_add(1), tries),
        Rewrite::Tries(due, tries) => (due.map_or(before, |due| due.0), 0, tries),
    };
    states.insert(key, (due, first_seen, claims, tries.as_str()))?;
    if due != before {
        let mut by_due = transaction.open_table(BY_DUE)?;
        by_due.remove((of.0, of.1, before, id.0))?;
        by_due.insert((of.0, of.1, due, id.0), ())?;
    }
    Ok(true)
}

/// What is due and not claimed, and when more is.
fn due(
    transaction: &ReadTransaction,
    shelf: &Shelf,
    (now, max): (Timestamp, usize),
    is_claimed: impl Fn(DelayId) -> bool,
) -> Result<Due, Error> {
    let of = of(shelf);
    let (states, events) = (transaction.open_table(STATES)?, transaction.open_table(EVENTS)?);
    let (mut answer, mut bytes) = (Due::default(), 0);
    for row in transaction.open_table(BY_DUE)?.range((of.0, of.1, 0, 0)..=(of.0, of.1, u64::MAX, u128::MAX))? {
        let (due, id) = row.map(|(key, _)| (Timestamp(key.value().2), DelayId(key.value().3)))?;
        if is_claimed(id) {
            continue;
        }
        if due > now || answer.items.len() >= max || bytes >= CLAIM_BYTES_MAX {
            answer.next = Some(due);
            break;
        }
        let key = (of.0, of.1, id.0);
        let (Some(state), Some(event)) = (states.get(key)?, events.get(key)?) else { continue };
        let (_, first_seen, claims, tries) = state.value();
        let event = event.value().to_vec();
        bytes += event.len();
        let row = DelayRow { id, due, first_seen: Timestamp(first_seen), tries: tries.to_owned(), event };
        match row.read(claims) {
            Ok(item) => answer.items.push(item),
            Err(error) => {
                tracing::error!(queue = %shelf.queue, id = %id.0, error, "an event that waits in the store can't be read")
            }
        }
    }
    Ok(answer)
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
            let mut due = shared.read(|transaction| due(transaction, &of, (now, max), |id| held.contains_key(&id)))?;
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
        let counts = self.shared.read(|transaction| {
            let table = transaction.open_table(COUNTS)?;
            let of_queue =
                table.range((queue, "")..)?.take_while(|row| row.as_ref().is_ok_and(|(key, _)| key.value().0 == queue));
            let count = |row: Result<(redb::AccessGuard<'_, Of>, redb::AccessGuard<'_, (u64, u64)>), redb::StorageError>| {
                let (key, value) = row?;
                let subscription = Some(key.value().1.to_owned()).filter(|name| !name.is_empty());
                Ok(DelayedCount { subscription, events: value.value().0, bytes: value.value().1, claimed: 0 })
            };
            of_queue.map(count).collect::<Result<Vec<_>, Error>>()
        });
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
