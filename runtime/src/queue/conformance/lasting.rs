//! Scenarios: what outlives a process, killed or closed.

use std::sync::Arc;
use std::time::Duration;

use super::rig::{SUBSCRIPTION, ack, ensure, event, ids, ids_of, nothing_comes, now, open_place, publish, pull_exactly, settle};
use super::rig::{subscribe, within};
use super::{Adapter, Failure, Need, Place, ROOMY_BYTES, Scenario};
use crate::clock::Timestamp;
use crate::queue::{Publish, Queue, Settle, Start, Tries};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill_keeps_what_was_not_settled",
        checks: "what was published or leased and not settled comes again after the process was killed",
        needs: &[Need::Durable, Need::AtLeastOnce],
        run: |adapter| Box::pin(kill_keeps_what_was_not_settled(adapter)),
    },
    Scenario {
        name: "close_gives_back",
        checks: "what was leased when the queue was closed comes again after it",
        needs: &[Need::Durable, Need::AtLeastOnce],
        run: |adapter| Box::pin(close_gives_back(adapter)),
    },
    Scenario {
        name: "acked_never_come_back",
        checks: "what was acked does not come again, in whatever order it was acked",
        needs: &[Need::Durable, Need::AcksApart],
        run: |adapter| Box::pin(acked_never_come_back(adapter)),
    },
    Scenario {
        name: "retries_outlive_the_process",
        checks: "retries keep their tries and the rest of their delay",
        needs: &[Need::Durable, Need::Delay, Need::CountsTries],
        run: |adapter| Box::pin(retries_outlive_the_process(adapter)),
    },
    Scenario {
        name: "delayed_outlive_the_process",
        checks: "delayed publishes are kept and arrive when they are due",
        needs: &[Need::Durable, Need::Delay],
        run: |adapter| Box::pin(delayed_outlive_the_process(adapter)),
    },
    Scenario {
        name: "subscriptions_outlive_the_process",
        checks: "subscriptions are remembered with their place, and events that only an absent one has not seen are kept",
        needs: &[Need::Durable, Need::Groups, Need::History],
        run: |adapter| Box::pin(subscriptions_outlive_the_process(adapter)),
    },
    Scenario {
        name: "order_outlives_the_process",
        checks: "events come in the order in which they were published, over several processes",
        needs: &[Need::Durable, Need::Ordered],
        run: |adapter| Box::pin(order_outlives_the_process(adapter)),
    },
    Scenario {
        name: "killed_tries_are_counted",
        checks: "an event that kills the process comes again with one more try behind it each time, and what waited beside it without",
        needs: &[Need::Durable, Need::AtLeastOnce, Need::CountsTries],
        run: |adapter| Box::pin(killed_tries_are_counted(adapter)),
    },
];

struct Lasting {
    place: Box<dyn Place>,
}

impl Lasting {
    async fn new(adapter: &dyn Adapter) -> Result<(Self, Arc<dyn Queue>), Failure> {
        let place = adapter.place(ROOMY_BYTES);
        let queue = open_place(&*place).await?;
        subscribe(&*queue, SUBSCRIPTION, Start::New).await?;
        Ok((Self { place }, queue))
    }

    async fn after_kill(&self, queue: Arc<dyn Queue>) -> Result<Arc<dyn Queue>, Failure> {
        self.place.kill(queue).await;
        open_place(&*self.place).await
    }

    async fn after_close(&self, queue: Arc<dyn Queue>) -> Result<Arc<dyn Queue>, Failure> {
        queue.close().await;
        drop(queue);
        open_place(&*self.place).await
    }
}

async fn kill_keeps_what_was_not_settled(adapter: &dyn Adapter) -> Result<(), Failure> {
    let (place, queue) = Lasting::new(adapter).await?;
    publish(&*queue, 0..10).await?;
    let leased = pull_exactly(&*queue, SUBSCRIPTION, 4).await?;
    drop(leased);
    let queue = place.after_kill(queue).await?;
    let came = pull_exactly(&*queue, SUBSCRIPTION, 10).await?;
    let mut came_ids = ids_of(&came);
    came_ids.sort();
    ensure!(came_ids == ids(0..10), "{came_ids:?} came after a kill, expected all ten events");
    ack(&*queue, SUBSCRIPTION, came).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}

