//! What waits for its time, and notes of tries, in Redis. The face: `store/delays.rs`, `store/notes.rs`.
//!
//! A shelf is two sorted sets, by due time and by end of claim, and a hash of the items; a set has the shelves of each queue.

use std::sync::LazyLock;

use ::redis::{Script, ScriptInvocation, cmd, pipe};

use super::{CALL_MAX, LIFE_MAX, RedisStore};
use crate::clock::{self, Timestamp};
use crate::queue::Position;
use crate::redis::RedisProblem;
use crate::store::delays::{CLAIM_BYTES_MAX, DELAY_OVERHEAD_BYTES, DelayRow, tries_text};
use crate::store::{DelayChange, DelayError, DelayId, DelayLease, DelayedCount, Due, Note, Noted, Shelf, StoreError};

static PUT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("put_delays.lua")));
static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("claim_delays.lua")));
static RENEW: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("renew_delays.lua")));
static CHANGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("change_delays.lua")));
static FORGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("forget_delays.lua")));

/// An item as a script answers it: id, due, first seen, tries, claims before, event.
type Item = (String, f64, u64, String, u32, Vec<u8>);

/// The keys of a shelf.
struct Keys {
    due: String,
    claimed: String,
    items: String,
    shelves: String,
    name: String,
}

impl RedisStore {
    fn shelf(&self, shelf: &Shelf) -> Keys {
        let name = shelf.subscription.as_deref().unwrap_or_default();
        // Names of queues have no colon.
        let key = |what: &str| self.key(&format!("delays:{}:{what}:{name}", shelf.queue));
        Keys {
            due: key("due"),
            claimed: key("claimed"),
            items: key("items"),
            shelves: self.key(&format!("delays:{}", shelf.queue)),
            name: name.to_owned(),
        }
    }

    pub(in crate::store) async fn delay(&self, shelf: &Shelf, rows: &[DelayRow], bounds: (u64, u64)) -> Result<(), DelayError> {
        let keys = self.shelf(shelf);
        for (at, part) in rows.chunks(CALL_MAX).enumerate() {
            let mut call = keys.call(&PUT);
            call.arg(bounds.0).arg(bounds.1).arg(DELAY_OVERHEAD_BYTES);
            for row in part {
                call.arg(text(row.id)).arg(row.due.0).arg(row.first_seen.0).arg(&row.tries).arg(&row.event);
            }
            let put: Result<(bool, u64, u64), RedisProblem> = self.redis.script(&call).await;
            let error = match put {
                Ok((true, ..)) => continue,
                Ok((false, events, bytes)) => DelayError::Full { events, bytes },
                Err(problem) => DelayError::Store(problem.into()),
            };
            // All or none, as far as it can still be done.
            let before: Vec<_> = rows.iter().take(at * CALL_MAX).map(|row| (row.id, DelayChange::Remove)).collect();
            self.change_delayed(shelf, 0, &before).await?;
            return Err(error);
        }
        Ok(())
    }

    pub(in crate::store) async fn claim_delayed(&self, shelf: &Shelf, lease: DelayLease, max: usize) -> Result<Due, StoreError> {
        let keys = self.shelf(shelf);
        let mut call = CLAIM.key(&keys.due);
        call.key(&keys.claimed).key(&keys.items);
        call.arg(clock::now().0).arg(clock::millis(lease.length).max(1)).arg(lease.holder.to_string());
        call.arg(max.min(CALL_MAX)).arg(CLAIM_BYTES_MAX).arg(u8::from(shelf.subscription.is_some()));
        let (items, next, ends): (Vec<Item>, String, String) = self.redis.script(&call).await?;
        let mut due = Due::default();
        for (id, at, first_seen, tries, claims, event) in items {
            let Some(id) = u128::from_str_radix(&id, 16).ok().map(DelayId) else { continue };
            let row = DelayRow { id, due: score(at), first_seen: Timestamp(first_seen), tries, event };
            match row.read(claims) {
                Ok(item) => due.items.push(item),
                Err(error) => {
                    tracing::error!(queue = %shelf.queue, id = %id.0, error, "an event that waits in the store can't be read");
                }
            }
        }
        let next = next.parse().ok().map(score);
        let ends = ends.parse().ok().map(|left| clock::now().after(std::time::Duration::from_millis(left)));
        due.next = next.into_iter().chain(ends).min();
        Ok(due)
    }

    pub(in crate::store) async fn renew_delayed(
        &self,
        shelf: &Shelf,
        lease: DelayLease,
        ids: &[DelayId],
    ) -> Result<Vec<DelayId>, StoreError> {
        let keys = self.shelf(shelf);
        let mut gone = Vec::new();
        for part in ids.chunks(CALL_MAX) {
            let mut call = RENEW.key(&keys.claimed);
            call.key(&keys.items).arg(clock::millis(lease.length).max(1)).arg(lease.holder.to_string());
            for id in part {
                call.arg(text(*id));
            }
            gone.extend(ids_of(self.redis.script(&call).await?));
        }
        Ok(gone)
    }

