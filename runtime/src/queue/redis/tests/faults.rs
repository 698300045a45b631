//! Two processes on one stream while they are killed in turn and the server is restarted: every event ends, none is in two hands, and
//! where one process reads at a time, they come in order.
//!
//! Here a process is an opening of the queue, killed by dropping it; the test of the whole binary kills real ones.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use super::*;

const EVENTS: u64 = 3_000;
/// Kills of processes, and in between every third time a restart of the server.
const FAULTS: u64 = 7;
/// Time between two faults: longer than a restart, shorter than what a killed process held is away.
const BETWEEN: Duration = Duration::from_millis(700);

/// Kept outside the queue: who has which delivery in hand, and what has ended.
#[derive(Default)]
struct Book {
    in_hand: BTreeMap<Position, u64>,
    /// Asked to be acknowledged: whether a killed process was answered, it can't tell.
    ended: BTreeSet<String>,
    /// The newest that was delivered, where order is kept.
    newest: Option<Position>,
    delivered: BTreeSet<Position>,
    wrong: Vec<String>,
}

type Ledger = Arc<Mutex<Book>>;

fn book<T>(ledger: &Ledger, change: impl FnOnce(&mut Book) -> T) -> T {
    change(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner))
}

fn note_taken(ledger: &Ledger, process: u64, deliveries: &[Delivery], ordered: bool) {
    book(ledger, |book| {
        for delivery in deliveries {
            let position = delivery.position;
            let is_new = book.delivered.insert(position);
            let later = book.in_hand.keys().next_back().filter(|held| **held > position).copied();
            let passed = later.or(book.newest.filter(|newest| is_new && *newest > position));
            if let Some(passed) = passed.filter(|_| ordered) {
                book.wrong.push(format!("{} came to process {process} after {passed:?}", delivery.event.id));
            }
            book.newest = book.newest.max(Some(position));
            if let Some(other) = book.in_hand.insert(delivery.position, process) {
                let text = format!("{} came to process {process} while process {other} had it", delivery.event.id);
                book.wrong.push(text);
            }
        }
    });
}

/// Pulls, holds for a moment, and settles in one of the possible ways, until it is dropped.
async fn process(queue: Arc<RedisQueue>, number: u64, ledger: Ledger, seed: u64, ordered: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        let max = NonZeroUsize::new(random.usize(1..=16)).unwrap();
        let Ok(deliveries) = queue.pull(SUBSCRIPTION, max).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        note_taken(&ledger, number, &deliveries, ordered);
        tokio::time::sleep(Duration::from_millis(random.u64(0..8))).await;
        let (mut batch, mut ends) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            let tries = crate::queue::Tries { failed: delivery.tries.failed + 1, ..delivery.tries };
            let due = crate::clock::now().after(Duration::from_millis(random.u64(0..60)));
            let settle = match random.u32(0..20) {
                _ if ordered => Settle::Ack,
                0 => Settle::Return,
                1 | 2 => Settle::Retry { due, tries },
                _ => Settle::Ack,
            };
            if settle == Settle::Ack {
                ends.push(delivery.event.id.clone());
            }
            batch.push(delivery.settle(settle).1);
        }
        // Before it is asked for: as soon as the server has it, it may be given out again.
        book(&ledger, |book| {
            book.in_hand.retain(|position, _| batch.iter().all(|settlement| settlement.position != *position));
            book.ended.extend(ends);
        });
        loop {
            match queue.settle(SUBSCRIPTION, batch.clone()).await {
                Ok(late) => {
                    book(&ledger, |book| {
                        if !late.is_empty() {
                            book.wrong.push(format!("{} settlements of process {number} were late", late.len()));
                        }
                    });
                    break;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

struct Running {
    task: tokio::task::JoinHandle<()>,
}

async fn start(url: &str, number: u64, ledger: &Ledger, (random, ordered): (&mut fastrand::Rng, bool)) -> Running {
    let queue = open(url).await.unwrap();
    if ordered {
        queue.keep_order(SUBSCRIPTION).unwrap();
    }
    queue.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
    Running { task: tokio::spawn(process(queue, number, Arc::clone(ledger), random.u64(..), ordered)) }
}

async fn kill(running: Running, number: u64, ledger: &Ledger) {
    running.task.abort();
    let _ = running.task.await;
    book(ledger, |book| book.in_hand.retain(|_, holder| *holder != number));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_event_ends_and_none_is_in_two_hands() {
    faults(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_one_reader_at_a_time_order_is_kept() {
    faults(true).await;
}

async fn faults(ordered: bool) {
    let seed = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut server = RedisServer::start(Keeps::Always, &[]);
    let url = format!("{}?stream=k&lease=2s", server.url(0));
    let ledger = Ledger::default();
    let mut processes = Vec::new();
    for number in 0..2 {
        processes.push(Some(start(&url, number, &ledger, (&mut random, ordered)).await));
    }
    let publisher = subscribed_at(&url).await;
    let publishing = tokio::spawn(async move {
        for number in 0..EVENTS {
            // After an error it is not known whether it was taken: then there may be two of it.
            while publisher.publish(vec![event(number)]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if number % 5 == 0 {
                tokio::time::sleep(Duration::from_millis(7)).await;
            }
        }
    });
    for fault in 0..FAULTS {
        tokio::time::sleep(BETWEEN).await;
        if fault % 3 == 2 {
            server.kill();
            server.start_again();
        } else {
            let number = fault % 2;
            let place = &mut processes[usize::from(number == 1)];
            kill(place.take().unwrap(), number, &ledger).await;
            *place = Some(start(&url, number, &ledger, (&mut random, ordered)).await);
        }
    }
    publishing.await.unwrap();
    let looking = open(&url).await.unwrap();
    let begun = tokio::time::Instant::now();
    loop {
        let depth = looking.depth().await.unwrap();
        if depth.events == Some(0) {
            break;
        }
        assert!(begun.elapsed() < SOON, "seed {seed}: {depth:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ended = book(&ledger, |book| book.ended.len() as u64);
    assert_eq!(ended, EVENTS, "seed {seed}: events are gone that nobody acknowledged");
    let wrong = book(&ledger, |book| std::mem::take(&mut book.wrong));
    assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
    for (number, running) in processes.into_iter().flatten().enumerate() {
        kill(running, number as u64, &ledger).await;
    }
}
