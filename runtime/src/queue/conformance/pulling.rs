//! Scenarios: who gets which event, how many, in which order.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::rig::{
    QUIET, SOON, SUBSCRIPTION, ack, ensure, ids, ids_of, nothing_comes, open, poll_once, publish, pull, pull_exactly, settle,
    within,
};
use super::{Adapter, Failure, Need, Scenario};
use crate::queue::{QueueError, Settle};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pull_returns_at_most_max",
        checks: "a pull returns at least one event and never more than asked for",
        needs: &[],
        run: |adapter| Box::pin(pull_returns_at_most_max(adapter)),
    },
    Scenario {
        name: "pull_waits_for_an_event",
        checks: "a pull on an empty queue waits and wakes for a publish",
        needs: &[],
        run: |adapter| Box::pin(pull_waits_for_an_event(adapter)),
    },
    Scenario {
        name: "leased_events_are_not_given_out_again",
        checks: "what one pull has in hand, no other pull of the subscription gets",
        needs: &[],
        run: |adapter| Box::pin(leased_events_are_not_given_out_again(adapter)),
    },
    Scenario {
        name: "pull_is_cancel_safe",
        checks: "a pull that is dropped while it waits takes nothing with it",
        needs: &[],
        run: |adapter| Box::pin(pull_is_cancel_safe(adapter)),
    },
    Scenario {
        name: "order_is_kept",
        checks: "one reader gets events in the order in which they were published",
        needs: &[Need::Ordered],
        run: |adapter| Box::pin(order_is_kept(adapter)),
    },
    Scenario {
        name: "returned_events_come_again",
        checks: "what is given back comes again promptly, in its place where order is promised",
        needs: &[],
        run: |adapter| Box::pin(returned_events_come_again(adapter)),
    },
    Scenario {
        name: "close_ends_pulls",
        checks: "closing wakes waiting pulls, and later calls are told that the queue is closed",
        needs: &[],
        run: |adapter| Box::pin(close_ends_pulls(adapter)),
    },
    Scenario {
        name: "concurrent_close",
        checks: "closing several times at once, while events move, ends without hanging",
        needs: &[],
        run: |adapter| Box::pin(concurrent_close(adapter)),
    },
];

async fn pull_returns_at_most_max(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    publish(&*queue, 0..20).await?;
    for max in [1, 3, 5, 11] {
        let came = pull_exactly(&*queue, SUBSCRIPTION, max).await?;
        ack(&*queue, SUBSCRIPTION, came).await?;
    }
    nothing_comes(&*queue, SUBSCRIPTION, "all 20 events were acked").await?;
    queue.close().await;
    Ok(())
}

async fn pull_waits_for_an_event(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    let mut waiting = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN);
    match tokio::time::timeout(QUIET, &mut waiting).await {
        Err(_) => {}
        Ok(answer) => return Err(format!("`pull` on an empty queue answered {answer:?}, expected it to wait")),
    }
    publish(&*queue, 0..1).await?;
    let came = ids_of(&within("pull", waiting).await?);
    ensure!(came == ids(0..1), "the waiting pull got {came:?}, expected the event that was published meanwhile");
    queue.close().await;
    Ok(())
}

async fn leased_events_are_not_given_out_again(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    publish(&*queue, 0..4).await?;
    let held = pull_exactly(&*queue, SUBSCRIPTION, 2).await?;
    let mut others = pull_exactly(&*queue, SUBSCRIPTION, 2).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events are leased").await?;
    others.extend(held);
    let mut came = ids_of(&others);
    came.sort();
    ensure!(came == ids(0..4), "two pulls got {came:?} together, expected each event once");
    ack(&*queue, SUBSCRIPTION, others).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}

