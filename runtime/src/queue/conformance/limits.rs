//! Scenarios: bounds, and batches that are taken whole or not at all.

use std::sync::Arc;

use super::rig::{
    SUBSCRIPTION, ack, at_once, ensure, event, ids, ids_of, nothing_comes, open, open_place, publish, pull_exactly, subscribe,
};
use super::rig::{pull, within};
use super::{Adapter, Failure, Need, Scenario};
use crate::event::Event;
use crate::queue::{Queue, QueueError, Start};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "full_queue_refuses_and_recovers",
        checks: "beyond its bound a queue refuses, names who holds most, keeps what it has, and takes more once room returns",
        needs: &[Need::Bounded],
        run: |adapter| Box::pin(full_queue_refuses_and_recovers(adapter)),
    },
    Scenario {
        name: "too_large_is_refused",
        checks: "what could never fit is refused as too large, not as full",
        needs: &[Need::Bounded],
        run: |adapter| Box::pin(too_large_is_refused(adapter)),
    },
    Scenario {
        name: "batch_is_all_or_none",
        checks: "a batch that can't be taken whole is not taken at all",
        needs: &[Need::Bounded],
        run: |adapter| Box::pin(batch_is_all_or_none(adapter)),
    },
    Scenario {
        name: "large_event",
        checks: "an event of a mebibyte comes out as it went in",
        needs: &[],
        run: |adapter| Box::pin(large_event(adapter)),
    },
];

/// The bound in these scenarios: room for some events, filled quickly.
const SMALL_BYTES: u64 = 256 * 1024;

/// Bytes of the events that fill it.
const FILLER_BYTES: usize = 8 * 1024;

/// Four times as many as could fit: a queue that takes them all has no bound.
const FAR_TOO_MANY: u64 = 4 * SMALL_BYTES / FILLER_BYTES as u64;

fn sized(number: u64, bytes: usize) -> Arc<Event> {
    let data: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).unwrap_or_default()).collect();
    Arc::new(Event {
        datacontenttype: Some("application/octet-stream".to_owned()),
        data: Some(data.into()),
        ..(*event(number)).clone()
    })
}

async fn open_small(adapter: &dyn Adapter) -> Result<Arc<dyn Queue>, Failure> {
    let queue = open_place(&*adapter.place(SMALL_BYTES)).await?;
    subscribe(&*queue, SUBSCRIPTION, Start::New).await?;
    Ok(queue)
}

/// Publishes until the queue refuses; how many it took.
async fn fill(queue: &dyn Queue) -> Result<u64, Failure> {
    for number in 0..FAR_TOO_MANY {
        match queue.publish(vec![at_once(sized(number, FILLER_BYTES))]).await {
            Ok(()) => {}
            Err(QueueError::Full { held, bound, blocker }) => {
                ensure!(held <= bound, "refused as full with {held} of {bound} bytes held");
                let blocker = blocker.as_deref();
                let named = !queue.features().groups || blocker == Some(SUBSCRIPTION);
                ensure!(named, "full because of {blocker:?}, expected `{SUBSCRIPTION}`, which holds all of it");
                return Ok(number);
            }
            Err(other) => return Err(format!("`publish` into a full queue failed with `{other}`, expected `Full`")),
        }
    }
    Err(format!("the queue took {FAR_TOO_MANY} events of {FILLER_BYTES} bytes into a bound of {SMALL_BYTES}"))
}

async fn full_queue_refuses_and_recovers(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open_small(adapter).await?;
    for round in 0..3 {
        let taken = fill(&*queue).await?;
        ensure!(taken > 4, "round {round}: full after {taken} events of {FILLER_BYTES} bytes, with {SMALL_BYTES} bytes of room");
        let mut came = Vec::new();
        while came.len() < usize::try_from(taken).unwrap_or_default() {
            let some = pull(&*queue, SUBSCRIPTION, 5).await?;
            came.extend(ids_of(&some));
            ack(&*queue, SUBSCRIPTION, some).await?;
        }
        came.sort_by_key(|id| (id.len(), id.clone()));
        ensure!(came == ids(0..taken), "round {round}: {came:?} came, expected the {taken} events that were taken");
        nothing_comes(&*queue, SUBSCRIPTION, "the refused event was not taken").await?;
    }
    queue.close().await;
    Ok(())
}

async fn too_large_is_refused(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open_small(adapter).await?;
    let answer = queue.publish(vec![at_once(sized(0, usize::try_from(SMALL_BYTES * 2).unwrap_or_default()))]).await;
    ensure!(
        matches!(answer, Err(QueueError::TooLarge { .. })),
        "an event of twice the bound was answered {answer:?}, expected `TooLarge`"
    );
    publish(&*queue, 1..2).await?;
    let came = ids_of(&pull_exactly(&*queue, SUBSCRIPTION, 1).await?);
    ensure!(came == ids(1..2), "{came:?} came, expected only the event that was taken");
    queue.close().await;
    Ok(())
}

async fn batch_is_all_or_none(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open_small(adapter).await?;
    let half = usize::try_from(SMALL_BYTES * 2 / 5).unwrap_or_default();
    within("publish", queue.publish(vec![at_once(sized(0, half))])).await?;
    let batch = vec![at_once(event(1)), at_once(sized(2, half)), at_once(sized(3, half)), at_once(event(4))];
    let answer = queue.publish(batch).await;
    ensure!(answer.is_err(), "a batch that does not fit was taken");
    let came = pull_exactly(&*queue, SUBSCRIPTION, 1).await?;
    ensure!(ids_of(&came) == ids(0..1), "{:?} came, expected only event-0", ids_of(&came));
    nothing_comes(&*queue, SUBSCRIPTION, "the batch was refused").await?;
    ack(&*queue, SUBSCRIPTION, came).await?;
    publish(&*queue, 5..7).await?;
    let came = ids_of(&pull_exactly(&*queue, SUBSCRIPTION, 2).await?);
    ensure!(came == ids(5..7), "{came:?} came after a refused batch, expected what was published next");
    queue.close().await;
    Ok(())
}

async fn large_event(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    let sent = sized(0, 1024 * 1024);
    within("publish", queue.publish(vec![at_once(Arc::clone(&sent)), at_once(event(1))])).await?;
    let came = pull_exactly(&*queue, SUBSCRIPTION, 2).await?;
    ensure!(came.iter().any(|delivery| delivery.event == sent), "an event of 1 MiB changed on its way");
    ack(&*queue, SUBSCRIPTION, came).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}
