//! `memory:`, the reference adapter: everything in this process, bounded in bytes; gone with it. For tests and embedding.
//!
//! Every method does its work under one lock without waiting, so cancelling a pull can't lose anything. Nothing is written to disk.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::ledger::Ledger;
use super::{
    BoxFuture, Delivery, Depth, Features, Position, Publish, Queue, QueueError, Settle, Settlement, Start, SubscriptionDepth,
    timer,
};
use crate::clock::{self, Timestamp};
use crate::event::Event;

/// What an event is counted with beside its own bytes, so that many tiny events are bounded as well: the event's fields, the places
/// in the maps and the bookkeeping of a delivery come to about this.
const EVENT_OVERHEAD_BYTES: u64 = 400;

/// A queue in memory.
#[derive(Debug)]
pub struct MemoryQueue {
    name: String,
    max_size_bytes: u64,
    // std's mutex: held for the work of one call, never across an await; all callers share it.
    state: Mutex<Contents>,
    /// Wakes waiting pulls, of all subscriptions, when there may be something for them.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Contents {
    ledger: Ledger,
    events: BTreeMap<u64, Kept>,
    /// Delayed publishes, by when they are due and in which order they came.
    delayed: BTreeMap<(Timestamp, u64), Arc<Event>>,
    delayed_next: u64,
    bytes: u64,
    closed: bool,
}

#[derive(Debug)]
struct Kept {
    event: Arc<Event>,
    first_seen: Timestamp,
}

impl MemoryQueue {
    /// An empty queue that holds at most this many bytes of events.
    #[must_use]
    pub fn new(name: impl Into<String>, max_size_bytes: u64) -> Arc<Self> {
        Arc::new(Self { name: name.into(), max_size_bytes, state: Mutex::default(), changed: Notify::new() })
    }

    /// The name that it was opened with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The contents, with what has become due in its place.
    fn contents(&self) -> Result<MutexGuard<'_, Contents>, QueueError> {
        let mut contents = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if contents.closed {
            return Err(QueueError::Closed);
        }
        contents.release_due(clock::now());
        Ok(contents)
    }

    fn refuses(&self, size: u64) -> Option<QueueError> {
        (size > self.max_size_bytes).then_some(QueueError::TooLarge { size, bound: self.max_size_bytes })
    }

    fn publish_now(&self, batch: Vec<Publish>) -> Result<(), QueueError> {
        let mut contents = self.contents()?;
        let size = size_of(&batch);
        if let Some(refused) = self.refuses(size) {
            return Err(refused);
        }
        if contents.bytes + size > self.max_size_bytes {
            let blocker = contents.ledger.blocker().map(str::to_owned);
            return Err(QueueError::Full { held: contents.bytes, bound: self.max_size_bytes, blocker });
        }
        contents.bytes += size;
        let now = clock::now();
        for Publish { event, due } in batch {
            match due {
                Some(due) if due > now => {
                    let order = contents.delayed_next;
                    contents.delayed_next += 1;
                    contents.delayed.insert((due, order), event);
                }
                _ => contents.arrive(event, now),
            }
        }
        drop(contents);
        self.changed.notify_waiters();
        Ok(())
    }

    fn try_pull(&self, subscription: &str, max: usize) -> Result<Pulled, QueueError> {
        let mut contents = self.contents()?;
        let Contents { ledger, events, delayed, .. } = &mut *contents;
        let reading = ledger.readings.get_mut(subscription).ok_or_else(|| super::not_subscribed(&self.name, subscription))?;
        let deliver = |(seq, tries)| {
            let Kept { event, first_seen } = events.get(&seq)?;
            Some(Delivery { event: event.clone(), position: Position(u128::from(seq)), tries, first_seen: *first_seen })
        };
        let taken: Vec<Delivery> = reading.take(ledger.end, max, clock::now()).into_iter().filter_map(deliver).collect();
        if !taken.is_empty() {
            return Ok(Pulled::Some(taken));
        }
        let delayed = delayed.keys().next().map(|(due, _)| *due);
        Ok(Pulled::None { next: reading.next_due().into_iter().chain(delayed).min() })
    }

    async fn pull_one_or_more(&self, subscription: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Before looking, so that what comes between looking and waiting wakes as well.
            changed.as_mut().enable();
            match self.try_pull(subscription, max.get())? {
                Pulled::Some(deliveries) => return Ok(deliveries),
                Pulled::None { next } => timer::until(next, changed).await,
            }
        }
    }

    fn settle_now(&self, subscription: &str, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        let mut contents = self.contents()?;
        for Settlement { position, settle } in batch {
            let Ok(seq) = u64::try_from(position.0) else { continue };
            contents.settle(subscription, seq, *settle);
        }
        drop(contents);
        if batch.iter().any(|settlement| settlement.settle != Settle::Ack) {
            self.changed.notify_waiters();
        }
        Ok(Vec::new())
    }

    fn depth_now(&self) -> Result<Depth, QueueError> {
        let contents = self.contents()?;
        let Contents { ledger, events, delayed, bytes, .. } = &*contents;
        let subscriptions = ledger.readings.iter().map(|(name, reading)| SubscriptionDepth {
            name: name.clone(),
            events: Some(reading.count(ledger.end) + delayed.len() as u64),
            oldest: reading.oldest(ledger.end).and_then(|seq| events.get(&seq)).map(|kept| kept.first_seen),
            in_flight: Some(reading.in_flight()),
            partitions: Vec::new(),
        });
        let held = (events.len() + delayed.len()) as u64;
        Ok(Depth { events: Some(held), bytes: Some(*bytes), subscriptions: subscriptions.collect() })
    }
}

