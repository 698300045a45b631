//! What stands in the stream: entries of others, entries that vanish, trimming, groups that were there before.

use super::super::upkeep;
use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn entries_of_other_producers_are_events() {
    let (queue, key) = subscribed().await;
    let server = shared();
    let _ = server.ask(&["XADD", &key, "*", "specversion", "1.0", "id", "a1", "source", "/s", "type", "t", "data", "{\"a\":1}"]);
    let id = server.ask(&["XADD", &key, "5000000000000-7", "user", "ann", "amount", "7"]);
    assert!(id.contains("5000000000000-7"), "{id}");
    let came = pull(&queue, 2).await;
    assert_eq!(ids(&came), ["a1", "5000000000000-7"]);
    let wrapped = &came[1].event;
    assert_eq!((wrapped.source.as_str(), wrapped.kind.as_str()), ("/weir/queue/test", "com.example.raw"));
    assert_eq!(wrapped.data.as_deref(), Some(&br#"{"amount":"7","user":"ann"}"#[..]));
    assert_eq!(came[1].first_seen, crate::clock::Timestamp(5_000_000_000_000));
    ack(&queue, came).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_can_be_read_by_anybody() {
    let (queue, key) = subscribed().await;
    publish(&queue, 0..1).await;
    let range = shared().ask(&["XRANGE", &key, "-", "+"]);
    assert!(range.contains("$5\r\nevent\r\n") && range.contains(r#""specversion":"1.0","id":"event-0""#), "{range}");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_trimmed_before_it_ended_is_forgotten() {
    let (queue, key) = subscribed().await;
    publish(&queue, 0..4).await;
    let mut came = pull(&queue, 4).await;
    let waits = came.split_off(2);
    let due = crate::clock::now().after(Duration::from_millis(300));
    settle(&queue, waits, Settle::Retry { due, tries: crate::queue::Tries { failed: 1, ..Default::default() } }).await;
    let _ = shared().ask(&["XTRIM", &key, "MAXLEN", "0"]);
    // What runs here is in memory, and can be given back without being there.
    let runs = came.split_off(1);
    ack(&queue, came).await;
    assert_eq!(settle(&queue, runs, Settle::Return).await, []);
    publish(&queue, 4..5).await;
    let came = pull(&queue, 1).await;
    assert_eq!(ids(&came), ["event-4"]);
    ack(&queue, came).await;
    eventually("nothing is pending", async || {
        nothing_comes(&queue).await;
        let depth = queue.depth().await.unwrap();
        shared().ask(&["XPENDING", &key, SUBSCRIPTION]).starts_with("*4\r\n:0") && depth.subscriptions[0].in_flight == Some(0)
    })
    .await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_every_group_has_passed_is_trimmed() {
    let (queue, key) = subscribed().await;
    queue.subscribe("weir-slow", Start::New).await.unwrap();
    publish(&queue, 0..1_000).await;
    let came = pull(&queue, 1_000).await;
    ack(&queue, came).await;
    let length = || -> u64 { shared().ask(&["XLEN", &key]).trim_start_matches(':').trim().parse().unwrap() };
    upkeep::tidy(&queue.shared).await.unwrap();
    assert_eq!(length(), 1_000, "another group has read nothing");
    let max = NonZeroUsize::new(500).unwrap();
    let came = queue.pull("weir-slow", max).await.unwrap();
    let (first, rest) = (came.len(), came.into_iter().map(|delivery| delivery.settle(Settle::Ack).1));
    // All but the tenth.
    let batch: Vec<Settlement> = rest.enumerate().filter(|(at, _)| *at != 9).map(|(_, settlement)| settlement).collect();
    queue.settle("weir-slow", batch).await.unwrap();
    upkeep::tidy(&queue.shared).await.unwrap();
    assert_eq!(length(), 1_000, "the tenth of {first} is pending, and nodes are trimmed whole");
    queue.unsubscribe("weir-slow").await.unwrap();
    assert!(length() <= 100, "{}", length());
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_maxlen_the_oldest_go() {
    let key = fresh();
    let queue = subscribed_at(&format!("{}?stream={key}&lease=2s&maxlen=200", shared().url(0))).await;
    for batch in 0..10 {
        publish(&queue, batch * 100..batch * 100 + 100).await;
    }
    let length: u64 = shared().ask(&["XLEN", &key]).trim_start_matches(':').trim().parse().unwrap();
    assert!((200..=400).contains(&length), "{length}");
    assert_eq!(pull(&queue, 1).await.len(), 1);
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_there_is_taken_over() {
    let (key, server) = (fresh(), shared());
    for number in 0..6 {
        let _ = server.ask(&["XADD", &key, "*", "number", &number.to_string()]);
    }
    let _ = server.ask(&["XGROUP", "CREATE", &key, "billing", "0"]);
    let _ = server.ask(&["XREADGROUP", "GROUP", "billing", "old-worker", "COUNT", "3", "STREAMS", &key, ">"]);
    let first = server.ask(&["XPENDING", &key, "billing"]);
    assert!(first.contains(":3\r\n"), "{first}");
    let queue = subscribed_at(&format!("{}?stream={key}&lease=1s&group=billing", server.url(0))).await;
    let refused = queue.subscribe("weir-other", Start::New).await.unwrap_err().to_string();
    assert!(refused.contains("`group=billing` is for one handler only"), "{refused}");
    // What it has not read comes at once, what the old consumer holds when its time is over.
    let came = pull(&queue, 6).await;
    let mut data: Vec<_> =
        came.iter().map(|came| String::from_utf8_lossy(came.event.data.as_deref().unwrap()).into_owned()).collect();
    data.sort();
    assert_eq!(data, ["0", "1", "2", "3", "4", "5"]);
    let depth = queue.depth().await.unwrap();
    assert_eq!(depth.subscriptions[0].name, SUBSCRIPTION);
    ack(&queue, came).await;
    queue.close().await;
    let groups = server.ask(&["XINFO", "GROUPS", &key]);
    assert!(groups.contains("billing") && !groups.contains(SUBSCRIPTION), "{groups}");
}

/// One read takes no more memory than it should, whatever is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn large_events_are_read_in_small_numbers() {
    const LARGE: usize = 4 << 20;
    let server = RedisServer::start(Keeps::Nothing, &[]);
    let queue = subscribed_at(&format!("{}?stream=k&lease=30s", server.url(0))).await;
    let large = |number| {
        let publish = event(number);
        let event = Event { data: Some(vec![b'x'; LARGE].into()), ..(*publish.event).clone() };
        Publish { event: Arc::new(event), due: None }
    };
    publish(&queue, 0..40).await;
    for number in 40..80 {
        queue.publish(vec![large(number)]).await.unwrap();
    }
    let (mut sizes, mut count) = (Vec::new(), 0);
    while count < 80 {
        let came =
            tokio::time::timeout(SOON, queue.pull(SUBSCRIPTION, NonZeroUsize::new(1_000).unwrap())).await.unwrap().unwrap();
        count += came.len() as u64;
        sizes.push(came.iter().map(|came| came.event.size()).sum::<usize>());
        ack(&queue, came).await;
    }
    // The first that brings them was for small ones; from then on they are known.
    let first = sizes.iter().position(|size| *size > LARGE).unwrap();
    assert!(first <= 1 && sizes[first + 1..].iter().all(|size| *size <= 40 << 20), "{sizes:?}");
    queue.close().await;
}
