//! The suite catches what it is for: adapters that are broken in one way each fail the scenario that is about it.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Adapter, Place, Verdict, run, run_all};
use crate::clock::Timestamp;
use crate::event::Event;
use crate::queue::memory::MemoryQueue;
use crate::queue::{
    BoxFuture, Delivery, Depth, Features, Position, Publish, Queue, QueueError, Settle, Settlement, Start, Tries, disk::DiskQueue,
};

/// What is wrong with the adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    LosesEvents,
    ChangesEvents,
    ReversesBatches,
    TakesPartOfABatch,
    IgnoresMax,
    AnswersWithNothing,
    DeliversTwice,
    LosesCancelledPulls,
    SwallowsReturns,
    RetriesEarly,
    PublishesEarly,
    ForgetsTries,
    CountsDeliveriesAsFirstSeen,
    OneGroup,
    AlwaysStartsWithAll,
    KeepsOrphans,
    WrongDepth,
    Unbounded,
    StaysOpen,
    AcksLater,
    PretendsToLast,
}

/// Each fault and the scenario that must catch it.
const CAUGHT: &[(Fault, &str)] = &[
    (Fault::LosesEvents, "order_is_kept"),
    (Fault::ChangesEvents, "round_trip"),
    (Fault::ReversesBatches, "order_is_kept"),
    (Fault::TakesPartOfABatch, "batch_is_all_or_none"),
    (Fault::IgnoresMax, "pull_returns_at_most_max"),
    (Fault::AnswersWithNothing, "pull_waits_for_an_event"),
    (Fault::DeliversTwice, "leased_events_are_not_given_out_again"),
    (Fault::DeliversTwice, "many_publishers_and_pullers"),
    (Fault::LosesCancelledPulls, "many_cancelled_pulls"),
    (Fault::SwallowsReturns, "returned_events_come_again"),
    (Fault::RetriesEarly, "retry_waits_and_holds_up_nobody"),
    (Fault::PublishesEarly, "delayed_publish_waits"),
    (Fault::ForgetsTries, "retry_keeps_tries"),
    (Fault::CountsDeliveriesAsFirstSeen, "publish_time_is_kept"),
    (Fault::OneGroup, "each_subscription_sees_all"),
    (Fault::AlwaysStartsWithAll, "start_decides_where_to_begin"),
    (Fault::KeepsOrphans, "unsubscribe_frees"),
    (Fault::WrongDepth, "depth_counts"),
    (Fault::Unbounded, "full_queue_refuses_and_recovers"),
    (Fault::Unbounded, "too_large_is_refused"),
    (Fault::StaysOpen, "close_ends_pulls"),
    (Fault::AcksLater, "acked_never_come_back"),
    (Fault::PretendsToLast, "kill_keeps_what_was_not_settled"),
    (Fault::PretendsToLast, "delayed_outlive_the_process"),
];

struct Broken {
    fault: Fault,
    inner: Arc<dyn Queue>,
    again: Mutex<Option<(Arc<Event>, crate::queue::Position)>>,
}

impl Broken {
    fn name<'a>(&self, subscription: &'a str) -> &'a str {
        if self.fault == Fault::OneGroup { "one" } else { subscription }
    }

    async fn publish_broken(&self, mut batch: Vec<Publish>) -> Result<(), QueueError> {
        match self.fault {
            Fault::LosesEvents => batch.retain(|publish| !publish.event.id.ends_with('7')),
            Fault::ReversesBatches => batch.reverse(),
            Fault::PublishesEarly => batch.iter_mut().for_each(|publish| publish.due = None),
            Fault::ChangesEvents => {
                for publish in &mut batch {
                    Arc::make_mut(&mut publish.event).extensions.truncate(1);
                }
            }
            Fault::TakesPartOfABatch => {
                for publish in batch {
                    self.inner.publish(vec![publish]).await?;
                }
                return Ok(());
            }
            _ => {}
        }
        self.inner.publish(batch).await
    }

    async fn pull_broken(&self, subscription: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        let subscription = self.name(subscription);
        let again = self.again.lock().unwrap().take();
        if let (Fault::DeliversTwice, Some((event, position))) = (self.fault, again) {
            let first_seen = crate::clock::now();
            return Ok(vec![Delivery { event, position, tries: Tries::default(), first_seen }]);
        }
        let max = if self.fault == Fault::IgnoresMax { max.saturating_add(2) } else { max };
        let mut pull = self.inner.pull(subscription, max);
        if self.fault == Fault::AnswersWithNothing {
            return tokio::time::timeout(Duration::from_millis(5), pull).await.unwrap_or(Ok(Vec::new()));
        }
        let mut came = (&mut pull).await?;
        match self.fault {
            Fault::LosesCancelledPulls => tokio::task::yield_now().await,
            Fault::CountsDeliveriesAsFirstSeen => {
                tokio::time::sleep(Duration::from_millis(2)).await;
                came.iter_mut().for_each(|delivery| delivery.first_seen = crate::clock::now());
            }
            Fault::DeliversTwice => {
                *self.again.lock().unwrap() = came.first().map(|delivery| (delivery.event.clone(), delivery.position));
            }
            _ => {}
        }
        Ok(came)
    }

    async fn settle_broken(&self, subscription: &str, mut batch: Vec<Settlement>) -> Result<Vec<Position>, QueueError> {
        for Settlement { settle, .. } in &mut batch {
            match (self.fault, &mut *settle) {
                (Fault::SwallowsReturns, Settle::Return) => *settle = Settle::Ack,
                (Fault::RetriesEarly, Settle::Retry { due, .. }) => *due = Timestamp(0),
                (Fault::ForgetsTries, Settle::Retry { tries, .. }) => *tries = Tries::default(),
                (Fault::AcksLater, Settle::Ack) => {
                    let due = crate::clock::now().after(Duration::from_millis(20));
                    *settle = Settle::Retry { due, tries: Tries::default() };
                }
                _ => {}
            }
        }
        self.inner.settle(self.name(subscription), batch).await
    }
}

