//! Which keys there are, and who may touch them.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_refused_by_name() {
    let key = fresh();
    let _ = shared().ask(&["RPUSH", &key, "1"]);
    let refused = open(&format!("{}?stream={key}", shared().url(0))).await.err().unwrap();
    let expected = format!("key `{key}` is a list, expected a stream (name another key, or remove this one)");
    assert_eq!(refused, QueueError::Invalid(expected));
    let (queue, key) = subscribed().await;
    let retry = format!("{{{key}}}.retry.{SUBSCRIPTION}");
    let _ = shared().ask(&["SET", &retry, "1"]);
    let refused = tokio::time::timeout(SOON, queue.pull(SUBSCRIPTION, NonZeroUsize::MIN)).await.unwrap().unwrap_err();
    assert!(refused.to_string().contains(&format!("key `{retry}` is a string, expected a zset")), "{refused}");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_us_is_an_error_at_once() {
    let server = RedisServer::start(Keeps::Nothing, &["--requirepass s3cret"]);
    let refused = open(&format!("{}?stream=k", server.url(0))).await.err().unwrap();
    assert!(matches!(&refused, QueueError::Invalid(text) if text.contains("asks for a login")), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_the_stream_and_the_keys_beside_it() {
    let acl = "--user weir on >s3cret ~orders ~{orders}.* +@all -@dangerous";
    let server = RedisServer::start(Keeps::Nothing, &["--requirepass other", acl]);
    let url = |stream: &str| format!("redis://weir:s3cret@127.0.0.1:{}/0?stream={stream}&lease=2s", server.port());
    let queue = subscribed_at(&url("orders")).await;
    exercise(&queue).await;
    queue.close().await;
    let refused = open(&url("other")).await.err().unwrap().to_string();
    assert!(refused.contains("lacks a permission") && !refused.contains("s3cret"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls() {
    let server = RedisServer::start_with_tls(Keeps::Nothing);
    let queue = subscribed_at(&format!("{}?stream=orders&ca={}", server.url(4), server.authority().display())).await;
    exercise(&queue).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_queues_apart() {
    let key = fresh();
    let first = subscribed_at(&format!("{}?stream={key}", shared().url(5))).await;
    let second = subscribed_at(&format!("{}?stream={key}", shared().url(6))).await;
    publish(&first, 0..1).await;
    nothing_comes(&second).await;
    ack(&first, pull(&first, 1).await).await;
    first.close().await;
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_what_has_ended() {
    let (queue, key) = subscribed().await;
    exercise(&queue).await;
    queue.close().await;
    let keys = shared().ask(&["KEYS", &format!("*{key}*")]);
    assert_eq!(keys, format!("*1\r\n${}\r\n{key}\r\n", key.len()));
    let consumers = shared().ask(&["XINFO", "CONSUMERS", &key, SUBSCRIPTION]);
    assert!(!consumers.contains("tests."), "its consumer holds nothing and is taken away: {consumers}");
    let queue = open(&format!("{}?stream={key}", shared().url(0))).await.unwrap();
    queue.unsubscribe(SUBSCRIPTION).await.unwrap();
    let unknown = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await.unwrap_err();
    assert!(unknown.to_string().contains("is not known to queue `test`"), "{unknown}");
    queue.close().await;
}

/// Everything that a queue does: publish, delay, retry, give back, ack.
async fn exercise(queue: &RedisQueue) {
    let due = Some(crate::clock::now().after(Duration::from_millis(50)));
    queue.publish(vec![event(0), Publish { due, ..event(1) }]).await.unwrap();
    let first = pull(queue, 2).await;
    let tries = crate::queue::Tries { failed: 1, ..Default::default() };
    settle(queue, first, Settle::Retry { due: crate::clock::now(), tries }).await;
    let again = pull(queue, 2).await;
    assert!(again.iter().all(|delivery| delivery.tries == tries));
    settle(queue, again, Settle::Return).await;
    let depth = queue.depth().await.unwrap();
    assert_eq!((depth.events, depth.subscriptions[0].in_flight), (Some(2), Some(0)));
    let last = pull(queue, 2).await;
    ack(queue, last).await;
    assert_eq!(queue.depth().await.unwrap().events, Some(0));
}
