//! The settling side of a subscription: dead letters and duplicates first, then the queue, then the counters; in batches, and again
//! until it worked.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;

use super::Subscription;
use super::ended::{End, Ended};
use crate::clock::now;
use crate::dead::{DeadLetter, grave};
use crate::queue::{Position, QueueError, Settle, Settlement};
use crate::stats::{Cause, Counts};
use crate::store::{Sighting, StoreError};
use crate::verdict::Verdict;

/// Waits between attempts at a store or queue that is away: doubled from the first to the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Attempts at settling while the process stops: what is not settled by then is delivered again.
const LAST_ATTEMPTS: u32 = 3;

/// The wait before the next attempt at what failed; none: the process stops, and it was tried often enough.
struct Again<'a> {
    of: &'a Subscription,
    wait: Duration,
    failures: u32,
}

impl Again<'_> {
    async fn wait(&mut self) -> Option<()> {
        self.failures += 1;
        if self.failures >= LAST_ATTEMPTS && self.of.runners.is_closed() {
            return None;
        }
        // Nobody tells when a store or a queue is there again: it is asked, less and less often.
        tokio::time::sleep(self.wait).await;
        self.wait = (self.wait * 2).min(AGAIN.1);
        Some(())
    }
}

impl Subscription {
    /// Settles what ends until nothing more will.
    pub(super) async fn settle_until_closed(self: &Arc<Self>) {
        while let Some(ended) = self.work.ended().await {
            // What needs no dead letter does not wait for those that do.
            let (mut letters, others): (Vec<_>, Vec<_>) = ended.into_iter().partition(|ended| letter(ended).is_some());
            let mut lapsed = HashSet::new();
            if self.keep(&others).await
                && self.forget(&others).await
                && let Some(late) = self.settle(&others).await
            {
                self.count_ended(&others, &late);
                lapsed.extend(late);
            }
            if self.bury(&mut letters).await
                && let Some(late) = self.settle(&letters).await
            {
                self.count_ended(&letters, &late);
                lapsed.extend(late);
                // What lapsed with them must not go on in their lanes.
                if let Some(lost) = self.queue.lapsed(&self.name).now_or_never() {
                    self.lose(&lost);
                }
                let runners = self.work.leave(&letters);
                self.start_runners(runners);
            }
            // Whoever has it now goes on with the same claim.
            let elsewhere =
                |ended: &&Ended| lapsed.contains(&ended.position) || matches!(ended.end, End::GivenBack(Cause::Lease, _));
            self.release(others.iter().chain(&letters).filter(|ended| !elsewhere(ended))).await;
            self.work.settled();
        }
    }

    /// A delivery is settled only once its dead letter is durable (delivery.md §7). Until then the handler's state says why it waits. What
    /// has lapsed meanwhile is somebody else's to end: it gets no letter, and is not settled.
    ///
    /// Whether all of them are; false only when the process stops first.
    async fn bury(&self, ended: &mut [Ended]) -> bool {
        let grave = self.shared.graves.get(&*self.queue_name).and_then(|name| self.shared.queues.get(name));
        let mut again = self.again();
        loop {
            for ended in ended.iter_mut().filter(|ended| !self.queue.holds(&self.name, ended.position)) {
                ended.end = End::GivenBack(Cause::Lease, None);
            }
            let letters: Vec<&DeadLetter> = ended.iter().filter_map(letter).collect();
            let kept = match grave {
                _ if letters.is_empty() => Ok(()),
                Some(queue) => grave::put(&**queue, &letters, &*self.shared.letters).await,
                None => self.shared.letters.put(&letters).await,
            };
            match self.held_up(kept, "dead letters can't be kept", &mut again).await {
                Some(true) => return true,
                Some(false) => {}
                None => return false,
            }
        }
    }

    /// Where `duplicates` is on, what is acknowledged stands in the store before (delivery.md §8). As [`Subscription::bury`].
    async fn keep(&self, ended: &[Ended]) -> bool {
        let Some(window) = self.handler.config.duplicates else { return true };
        let acked = ended.iter().filter(|ended| matches!(ended.end, End::Judged(Verdict::Ack, _)));
        let claims: Vec<Sighting> = acked.filter_map(|ended| ended.claim).collect();
        let mut again = self.again();
        while !claims.is_empty() {
            let kept = self.shared.store.keep(&self.handler.name, window, &claims).await;
            match self.held_up(kept, "what has ended can't be kept for `duplicates`", &mut again).await {
                Some(true) => break,
                Some(false) => {}
                None => return false,
            }
        }
        true
    }

