//! Scenarios: subscriptions, where they begin, and what they show.

use super::rig::{SOON, settle, subscribe, within};
use super::rig::{
    SUBSCRIPTION, ack, ensure, event, ids, ids_of, nothing_comes, now, open, open_place, publish, pull, pull_exactly,
};
use super::{Adapter, Failure, Need, ROOMY_BYTES, Scenario};
use crate::queue::{Publish, Queue, Settle, Start, SubscriptionDepth, Tries};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "each_subscription_sees_all",
        checks: "two subscriptions each get every event, and one's settlements don't touch the other",
        needs: &[Need::Groups],
        run: |adapter| Box::pin(each_subscription_sees_all(adapter)),
    },
    Scenario {
        name: "first_subscriptions_see_what_waited",
        checks: "what was published before there was any subscription is seen by all the first ones, whatever `start` says",
        needs: &[Need::Groups, Need::History],
        run: |adapter| Box::pin(first_subscriptions_see_what_waited(adapter)),
    },
    Scenario {
        name: "start_decides_where_to_begin",
        checks: "a later subscription begins with what is published after it, or with the oldest event still there",
        needs: &[Need::Groups, Need::History],
        run: |adapter| Box::pin(start_decides_where_to_begin(adapter)),
    },
    Scenario {
        name: "unsubscribe_frees",
        checks: "removing a subscription removes what waits in it and leaves the others alone",
        needs: &[Need::Groups, Need::Depth],
        run: |adapter| Box::pin(unsubscribe_frees(adapter)),
    },
    Scenario {
        name: "depth_counts",
        checks: "depth tells what waits, what is in flight and, where the queue keeps times, how old it is",
        needs: &[Need::Depth],
        run: |adapter| Box::pin(depth_counts(adapter)),
    },
];

