//! Streams and groups that somebody removes while they are in use.

use super::*;
use crate::queue::Tries;

/// Pulls over errors until this event comes; with what came before it.
async fn comes(queue: &RedisQueue, id: &str) -> Vec<Delivery> {
    let mut came: Vec<Delivery> = Vec::new();
    eventually("it comes", async || {
        let more = tokio::time::timeout(SOON, queue.pull(SUBSCRIPTION, NonZeroUsize::MIN)).await.unwrap();
        came.extend(more.unwrap_or_default());
        ids(&came).contains(&id)
    })
    .await;
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_by_hand_is_made_again_and_what_was_held_is_late() {
    for by_hand in [&["DEL", "k"][..], &["XGROUP", "DESTROY", "k", SUBSCRIPTION], &["FLUSHALL"]] {
        let server = RedisServer::start(Keeps::Nothing, &[]);
        let queue = subscribed_at(&format!("{}?stream=k&lease=2s", server.url(0))).await;
        publish(&queue, 0..2).await;
        ack(&queue, pull(&queue, 1).await).await;
        let held = pull(&queue, 1).await;
        let _ = server.ask(by_hand);
        // It has to be looked at, and there is nothing to look at: that is an answer, and no reason to ask for ever.
        let retry = Settle::Retry { due: crate::clock::now(), tries: Tries { failed: 1, ..Tries::default() } };
        let position = held[0].position;
        assert_eq!(settle(&queue, held, retry).await, [position], "{by_hand:?}");
        // With no group to wait for, what is published waits. A group that is made again begins with all that is there.
        publish(&queue, 2..3).await;
        ack(&queue, comes(&queue, "event-2").await).await;
        queue.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_begins_anew_has_first_subscriptions_again() {
    let server = RedisServer::start(Keeps::Nothing, &[]);
    let queue = subscribed_at(&format!("{}?stream=k&lease=2s", server.url(0))).await;
    publish(&queue, 0..1).await;
    ack(&queue, pull(&queue, 1).await).await;
    let _ = server.ask(&["FLUSHALL"]);
    // It waits, as there is no group.
    publish(&queue, 1..2).await;
    let came = comes(&queue, "event-1").await;
    assert_eq!(server.ask(&["EXISTS", "{k}.first"]), ":1\r\n", "nothing of it has ended");
    ack(&queue, came).await;
    assert_eq!(server.ask(&["EXISTS", "{k}.first"]), ":0\r\n");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_is_emptied_with_its_last_group() {
    let (queue, key) = subscribed().await;
    for batch in 0..25 {
        publish(&queue, batch * 1_000..batch * 1_000 + 1_000).await;
    }
    queue.unsubscribe(SUBSCRIPTION).await.unwrap();
    assert_eq!(shared().ask(&["XLEN", &key]), ":0\r\n");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trimming_keeps_up_with_what_has_ended() {
    let (queue, key) = subscribed().await;
    for batch in 0..25 {
        publish(&queue, batch * 1_000..batch * 1_000 + 1_000).await;
        ack(&queue, pull(&queue, 1_000).await).await;
    }
    super::super::upkeep::tidy(&queue.shared).await.unwrap();
    let length: u64 = shared().ask(&["XLEN", &key]).trim_start_matches(':').trim().parse().unwrap();
    assert!(length <= 100, "{length}");
    queue.close().await;
}
