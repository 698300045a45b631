//! Scenarios: several processes on one queue. Each opening of a place stands for a process of its own.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use super::rig::{SOON, SUBSCRIPTION, ack, ensure, ids, ids_of, nothing_comes, open_place, publish, pull, pull_exactly};
use super::rig::{subscribe, within};
use super::{Adapter, Failure, Need, Place, ROOMY_BYTES, Scenario};
use crate::queue::{Queue, QueueError, Settle, Start};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "processes_share_a_subscription",
        checks: "two processes on one subscription get every event once between them, retries and what is given back included",
        needs: &[Need::Shared],
        run: |adapter| Box::pin(processes_share_a_subscription(adapter)),
    },
    Scenario {
        name: "a_killed_process_is_replaced",
        checks: "what a process held when it was killed, between handling and ack, comes to another one, and only that",
        needs: &[Need::Shared, Need::AtLeastOnce, Need::HandsOver],
        run: |adapter| Box::pin(a_killed_process_is_replaced(adapter)),
    },
    Scenario {
        name: "leases_are_kept_while_held",
        checks: "an event that runs for longer than its lease is not given to another process, and can be settled",
        needs: &[Need::Shared, Need::Lease],
        run: |adapter| Box::pin(leases_are_kept_while_held(adapter)),
    },
    Scenario {
        name: "order_is_taken_over",
        checks: "with `keep_order` one process reads, and when it is killed another takes over what it had, in order",
        needs: &[Need::Shared, Need::Ordered],
        run: |adapter| Box::pin(order_is_taken_over(adapter)),
    },
    Scenario {
        name: "order_is_given_up_at_close",
        checks: "with `keep_order` a process that is closed leaves the next one everything, in order, without a try",
        needs: &[Need::Shared, Need::Ordered],
        run: |adapter| Box::pin(order_is_given_up_at_close(adapter)),
    },
];

/// Two processes on one queue.
struct Two {
    place: Box<dyn Place>,
    one: Arc<dyn Queue>,
    other: Arc<dyn Queue>,
}

impl Two {
    async fn open(adapter: &dyn Adapter, ordered: bool) -> Result<Self, Failure> {
        let place = adapter.place(ROOMY_BYTES);
        let (one, other) = (open_place(&*place).await?, open_place(&*place).await?);
        for queue in [&one, &other] {
            if ordered {
                queue.keep_order(SUBSCRIPTION).map_err(|error| format!("`keep_order` failed: {error}"))?;
            }
            subscribe(&**queue, SUBSCRIPTION, Start::New).await?;
        }
        Ok(Self { place, one, other })
    }
}