enum Pulled {
    Some(Vec<Delivery>),
    None { next: Option<Timestamp> },
}

fn size_of(batch: &[Publish]) -> u64 {
    batch.iter().map(|publish| size_of_event(&publish.event)).sum()
}

fn size_of_event(event: &Event) -> u64 {
    event.size() as u64 + EVENT_OVERHEAD_BYTES
}

impl Contents {
    fn arrive(&mut self, event: Arc<Event>, first_seen: Timestamp) {
        let seq = self.ledger.append(1);
        self.events.insert(seq, Kept { event, first_seen });
    }

    fn release_due(&mut self, now: Timestamp) {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let ((due, _), event) = entry.remove_entry();
            self.arrive(event, due);
        }
    }

    fn settle(&mut self, subscription: &str, seq: u64, settle: Settle) {
        let Some(reading) = self.ledger.readings.get_mut(subscription) else { return };
        match settle {
            Settle::Ack => {
                let free = self.ledger.begin_end(subscription, seq);
                self.ledger.finish_end(subscription, seq);
                if free == Some(true) {
                    self.remove(seq);
                }
            }
            Settle::Retry { due, tries } => reading.retry(seq, due, tries),
            Settle::Return => reading.give_back(seq),
        }
    }

    fn remove(&mut self, seq: u64) {
        if let Some(kept) = self.events.remove(&seq) {
            self.bytes = self.bytes.saturating_sub(size_of_event(&kept.event));
        }
    }

    fn unsubscribe(&mut self, subscription: &str) {
        let Some(removed) = self.ledger.unsubscribe(subscription) else { return };
        let held = removed.pending.into_keys().chain(removed.next..self.ledger.end);
        for seq in held {
            if !self.ledger.holds(seq) {
                self.remove(seq);
            }
        }
    }
}

/// What it promises. Not `at_least_once`: when the process is gone, so is the queue.
pub const FEATURES: Features = Features { at_least_once: false, durable: false, ..Features::LASTING };

impl Queue for MemoryQueue {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(async move { self.publish_now(batch) })
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.refuses(size_of(batch))
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_one_or_more(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move { self.settle_now(subscription, &batch) })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(async move { self.depth_now() })
    }

    fn features(&self) -> Features {
        FEATURES
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            let ledger = &mut self.contents()?.ledger;
            if let Some(reading) = ledger.would_begin(subscription, start) {
                ledger.insert(subscription.to_owned(), reading);
            }
            Ok(())
        })
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            self.contents()?.unsubscribe(subscription);
            self.changed.notify_waiters();
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
            self.changed.notify_waiters();
        })
    }
}

#[cfg(test)]
mod tests;
