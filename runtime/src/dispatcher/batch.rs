//! The running side of a batch handler's subscription: as `run.rs`, several events a call (delivery.md §9). Which they are is decided in
//! `work/fill.rs`.
//!
//! A call that traps or runs into a limit says nothing of its events, so each runs once more, alone: it goes back to the front of what
//! may run, with the tries that it had. That run is one like any other; only who fails there has failed.

use std::sync::Arc;
use std::time::Instant;

use futures_util::future::join_all;

use super::Subscription;
use super::admit::is_expired;
use super::ended::{Cancel, Done, End};
use super::lanes::Item;
use super::run::{Lost, RunEnd, TURN};
use crate::clock::now;
use crate::handler::Version;
use crate::outcome::Outcome;
use crate::queue::{Delivery, Tries};
use crate::sandbox::{self, Batch, Job, Report};
use crate::store::Sighting;
use crate::verdict::{Verdict, attempts_left};

/// An event of a call, with its claim where `duplicates` is on.
type Begun = (Item, Option<Sighting>);

impl Subscription {
    /// Takes batches until none may begin.
    pub(super) async fn run_batches(self: Arc<Self>) {
        let abort = self.abort.clone();
        let cancel = Cancel::default();
        let mut lost = Lost { work: &self.work, running: 0 };
        let mut done = Vec::new();
        let mut turn = Instant::now();
        loop {
            let items = self.work.next_batch(std::mem::take(&mut done), &cancel);
            if items.is_empty() {
                return;
            }
            lost.running = items.len();
            done = tokio::select! {
                biased;
                done = self.run_batch(items, &cancel) => done,
                () = abort.cancelled() => return,
            };
            lost.running = 0;
            if turn.elapsed() >= TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
        }
    }

    /// Whether several events may go into one call.
    pub(super) fn takes_batches(&self) -> bool {
        self.handler.config.batch.is_some_and(|batch| batch.size > 1)
    }

    /// Whether an event of a batch handler runs in a call of its own: on its last try, so that none whose call never reports (a process
    /// that is killed) takes others with it for good.
    pub(super) fn runs_alone(&self, tries: Tries) -> bool {
        tries.failed > 0 && attempts_left(tries, &self.handler.config.retry) == 0 && self.takes_batches()
    }

    async fn run_batch(&self, items: Vec<Item>, cancel: &Cancel) -> Vec<Done> {
        let (mut done, begun) = self.begin(items).await;
        let Some((first, _)) = begun.first() else { return done };
        let (event, attempt) = (named(&first.delivery.event.id, begun.len()), first.delivery.tries.failed + 1);
        let version = self.handler.current();
        let called = {
            let jobs: Vec<Job<'_>> = begun.iter().map(|(item, _)| self.job(item)).collect();
            tokio::select! {
                biased;
                called = sandbox::run_batch(&version.program, &version.setup, &jobs) => Some(called),
                () = self.lapsed(&begun, cancel) => None,
            }
        };
        let Some(batch) = called else {
            done.extend(begun.into_iter().map(|(item, _)| self.stopped(item)));
            return done;
        };
        self.say_log(&event, attempt, &version, &batch.call.log);
        if batch.items.is_empty() && begun.len() > 1 && says_nothing(&batch.call.outcome) {
            self.count(&batch.call, begun.len(), &[]);
            self.say_failed(begun.len(), &version, &batch.call.outcome);
            done.extend(begun.into_iter().map(|(item, _)| Done::Again(self.not_tried(Item { alone: true, ..item }))));
        } else {
            done.extend(self.answered(begun, &version, batch).await);
        }
        done
    }

