//! A server that is away: at start, in the middle, and what is told about it.

use std::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_made_on_the_first_connection() {
    let mut server = RedisServer::start(Keeps::Nothing, &[]);
    server.kill();
    let queue = open(&format!("{}?stream=k&lease=2s", server.url(0))).await.unwrap();
    queue.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
    let health = queue.health();
    assert!(!health.connected_once && health.error.as_deref().is_some_and(|error| error.contains("refused")), "{health:?}");
    let pulled = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await;
    assert!(matches!(pulled, Err(QueueError::Unavailable(_))), "{pulled:?}");
    server.start_again();
    eventually("it is connected", async || queue.health().connected_once).await;
    assert_eq!(queue.health().error, None);
    assert!(server.ask(&["XINFO", "GROUPS", "k"]).contains(SUBSCRIPTION), "before anything is published");
    publish(&queue, 0..1).await;
    ack(&queue, pull(&queue, 1).await).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_during_an_outage_are_refused_fast_and_not_repeated() {
    let mut server = RedisServer::start(Keeps::Always, &[]);
    let queue = subscribed_at(&format!("{}?stream=k&lease=2s", server.url(0))).await;
    publish(&queue, 0..1).await;
    server.kill();
    let begun = Instant::now();
    for number in 1..50 {
        let refused = queue.publish(vec![event(number)]).await;
        assert!(matches!(refused, Err(QueueError::Unavailable(_))), "{refused:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(queue.health().error.is_some());
    server.start_again();
    eventually("it takes events again", async || queue.publish(vec![event(50)]).await.is_ok()).await;
    let came = pull(&queue, 2).await;
    assert_eq!(ids(&came), ["event-0", "event-50"]);
    ack(&queue, came).await;
    nothing_comes(&queue).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_everything_gets_its_subscriptions_again() {
    let mut server = RedisServer::start(Keeps::Nothing, &[]);
    let queue = subscribed_at(&format!("{}?stream=k&lease=2s", server.url(0))).await;
    publish(&queue, 0..1).await;
    let held = pull(&queue, 1).await;
    server.kill();
    server.start_again();
    eventually("it takes events again", async || queue.publish(vec![event(1)]).await.is_ok()).await;
    let mut came = Vec::new();
    eventually("they come", async || {
        came = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await.unwrap_or_default();
        !came.is_empty()
    })
    .await;
    assert_eq!(ids(&came), ["event-1"]);
    ack(&queue, came).await;
    // What is held is no longer the server's: its lease lapses, or its settlement is of no effect.
    let lapsed = tokio::time::timeout(SOON, queue.lapsed(SUBSCRIPTION)).await.unwrap();
    assert_eq!(lapsed, [held[0].position]);
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_survives_a_restart_of_the_server() {
    let mut server = RedisServer::start(Keeps::Always, &[]);
    let queue = subscribed_at(&format!("{}?stream=k&lease=2s", server.url(0))).await;
    let due = crate::clock::now().after(Duration::from_secs(1));
    queue.publish(vec![Publish { due: Some(due), ..event(0) }]).await.unwrap();
    server.kill();
    server.start_again();
    let mut came = Vec::new();
    eventually("it comes", async || {
        came = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await.unwrap_or_default();
        !came.is_empty()
    })
    .await;
    assert!(crate::clock::now() >= due && came[0].first_seen >= due);
    ack(&queue, came).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_while_the_server_is_away_ends() {
    let mut server = RedisServer::start(Keeps::Nothing, &[]);
    let queue = subscribed_at(&format!("{}?stream=k&lease=2s", server.url(0))).await;
    publish(&queue, 0..2).await;
    let held = pull(&queue, 1).await;
    server.kill();
    tokio::time::timeout(SOON, queue.close()).await.unwrap();
    drop(held);
}