async fn close_gives_back(adapter: &dyn Adapter) -> Result<(), Failure> {
    let (place, queue) = Lasting::new(adapter).await?;
    publish(&*queue, 0..5).await?;
    let leased = pull_exactly(&*queue, SUBSCRIPTION, 3).await?;
    let tries: Vec<_> = leased.iter().map(|delivery| delivery.tries).collect();
    let queue = place.after_close(queue).await?;
    let came = pull_exactly(&*queue, SUBSCRIPTION, 5).await?;
    let mut came_ids = ids_of(&came);
    came_ids.sort();
    ensure!(came_ids == ids(0..5), "{came_ids:?} came after a close, expected all five events");
    ensure!(came.iter().all(|delivery| tries.contains(&delivery.tries)), "a close changed the tries of what was leased");
    queue.close().await;
    Ok(())
}

async fn acked_never_come_back(adapter: &dyn Adapter) -> Result<(), Failure> {
    let (place, mut queue) = Lasting::new(adapter).await?;
    publish(&*queue, 0..30).await?;
    let mut left: Vec<String> = ids(0..30);
    for round in 0..4 {
        let mut came = pull_exactly(&*queue, SUBSCRIPTION, left.len()).await?;
        let mut came_ids = ids_of(&came);
        came_ids.sort_by_key(|id| (id.len(), id.clone()));
        ensure!(came_ids == left, "round {round}: {came_ids:?} came, expected {left:?}, which was not acked");
        // Every third one, from the newest: holes stay below what is acked.
        came.sort_by_key(|delivery| std::cmp::Reverse((delivery.event.id.len(), delivery.event.id.clone())));
        let acked: Vec<_> = came.into_iter().step_by(3).collect();
        left.retain(|id| acked.iter().all(|delivery| delivery.event.id != *id));
        for one in acked {
            ack(&*queue, SUBSCRIPTION, vec![one]).await?;
        }
        queue = if round % 2 == 0 { place.after_kill(queue).await? } else { place.after_close(queue).await? };
    }
    let came = pull_exactly(&*queue, SUBSCRIPTION, left.len()).await?;
    ack(&*queue, SUBSCRIPTION, came).await?;
    let queue = place.after_kill(queue).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked before the process ended").await?;
    queue.close().await;
    Ok(())
}

async fn retries_outlive_the_process(adapter: &dyn Adapter) -> Result<(), Failure> {
    let (place, queue) = Lasting::new(adapter).await?;
    publish(&*queue, 0..2).await?;
    let mut came = pull_exactly(&*queue, SUBSCRIPTION, 2).await?;
    let tries = Tries { failed: 3, outside: 9, outside_since: Some(Timestamp(1_700_000_000_123)) };
    let due = now().after(Duration::from_secs(2));
    let second = came.split_off(1);
    settle(&*queue, SUBSCRIPTION, came, Settle::Retry { due, tries }).await?;
    settle(&*queue, SUBSCRIPTION, second, Settle::Retry { due: Timestamp(0), tries }).await?;
    let queue = place.after_kill(queue).await?;
    let at_once = pull_exactly(&*queue, SUBSCRIPTION, 1).await?;
    ensure!(ids_of(&at_once) == ids(1..2), "{:?} came first, expected the retry that was due", ids_of(&at_once));
    ack(&*queue, SUBSCRIPTION, at_once).await?;
    let queue = place.after_close(queue).await?;
    let later = pull_exactly(&*queue, SUBSCRIPTION, 1).await?;
    let at = now();
    ensure!(at >= due, "a retry came {:?} before it was due, after a restart", due.since(at));
    let came: Vec<_> = later.iter().map(|delivery| delivery.tries).collect();
    ensure!(came == [tries], "a retry came with {came:?} after a restart, expected {tries:?}");
    ack(&*queue, SUBSCRIPTION, later).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}

