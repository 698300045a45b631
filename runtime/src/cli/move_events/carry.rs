//! Batch by batch from one queue into another: published and confirmed, then acknowledged.
//!
//! It ends when as many events are moved as waited when it began, or when nothing is left. Where a queue can't tell what waits, it ends when
//! nothing has come for a while. Considered and left out: until the queue is empty, whatever comes; beside a producer it would never end.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use super::reading::Reading;
use crate::cli::direct;
use crate::cli::output::{CliError, note};
use crate::clock::{self, Timestamp};
use crate::queue::batch::split;
use crate::queue::waits::{Waiters, Waiting, Waits};
use crate::queue::{Delivery, Publish, Queue, QueueError, Settle, Settlement, Start};

/// Events taken at once: what a kill repeats at most.
const BATCH: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99);

/// How long nothing may come before it is asked what is left: longer than any adapter takes for its first look.
const QUIET: Duration = Duration::from_secs(2);

/// The same where the queue can't tell what is left: some brokers give back what waits only every five seconds.
const QUIET_UNKNOWN: Duration = Duration::from_secs(6);

/// How long is waited for what other processes hold: until a lease has lapsed, unless it is longer than usual.
const HELD_MAX: Duration = Duration::from_secs(60);

/// What is due sooner is pulled when it is due: it could arrive while it is moved, and be moved twice.
const LEAD: Duration = Duration::from_secs(5);

/// How long a queue may take to confirm a publish.
const PUBLISH_MAX: Duration = Duration::from_secs(30);

/// Events that stay because the other queue can't hold them: held until the end, so that they do not come again. With more of them the two
/// queues do not fit each other.
const REFUSED_MAX: usize = 100;

/// How often an acknowledgement is tried.
const SETTLE_TRIES: usize = 5;

/// Between two of these.
const SETTLE_AGAIN: Duration = Duration::from_millis(200);

/// What it came to.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) moved: u64,
    /// What waits in the old queue now.
    pub(super) left: Option<u64>,
    pub(super) interrupted: bool,
    /// What waited at the beginning and stays, and why.
    pub(super) stays: Vec<String>,
    /// Why it went no further.
    pub(super) stopped: Option<CliError>,
    refused: Vec<Settlement>,
}

/// From where to where.
pub(super) struct Carrier<'a> {
    pub(super) from: (&'a str, &'a dyn Queue),
    pub(super) to: (&'a str, &'a dyn Queue),
    pub(super) reading: &'a Reading,
    pub(super) stop: &'a CancellationToken,
    pub(super) bar: &'a ProgressBar,
}

