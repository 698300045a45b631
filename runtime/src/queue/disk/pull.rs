//! Reading from a disk queue: leases in memory, events from memory where they are at hand, else from the file on a blocking thread.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::Arc;

use super::command::Command;
use super::recent::{AHEAD_BYTES_MAX, AHEAD_EVENTS_MAX};
use super::row::{self, Kept};
use super::tables::EVENTS;
use super::{DiskQueue, Shared};
use crate::clock::{self, Timestamp};
use crate::queue::{Delivery, Depth, Position, QueueError, SubscriptionDepth, Tries, timer};

/// Events taken for one pull. Dropped before they are handed out, which is how a pull is cancelled, they go back to their places.
struct Lease<'a> {
    shared: &'a Shared,
    subscription: &'a str,
    taken: Vec<(u64, Tries, Option<Kept>)>,
    /// What may be read ahead: numbers that this subscription has not seen.
    ahead: Range<u64>,
}

enum Taken<'a> {
    Some(Lease<'a>),
    None { next: Option<Timestamp> },
}

/// What came from the file.
#[derive(Default)]
struct Read {
    asked: Vec<(u64, Option<Result<Kept, String>>)>,
    ahead: Vec<(u64, Kept)>,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        if let Some(reading) = self.shared.live().ledger.readings.get_mut(self.subscription) {
            for (seq, ..) in &self.taken {
                reading.give_back(*seq);
            }
        }
        self.shared.changed.notify_waiters();
    }
}

impl Lease<'_> {
    /// Hands out what has its event.
    fn deliver(&mut self) -> Vec<Delivery> {
        let deliver = |(seq, tries, kept): (u64, Tries, Option<Kept>)| {
            let Kept { event, first_seen } = kept?;
            Some(Delivery { event, position: Position(u128::from(seq)), tries, first_seen })
        };
        std::mem::take(&mut self.taken).into_iter().filter_map(deliver).collect()
    }

    fn missing(&self) -> Vec<u64> {
        self.taken.iter().filter(|(_, _, kept)| kept.is_none()).map(|(seq, ..)| *seq).collect()
    }

    /// Adds what was read. What can't be read is set aside: it stays leased, so that it is tried again after a restart and holds up
    /// nobody; the log says so.
    fn fill(&mut self, read: Read) {
        for (seq, event) in read.asked {
            match event {
                Some(Ok(kept)) => {
                    if let Some(taken) = self.taken.iter_mut().find(|taken| taken.0 == seq) {
                        taken.2 = Some(kept);
                    }
                }
                Some(Err(error)) => {
                    tracing::error!(queue = %self.shared.name, position = seq, error = %error, "event can't be read and is set aside");
                }
                None => tracing::error!(queue = %self.shared.name, position = seq, "event is missing and is set aside"),
            }
        }
        self.shared.live().keep_ahead(self.subscription, read.ahead.into_iter());
    }
}

impl Shared {
    fn take<'a>(&'a self, subscription: &'a str, max: usize) -> Result<Taken<'a>, QueueError> {
        let mut live = self.open()?;
        let live = &mut *live;
        let end = live.ledger.end;
        let reading = live.ledger.readings.get_mut(subscription);
        let reading = reading.ok_or_else(|| crate::queue::not_subscribed(&self.name, subscription))?;
        let taken = reading.take(end, max, clock::now());
        if taken.is_empty() {
            return Ok(Taken::None { next: reading.next_due() });
        }
        let ahead = reading.next..end;
        let taken = taken.into_iter().map(|(seq, tries)| (seq, tries, live.at_hand(subscription, seq))).collect();
        Ok(Taken::Some(Lease { shared: self, subscription, taken, ahead }))
    }

