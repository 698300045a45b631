//! What waits in a disk queue for its time: delayed publishes in their table, retries in memory, their events in the file.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;

use super::command::Command;
use super::pull::blocking;
use super::row::{self, Kept};
use super::tables::{DELAYED, EVENTS};
use super::{DiskQueue, Shared};
use crate::clock::Timestamp;
use crate::queue::waits::{Waiters, Waiting, Waits};
use crate::queue::{BoxFuture, Position, QueueError, Settle, Settlement};

impl Waits for DiskQueue {
    fn list<'a>(
        &'a self,
        of: Waiters<'a>,
        from: Timestamp,
        max: NonZeroUsize,
    ) -> BoxFuture<'a, Result<Vec<Waiting>, QueueError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            match of {
                Waiters::Publishes => blocking(move || shared.delayed_from(from, max.get())).await,
                Waiters::Retries(subscription) => {
                    let waiting = {
                        let live = self.shared.open()?;
                        let reading = live.ledger.readings.get(subscription);
                        reading.map(|reading| reading.waiting_from(from).take(max.get()).collect()).unwrap_or_default()
                    };
                    blocking(move || shared.with_events(waiting)).await
                }
            }
        })
    }

    fn end<'a>(&'a self, of: Waiters<'a>, keys: Vec<Bytes>) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            match of {
                Waiters::Publishes => {
                    let keys = keys.iter().filter_map(|key| delayed_key(key)).collect();
                    self.ask(|answer| Command::Undelay { keys, answer }).await
                }
                Waiters::Retries(subscription) => {
                    let seqs: Vec<u64> =
                        keys.iter().filter_map(|key| Some(u64::from_le_bytes(key[..].try_into().ok()?))).collect();
                    {
                        let mut live = self.shared.open()?;
                        let Some(reading) = live.ledger.readings.get_mut(subscription) else { return Ok(()) };
                        seqs.iter().for_each(|seq| reading.lease_waiting(*seq));
                    }
                    let ended = |seq| Settlement { position: Position(u128::from(seq)), settle: Settle::Ack };
                    self.settle_batch(subscription, seqs.into_iter().map(ended).collect()).await.map(drop)
                }
            }
        })
    }
}

fn delayed_key(key: &[u8]) -> Option<(u64, u64)> {
    let (due, order) = key.split_first_chunk()?;
    Some((u64::from_le_bytes(*due), u64::from_le_bytes(order.try_into().ok()?)))
}

impl Shared {
    fn delayed_from(&self, from: Timestamp, max: usize) -> Result<Vec<Waiting>, String> {
        self.store.read(|txn| {
            let mut found = Vec::new();
            for entry in txn.open_table(DELAYED)?.range((from.0, 0)..)?.take(max) {
                let (key, stored) = entry?;
                let (due, order) = key.value();
                // What can't be read stays where it is, and is told when it is due.
                let Ok(Kept { event, .. }) = row::read(stored.value()) else { continue };
                let key = [due.to_le_bytes(), order.to_le_bytes()].concat();
                found.push(Waiting { event, due: Timestamp(due), key: key.into() });
            }
            Ok(found)
        })
    }

    fn with_events(&self, waiting: Vec<(Timestamp, u64)>) -> Result<Vec<Waiting>, String> {
        self.store.read(|txn| {
            let events = txn.open_table(EVENTS)?;
            let mut found = Vec::new();
            for (due, seq) in waiting {
                let read = events.get(seq)?.and_then(|stored| row::read(stored.value()).ok());
                let key = Bytes::copy_from_slice(&seq.to_le_bytes());
                found.extend(read.map(|Kept { event, .. }| Waiting { event, due, key }));
            }
            Ok(found)
        })
    }
}