impl Carrier<'_> {
    /// Moves what waits: `total` events, if that is known.
    pub(super) async fn carry(&self, total: Option<u64>) -> Carried {
        let mut carried = Carried::default();
        let done = self.carry_all(total, &mut carried).await;
        carried.stopped = done.err();
        carried.interrupted = self.stop.is_cancelled() && carried.stopped.is_none();
        let refused = std::mem::take(&mut carried.refused);
        if !refused.is_empty() {
            // They come back by themselves when the queue is closed, if not now.
            let _ = self.from.1.settle(&self.reading.subscription, refused).await;
        }
        carried.left = self.left().await;
        if carried.left == Some(0) && self.reading.is_own && !self.from.1.features().shared {
            // Nobody else has this queue: nothing can have come since.
            let _ = self.from.1.unsubscribe(&self.reading.subscription).await;
        }
        carried
    }

    async fn carry_all(&self, total: Option<u64>, carried: &mut Carried) -> Result<(), CliError> {
        let Reading { subscription, is_known, is_alone, .. } = self.reading;
        self.from.1.window(subscription, BATCH.saturating_add(REFUSED_MAX));
        if !is_known {
            self.from.1.subscribe(subscription, Start::All).await.map_err(|error| direct::failure(self.from.0, &error))?;
        }
        if let Some(waits) = self.from.1.waits() {
            if *is_alone {
                self.carry_waiting(waits, Waiters::Publishes, carried).await?;
            }
            self.carry_waiting(waits, Waiters::Retries(subscription), carried).await?;
        }
        self.carry_ready(total, carried).await
    }

    /// What waits for its time takes it along.
    async fn carry_waiting(&self, waits: &dyn Waits, of: Waiters<'_>, carried: &mut Carried) -> Result<(), CliError> {
        if !self.to.1.features().delay {
            return Ok(());
        }
        let mut moved = None;
        while !self.stop.is_cancelled() {
            let soon = clock::now().after(LEAD);
            let found = waits.list(of, soon, BATCH).await.map_err(|error| direct::failure(self.from.0, &error))?;
            // What can't be ended would be moved again and again.
            if found.first().is_none_or(|first| moved.as_ref() == Some(&first.key)) {
                break;
            }
            moved = found.first().map(|first| first.key.clone());
            let publishes = |found: &[Waiting]| {
                found.iter().map(|one| Publish { event: Arc::clone(&one.event), due: Some(one.due) }).collect()
            };
            match self.publish(publishes(&found)).await {
                Ok(()) => {}
                Err(error) if is_its_own(&error) => {
                    carried.stays.push(format!("what waits for its time stays in `{}`: {error}", self.from.0));
                    break;
                }
                Err(error) => return Err(direct::failure(self.to.0, &error)),
            }
            let keys: Vec<Bytes> = found.iter().map(|one| one.key.clone()).collect();
            self.count(found.len(), carried);
            self.again(|| waits.end(of, keys.clone())).await?;
        }
        Ok(())
    }

    /// What can be pulled, until `total` is reached or nothing is left.
    async fn carry_ready(&self, total: Option<u64>, carried: &mut Carried) -> Result<(), CliError> {
        let quiet = if total.is_some() { QUIET } else { QUIET_UNKNOWN };
        let mut last = Instant::now();
        let mut held_told = false;
        while !self.stop.is_cancelled() {
            let rest = total.map_or(u64::MAX, |total| total.saturating_sub(carried.moved + carried.refused.len() as u64));
            let Some(most) = NonZeroUsize::new(usize::try_from(rest).unwrap_or(usize::MAX).min(BATCH.get())) else { break };
            let pulled = tokio::select! {
                () = self.stop.cancelled() => break,
                pulled = tokio::time::timeout(quiet, self.from.1.pull(&self.reading.subscription, most)) => pulled,
            };
            match pulled {
                Ok(pulled) => {
                    let pulled = pulled.map_err(|error| direct::failure(self.from.0, &error))?;
                    self.carry_batch(pulled, carried).await?;
                    last = Instant::now();
                }
                Err(_) => match self.rest(total, carried, last).await? {
                    Rest::Nothing => break,
                    Rest::Soon => {}
                    Rest::Held(events) if !held_told => {
                        held_told = true;
                        let seconds = HELD_MAX.as_secs();
                        let (from, name) = (self.from.0, &self.reading.subscription);
                        note(&format!(
                            "another process holds {events} events of `{name}` in `{from}`: waiting for them, at most {seconds} s"
                        ));
                    }
                    Rest::Held(_) => {}
                    Rest::Stays(why) => {
                        carried.stays.push(why);
                        break;
                    }
                },
            }
        }
        Ok(())
    }

    async fn carry_batch(&self, pulled: Vec<Delivery>, carried: &mut Carried) -> Result<(), CliError> {
        for batch in split(pulled) {
            let publishes = |batch: &[Delivery]| -> Vec<Publish> {
                batch.iter().map(|delivery| Publish { event: Arc::clone(&delivery.event), due: None }).collect()
            };
            match self.publish(publishes(&batch)).await {
                Ok(()) => self.acknowledge(batch, carried).await?,
                Err(error) if is_its_own(&error) => {
                    for one in batch {
                        match self.publish(publishes(std::slice::from_ref(&one))).await {
                            Ok(()) => self.acknowledge(vec![one], carried).await?,
                            Err(error) if is_its_own(&error) => self.keep(one, &error, carried)?,
                            Err(error) => return Err(direct::failure(self.to.0, &error)),
                        }
                    }
                }
                Err(error) => return Err(direct::failure(self.to.0, &error)),
            }
        }
        Ok(())
    }

    async fn publish(&self, batch: Vec<Publish>) -> Result<(), QueueError> {
        if let Some(refused) = self.to.1.too_large(&batch) {
            return Err(refused);
        }
        let seconds = PUBLISH_MAX.as_secs();
        let late = || QueueError::Unavailable(format!("it did not confirm a publish within {seconds} s (it may have taken it)"));
        tokio::time::timeout(PUBLISH_MAX, self.to.1.publish(batch)).await.unwrap_or_else(|_| Err(late()))
    }

    /// The other queue has it.
    async fn acknowledge(&self, batch: Vec<Delivery>, carried: &mut Carried) -> Result<(), CliError> {
        self.count(batch.len(), carried);
        let ended: Vec<Settlement> = batch.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
        self.again(|| self.from.1.settle(&self.reading.subscription, ended.clone())).await.map(drop)
    }

    /// The other queue could never hold it.
    fn keep(&self, one: Delivery, error: &QueueError, carried: &mut Carried) -> Result<(), CliError> {
        let (event, settlement) = one.settle(Settle::Return);
        carried.stays.push(format!("event `{}` stays in `{}`: queue `{}`: {error}", event.id, self.from.0, self.to.0));
        carried.refused.push(settlement);
        if carried.refused.len() >= REFUSED_MAX {
            return Err(CliError::Failed(format!("queue `{}` refuses {REFUSED_MAX} events and more", self.to.0)));
        }
        Ok(())
    }

    async fn again<T, F: Future<Output = Result<T, QueueError>>>(&self, call: impl Fn() -> F) -> Result<T, CliError> {
        let mut tries = 1;
        loop {
            match call().await {
                Err(QueueError::Unavailable(_)) if tries < SETTLE_TRIES => tries += 1,
                other => {
                    let twice = "(the last batch is in both queues: run the command again, it repeats it with the same ids)";
                    return other.map_err(|error| CliError::Failed(format!("queue `{}`: {error} {twice}", self.from.0)));
                }
            }
            tokio::time::sleep(SETTLE_AGAIN).await;
        }
    }

    fn count(&self, events: usize, carried: &mut Carried) {
        carried.moved += events as u64;
        self.bar.set_position(carried.moved);
    }

    async fn left(&self) -> Option<u64> {
        let depth = self.from.1.depth().await.ok().filter(|depth| depth.events.is_some())?;
        super::waits(&depth, &self.reading.subscription)
    }

    /// Nothing came for a while: what is left?
    async fn rest(&self, total: Option<u64>, carried: &Carried, last: Instant) -> Result<Rest, CliError> {
        let depth = self.from.1.depth().await.map_err(|error| direct::failure(self.from.0, &error))?;
        let own = depth.subscriptions.iter().find(|known| known.name == self.reading.subscription);
        let refused = carried.refused.len() as u64;
        let Some(left) = super::waits(&depth, &self.reading.subscription).filter(|_| total.is_some()) else {
            return Ok(Rest::Nothing);
        };
        let left = left.saturating_sub(refused);
        let held = own.and_then(|own| own.in_flight).unwrap_or_default().saturating_sub(refused);
        if left == 0 {
            return Ok(Rest::Nothing);
        }
        if self.is_any_soon().await? {
            return Ok(Rest::Soon);
        }
        let from = self.from.0;
        Ok(match held {
            0 => Rest::Stays(super::stays(left, from)),
            held if last.elapsed() < HELD_MAX => Rest::Held(held),
            held => Rest::Stays(format!(
                "{held} events of `{}` are held by another process and stay in `{from}`",
                self.reading.subscription
            )),
        })
    }

    /// Whether something arrives within the lead.
    async fn is_any_soon(&self) -> Result<bool, CliError> {
        let Some(waits) = self.from.1.waits() else { return Ok(false) };
        let soon = clock::now().after(LEAD + QUIET);
        for of in [Waiters::Publishes, Waiters::Retries(&self.reading.subscription)] {
            let first = waits.list(of, Timestamp::default(), NonZeroUsize::MIN).await;
            let first = first.map_err(|error| direct::failure(self.from.0, &error))?;
            if first.first().is_some_and(|first| first.due <= soon) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What is left when nothing comes.
enum Rest {
    Nothing,
    /// It is due in a moment.
    Soon,
    /// Others have this many.
    Held(u64),
    /// It stays: why.
    Stays(String),
}

/// Whether an error is about what was published, not about the queue.
fn is_its_own(error: &QueueError) -> bool {
    matches!(error, QueueError::TooLarge { .. } | QueueError::Invalid(_) | QueueError::Unsupported(_))
}
