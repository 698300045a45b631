//! Servers that go, come back, freeze; processes that join and leave.

use super::*;

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn a_server_may_be_away_at_first() {
    let mut server = nsq::start("");
    server.process().stop();
    let queue = subscribed(&url(&server, "lease=2s")).await;
    let health = queue.health();
    assert!(!health.connected_once && health.error.as_ref().is_some_and(|why| why.contains("127.0.0.1")), "{health:?}");
    let refused = queue.publish(vec![at_once(0)]).await;
    assert!(refused.is_err());
    server.start_again();
    // Published as soon as it is there, and not missed: the channel is made before.
    publish(&*queue, 0..5).await;
    let came = take(&*queue, 5).await;
    assert_eq!(ids_of(&came), ids(0..5));
    settle(&*queue, came, Settle::Ack).await;
    eventually("it is well", async || queue.health().connected_once && queue.health().error.is_none()).await;
    queue.close().await;
}

/// What runs over a restart of the server is not run again.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn what_runs_over_a_restart_ends_once() {
    let mut server = nsq::start("");
    let queue = subscribed(&url(&server, "lease=30s")).await;
    publish(&*queue, 0..20).await;
    let mut came = take(&*queue, 20).await;
    let later = came.split_off(10);
    server.process().stop();
    // Ended while it is away, and after it came back.
    settle(&*queue, came, Settle::Ack).await;
    server.start_again();
    publish(&*queue, 20..21).await;
    let more = take(&*queue, 1).await;
    assert_eq!(ids_of(&more), ids(20..21), "what had ended was given out again");
    settle(&*queue, later, Settle::Ack).await;
    settle(&*queue, more, Settle::Ack).await;
    nothing_comes(&*queue).await;
    eventually("nothing is left", async || queue.depth().await.is_ok_and(|depth| depth.events == Some(0))).await;
    queue.close().await;
}

/// A server forgets what waits when it restarts: it comes at once, and is put back.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn a_wait_outlives_a_restart() {
    let mut server = nsq::start("");
    let queue = subscribed(&url(&server, "lease=2s")).await;
    let due = clock::now().after(Duration::from_secs(3));
    queue.publish(vec![Publish { event: event(0), due: Some(due) }, at_once(1)]).await.unwrap();
    let came = take(&*queue, 1).await;
    let tries = weir_runtime::queue::Tries { failed: 1, ..came[0].tries };
    settle(&*queue, came, Settle::Retry { due, tries }).await;
    server.process().stop();
    server.start_again();
    let came = take(&*queue, 2).await;
    assert!(clock::now() >= due, "early by {:?}", due.since(clock::now()));
    let failed: Vec<(String, u32)> = came.iter().map(|came| (came.event.id.clone(), came.tries.failed)).collect();
    let failed: std::collections::BTreeMap<_, _> = failed.into_iter().collect();
    assert_eq!(failed, [("event-0".to_owned(), 0), ("event-1".to_owned(), 1)].into());
    settle(&*queue, came, Settle::Ack).await;
    queue.close().await;
}

/// A connection over which nothing is heard is given up before its leases are over, and what ran is told.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn a_silent_server_is_found_out() {
    let mut server = nsq::start("");
    let queue = subscribed(&url(&server, "lease=4s")).await;
    publish(&*queue, 0..1).await;
    let came = take(&*queue, 1).await;
    let position = came[0].position;
    assert!(queue.holds(SUBSCRIPTION, position));
    let begun = Instant::now();
    server.process().freeze();
    let lapsed = tokio::time::timeout(SOON, queue.lapsed(SUBSCRIPTION)).await.unwrap();
    assert_eq!(lapsed, [position]);
    assert!(begun.elapsed() < Duration::from_secs(4), "told after {:?}, when its lease may be over", begun.elapsed());
    assert!(!queue.holds(SUBSCRIPTION, position));
    assert!(queue.health().error.is_some());
    let late = came.into_iter().map(|delivery| delivery.settle(Settle::Ack).1).collect();
    assert_eq!(queue.settle(SUBSCRIPTION, late).await, Ok(vec![position]));
    server.process().thaw();
    let again = take(&*queue, 1).await;
    assert_eq!(again[0].position, position);
    settle(&*queue, again, Settle::Ack).await;
    queue.close().await;
}

/// The server takes back what is held for longer than it allows, however often it is touched.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn what_is_held_for_too_long_lapses() {
    let server = nsq::start("-max-msg-timeout=4s");
    let queue = subscribed(&url(&server, "lease=2s")).await;
    assert_eq!(queue.features().hold, Some(Duration::from_secs(4)));
    publish(&*queue, 0..1).await;
    let held = take(&*queue, 1).await;
    let begun = Instant::now();
    let lapsed = tokio::time::timeout(SOON, queue.lapsed(SUBSCRIPTION)).await.unwrap();
    assert_eq!(lapsed, [held[0].position]);
    assert!(begun.elapsed() > Duration::from_secs(2), "it was not renewed");
    assert_eq!(take(&*queue, 1).await[0].position, held[0].position);
    queue.close().await;
}

/// What came for a pull that was dropped goes to the other process when nobody asks for it here.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn a_process_joins_and_leaves() {
    let url = url(shared(), "lease=2s");
    let one = subscribed(&url).await;
    publish(&*one, 0..30).await;
    let held = take(&*one, 10).await;
    let other = subscribed(&url).await;
    let theirs = take(&*other, 10).await;
    let here = ids_of(&held);
    assert!(ids_of(&theirs).is_disjoint(&here));
    settle(&*other, theirs, Settle::Ack).await;
    other.close().await;
    let mut rest = here;
    settle(&*one, held, Settle::Return).await;
    let came = take(&*one, 20).await;
    assert!(came.iter().all(|delivery| delivery.tries.failed == 0), "what was given back counts");
    rest.extend(ids_of(&came));
    assert_eq!(rest.len(), 20);
    settle(&*one, came, Settle::Ack).await;
    // What nobody asks for any more.
    publish(&*one, 30..31).await;
    let dropped = tokio::time::timeout(Duration::from_millis(1), one.pull(SUBSCRIPTION, NonZeroUsize::MIN)).await;
    let third = subscribed(&url).await;
    if dropped.is_err() {
        assert_eq!(ids_of(&take(&*third, 1).await), ids(30..31));
    }
    third.close().await;
    one.close().await;
}
