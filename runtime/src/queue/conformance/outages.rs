//! Scenarios: what an answered publish is worth, and a broker that goes away and comes back while the queue stays open.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::rig::{SOON, SUBSCRIPTION, ack, at_once, ensure, event, ids, ids_of, nothing_comes, open_place, publish, pull};
use super::rig::{pull_exactly, subscribe};
use super::{Adapter, Failure, Need, ROOMY_BYTES, Scenario};
use crate::queue::{QueueError, Settle, Settlement, Start};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "answered_publishes_outlive_a_kill",
        checks: "each publish that was answered before the process was killed comes, whatever became of the others",
        needs: &[Need::Durable, Need::AtLeastOnce],
        run: |adapter| Box::pin(answered_publishes_outlive_a_kill(adapter)),
    },
    Scenario {
        name: "broker_restart_loses_nothing",
        checks: "after the broker was restarted, what was published comes, what is held can be settled, and publishing works again",
        needs: &[Need::Broker, Need::Durable, Need::AtLeastOnce],
        run: |adapter| Box::pin(broker_restart_loses_nothing(adapter)),
    },
];

async fn answered_publishes_outlive_a_kill(adapter: &dyn Adapter) -> Result<(), Failure> {
    let place = adapter.place(ROOMY_BYTES);
    let queue = open_place(&*place).await?;
    subscribe(&*queue, SUBSCRIPTION, Start::New).await?;
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    let publishers: Vec<_> = (0..8_u64)
        .map(|publisher| {
            let (queue, answered) = (Arc::clone(&queue), Arc::clone(&answered));
            tokio::spawn(async move {
                for number in (0..).map(|number| publisher * 1_000_000 + number) {
                    if queue.publish(vec![at_once(event(number))]).await.is_err() {
                        return;
                    }
                    answered.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("event-{number}"));
                }
            })
        })
        .collect();
    let count = || answered.lock().unwrap_or_else(PoisonError::into_inner).len();
    let begun = tokio::time::Instant::now();
    while count() < 100 {
        ensure!(begun.elapsed() < SOON, "only {} publishes were answered within {SOON:?}", count());
        tokio::task::yield_now().await;
    }
    for publisher in publishers {
        publisher.abort();
        let _ = publisher.await;
    }
    let mut missing = answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
    place.kill(queue).await;
    let queue = open_place(&*place).await?;
    while !missing.is_empty() {
        let came = pull(&*queue, SUBSCRIPTION, 100).await;
        let came = came.map_err(|why| format!("{why} ({} events that were answered have not come)", missing.len()))?;
        for id in ids_of(&came) {
            missing.remove(&id);
        }
        ack(&*queue, SUBSCRIPTION, came).await?;
    }
    queue.close().await;
    Ok(())
}

/// Asks again while the broker is away, as the dispatcher does.
async fn again<T, F: Future<Output = Result<T, QueueError>>>(what: &str, mut ask: impl FnMut() -> F) -> Result<T, Failure> {
    let begun = tokio::time::Instant::now();
    loop {
        match tokio::time::timeout(SOON, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            // An adapter does not tell when its broker is there again; asking more often would only keep it busy.
            Ok(Err(QueueError::Unavailable(_))) if begun.elapsed() < SOON => tokio::time::sleep(Duration::from_millis(20)).await,
            Ok(Err(error)) => return Err(format!("`{what}` failed after the broker was restarted: {error}")),
            Err(_) => return Err(format!("`{what}` did not answer within {SOON:?} after the broker was restarted")),
        }
    }
}

async fn broker_restart_loses_nothing(adapter: &dyn Adapter) -> Result<(), Failure> {
    let place = adapter.place(ROOMY_BYTES);
    let queue = open_place(&*place).await?;
    subscribe(&*queue, SUBSCRIPTION, Start::New).await?;
    publish(&*queue, 0..10).await?;
    let held = pull_exactly(&*queue, SUBSCRIPTION, 4).await?;
    let held_ids = ids_of(&held);
    place.restart_broker().await;
    let acks: Vec<_> = held.iter().map(|held| Settlement { position: held.position, settle: Settle::Ack }).collect();
    let late = again("settle", || queue.settle(SUBSCRIPTION, acks.clone())).await?;
    ensure!(late.is_empty(), "{late:?} of what was held over the restart of the broker had lapsed");
    again("publish", || queue.publish(vec![at_once(event(10))])).await?;
    let mut came = held_ids;
    while came.len() < 11 {
        let some = again("pull", || queue.pull(SUBSCRIPTION, std::num::NonZeroUsize::MIN.saturating_add(3))).await;
        let some = some.map_err(|why| format!("{why} (with {came:?} in hand)"))?;
        came.extend(ids_of(&some));
        ack(&*queue, SUBSCRIPTION, some).await?;
    }
    came.sort_by_key(|id| (id.len(), id.clone()));
    ensure!(came == ids(0..11), "{came:?} came over a restart of the broker, expected each of eleven events once");
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}