async fn processes_share_a_subscription(adapter: &dyn Adapter) -> Result<(), Failure> {
    const EVENTS: u64 = 300;
    let Two { place: _place, one, other } = Two::open(adapter, false).await?;
    let ended = Arc::new(std::sync::Mutex::new(Vec::new()));
    let reader = |queue: &Arc<dyn Queue>| {
        let (queue, ended) = (Arc::clone(queue), Arc::clone(&ended));
        tokio::spawn(async move {
            let mut turn = 0;
            loop {
                let came = match queue.pull(SUBSCRIPTION, NonZeroUsize::MIN.saturating_add(6)).await {
                    Ok(came) => came,
                    Err(QueueError::Closed) => return Ok(()),
                    Err(error) => return Err(format!("`pull` failed: {error}")),
                };
                let mut batch = Vec::new();
                for delivery in came {
                    turn += 1;
                    let settle = match turn % 5 {
                        0 => Settle::Return,
                        1 => Settle::Retry { due: super::rig::now(), tries: delivery.tries },
                        _ => Settle::Ack,
                    };
                    let (event, settlement) = delivery.settle(settle);
                    if settle == Settle::Ack {
                        ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event.id.clone());
                    }
                    batch.push(settlement);
                }
                let late = queue.settle(SUBSCRIPTION, batch).await.map_err(|error| format!("`settle` failed: {error}"))?;
                ensure!(late.is_empty(), "settlements of {late:?} were late, although their leases were kept");
            }
        })
    };
    let readers = [reader(&one), reader(&other)];
    for batch in 0..EVENTS / 10 {
        let publisher = if batch % 2 == 0 { &one } else { &other };
        publish(&**publisher, batch * 10..batch * 10 + 10).await?;
    }
    let count = || ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len() as u64;
    let begun = tokio::time::Instant::now();
    while count() < EVENTS {
        ensure!(begun.elapsed() < SOON * 3, "only {} of {EVENTS} events have ended", count());
        // The readers only count; looking at the count more often would take their time.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    one.close().await;
    other.close().await;
    for reader in readers {
        reader.await.map_err(|error| format!("a reader panicked: {error}"))??;
    }
    let mut ended = std::mem::take(&mut *ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    ended.sort_by_key(|id| (id.len(), id.clone()));
    ensure!(ended == ids(0..EVENTS), "{} events were ended by two processes, expected each of {EVENTS} once", ended.len());
    Ok(())
}

async fn a_killed_process_is_replaced(adapter: &dyn Adapter) -> Result<(), Failure> {
    let Two { place, one, other } = Two::open(adapter, false).await?;
    publish(&*one, 0..4).await?;
    let mut held = pull_exactly(&*one, SUBSCRIPTION, 4).await?;
    held.sort_by_key(|delivery| delivery.event.id.clone());
    ack(&*one, SUBSCRIPTION, vec![held.remove(0)]).await?;
    nothing_comes(&*other, SUBSCRIPTION, "another process holds the events").await?;
    place.kill(one).await;
    let came = pull_exactly(&*other, SUBSCRIPTION, 3).await?;
    let mut came_ids = ids_of(&came);
    came_ids.sort();
    ensure!(came_ids == ids(1..4), "{came_ids:?} came after the other process was killed, expected the three that it held");
    ack(&*other, SUBSCRIPTION, came).await?;
    nothing_comes(&*other, SUBSCRIPTION, "all events were acked").await?;
    other.close().await;
    Ok(())
}

async fn leases_are_kept_while_held(adapter: &dyn Adapter) -> Result<(), Failure> {
    let Two { place, one, other } = Two::open(adapter, false).await?;
    let lease = place.lease().unwrap_or_default();
    publish(&*one, 0..1).await?;
    let held = pull_exactly(&*one, SUBSCRIPTION, 1).await?;
    let stolen = tokio::time::timeout(lease * 2, other.pull(SUBSCRIPTION, NonZeroUsize::MIN)).await;
    ensure!(stolen.is_err(), "an event that another process still runs was given out: {stolen:?}");
    let lapsed = tokio::time::timeout(super::rig::QUIET, one.lapsed(SUBSCRIPTION)).await;
    ensure!(lapsed.is_err(), "a lease that was kept is told as lapsed: {lapsed:?}");
    ack(&*one, SUBSCRIPTION, held).await?;
    nothing_comes(&*other, SUBSCRIPTION, "the event was acked").await?;
    one.close().await;
    other.close().await;
    Ok(())
}

async fn order_is_taken_over(adapter: &dyn Adapter) -> Result<(), Failure> {
    let Two { place, one, other } = Two::open(adapter, true).await?;
    publish(&*one, 0..12).await?;
    let mut held = pull(&*one, SUBSCRIPTION, 6).await?;
    while held.len() < 6 {
        held.extend(pull(&*one, SUBSCRIPTION, 6 - held.len()).await?);
    }
    ensure!(ids_of(&held) == ids(0..6), "{:?} came, expected the first six in order", ids_of(&held));
    // The third and the sixth stay: one was given back, one runs.
    let mut rest = held.split_off(5);
    rest.extend(held.drain(2..3));
    let returned = vec![rest.remove(1)];
    ack(&*one, SUBSCRIPTION, held).await?;
    super::rig::settle(&*one, SUBSCRIPTION, returned, Settle::Return).await?;
    nothing_comes(&*other, SUBSCRIPTION, "another process reads this subscription").await?;
    place.kill(one).await;
    let mut came = Vec::new();
    while came.len() < 8 {
        let some = pull(&*other, SUBSCRIPTION, 3).await?;
        came.extend(ids_of(&some));
        ack(&*other, SUBSCRIPTION, some).await?;
    }
    let expected: Vec<String> = ids(2..3).into_iter().chain(ids(5..12)).collect();
    ensure!(came == expected, "{came:?} came to the process that took over, expected {expected:?}");
    nothing_comes(&*other, SUBSCRIPTION, "all events were acked").await?;
    other.close().await;
    Ok(())
}

async fn order_is_given_up_at_close(adapter: &dyn Adapter) -> Result<(), Failure> {
    let Two { place: _place, one, other } = Two::open(adapter, true).await?;
    publish(&*other, 0..5).await?;
    let held = pull_exactly(&*one, SUBSCRIPTION, 3).await?;
    nothing_comes(&*other, SUBSCRIPTION, "another process reads this subscription").await?;
    within("close", async {
        one.close().await;
        Ok(())
    })
    .await?;
    drop(held);
    let came = pull_exactly(&*other, SUBSCRIPTION, 5).await?;
    ensure!(ids_of(&came) == ids(0..5), "{:?} came after the first reader was closed, expected all in order", ids_of(&came));
    let tries: Vec<_> = came.iter().map(|delivery| delivery.tries.failed).collect();
    ensure!(tries.iter().all(|failed| *failed == 0), "a close counted tries: {tries:?}");
    ack(&*other, SUBSCRIPTION, came).await?;
    other.close().await;
    Ok(())
}