/// Brokers may count a moment later: waits until it is so, or for too long; what it is then is for the checks that follow.
async fn counted(queue: &dyn Queue, events: u64, in_flight: u64) -> Result<(), Failure> {
    let begun = tokio::time::Instant::now();
    loop {
        let depth = within("depth", queue.depth()).await?;
        let running: u64 = depth.subscriptions.iter().filter_map(|subscription| subscription.in_flight).sum();
        if (depth.events == Some(events) && running == in_flight) || begun.elapsed() > SOON {
            return Ok(());
        }
        // Nobody tells when a broker has counted.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn drain(queue: &dyn Queue, subscription: &str, count: usize) -> Result<Vec<String>, Failure> {
    let came = pull_exactly(queue, subscription, count).await?;
    let mut came_ids = ids_of(&came);
    if !queue.features().ordered {
        came_ids.sort_by_key(|id| (id.len(), id.clone()));
    }
    ack(queue, subscription, came).await?;
    Ok(came_ids)
}

async fn each_subscription_sees_all(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open_place(&*adapter.place(ROOMY_BYTES)).await?;
    for name in ["one", "two"] {
        subscribe(&*queue, name, Start::New).await?;
    }
    publish(&*queue, 0..10).await?;
    let retried = pull_exactly(&*queue, "one", 3).await?;
    settle(&*queue, "one", retried, Settle::Retry { due: now(), tries: Tries { failed: 2, ..Tries::default() } }).await?;
    let two = pull_exactly(&*queue, "two", 10).await?;
    ensure!(two.iter().all(|delivery| delivery.tries.failed == 0), "the tries of one subscription are seen by the other");
    let mut came = ids_of(&two);
    came.sort();
    ensure!(came == ids(0..10), "subscription two got {came:?}, expected every event once");
    ack(&*queue, "two", two).await?;
    let mut came = drain(&*queue, "one", 10).await?;
    came.sort();
    ensure!(came == ids(0..10), "subscription one got {came:?} after the other had ended all, expected every event once");
    for name in ["one", "two"] {
        nothing_comes(&*queue, name, "all events were acked").await?;
    }
    queue.close().await;
    Ok(())
}

async fn first_subscriptions_see_what_waited(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open_place(&*adapter.place(ROOMY_BYTES)).await?;
    publish(&*queue, 0..5).await?;
    subscribe(&*queue, "one", Start::New).await?;
    // One handler may already run while the next one is subscribed.
    let running = pull_exactly(&*queue, "one", 2).await?;
    subscribe(&*queue, "two", Start::New).await?;
    subscribe(&*queue, "three", Start::All).await?;
    publish(&*queue, 5..6).await?;
    settle(&*queue, "one", running, Settle::Return).await?;
    for name in ["one", "two", "three"] {
        let came = drain(&*queue, name, 6).await?;
        ensure!(came == ids(0..6), "subscription {name} got {came:?}, expected all that waited and what followed");
    }
    queue.close().await;
    Ok(())
}

async fn start_decides_where_to_begin(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open_place(&*adapter.place(ROOMY_BYTES)).await?;
    subscribe(&*queue, "one", Start::New).await?;
    publish(&*queue, 0..6).await?;
    let came = pull_exactly(&*queue, "one", 4).await?;
    let (ended, held): (Vec<_>, Vec<_>) = came.into_iter().partition(|delivery| delivery.event.id != "event-1");
    ack(&*queue, "one", ended).await?;
    subscribe(&*queue, "new", Start::New).await?;
    subscribe(&*queue, "all", Start::All).await?;
    // A subscription that is there stays where it is.
    subscribe(&*queue, "one", Start::All).await?;
    publish(&*queue, 6..7).await?;
    let came = drain(&*queue, "new", 1).await?;
    ensure!(came == ids(6..7), "a subscription with `start = \"new\"` began with {came:?}, expected what came after it");
    // Queues that keep a history may begin with what has ended before.
    let mut missing = vec!["event-1", "event-4", "event-5", "event-6"];
    while !missing.is_empty() {
        let came = pull(&*queue, "all", missing.len()).await;
        let came = came.map_err(|why| format!("{why} (a subscription with `start = \"all\"` has not got {missing:?})"))?;
        missing.retain(|id| came.iter().all(|delivery| delivery.event.id != *id));
        ack(&*queue, "all", came).await?;
    }
    ack(&*queue, "one", held).await?;
    let came = drain(&*queue, "one", 3).await?;
    ensure!(came == ids(4..7), "the older subscription got {came:?}, expected what it had not seen");
    for name in ["one", "new", "all"] {
        nothing_comes(&*queue, name, "all events were acked").await?;
    }
    queue.close().await;
    Ok(())
}

async fn unsubscribe_frees(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open_place(&*adapter.place(ROOMY_BYTES)).await?;
    for name in ["one", "orphan"] {
        subscribe(&*queue, name, Start::New).await?;
    }
    publish(&*queue, 0..10).await?;
    let came = drain(&*queue, "one", 7).await?;
    ensure!(came.len() == 7, "{came:?} came, expected 7 events");
    within("unsubscribe", queue.unsubscribe("orphan")).await?;
    within("unsubscribe again", queue.unsubscribe("orphan")).await?;
    counted(&*queue, 3, 0).await?;
    let depth = within("depth", queue.depth()).await?;
    ensure!(depth.events == Some(3), "{:?} events wait after an orphan was removed, expected 3", depth.events);
    let names: Vec<_> = depth.subscriptions.iter().map(|subscription| subscription.name.as_str()).collect();
    ensure!(names == ["one"], "depth lists {names:?} after `orphan` was removed");
    let came = drain(&*queue, "one", 3).await?;
    ensure!(came == ids(7..10), "the other subscription got {came:?}, expected what it had not seen");
    counted(&*queue, 0, 0).await?;
    let depth = within("depth", queue.depth()).await?;
    ensure!(depth.events == Some(0) && depth.bytes.is_none_or(|bytes| bytes == 0), "all was acked and {depth:?} is left");
    // A queue that keeps its history would show it again to one that begins with all of it.
    subscribe(&*queue, "orphan", Start::New).await?;
    nothing_comes(&*queue, "orphan", "it was removed with what waited in it").await?;
    queue.close().await;
    Ok(())
}

async fn depth_counts(adapter: &dyn Adapter) -> Result<(), Failure> {
    let queue = open(adapter).await?;
    let before = now();
    publish(&*queue, 0..6).await?;
    // Where nothing can be delayed, one more waits like the others.
    let due = queue.features().delay.then(|| now().after(std::time::Duration::from_secs(3_600)));
    within("publish", queue.publish(vec![Publish { event: event(6), due }])).await?;
    let one = |depth: crate::queue::Depth| -> Result<SubscriptionDepth, Failure> {
        let mut found = depth.subscriptions.into_iter().filter(|subscription| subscription.name == SUBSCRIPTION);
        found.next().ok_or_else(|| format!("depth does not list `{SUBSCRIPTION}`"))
    };
    counted(&*queue, 7, 0).await?;
    let depth = within("depth", queue.depth()).await?;
    ensure!(depth.events == Some(7), "depth tells {:?} events, expected 7, the delayed one included", depth.events);
    ensure!(depth.bytes.is_none_or(|bytes| bytes > 0), "depth tells no bytes for 7 events");
    let waits = one(depth)?;
    ensure!(
        waits.events == Some(7) && waits.in_flight == Some(0),
        "before any pull: {waits:?}, expected 7 events, none in flight"
    );
    ensure!(waits.oldest.is_none_or(|oldest| oldest >= before), "oldest is {:?}, expected the publish time", waits.oldest);
    let came = pull_exactly(&*queue, SUBSCRIPTION, 4).await?;
    let (ended, mut rest): (Vec<_>, Vec<_>) = came.into_iter().partition(|delivery| delivery.event.id == "event-0");
    ack(&*queue, SUBSCRIPTION, ended).await?;
    let retried = rest.split_off(1);
    settle(&*queue, SUBSCRIPTION, retried, Settle::Retry { due: now().after(SOON * 60), tries: Tries::default() }).await?;
    counted(&*queue, 6, 1).await?;
    let waits = one(within("depth", queue.depth()).await?)?;
    let expected = (Some(6), Some(1));
    ensure!(
        (waits.events, waits.in_flight) == expected,
        "{waits:?} after one ack and two retries, expected 6 events, 1 in flight"
    );
    let expected = if due.is_some() { 2 } else { 3 };
    let more = pull_exactly(&*queue, SUBSCRIPTION, expected).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "the others wait, or run").await?;
    drop(more);
    queue.close().await;
    Ok(())
}
