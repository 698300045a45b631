//! Beside programs that use the list or sorted set by themselves.

use super::*;
use crate::clock;

/// What `LLEN` and its like answer.
fn ask(words: &[&str]) -> String {
    shared().ask(words).trim_end().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_push_count_and_take_as_ever() {
    let (queue, key) = subscribed("list=").await;
    assert_eq!(ask(&["LPUSH", &key, "hello", r#"{"a":1}"#]), ":2");
    let (first, second) = (one(&*queue).await, one(&*queue).await);
    assert_eq!((data(&first), first.event.datacontenttype.as_deref()), ("hello", Some("application/octet-stream")));
    assert_eq!((first.event.kind.as_str(), first.event.source.as_str()), ("com.example.raw", "/weir/queue/orders"));
    assert_eq!((data(&second), second.event.datacontenttype.as_deref()), (r#"{"a":1}"#, Some("application/json")));
    assert_eq!(ask(&["LLEN", &key]), ":0", "what is taken is not waiting");
    settle(&*queue, SUBSCRIPTION, second, Settle::Return).await;
    assert_eq!(ask(&["RPOP", &key]), "$7\r\n{\"a\":1}", "what is given back is there for others, as it was");
    settle(&*queue, SUBSCRIPTION, first, Settle::Ack).await;
    queue.publish(vec![event(7)]).await.unwrap();
    assert!(ask(&["RPOP", &key]).contains(r#""id":"event-7""#), "what is published is JSON");
    queue.close().await;
    let left = ask(&["KEYS", &format!("*{key}*")]);
    assert!(!left.contains(".taken") && !left.contains(".tries") && !left.contains(".leases"), "{left}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_keeps_its_id_and_tries_over_redeliveries() {
    for kind in ["list=", "take=left&list="] {
        let (queue, key) = subscribed(kind).await;
        ask(&["LPUSH", &key, "same", "same"]);
        let came = pull(&*queue, SUBSCRIPTION, 2).await;
        let seen = |came: &[Delivery]| {
            let mut seen: Vec<_> =
                came.iter().map(|one| (one.event.id.clone(), one.position, one.first_seen, one.tries.failed)).collect();
            seen.sort();
            seen
        };
        let mut before = seen(&came);
        assert_ne!(before[0].0, before[1].0, "equal bodies are two");
        for delivery in came {
            settle(&*queue, SUBSCRIPTION, delivery, again(1)).await;
        }
        let came = pull(&*queue, SUBSCRIPTION, 2).await;
        before.iter_mut().for_each(|one| one.3 = 1);
        assert_eq!(seen(&came), before);
        // Over the list itself, and another process.
        queue.close().await;
        assert_eq!(ask(&["LLEN", &key]), ":2");
        let queue = open(&format!("{}?{kind}{key}&lease=2s", shared().url(0))).await.unwrap();
        let came = pull(&*queue, SUBSCRIPTION, 2).await;
        assert_eq!(seen(&came), before);
        for delivery in came {
            settle(&*queue, SUBSCRIPTION, delivery, Settle::Ack).await;
        }
        ask(&["LPUSH", &key, "same"]);
        assert_eq!(one(&*queue).await.tries.failed, 0, "another message is another message");
        queue.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_from_the_end_that_is_named() {
    for (kind, push) in [("list=", "LPUSH"), ("take=left&list=", "RPUSH")] {
        let (queue, key) = subscribed(kind).await;
        ask(&[push, &key, "1", "2", "3"]);
        let came = pull(&*queue, SUBSCRIPTION, 2).await;
        assert_eq!(came.iter().map(data).collect::<Vec<_>>(), ["1", "2"]);
        let back = came.into_iter().map(|delivery| delivery.settle(Settle::Return).1).collect();
        assert_eq!(queue.settle(SUBSCRIPTION, back).await.unwrap(), []);
        let came = pull(&*queue, SUBSCRIPTION, 3).await;
        assert_eq!(came.iter().map(data).collect::<Vec<_>>(), ["1", "2", "3"], "to the end that it was taken from");
        queue.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_wakes_whoever_waits() {
    let (queue, key) = subscribed("list=").await;
    nothing_comes(&*queue, SUBSCRIPTION).await;
    let mut waits = Vec::new();
    for number in 0..5 {
        let waiting = {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move { one(&*queue).await })
        };
        eventually("it waits at the server", async || ask(&["CLIENT", "LIST"]).contains("cmd=blmove")).await;
        let begun = std::time::Instant::now();
        ask(&["LPUSH", &key, &number.to_string()]);
        let came = waiting.await.unwrap();
        waits.push(begun.elapsed());
        settle(&*queue, SUBSCRIPTION, came, Settle::Ack).await;
    }
    waits.sort();
    assert!(waits[2] < Duration::from_millis(500), "it is not looked for only now and then: {waits:?}");
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_woke_a_process_that_wants_no_more_is_not_kept_from_others() {
    let (queue, key) = subscribed("list=").await;
    nothing_comes(&*queue, SUBSCRIPTION).await;
    ask(&["LPUSH", &key, "1"]);
    // Nobody here pulls now.
    eventually("it is in the list again", async || ask(&["LLEN", &key]) == ":1").await;
    let other = open(&format!("{}?list={key}&lease=2s", shared().url(0))).await.unwrap();
    assert_eq!(data(&one(&*other).await), "1");
    queue.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handlers_on_a_list_each_see_every_message() {
    let (queue, key) = subscribed("list=").await;
    queue.subscribe("weir-other", Start::New).await.unwrap();
    ask(&["LPUSH", &key, "1"]);
    let (mine, other) = (one(&*queue).await, pull(&*queue, "weir-other", 1).await.remove(0));
    settle(&*queue, SUBSCRIPTION, mine, again(1)).await;
    settle(&*queue, "weir-other", other, Settle::Ack).await;
    // The copy keeps the id that was given, and is for the one alone, in any process.
    let copy = one(&*queue).await;
    assert_eq!((copy.event.extension("weirhandler"), copy.tries.failed, data(&copy)), (Some("tests"), 1, "1"));
    nothing_comes(&*queue, "weir-other").await;
    settle(&*queue, SUBSCRIPTION, copy, again(2)).await;
    queue.close().await;
    let queue = open(&format!("{}?list={key}&lease=2s", shared().url(0))).await.unwrap();
    for name in ["weir-other", SUBSCRIPTION] {
        queue.subscribe(name, Start::New).await.unwrap();
    }
    nothing_comes(&*queue, "weir-other").await;
    let copy = one(&*queue).await;
    assert_eq!(copy.tries.failed, 2);
    settle(&*queue, SUBSCRIPTION, copy, Settle::Ack).await;
    assert_eq!(queue.depth().await.unwrap().events, Some(0));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_come_when_they_are_due() {
    for (kind, unit) in [("zset=", 1_000.0), ("unit=ms&zset=", 1.0)] {
        let (queue, key) = subscribed(kind).await;
        let now = clock::now();
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of any date are exact")]
        let score = |millis: u64| format!("{}", millis as f64 / unit);
        let soon = now.after(Duration::from_millis(700));
        ask(&["ZADD", &key, &score(soon.0), "later", &score(now.0 - 5_000), "due", &score(now.0 + 3_600_000), "never"]);
        let due = one(&*queue).await;
        assert_eq!((data(&due), due.first_seen.0 / 1_000), ("due", (now.0 - 5_000) / 1_000), "{kind}");
        let later = one(&*queue).await;
        assert_eq!(data(&later), "later");
        assert!(clock::now() >= soon, "not before its time");
        settle(&*queue, SUBSCRIPTION, later, Settle::Ack).await;
        // Given back, it stands where it stood.
        settle(&*queue, SUBSCRIPTION, due, Settle::Return).await;
        queue.close().await;
        let stands = ask(&["ZRANGEBYSCORE", &key, "-inf", &score(clock::now().0)]);
        assert!(stands.contains("due"), "{stands}");
        assert_eq!(ask(&["ZCARD", &key]), ":2");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_members_are_as_many_as_were_published() {
    let (queue, key) = subscribed("zset=").await;
    queue.publish(vec![event(1), event(1)]).await.unwrap();
    queue.publish(vec![event(1)]).await.unwrap();
    let due = Some(clock::now().after(Duration::from_secs(3_600)));
    queue.publish(vec![Publish { due, ..event(2) }]).await.unwrap();
    let came = pull(&*queue, SUBSCRIPTION, 3).await;
    assert!(came.iter().all(|delivery| delivery.event.id == "event-1"));
    assert_eq!(ask(&["ZCARD", &key]), ":1", "what is due later is a member like others");
    // One is given back while an equal one was added.
    let body = String::from_utf8(crate::event::json::write(&came[0].event)).unwrap();
    ask(&["ZADD", &key, "1", &body]);
    for delivery in came {
        settle(&*queue, SUBSCRIPTION, delivery, Settle::Return).await;
    }
    assert_eq!(pull(&*queue, SUBSCRIPTION, 4).await.len(), 4);
    queue.close().await;
}