    /// Those that are to run; the others end or wait instead.
    async fn begin(&self, items: Vec<Item>) -> (Vec<Done>, Vec<Begun>) {
        let (mut done, mut begun) = (Vec::new(), Vec::with_capacity(items.len()));
        let time = now();
        let expires = self.handler.config.expires;
        let over = |Delivery { event, first_seen, .. }: &Delivery| is_expired(event, *first_seen, expires, time);
        let (expired, fresh): (Vec<_>, Vec<_>) =
            items.into_iter().partition(|item| over(&item.delivery) || self.is_over(&item.delivery));
        for item in expired {
            self.work.not_run();
            done.push(self.hand_in(item, RunEnd::Ended(End::Expired, None)));
        }
        // In the order of the events: of two with one id the first has it.
        let claims = join_all(fresh.iter().map(|item| self.claim(&item.delivery))).await;
        for (item, claim) in fresh.into_iter().zip(claims) {
            match claim {
                Ok(claim) => {
                    self.note_begun(&item.delivery);
                    begun.push((item, claim));
                }
                Err(end) => {
                    let end = self.not_begun(&item.delivery, end);
                    done.push(self.hand_in(item, end));
                }
            }
        }
        (done, begun)
    }

    /// Waits until the lease of one of them is gone: then the call is stopped, for all of them.
    async fn lapsed(&self, begun: &[Begun], cancel: &Cancel) {
        loop {
            cancel.notified().await;
            // It may have been meant for a call before.
            if begun.iter().any(|(item, _)| self.work.is_lapsed(item.delivery.position)) {
                return;
            }
        }
    }

    fn stopped(&self, item: Item) -> Done {
        if self.work.is_lapsed(item.delivery.position) {
            self.say_lapsed(&item);
            return Done::Lapsed(item);
        }
        Done::Again(self.not_tried(item))
    }

    /// The call that it was in is no try of it.
    fn not_tried(&self, item: Item) -> Item {
        self.queue.note(&self.name, item.delivery.position, item.delivery.tries);
        item
    }

    /// Sends what the events that are done have published, and judges each.
    async fn answered(&self, begun: Vec<Begun>, version: &Arc<Version>, batch: Batch) -> Vec<Done> {
        let Batch { call, mut items } = batch;
        // What holds for the call holds for each.
        items.resize_with(begun.len(), || (call.outcome.clone(), Vec::new()));
        let left = version.setup.limits.deadline.saturating_sub(call.elapsed);
        // Each by itself, as each fails by itself; at once, as a queue writes at once what comes at once.
        let sent = items.into_iter().map(async |(outcome, published)| match outcome {
            Outcome::Done if !published.is_empty() => self.send(published, left).await.err().unwrap_or(Outcome::Done),
            outcome => outcome,
        });
        let outcomes = join_all(sent).await;
        self.count(&call, begun.len(), &outcomes);
        let mut done = Vec::with_capacity(begun.len());
        for ((mut item, claim), outcome) in begun.into_iter().zip(outcomes) {
            let mut judged = self.judge(&item.delivery, version, part(&call, outcome));
            if judged.verdict == Verdict::Dead {
                judged.report.log = end(&call.log, version.setup.limits.output).to_owned();
                judged.report.backtrace.clone_from(&call.backtrace);
            }
            let end = self.conclude(&mut item, version, judged, claim).await;
            done.push(self.hand_in(item, end));
        }
        done
    }
}

/// Whether a call that did not answer leaves open which of its events is guilty. What failed from outside, and that no instance can be
/// made, is none's fault.
fn says_nothing(outcome: &Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Trap { .. } | Outcome::Fuel { .. } | Outcome::Memory { .. } | Outcome::Deadline { .. } | Outcome::Output { .. }
    )
}

/// The report of one event of a call; the log is only needed for a dead letter.
fn part(call: &Report, outcome: Outcome) -> Report {
    let Report { fuel, memory, elapsed, .. } = *call;
    Report { outcome, fuel, memory, elapsed, log: String::new(), backtrace: Vec::new(), published: Vec::new(), reply: None }
}

/// The end of a text, of at most so many bytes: a dead letter of one event keeps as much as one event may write.
fn end(text: &str, most: u64) -> &str {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    text.get(text.ceil_char_boundary(text.len().saturating_sub(most))..).unwrap_or_default()
}

/// How a call's lines in the log name its events.
fn named(first: &str, events: usize) -> String {
    if events > 1 { format!("{first} and {} more", events - 1) } else { first.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_keeps_the_end_of_the_log() {
        for (text, most, expected) in [("abc", 9, "abc"), ("abc", 2, "bc"), ("abc", 0, ""), ("éé", 3, "é"), ("", 3, "")] {
            assert_eq!(end(text, most), expected);
        }
    }
}