    pub(in crate::store) async fn change_delayed(
        &self,
        shelf: &Shelf,
        holder: u64,
        changes: &[(DelayId, DelayChange)],
    ) -> Result<Vec<DelayId>, StoreError> {
        let keys = self.shelf(shelf);
        let mut late = Vec::new();
        for part in changes.chunks(CALL_MAX) {
            let mut call = keys.call(&CHANGE);
            call.arg(holder.to_string()).arg(DELAY_OVERHEAD_BYTES);
            for (id, change) in part {
                call.arg(text(*id));
                match change {
                    DelayChange::Remove => call.arg("remove").arg(0).arg(""),
                    DelayChange::PutBack { due, tries } => call.arg("back").arg(due.0).arg(tries_text(*tries)),
                    DelayChange::Note(tries) => call.arg("note").arg(0).arg(tries_text(*tries)),
                };
            }
            late.extend(ids_of(self.redis.script(&call).await?));
        }
        Ok(late)
    }

    pub(in crate::store) async fn forget_delayed(&self, shelf: &Shelf) -> Result<u64, StoreError> {
        Ok(self.redis.script(&self.shelf(shelf).call(&FORGET)).await?)
    }

    pub(in crate::store) async fn delayed(&self, queue: &str) -> Result<Vec<DelayedCount>, StoreError> {
        let shelves: Vec<String> = self.redis.query(cmd("SMEMBERS").arg(self.key(&format!("delays:{queue}")))).await?;
        let mut counts = Vec::with_capacity(shelves.len());
        for name in shelves {
            let subscription = Some(name).filter(|name| !name.is_empty());
            let keys = self.shelf(&Shelf { queue: queue.to_owned(), subscription: subscription.clone() });
            let mut ask = pipe();
            ask.cmd("ZCARD").arg(&keys.due).cmd("ZCARD").arg(&keys.claimed).cmd("HGET").arg(&keys.items).arg("bytes");
            let (due, claimed, bytes): (u64, u64, Option<u64>) = self.redis.pipeline(&ask).await?;
            counts.push(DelayedCount { subscription, events: due + claimed, bytes: bytes.unwrap_or_default(), claimed });
        }
        Ok(counts)
    }

    fn note(&self, of: Noted<'_>, position: Position) -> String {
        self.key(&format!("note:{}:{}:{}", of.queue, of.subscription, position.0))
    }

    pub(in crate::store) async fn write_notes(
        &self,
        of: Noted<'_>,
        notes: &[(Position, Note)],
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let left = clock::millis(until.since(clock::now())).clamp(1, LIFE_MAX);
        for part in notes.chunks(CALL_MAX) {
            let mut set = pipe();
            for (position, note) in part {
                // Numbers alone: there is no error case.
                let text = serde_json::to_string(note).unwrap_or_default();
                set.cmd("SET").arg(self.note(of, *position)).arg(text).arg("PX").arg(left).ignore();
            }
            let () = self.redis.pipeline(&set).await?;
        }
        Ok(())
    }

    pub(in crate::store) async fn notes(&self, of: Noted<'_>, positions: &[Position]) -> Result<Vec<Option<Note>>, StoreError> {
        let mut notes = Vec::with_capacity(positions.len());
        for part in positions.chunks(CALL_MAX) {
            let mut get = cmd("MGET");
            for position in part {
                get.arg(self.note(of, *position));
            }
            let texts: Vec<Option<String>> = self.redis.query(&get).await?;
            notes.extend(texts.iter().map(|text| serde_json::from_str(text.as_deref()?).ok()));
        }
        Ok(notes)
    }

    pub(in crate::store) async fn remove_notes(&self, of: Noted<'_>, positions: &[Position]) -> Result<(), StoreError> {
        for part in positions.chunks(CALL_MAX) {
            let mut remove = cmd("DEL");
            for position in part {
                remove.arg(self.note(of, *position));
            }
            let () = self.redis.query(&remove).await?;
        }
        Ok(())
    }
}

impl Keys {
    /// A call of a script that takes all keys and the shelf's name.
    fn call<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut call = script.key(&self.due);
        call.key(&self.claimed).key(&self.items).key(&self.shelves).arg(&self.name);
        call
    }
}

fn text(id: DelayId) -> String {
    format!("{:032x}", id.0)
}

fn ids_of(texts: Vec<String>) -> impl Iterator<Item = DelayId> {
    texts.into_iter().filter_map(|id| u128::from_str_radix(&id, 16).ok().map(DelayId))
}

/// A time as a sorted set has it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times are far below 2^53 ms, and none is negative")]
fn score(at: f64) -> Timestamp {
    Timestamp(at as u64)
}