async fn delayed_outlive_the_process(adapter: &dyn Adapter) -> Result<(), Failure> {
    let (place, queue) = Lasting::new(adapter).await?;
    let due = now().after(Duration::from_millis(500));
    let overdue = now().after(Duration::from_millis(1));
    let delayed = [(0, due), (1, overdue)].map(|(number, due)| Publish { event: event(number), due: Some(due) });
    within("publish", queue.publish(delayed.to_vec())).await?;
    let queue = place.after_kill(queue).await?;
    for (id, due) in [("event-1", overdue), ("event-0", due)] {
        let came = pull_exactly(&*queue, SUBSCRIPTION, 1).await?;
        let at = now();
        ensure!(ids_of(&came) == [id], "{:?} came, expected {id}, which is due first", ids_of(&came));
        ensure!(at >= due, "{id} came {:?} before it was due, after a restart", due.since(at));
        ack(&*queue, SUBSCRIPTION, came).await?;
    }
    let queue = place.after_close(queue).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "all events were acked").await?;
    queue.close().await;
    Ok(())
}

async fn subscriptions_outlive_the_process(adapter: &dyn Adapter) -> Result<(), Failure> {
    let (place, queue) = Lasting::new(adapter).await?;
    subscribe(&*queue, "absent", Start::New).await?;
    publish(&*queue, 0..5).await?;
    let came = pull_exactly(&*queue, SUBSCRIPTION, 5).await?;
    // Made while others have in hand what it begins with.
    subscribe(&*queue, "second", Start::All).await?;
    let seconds = pull_exactly(&*queue, "second", 5).await?;
    ack(&*queue, "second", seconds).await?;
    ack(&*queue, SUBSCRIPTION, came).await?;
    let queue = place.after_kill(queue).await?;
    nothing_comes(&*queue, "second", "it had ended all before the restart").await?;
    subscribe(&*queue, SUBSCRIPTION, Start::All).await?;
    subscribe(&*queue, "later", Start::New).await?;
    nothing_comes(&*queue, SUBSCRIPTION, "it had ended all before the restart").await?;
    nothing_comes(&*queue, "later", "it is new and nothing was published since").await?;
    let mut came = ids_of(&pull_exactly(&*queue, "absent", 5).await?);
    came.sort();
    ensure!(came == ids(0..5), "the subscription that was absent got {came:?}, expected every event");
    queue.close().await;
    Ok(())
}

async fn order_outlives_the_process(adapter: &dyn Adapter) -> Result<(), Failure> {
    let (place, mut queue) = Lasting::new(adapter).await?;
    for round in 0..4 {
        publish(&*queue, round * 5..round * 5 + 5).await?;
        queue = if round % 2 == 0 { place.after_kill(queue).await? } else { place.after_close(queue).await? };
    }
    queue.keep_order(SUBSCRIPTION).map_err(|error| format!("`keep_order` failed: {error}"))?;
    let came = ids_of(&pull_exactly(&*queue, SUBSCRIPTION, 20).await?);
    ensure!(came == ids(0..20), "events came as {came:?} after restarts, expected the order in which they were published");
    queue.close().await;
    Ok(())
}

async fn killed_tries_are_counted(adapter: &dyn Adapter) -> Result<(), Failure> {
    let (place, mut queue) = Lasting::new(adapter).await?;
    publish(&*queue, 0..2).await?;
    for killed in 0..3 {
        let came = pull_exactly(&*queue, SUBSCRIPTION, 2).await?;
        let (poison, other): (Vec<_>, Vec<_>) = came.into_iter().partition(|delivery| delivery.event.id == "event-0");
        let failed: Vec<_> = poison.iter().map(|delivery| delivery.tries.failed).collect();
        ensure!(failed == [killed], "after {killed} kills the event came with {failed:?} failed tries, expected {killed}");
        let others: Vec<_> = other.iter().map(|delivery| delivery.tries.failed).collect();
        ensure!(others == [0], "what was given back before a kill came with {others:?} failed tries, expected none");
        settle(&*queue, SUBSCRIPTION, other, Settle::Return).await?;
        for delivery in &poison {
            queue.note(SUBSCRIPTION, delivery.position, Tries { failed: killed + 1, ..delivery.tries });
        }
        queue = place.after_kill(queue).await?;
    }
    queue.close().await;
    Ok(())
}