    /// Reads events, and those that follow the last of them if it is the newest that the subscription has seen.
    fn read_events(&self, asked: &[u64], ahead: Range<u64>) -> Result<Read, String> {
        self.store.read(|txn| {
            let events = txn.open_table(EVENTS)?;
            let mut read = Read::default();
            for seq in asked {
                read.asked.push((*seq, events.get(seq)?.map(|stored| row::read(stored.value()))));
            }
            if asked.last().is_some_and(|last| last + 1 == ahead.start) && !ahead.is_empty() {
                let mut bytes = 0;
                for entry in events.range(ahead)?.take(AHEAD_EVENTS_MAX) {
                    let (seq, stored) = entry?;
                    bytes += stored.value().len();
                    // What can't be read is met again when it is asked for.
                    read.ahead.extend(row::read(stored.value()).ok().map(|kept| (seq.value(), kept)));
                    if bytes >= AHEAD_BYTES_MAX {
                        break;
                    }
                }
            }
            Ok(read)
        })
    }
}

impl DiskQueue {
    pub(super) async fn pull_one_or_more(&self, subscription: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // Before looking, so that what comes between looking and waiting wakes as well.
            changed.as_mut().enable();
            match self.shared.take(subscription, max.get())? {
                Taken::Some(lease) => {
                    let deliveries = self.complete(lease).await?;
                    if !deliveries.is_empty() {
                        return Ok(deliveries);
                    }
                }
                Taken::None { next } => timer::until(next, changed).await,
            }
        }
    }

    async fn complete(&self, mut lease: Lease<'_>) -> Result<Vec<Delivery>, QueueError> {
        let missing = lease.missing();
        if !missing.is_empty() {
            if self.shared.store.broken().is_some() {
                self.ask(|answer| Command::Recover { answer }).await?;
            }
            let (shared, ahead) = (Arc::clone(&self.shared), lease.ahead.clone());
            let read = blocking(move || shared.read_events(&missing, ahead)).await?;
            lease.fill(read);
        }
        Ok(lease.deliver())
    }

    pub(super) async fn ask_depth(&self) -> Result<Depth, QueueError> {
        let (mut depth, oldest) = {
            let mut live = self.shared.open()?;
            let live = &mut *live;
            let subscriptions = live.ledger.readings.iter().map(|(name, reading)| SubscriptionDepth {
                name: name.clone(),
                events: Some(reading.count(live.ledger.end) + live.delayed),
                oldest: None,
                in_flight: Some(reading.in_flight()),
                partitions: Vec::new(),
            });
            let subscriptions = subscriptions.collect();
            let depth = Depth { events: Some(live.events + live.delayed), bytes: Some(live.numbers.bytes), subscriptions };
            let end = live.ledger.end;
            let oldest = live.ledger.readings.values().map(|reading| reading.oldest(end));
            (depth, oldest.map(|seq| (seq, seq.and_then(|seq| live.recent.get(seq)))).collect::<Vec<_>>())
        };
        let asked: Vec<u64> = oldest.iter().filter(|(_, kept)| kept.is_none()).filter_map(|(seq, _)| *seq).collect();
        let mut times = Vec::new();
        if !asked.is_empty() {
            let shared = Arc::clone(&self.shared);
            times = blocking(move || shared.read_times(&asked)).await.unwrap_or_default();
        }
        for (subscription, (seq, kept)) in depth.subscriptions.iter_mut().zip(oldest) {
            let read = || times.iter().find(|(read, _)| Some(*read) == seq).map(|(_, time)| *time);
            subscription.oldest = kept.map(|kept| kept.first_seen).or_else(read);
        }
        Ok(depth)
    }
}

impl Shared {
    fn read_times(&self, asked: &[u64]) -> Result<Vec<(u64, Timestamp)>, String> {
        self.store.read(|txn| {
            let events = txn.open_table(EVENTS)?;
            let mut times = Vec::new();
            for seq in asked {
                let time = events.get(seq)?.and_then(|stored| row::first_seen(stored.value()));
                times.extend(time.map(|time| (*seq, time)));
            }
            Ok(times)
        })
    }
}

/// Reads the file where it may take its time.
pub(super) async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, QueueError> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(|error| QueueError::Unavailable(format!("reading the queue was stopped: {error}")))?
        .map_err(QueueError::Unavailable)
}