impl Queue for Broken {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        Box::pin(self.publish_broken(batch))
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_broken(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(self.settle_broken(subscription, batch))
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(async {
            let mut depth = self.inner.depth().await?;
            if self.fault == Fault::WrongDepth {
                depth.subscriptions.iter_mut().for_each(|subscription| subscription.in_flight = Some(0));
            }
            Ok(depth)
        })
    }

    fn features(&self) -> Features {
        let lasts = self.fault == Fault::PretendsToLast;
        let features = self.inner.features();
        Features { durable: features.durable || lasts, at_least_once: features.at_least_once || lasts, ..features }
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        let start = if self.fault == Fault::AlwaysStartsWithAll { Start::All } else { start };
        self.inner.subscribe(self.name(subscription), start)
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        if self.fault == Fault::KeepsOrphans {
            return Box::pin(async { Ok(()) });
        }
        self.inner.unsubscribe(self.name(subscription))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        if self.fault == Fault::StaysOpen { Box::pin(async {}) } else { self.inner.close() }
    }
}

struct BrokenPlace {
    fault: Fault,
    max_size: u64,
    folder: tempfile::TempDir,
}

impl Place for BrokenPlace {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async {
            let max_size = if self.fault == Fault::Unbounded { u64::MAX / 2 } else { self.max_size };
            let inner: Arc<dyn Queue> = if self.fault == Fault::AcksLater {
                DiskQueue::open(self.folder.path(), "broken", max_size)?
            } else {
                MemoryQueue::new("broken", max_size)
            };
            Ok(Arc::new(Broken { fault: self.fault, inner, again: Mutex::default() }) as Arc<dyn Queue>)
        })
    }
}

struct BrokenAdapter(Fault);

impl Adapter for BrokenAdapter {
    fn place(&self, max_size: u64) -> Box<dyn Place> {
        Box::new(BrokenPlace { fault: self.0, max_size, folder: tempfile::tempdir().unwrap() })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_caught() {
    // At once: what is lost is noticed only after a while.
    let runs: Vec<_> = CAUGHT
        .iter()
        .map(|(fault, scenario)| (fault, scenario, tokio::spawn(async move { run(&BrokenAdapter(*fault), scenario).await })))
        .collect();
    for (fault, scenario, verdict) in runs {
        let verdict = verdict.await.unwrap();
        assert!(matches!(verdict, Verdict::Failed(_)), "{fault:?} passes `{scenario}`: {verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_names_what_was_skipped() {
    let adapter = |max_size| {
        Box::new(BrokenPlace { fault: Fault::ForgetsTries, max_size, folder: tempfile::tempdir().unwrap() }) as Box<dyn Place>
    };
    let report = run_all(&adapter).await;
    let failed: Vec<_> = report.failed().map(|(name, _)| name).collect();
    assert_eq!(failed, ["retry_keeps_tries"], "{report}");
    let skipped: Vec<_> = report.skipped().collect();
    assert_eq!(skipped.len(), 15, "{report}");
    assert!(skipped.contains(&("acked_never_come_back", "durable")), "{report}");
    let text = report.to_string();
    assert!(text.contains("skipped  acked_never_come_back: `durable` is not promised"), "{text}");
    assert!(text.contains("FAILED   retry_keeps_tries: "), "{text}");
}
