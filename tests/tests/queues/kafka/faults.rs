//! Brokers that are away, stop, freeze or fall silent.

use std::time::Instant;

use weir_runtime::queue::{QueueError, Settle, Start, Tries};
use weir_tests::brokers::kafka;

use super::fresh;
use super::rig::{
    ONE, SOON, ack, acks, again, event, ids, nothing_comes, opened_as, publish, pull, pull_all, set, subscribed, topic,
};

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_broker_that_is_away_at_the_start_is_no_error() {
    let mut server = kafka::start("");
    let url = topic(&server, 2);
    server.process().stop();
    let queue = opened_as(&url, &fresh()).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    let health = queue.health();
    assert!(!health.connected_once && health.error.is_some(), "{health:?}");
    let refused = queue.publish(vec![event("0", None)]).await.unwrap_err();
    assert!(matches!(refused, QueueError::Unavailable(_)), "{refused}");
    server.start_again();
    again(|| queue.publish(vec![event("1", None)])).await;
    let came = again(|| queue.pull("h", ONE)).await;
    assert_eq!(came[0].event.id, "1");
    ack(&*queue, came).await;
    assert_eq!((queue.health().connected_once, queue.health().error), (true, None));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_frozen_broker_comes_back() {
    let mut server = kafka::start("");
    let queue = opened_as(&topic(&server, 1), &fresh()).await.unwrap();
    queue.subscribe("h", Start::New).await.unwrap();
    queue.publish(vec![event("0", None), event("1", None)]).await.unwrap();
    let held = pull(&*queue, 1).await;
    server.process().freeze();
    let refused = queue.publish(vec![event("2", None)]).await.unwrap_err();
    assert!(matches!(refused, QueueError::Unavailable(_)), "{refused}");
    server.process().thaw();
    // What was not confirmed may have been taken all the same.
    again(|| queue.publish(vec![event("2", None)])).await;
    let batch: Vec<_> = held.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
    let late = again(|| queue.settle("h", batch.clone())).await;
    let mut missing = vec!["1", "2"];
    if !late.is_empty() {
        missing.push("0");
    }
    while !missing.is_empty() {
        let some = again(|| queue.pull("h", ONE)).await;
        missing.retain(|id| some.iter().all(|delivery| delivery.event.id != *id));
        let batch: Vec<_> = some.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
        again(|| queue.settle("h", batch.clone())).await;
    }
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_broker_may_stop_and_start_in_the_middle() {
    let mut server = kafka::start("");
    // Longer than the broker is away: what is held stays ours.
    let queue = subscribed(&topic(&server, 2).replace("lease=4s", "lease=30s")).await;
    publish(&*queue, &["0", "1", "2", "3"]).await;
    let held = pull_all(&*queue, 2).await;
    let mut missing = set(["0", "1", "2", "3", "4"]);
    missing.retain(|id| !ids(&held).contains(id));
    server.process().stop();
    let refused = queue.publish(vec![event("4", None)]).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    let waiting = {
        let queue = std::sync::Arc::clone(&queue);
        tokio::spawn(async move { again(|| queue.settle("h", acks(&held))).await })
    };
    server.start_again();
    assert_eq!(waiting.await.unwrap(), [], "what was held is still ours");
    again(|| queue.publish(vec![event("4", None)])).await;
    while !missing.is_empty() {
        let some = again(|| queue.pull("h", ONE)).await;
        missing.retain(|id| !ids(&some).contains(id));
        ack(&*queue, some).await;
    }
    nothing_comes(&*queue).await;
    assert_eq!(queue.health().error, None);
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn a_connection_that_falls_silent_is_made_again() {
    let (server, stall) = kafka::start_behind_stall();
    let url = topic(&server, 1).replace("lease=4s", "lease=30s");
    let url = url.replace(&format!(":{}/", server.port()), &format!(":{}/", stall.port()));
    let queue = subscribed(&url).await;
    publish(&*queue, &["0", "1"]).await;
    let held = pull_all(&*queue, 2).await;
    stall.silence();
    let refused = queue.publish(vec![event("2", None)]).await;
    assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    stall.speak();
    assert_eq!(again(|| queue.settle("h", acks(&held))).await, []);
    again(|| queue.publish(vec![event("3", None)])).await;
    // What was not answered may have been taken.
    let mut came = ids(&again(|| queue.pull("h", ONE)).await);
    while !came.contains("3") {
        came.extend(ids(&again(|| queue.pull("h", ONE)).await));
    }
    assert!(came.is_subset(&set(["2", "3"])), "{came:?}");
    queue.close().await;
}

/// A process whose machine is cut off: it stops what it runs before another one has it.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
async fn what_a_process_held_that_was_cut_off_runs_nowhere_twice_at_once() {
    let (server, stall) = kafka::start_behind_stall();
    let direct = topic(&server, 1);
    let cut = direct.replace(&format!(":{}/", server.port()), &format!(":{}/", stall.port()));
    let (one, other) = (subscribed(&cut).await, subscribed(&direct).await);
    publish(&*one, &["runs", "done", "waits"]).await;
    let mut held = pull_all(&*one, 3).await;
    let done = held.remove(held.iter().position(|held| held.event.id == "done").unwrap());
    ack(&*one, vec![done]).await;
    let runs = held.iter().find(|held| held.event.id == "runs").unwrap();
    let begun = Tries { failed: 1, ..Tries::default() };
    one.note("h", runs.position, begun);
    nothing_comes(&*other).await;
    stall.silence();
    let lapsing = {
        let one = std::sync::Arc::clone(&one);
        tokio::spawn(async move { (one.lapsed("h").await.len(), Instant::now()) })
    };
    let mut came = Vec::new();
    let mut at = None;
    while came.len() < 2 {
        came.extend(tokio::time::timeout(SOON, other.pull("h", ONE)).await.expect("it is taken over").unwrap());
        at.get_or_insert_with(Instant::now);
    }
    let (lapsed, told) = tokio::time::timeout(SOON, lapsing).await.expect("it is told").unwrap();
    assert_eq!(lapsed, 2);
    assert!(told < at.unwrap(), "it ran in two places");
    assert_eq!(ids(&came), set(["runs", "waits"]));
    let tries = |id| came.iter().find(|came| came.event.id == id).unwrap().tries;
    assert_eq!((tries("runs"), tries("waits")), (begun, Tries::default()));
    assert!(held.iter().all(|held| !one.holds("h", held.position)));
    stall.speak();
    ack(&*other, came).await;
    other.close().await;
    again(|| one.publish(vec![event("next", None)])).await;
    let next = again(|| one.pull("h", ONE)).await;
    assert_eq!(ids(&next), set(["next"]));
    ack(&*one, next).await;
    one.close().await;
}
