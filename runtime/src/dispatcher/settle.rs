//! The settling side of a subscription: dead letters first, then the queue, then the counters; in batches, and again until it worked.

use std::time::Duration;

use super::Subscription;
use super::work::{End, Ended};
use crate::clock::now;
use crate::dead::{DeadLetter, DeadLetters};
use crate::queue::{QueueError, Settle, Settlement};
use crate::stats::Cause;
use crate::verdict::Verdict;

/// Waits between attempts at a store or queue that is away: doubled from the first to the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Attempts at settling while the process stops: what is not settled by then is delivered again.
const LAST_ATTEMPTS: u32 = 3;

impl Subscription {
    /// Settles what ends until nothing more will.
    pub(super) async fn settle_until_closed(&self) {
        while let Some(ended) = self.work.ended().await {
            // What needs no dead letter does not wait for those that do.
            let (letters, others): (Vec<_>, Vec<_>) = ended.into_iter().partition(|ended| letter(ended).is_some());
            if self.settle(&others).await {
                self.count_ended(&others);
            }
            if self.bury(&letters).await && self.settle(&letters).await {
                self.count_ended(&letters);
            }
            self.work.settled();
        }
    }

    /// A delivery is settled only once its dead letter is durable (delivery.md §7). Until then the handler's state says why it waits.
    ///
    /// Whether all of them are; false only when the process stops first.
    async fn bury(&self, ended: &[Ended]) -> bool {
        let (mut wait, mut failures) = (AGAIN.0, 0);
        loop {
            let letters: Vec<&DeadLetter> = ended.iter().filter_map(letter).collect();
            let Err(error) = self.store.put(&letters).await else {
                self.handler.release();
                return true;
            };
            failures += 1;
            self.handler.hold(&format!("dead letters can't be kept: {error}"));
            if failures >= LAST_ATTEMPTS && self.runners.is_closed() {
                return false;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
        }
    }

    /// Whether it was settled; an attempt that fails is said once and made again, until the process stops.
    async fn settle(&self, ended: &[Ended]) -> bool {
        if ended.is_empty() {
            return true;
        }
        let settlements: Vec<Settlement> = ended.iter().map(settlement).collect();
        let (mut wait, mut failures) = (AGAIN.0, 0);
        loop {
            match self.queue.settle(&self.name, settlements.clone()).await {
                Ok(_late) => return true,
                Err(QueueError::Closed) => return false,
                Err(error) => {
                    failures += 1;
                    if failures == 1 {
                        tracing::error!(queue = %self.queue_name, handler = %self.handler.name, %error, "queue can't settle, trying again");
                    }
                    if failures >= LAST_ATTEMPTS && self.runners.is_closed() {
                        return false;
                    }
                }
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(AGAIN.1);
        }
    }

    fn count_ended(&self, ended: &[Ended]) {
        let now = now();
        let mut counts = self.stats.count();
        counts.in_flight = counts.in_flight.saturating_sub(ended.len() as u64);
        for ended in ended {
            let over = match &ended.end {
                End::Judged(Verdict::Ack, _) => {
                    counts.acked += 1;
                    true
                }
                End::Judged(Verdict::Dead, _) => {
                    counts.dead += 1;
                    true
                }
                End::Judged(Verdict::Retry { .. }, _) => {
                    counts.count_returned(Cause::Delay);
                    false
                }
                End::Judged(Verdict::Pause, _) => {
                    counts.count_returned(Cause::Pause);
                    false
                }
                End::GivenBack(cause) => {
                    counts.count_returned(*cause);
                    false
                }
            };
            if over {
                counts.age.observe(now.since(ended.first_seen).as_secs_f64());
            }
        }
    }
}

fn letter(ended: &Ended) -> Option<&DeadLetter> {
    match &ended.end {
        End::Judged(_, letter) => letter.as_deref(),
        End::GivenBack(_) => None,
    }
}

fn settlement(ended: &Ended) -> Settlement {
    let settle = match &ended.end {
        End::Judged(Verdict::Ack | Verdict::Dead, _) => Settle::Ack,
        End::Judged(Verdict::Retry { due, tries }, _) => Settle::Retry { due: *due, tries: *tries },
        End::Judged(Verdict::Pause, _) | End::GivenBack(_) => Settle::Return,
    };
    Settlement { position: ended.position, settle }
}
