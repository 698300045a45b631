//! Servers that are away, frozen, or refuse; processes that are killed.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_refused_by_name() {
    for (kind, command, found, expected) in
        [("list=", ["SADD", "1"].as_slice(), "set", "list"), ("zset=", &["LPUSH", "1"], "list", "zset")]
    {
        let key = fresh();
        let _ = shared().ask(&[command[0], &key, command[1]]);
        let refused = open(&format!("{}?{kind}{key}", shared().url(0))).await.err().unwrap();
        let text = format!(
            "`{}?{kind}{key}`: key `{key}` is a {found}, expected a {expected} (name another key, or remove this one)",
            shared().url(0)
        );
        assert_eq!(refused, QueueError::Invalid(text));
    }
    let (queue, key) = subscribed("list=").await;
    let beside = format!("{{{key}}}.taken");
    let _ = shared().ask(&["SET", &beside, "1"]);
    let _ = shared().ask(&["LPUSH", &key, "1"]);
    let refused = tokio::time::timeout(SOON, queue.pull(SUBSCRIPTION, NonZeroUsize::MIN)).await.unwrap().unwrap_err();
    assert!(refused.to_string().contains(&format!("key `{beside}` is a string, expected a hash")), "{refused}");
    assert_eq!(shared().ask(&["LLEN", &key]).trim_end(), ":1", "nothing is taken");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_us_is_an_error_at_once() {
    let acl = "--user weir on >s3cret ~orders ~{orders}.* +@all -@dangerous";
    let server = RedisServer::start(Keeps::Nothing, &["--requirepass other", acl]);
    let refused = open(&format!("{}?list=orders", server.url(0))).await.err().unwrap();
    assert!(matches!(&refused, QueueError::Invalid(text) if text.contains("asks for a login")), "{refused:?}");
    let url = |login: &str, key: &str| format!("redis://{login}@127.0.0.1:{}/0?list={key}&lease=2s", server.port());
    let refused = open(&url("weir:wr0ng", "orders")).await.err().unwrap().to_string();
    assert!(refused.contains("does not take this user and password") && !refused.contains("wr0ng"), "{refused}");
    let refused = open(&url("weir:s3cret", "other")).await.err().unwrap().to_string();
    assert!(refused.contains("lacks a permission") && !refused.contains("s3cret"), "{refused}");
    let queue = open(&url("weir:s3cret", "orders")).await.unwrap();
    queue.publish(vec![event(0)]).await.unwrap();
    let came = one(&*queue).await;
    settle(&*queue, SUBSCRIPTION, came, Settle::Ack).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_waited_for() {
    let mut server = RedisServer::start(Keeps::Always, &[]);
    server.kill();
    let queue = open(&format!("{}?list=k&lease=2s", server.url(0))).await.unwrap();
    queue.subscribe(SUBSCRIPTION, Start::New).await.unwrap();
    let health = queue.health();
    assert!(!health.connected_once && health.error.as_deref().is_some_and(|error| error.contains("refused")), "{health:?}");
    assert!(matches!(queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await, Err(QueueError::Unavailable(_))));
    server.start_again();
    eventually("it is connected", async || queue.health().connected_once).await;
    eventually("it takes events", async || queue.publish(vec![event(0)]).await.is_ok()).await;
    let mut came = Vec::new();
    eventually("they come", async || {
        came = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await.unwrap_or_default();
        !came.is_empty()
    })
    .await;
    // Away in the middle of handling.
    server.kill();
    let ack = vec![Settlement { position: came[0].position, settle: Settle::Ack }];
    assert!(matches!(queue.settle(SUBSCRIPTION, ack.clone()).await, Err(QueueError::Unavailable(_))));
    server.start_again();
    eventually("it is settled", async || queue.settle(SUBSCRIPTION, ack.clone()).await.is_ok_and(|late| late.is_empty())).await;
    assert_eq!(queue.depth().await.unwrap().events, Some(0));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_that_a_silent_server_does_not_renew_are_told() {
    let server = RedisServer::start(Keeps::Nothing, &[]);
    let url = format!("{}?list=k&lease=1s", server.url(0));
    let queue = open(&url).await.unwrap();
    queue.publish(vec![event(0)]).await.unwrap();
    let held = one(&*queue).await;
    server.freeze();
    let lapsed = tokio::time::timeout(SOON, queue.lapsed(SUBSCRIPTION)).await.unwrap();
    assert_eq!(lapsed, [held.position]);
    assert!(!queue.holds(SUBSCRIPTION, held.position));
    server.thaw();
    let late = queue.settle(SUBSCRIPTION, vec![Settlement { position: held.position, settle: Settle::Ack }]).await;
    assert_eq!(late.unwrap(), [held.position]);
    let mut came = Vec::new();
    eventually("it comes again", async || {
        came = queue.pull(SUBSCRIPTION, NonZeroUsize::MIN).await.unwrap_or_default();
        !came.is_empty()
    })
    .await;
    assert_eq!((came[0].position, came[0].tries.failed), (held.position, 1));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kills_processes_is_counted_and_one_that_waited_is_not() {
    let (queue, key) = subscribed("list=").await;
    queue.publish(vec![event(0), event(1)]).await.unwrap();
    let came = pull(&*queue, SUBSCRIPTION, 2).await;
    for delivery in &came {
        // As the dispatcher says of what has not begun, and of what begins.
        let failed = u32::from(delivery.event.id == "event-0");
        queue.note(SUBSCRIPTION, delivery.position, Tries { failed, ..Tries::default() });
    }
    let tries = format!("{{{key}}}.tries");
    eventually("it is noted", async || {
        shared().ask(&["HVALS", &tries]).matches(" 0 0 - ").count() == 2 && shared().ask(&["HVALS", &tries]).contains(" 0 0\r\n")
    })
    .await;
    drop(queue);
    let other = open(&format!("{}?list={key}&lease=2s", shared().url(0))).await.unwrap();
    let mut came = pull(&*other, SUBSCRIPTION, 2).await;
    came.sort_by_key(|delivery| delivery.event.id.clone());
    assert_eq!(came.iter().map(|delivery| delivery.tries.failed).collect::<Vec<_>>(), [1, 0]);
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_and_not_pulled_goes_back() {
    let (queue, key) = subscribed("list=").await;
    queue.publish((0..10).map(event).collect()).await.unwrap();
    // A pull that is gone before what it asked for has come.
    for _ in 0..20 {
        let _ = tokio::time::timeout(Duration::from_micros(300), queue.pull(SUBSCRIPTION, NonZeroUsize::new(10).unwrap())).await;
    }
    eventually("all of it waits or is in hand", async || {
        let depth = queue.depth().await.unwrap();
        let taken = shared().ask(&["HLEN", &format!("{{{key}}}.taken")]);
        depth.events == Some(10)
            && depth.subscriptions.iter().all(|own| own.in_flight.is_some_and(|held| taken.trim_end() == format!(":{held}")))
    })
    .await;
    queue.close().await;
    assert_eq!(shared().ask(&["LLEN", &key]).trim_end(), ":10");
}
