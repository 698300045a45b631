//! Scenarios: many at once, and nothing is lost or doubled.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::rig::{SOON, SUBSCRIPTION, ensure, nothing_comes, now, open, poll_once, publish};
use super::{Adapter, Failure, Scenario};
use crate::queue::{Delivery, Queue, QueueError, Settle, Settlement, Tries};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "many_publishers_and_pullers",
        checks: "with many publishers and pullers at once every event is ended once and never in two hands at the same time",
        needs: &[],
        run: |adapter| Box::pin(many_publishers_and_pullers(adapter)),
    },
    Scenario {
        name: "many_cancelled_pulls",
        checks: "with pulls dropped at every moment while events come, nothing is lost or doubled",
        needs: &[],
        run: |adapter| Box::pin(many_cancelled_pulls(adapter)),
    },
];

const PUBLISHERS: u64 = 8;
const EVENTS_EACH: u64 = 100;

/// Who holds what, kept outside the queue: the events in hand and how often each was ended.
#[derive(Default)]
struct Book {
    in_hand: BTreeMap<String, usize>,
    ended: BTreeMap<String, usize>,
    wrong: Option<Failure>,
}

#[derive(Default)]
struct Ledger(Mutex<Book>);

impl Ledger {
    fn book<T>(&self, change: impl FnOnce(&mut Book) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn took(&self, deliveries: &[Delivery]) {
        self.book(|book| {
            for delivery in deliveries {
                if book.ended.contains_key(&delivery.event.id) {
                    book.wrong = Some(format!("`{}` was delivered again although it was acked", delivery.event.id));
                }
                let hands = book.in_hand.entry(delivery.event.id.clone()).or_default();
                *hands += 1;
                if *hands > 1 {
                    book.wrong =
                        Some(format!("`{}` was delivered while an earlier delivery of it was not settled", delivery.event.id));
                }
            }
        });
    }

    /// Before the settlement is asked for: as soon as the queue has it, the event may be given out again.
    fn lets_go(&self, id: &str, ends: bool) {
        self.book(|book| {
            book.in_hand.remove(id);
            if ends {
                *book.ended.entry(id.to_owned()).or_default() += 1;
            }
        });
    }

    fn ended(&self) -> u64 {
        self.book(|book| book.ended.len() as u64)
    }

    fn verdict(&self, events: u64) -> Result<(), Failure> {
        self.book(|book| {
            if let Some(wrong) = book.wrong.take() {
                return Err(wrong);
            }
            let twice: Vec<_> = book.ended.iter().filter(|(_, times)| **times > 1).map(|(id, _)| id).collect();
            ensure!(twice.is_empty(), "ended more than once, although each was acked the first time: {twice:?}");
            ensure!(book.ended.len() as u64 == events, "{} of {events} events were ended", book.ended.len());
            Ok(())
        })
    }
}

/// Settles in all three ways by turns, so that each event ends at last.
async fn settle_by_turns(queue: &dyn Queue, ledger: &Ledger, deliveries: Vec<Delivery>, turn: &mut u32) -> Result<(), Failure> {
    let mut batch = Vec::new();
    for delivery in deliveries {
        *turn += 1;
        let tries = Tries { failed: delivery.tries.failed + 1, ..delivery.tries };
        let how = match *turn % 4 {
            0 => Settle::Return,
            1 => Settle::Retry { due: now().after(Duration::from_millis(u64::from(*turn % 20))), tries },
            _ => Settle::Ack,
        };
        ledger.lets_go(&delivery.event.id, how == Settle::Ack);
        batch.push(Settlement { position: delivery.position, settle: how });
    }
    queue.settle(SUBSCRIPTION, batch).await.map(drop).map_err(|error| format!("`settle` failed: {error}"))
}

fn publishers(queue: &Arc<dyn Queue>) -> Vec<tokio::task::JoinHandle<Result<(), Failure>>> {
    let publisher = |number: u64| {
        let queue = Arc::clone(queue);
        tokio::spawn(async move {
            let mut at = number * EVENTS_EACH;
            let end = at + EVENTS_EACH;
            while at < end {
                let next = end.min(at + 1 + at % 5);
                publish(&*queue, at..next).await?;
                at = next;
            }
            Ok(())
        })
    };
    (0..PUBLISHERS).map(publisher).collect()
}

async fn join_all(tasks: Vec<tokio::task::JoinHandle<Result<(), Failure>>>) -> Result<(), Failure> {
    for task in tasks {
        task.await.map_err(|error| format!("a task panicked: {error}"))??;
    }
    Ok(())
}

async fn many_publishers_and_pullers(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    let ledger = Arc::new(Ledger::default());
    let publishers = publishers(&queue);
    let puller = |number: usize| {
        let (queue, ledger) = (Arc::clone(&queue), Arc::clone(&ledger));
        tokio::spawn(async move {
            let mut turn = 0;
            loop {
                match queue.pull(SUBSCRIPTION, NonZeroUsize::MIN.saturating_add(number * 3)).await {
                    Ok(deliveries) => {
                        ledger.took(&deliveries);
                        settle_by_turns(&*queue, &ledger, deliveries, &mut turn).await?;
                    }
                    Err(QueueError::Closed) => return Ok(()),
                    Err(error) => return Err(format!("`pull` failed: {error}")),
                }
            }
        })
    };
    let pullers: Vec<_> = (0..6).map(puller).collect();
    join_all(publishers).await?;
    all_ended(&ledger).await;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were ended").await?;
    queue.close().await;
    join_all(pullers).await?;
    ledger.verdict(PUBLISHERS * EVENTS_EACH)
}

/// Until all events have ended, or no more do.
async fn all_ended(ledger: &Ledger) {
    let mut ended = ledger.ended();
    let mut still_since = tokio::time::Instant::now();
    while ended < PUBLISHERS * EVENTS_EACH && still_since.elapsed() < SOON {
        // Only looked at, beside pullers that need the time.
        tokio::time::sleep(Duration::from_millis(2)).await;
        if ledger.ended() != ended {
            (ended, still_since) = (ledger.ended(), tokio::time::Instant::now());
        }
    }
}

async fn many_cancelled_pulls(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    let ledger = Ledger::default();
    let publishers = publishers(&queue);
    let mut turn = 0;
    let mut last = tokio::time::Instant::now();
    while ledger.ended() < PUBLISHERS * EVENTS_EACH {
        ensure!(last.elapsed() < SOON, "only {} of {} events came", ledger.ended(), PUBLISHERS * EVENTS_EACH);
        let max = NonZeroUsize::MIN.saturating_add(usize::try_from(turn % 5).unwrap_or_default());
        // The pull loses against being polled 0 to 3 times, so it is dropped in each state that it goes through.
        let mut pull = queue.pull(SUBSCRIPTION, max);
        let mut came = None;
        for _ in 0..fastrand::u32(0..4) {
            if let std::task::Poll::Ready(answer) = poll_once(&mut pull).await {
                came = Some(answer);
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(pull);
        match came {
            Some(Ok(deliveries)) => {
                last = tokio::time::Instant::now();
                ledger.took(&deliveries);
                settle_by_turns(&*queue, &ledger, deliveries, &mut turn).await?;
            }
            Some(Err(error)) => return Err(format!("`pull` failed: {error}")),
            // A pull that was dropped left something behind at a moment that must differ from turn to turn.
            None => tokio::time::sleep(Duration::from_micros(fastrand::u64(0..200))).await,
        }
    }
    join_all(publishers).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were ended").await?;
    queue.close().await;
    ledger.verdict(PUBLISHERS * EVENTS_EACH)
}