    /// What ends otherwise than by a dead letter has none: one that an earlier end has left goes before (delivery.md §7). As
    /// [`Subscription::bury`]; in another queue (`dead`) it is an event like others, and stays.
    async fn forget(&self, ended: &[Ended]) -> bool {
        let mut again = self.again();
        loop {
            // What has lapsed may be dead-lettered by whoever has it now.
            let over = ended.iter().filter(|ended| ended.left.is_some() && settles(&ended.end) == Some(Settle::Ack));
            let over = over.filter(|ended| self.queue.holds(&self.name, ended.position));
            let ids: Vec<String> = over.filter_map(|ended| ended.left.clone()).collect();
            if ids.is_empty() {
                return true;
            }
            let forgotten = self.shared.letters.forget(&self.queue_name, &ids).await;
            match self.held_up(forgotten, "dead letters of what has ended otherwise can't be removed", &mut again).await {
                Some(true) => return true,
                Some(false) => {}
                None => return false,
            }
        }
    }

    /// Holds the handler up while something can't be done, and waits until it is to be tried again: whether it is done; none when the
    /// process stops first.
    async fn held_up(&self, done: Result<(), StoreError>, what: &str, again: &mut Again<'_>) -> Option<bool> {
        let Err(error) = done else {
            if again.failures > 0 {
                self.handler.release(&self.name);
            }
            return Some(true);
        };
        self.handler.hold(&self.name, &format!("{what}: {error}"));
        again.wait().await?;
        Some(false)
    }

    /// Claims of what did not end acknowledged are given up; those that can't be end with their lease.
    async fn release(&self, ended: impl Iterator<Item = &Ended>) {
        let not_acked = ended.filter(|ended| !matches!(ended.end, End::Judged(Verdict::Ack, _)));
        let claims: Vec<Sighting> = not_acked.filter_map(|ended| ended.claim).collect();
        if !claims.is_empty()
            && let Err(error) = self.shared.store.release(&self.handler.name, &claims).await
        {
            tracing::debug!(handler = %self.handler.name, %error, "claims of events end with their lease");
        }
    }

    /// Settles, and says which of it came too late; none when the process stops first. An attempt that fails is said once and made again.
    async fn settle(&self, ended: &[Ended]) -> Option<HashSet<Position>> {
        let settlements: Vec<Settlement> = ended.iter().filter_map(settlement).collect();
        if settlements.is_empty() {
            return Some(HashSet::new());
        }
        let mut again = self.again();
        loop {
            match self.queue.settle(&self.name, settlements.clone()).await {
                Ok(late) => return Some(late.into_iter().collect()),
                Err(QueueError::Closed) => return None,
                Err(error) if again.failures == 0 => {
                    tracing::error!(queue = %self.queue_name, handler = %self.handler.name, %error, "queue can't settle, trying again");
                }
                Err(_) => {}
            }
            again.wait().await?;
        }
    }

    fn again(&self) -> Again<'_> {
        Again { of: self, wait: AGAIN.0, failures: 0 }
    }

    /// Those that came too late run again, whatever they ended as.
    fn count_ended(&self, ended: &[Ended], late: &HashSet<Position>) {
        let now = now();
        let mut counts = self.stats.count();
        counts.in_flight = counts.in_flight.saturating_sub(ended.len() as u64);
        for ended in ended {
            if !late.is_empty() && late.contains(&ended.position) {
                counts.count_returned(Cause::Lease);
            } else if count_end(&mut counts, &ended.end) {
                counts.age.observe(now.since(ended.first_seen).as_secs_f64());
            }
        }
    }
}

/// Counts one; whether its event is over.
fn count_end(counts: &mut Counts, end: &End) -> bool {
    let cause = match end {
        End::Judged(Verdict::Retry { .. }, _) => Cause::Delay,
        End::Judged(Verdict::Pause, _) => Cause::Pause,
        End::GivenBack(cause, _) => *cause,
        End::Judged(Verdict::Ack, _) => return add(&mut counts.acked),
        End::Judged(Verdict::Dead, _) => return add(&mut counts.dead),
        End::Filtered => return add(&mut counts.filtered),
        End::Expired => return add(&mut counts.expired),
        End::Duplicate => return add(&mut counts.duplicate),
    };
    counts.count_returned(cause);
    false
}

fn add(count: &mut u64) -> bool {
    *count += 1;
    true
}

fn letter(ended: &Ended) -> Option<&DeadLetter> {
    match &ended.end {
        End::Judged(_, letter) => letter.as_deref(),
        _ => None,
    }
}

fn settlement(ended: &Ended) -> Option<Settlement> {
    settles(&ended.end).map(|settle| Settlement { position: ended.position, settle })
}

/// What is done with a delivery that ended so; none: it is not ours to settle.
fn settles(end: &End) -> Option<Settle> {
    Some(match end {
        End::Judged(Verdict::Ack | Verdict::Dead, _) | End::Filtered | End::Expired | End::Duplicate => Settle::Ack,
        End::Judged(Verdict::Retry { due, tries }, _) => Settle::Retry { due: *due, tries: *tries },
        End::GivenBack(Cause::Lease, _) => return None,
        End::GivenBack(_, Some((due, tries))) => Settle::Retry { due: *due, tries: *tries },
        End::Judged(Verdict::Pause, _) | End::GivenBack(_, None) => Settle::Return,
    })
}