async fn pull_is_cancel_safe(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    for number in 0..20 {
        // Dropped before it was ever polled, after one poll, and while an event comes.
        drop(queue.pull(SUBSCRIPTION, NonZeroUsize::MIN));
        let mut pull = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN);
        let polled = poll_once(&mut pull).await;
        ensure!(polled.is_pending(), "a pull on an empty queue answered {polled:?} at once, expected it to wait");
        publish(&*queue, number..number + 1).await?;
        drop(pull);
        let came = pull_exactly(&*queue, SUBSCRIPTION, 1).await?;
        ensure!(ids_of(&came) == ids(number..number + 1), "{:?} came, expected event-{number}", ids_of(&came));
        ack(&*queue, SUBSCRIPTION, came).await?;
    }
    queue.close().await;
    Ok(())
}

async fn order_is_kept(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    for batch in 0..10 {
        publish(&*queue, batch * 10..batch * 10 + 10).await?;
    }
    let mut came = Vec::new();
    while came.len() < 100 {
        let some = pull(&*queue, SUBSCRIPTION, 7).await?;
        came.extend(ids_of(&some));
        ack(&*queue, SUBSCRIPTION, some).await?;
    }
    ensure!(came == ids(0..100), "events came as {came:?}, expected the order in which they were published");
    queue.close().await;
    Ok(())
}

async fn returned_events_come_again(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    publish(&*queue, 0..6).await?;
    let came = pull_exactly(&*queue, SUBSCRIPTION, 4).await?;
    let (kept, returned): (Vec<_>, Vec<_>) = came.into_iter().partition(|delivery| delivery.event.id == "event-1");
    settle(&*queue, SUBSCRIPTION, returned, Settle::Return).await?;
    let again = pull_exactly(&*queue, SUBSCRIPTION, 5).await?;
    ensure!(again.iter().all(|delivery| delivery.tries == Default::default()), "tries were counted for events given back");
    let mut came = ids_of(&again);
    let expected: Vec<String> = ids(0..6).into_iter().filter(|id| id != "event-1").collect();
    if !queue.features().ordered {
        came.sort();
    }
    ensure!(came == expected, "{came:?} came after three of four were given back, expected {expected:?}");
    ack(&*queue, SUBSCRIPTION, again.into_iter().chain(kept).collect()).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}

async fn close_ends_pulls(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    let pulls: Vec<_> = (0..3)
        .map(|_| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await })
        })
        .collect();
    nothing_comes(&*queue, SUBSCRIPTION, "nothing was published").await?;
    let closed = tokio::time::timeout(SOON, queue.close()).await;
    ensure!(closed.is_ok(), "`close` did not end within {SOON:?}");
    for pull in pulls {
        let ended = tokio::time::timeout(SOON, pull).await.map_err(|_| "a waiting pull did not end when the queue was closed")?;
        ensure!(matches!(ended, Ok(Err(QueueError::Closed))), "a waiting pull ended with {ended:?}, expected `Closed`");
    }
    let pulled = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await;
    ensure!(matches!(pulled, Err(QueueError::Closed)), "`pull` after close answered {pulled:?}, expected `Closed`");
    let published = queue.publish(vec![super::rig::at_once(super::rig::event(0))]).await;
    ensure!(published == Err(QueueError::Closed), "`publish` after close answered {published:?}, expected `Closed`");
    Ok(())
}

async fn concurrent_close(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    publish(&*queue, 0..50).await?;
    let work: Vec<_> = (0..8)
        .map(|worker| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                if worker % 2 == 0 {
                    queue.close().await;
                    return Ok(());
                }
                loop {
                    match queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await {
                        Ok(came) => {
                            let batch = came.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
                            match queue.settle(SUBSCRIPTION, batch).await {
                                Ok(_) | Err(QueueError::Closed) => {}
                                Err(other) => return Err(format!("`settle` while closing failed: {other}")),
                            }
                        }
                        Err(QueueError::Closed) => return Ok(()),
                        Err(other) => return Err(format!("`pull` while closing failed: {other}")),
                    }
                }
            })
        })
        .collect();
    for worker in work {
        let ended = tokio::time::timeout(SOON, worker).await.map_err(|_| "a call did not end while the queue was closed")?;
        ended.map_err(|error| format!("a call panicked: {error}"))??;
    }
    Ok(())
}
