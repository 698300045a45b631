//! Scenarios: events that wait for their time, and what is remembered about them.

use std::sync::Arc;
use std::time::Duration;

use super::rig::{
    SUBSCRIPTION, ack, ensure, event, ids, ids_of, nothing_comes, now, open, publish, pull, pull_exactly, settle, within,
};
use super::{Adapter, Failure, Need, Scenario};
use crate::clock::Timestamp;
use crate::queue::{Publish, Settle, Tries};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "retry_waits_and_holds_up_nobody",
        checks: "a retry is not delivered early, and others pass it meanwhile",
        needs: &[Need::Delay],
        run: |adapter| Box::pin(retry_waits_and_holds_up_nobody(adapter)),
    },
    Scenario {
        name: "retry_keeps_tries",
        checks: "a retry comes with the tries that it was settled with, over several rounds",
        needs: &[Need::CountsTries],
        run: |adapter| Box::pin(retry_keeps_tries(adapter)),
    },
    Scenario {
        name: "due_retry_comes_at_once",
        checks: "a retry whose time has come wakes a waiting pull",
        needs: &[],
        run: |adapter| Box::pin(due_retry_comes_at_once(adapter)),
    },
    Scenario {
        name: "delayed_publish_waits",
        checks: "a delayed publish arrives when it is due, not before, and others pass it meanwhile",
        needs: &[Need::Delay],
        run: |adapter| Box::pin(delayed_publish_waits(adapter)),
    },
    Scenario {
        name: "position_is_stable",
        checks: "an event has the same position at every delivery",
        needs: &[Need::StablePosition],
        run: |adapter| Box::pin(position_is_stable(adapter)),
    },
];

/// Long enough for what must pass meanwhile, on a slow disk and a busy machine.
const DELAY: Duration = Duration::from_secs(1);

async fn retry_waits_and_holds_up_nobody(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    publish(&*queue, 0..5).await?;
    let first = pull_exactly(&*queue, SUBSCRIPTION, 2).await?;
    let due = now().after(DELAY);
    settle(&*queue, SUBSCRIPTION, first, Settle::Retry { due, tries: Tries { failed: 1, ..Tries::default() } }).await?;
    let others = pull_exactly(&*queue, SUBSCRIPTION, 3).await?;
    ensure!(now() < due, "events that follow a retry came only after its delay of {DELAY:?}");
    let mut passed = ids_of(&others);
    passed.sort();
    ensure!(passed == ids(2..5), "{passed:?} came while two retries wait, expected the three others");
    ack(&*queue, SUBSCRIPTION, others).await?;
    let again = pull_exactly(&*queue, SUBSCRIPTION, 2).await?;
    let came = now();
    ensure!(came >= due, "a retry came {:?} before it was due", due.since(came));
    ack(&*queue, SUBSCRIPTION, again).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}

async fn retry_keeps_tries(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    publish(&*queue, 0..1).await?;
    let mut expected = Tries::default();
    for round in 1..=4_u32 {
        let came = pull_exactly(&*queue, SUBSCRIPTION, 1).await?;
        let tries: Vec<_> = came.iter().map(|delivery| delivery.tries).collect();
        ensure!(tries == [expected], "delivery {round} came with {tries:?}, expected {expected:?}");
        expected = Tries { failed: round, outside: round * 7, outside_since: Some(Timestamp(u64::from(round) * 1_000)) };
        settle(&*queue, SUBSCRIPTION, came, Settle::Retry { due: now(), tries: expected }).await?;
        // Given back in between, it keeps what it had.
        let came = pull_exactly(&*queue, SUBSCRIPTION, 1).await?;
        settle(&*queue, SUBSCRIPTION, came, Settle::Return).await?;
    }
    queue.close().await;
    Ok(())
}

async fn due_retry_comes_at_once(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    publish(&*queue, 0..1).await?;
    let came = pull_exactly(&*queue, SUBSCRIPTION, 1).await?;
    let waiter = {
        let queue = Arc::clone(&queue);
        tokio::spawn(async move { pull(&*queue, SUBSCRIPTION, 1).await })
    };
    nothing_comes(&*queue, SUBSCRIPTION, "the only event is leased").await?;
    settle(&*queue, SUBSCRIPTION, came, Settle::Retry { due: Timestamp(0), tries: Tries::default() }).await?;
    let again = waiter.await.map_err(|error| format!("the waiting pull panicked: {error}"))??;
    ensure!(ids_of(&again) == ids(0..1), "{:?} came, expected the retry", ids_of(&again));
    queue.close().await;
    Ok(())
}

async fn delayed_publish_waits(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    let due = now().after(DELAY);
    let later = [(0, due.after(DELAY / 5)), (1, due)].map(|(number, due)| Publish { event: event(number), due: Some(due) });
    within("publish", queue.publish(later.to_vec())).await?;
    publish(&*queue, 2..3).await?;
    let past = Publish { event: event(3), due: Some(Timestamp(1)) };
    within("publish", queue.publish(vec![past])).await?;
    let came = pull_exactly(&*queue, SUBSCRIPTION, 2).await?;
    ensure!(now() < due, "events without a delay came only after {DELAY:?}");
    let mut at_once = ids_of(&came);
    at_once.sort();
    ensure!(at_once == ids(2..4), "{at_once:?} came at once, expected the two that are not delayed");
    ack(&*queue, SUBSCRIPTION, came).await?;
    for (id, due) in [("event-1", due), ("event-0", due.after(DELAY / 5))] {
        let came = pull(&*queue, SUBSCRIPTION, 1).await?;
        let at = now();
        ensure!(ids_of(&came) == [id], "{:?} came, expected {id}, which is due first", ids_of(&came));
        ensure!(at >= due, "{id} came {:?} before it was due", due.since(at));
        ack(&*queue, SUBSCRIPTION, came).await?;
    }
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}

async fn position_is_stable(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    publish(&*queue, 0..1).await?;
    let mut positions = Vec::new();
    for how in [Settle::Return, Settle::Retry { due: now(), tries: Tries::default() }, Settle::Ack] {
        let came = pull_exactly(&*queue, SUBSCRIPTION, 1).await?;
        positions.extend(came.iter().map(|delivery| delivery.position));
        settle(&*queue, SUBSCRIPTION, came, how).await?;
    }
    positions.dedup();
    ensure!(positions.len() == 1, "one event came with the positions {positions:?}");
    queue.close().await;
    Ok(())
}
