//! What is MQTT's own: filters, sessions, acknowledgements in order, what is retained, QoS 0, nobody who reads.

use std::num::NonZeroUsize;
use std::sync::Arc;

use weir_runtime::event::Event;
use weir_runtime::queue::{Publish, QueueError, Start};

use super::plain::Plain;
use super::rig::{READS, ack, event, ids, nothing_comes, publish, pull, subscribed};
use super::{fresh, opened_as, shared};

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn filters_with_wildcards_are_read_only_and_messages_keep_their_topic() {
    let base = fresh();
    let url = format!("{}/{base}/+/temp/#", shared().url());
    let queue = subscribed(opened_as(&url, &fresh()).await).await;
    let mut sensor = Plain::connect(shared().port());
    for topic in ["7/temp", "8/temp/max", "7/wind"] {
        sensor.publish(&format!("{base}/{topic}"), b"21.5", false);
    }
    let came = pull(&*queue, 2).await;
    let mut subjects: Vec<_> = came.iter().map(|one| one.event.subject.clone().unwrap()).collect();
    subjects.sort();
    assert_eq!(subjects, [format!("{base}/7/temp"), format!("{base}/8/temp/max")]);
    let first = &came[0].event;
    assert_eq!((first.kind.as_str(), first.source.as_str()), ("com.example.raw", "/weir/queue/orders"));
    assert_eq!((first.data.as_deref(), first.datacontenttype.as_deref()), (Some(&b"21.5"[..]), Some("application/json")));
    ack(&*queue, came).await;
    nothing_comes(&*queue).await;
    let refused = queue.publish(vec![event("1")]).await.unwrap_err();
    assert_eq!(refused.to_string(), format!("`{url}` stands for several topics, so it is only read [name one topic]"));
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn what_waits_for_an_absent_process_comes_when_it_is_back() {
    let (url, name) = (format!("{}/{}", shared().url(), fresh()), fresh());
    let queue = subscribed(opened_as(&url, &name).await).await;
    queue.close().await;
    let other = opened_as(&url, &fresh()).await.unwrap();
    publish(&*other, &["1", "2"]).await;
    let queue = opened_as(&url, &name).await.unwrap();
    let came = pull(&*queue, 2).await;
    assert_eq!(ids(&came), ["1", "2"]);
    ack(&*queue, came).await;
    queue.close().await;
    other.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn what_ended_behind_something_that_runs_comes_again_after_a_kill() {
    let (url, name) = (format!("{}/{}", shared().url(), fresh()), fresh());
    let queue = subscribed(opened_as(&url, &name).await).await;
    publish(&*queue, &["1", "2", "3", "4"]).await;
    let mut came = pull(&*queue, 4).await;
    came.sort_by(|one, other| one.event.id.cmp(&other.event.id));
    let fourth = came.pop().unwrap();
    let runs = came.remove(1);
    ack(&*queue, came).await;
    drop((runs, fourth, queue));
    let queue = opened_as(&url, &name).await.unwrap();
    let came = pull(&*queue, 3).await;
    assert_eq!(ids(&came), ["2", "3", "4"], "the first alone had nothing before it");
    ack(&*queue, came).await;
    nothing_comes(&*queue).await;
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn no_more_than_the_window_is_held() {
    let queue = opened_as(&format!("{}/{}", shared().url(), fresh()), &fresh()).await.unwrap();
    queue.window(READS, NonZeroUsize::new(3).unwrap());
    let queue = subscribed(Ok(queue)).await;
    publish(&*queue, &["1", "2", "3", "4", "5"]).await;
    let held = pull(&*queue, 3).await;
    nothing_comes(&*queue).await;
    ack(&*queue, held).await;
    let last = pull(&*queue, 2).await;
    ack(&*queue, last).await;
    queue.close().await;
}

/// Mosquitto before 2.0.12 sends as many again for each acknowledgement (`docs/queues/mqtt.md`).
#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn a_broker_that_sends_more_than_was_asked_for_fills_no_memory_and_loses_nothing() {
    const EVENTS: usize = 120;
    let queue = opened_as(&format!("{}/{}", shared().url(), fresh()), &fresh()).await.unwrap();
    queue.window(READS, NonZeroUsize::new(3).unwrap());
    let queue = subscribed(Ok(queue)).await;
    let mut sent: Vec<String> = (100..100 + EVENTS).map(|number| number.to_string()).collect();
    for id in &sent {
        let small = event(id);
        let large = Event { data: Some(vec![b'1'; 1 << 20].into()), ..(*small.event).clone() };
        queue.publish(vec![Publish { event: Arc::new(large), due: None }]).await.unwrap();
    }
    let mut came = Vec::new();
    while came.len() < EVENTS {
        let one = pull(&*queue, 1).await;
        came.extend(ids(&one).into_iter().map(str::to_owned));
        ack(&*queue, one).await;
    }
    came.sort();
    sent.sort();
    assert_eq!(came, sent);
    nothing_comes(&*queue).await;
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn what_is_retained_comes_once_and_only_when_asked_for() {
    let topic = fresh();
    let mut sensor = Plain::connect(shared().port());
    sensor.publish(&topic, b"old", true);
    let url = format!("{}/{topic}", shared().url());
    let skips = subscribed(opened_as(&url, &fresh()).await).await;
    nothing_comes(&*skips).await;
    // Its session would get every other message.
    skips.unsubscribe(READS).await.unwrap();
    skips.close().await;
    let (url, name) = (format!("{url}?retain=take"), fresh());
    let takes = subscribed(opened_as(&url, &name).await).await;
    let came = pull(&*takes, 1).await;
    assert_eq!(came[0].event.data.as_deref(), Some(&b"old"[..]));
    ack(&*takes, came).await;
    takes.close().await;
    let again = subscribed(opened_as(&url, &name).await).await;
    nothing_comes(&*again).await;
    // One that is published while we listen is as any other.
    sensor.publish(&topic, b"new", true);
    let came = pull(&*again, 1).await;
    assert_eq!(came[0].event.data.as_deref(), Some(&b"new"[..]));
    ack(&*again, came).await;
    nothing_comes(&*again).await;
    again.close().await;
    sensor.publish(&topic, b"", true);
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn a_publish_that_nobody_reads_is_an_error_unless_it_may_be() {
    let url = format!("{}/{}", shared().url(), fresh());
    let queue = opened_as(&url, &fresh()).await.unwrap();
    let topic = url.rsplit('/').next().unwrap();
    let refused = queue.publish(vec![event("1")]).await.unwrap_err();
    let says = "the broker dropped the message, nobody subscribes to";
    let says = format!("`{url}`: {says} `{topic}` [start what reads it first, or add `unread=drop`]");
    assert_eq!(refused, QueueError::Unavailable(says));
    let careless = opened_as(&format!("{url}?unread=drop"), &fresh()).await.unwrap();
    publish(&*careless, &["1"]).await;
    queue.close().await;
    careless.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn messages_of_qos_0_are_taken_while_there_is_room() {
    let topic = fresh();
    let queue = opened_as(&format!("{}/{topic}", shared().url()), &fresh()).await.unwrap();
    queue.window(READS, NonZeroUsize::new(2).unwrap());
    let queue = subscribed(Ok(queue)).await;
    let mut sensor = Plain::connect(shared().port());
    for number in 0..10 {
        sensor.send_off(&topic, format!("{number}").as_bytes());
    }
    sensor.publish(&topic, b"last", false);
    let mut bodies = Vec::new();
    while bodies.last().is_none_or(|body| body != "last") {
        let came = pull(&*queue, 1).await;
        bodies.extend(came.iter().map(|one| String::from_utf8(one.event.data.clone().unwrap().to_vec()).unwrap()));
        // Not acknowledged: they keep their room.
    }
    assert_eq!(bodies, ["0", "1", "last"]);
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn one_handler_reads_two_topics_of_one_broker() {
    let name = fresh();
    let mut queues = Vec::new();
    for _ in 0..2 {
        queues.push(subscribed(opened_as(&format!("{}/{}", shared().url(), fresh()), &name).await).await);
    }
    for (queue, id) in queues.iter().zip(["1", "2"]) {
        publish(&**queue, &[id]).await;
        let came = pull(&**queue, 1).await;
        assert_eq!(ids(&came), [id]);
        ack(&**queue, came).await;
    }
    for queue in queues {
        assert_eq!(queue.health().error, None);
        queue.close().await;
    }
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn a_subscription_that_was_removed_is_not_made_by_a_pull() {
    let (url, name) = (format!("{}/{}", shared().url(), fresh()), fresh());
    let queue = subscribed(opened_as(&url, &name).await).await;
    publish(&*queue, &["1"]).await;
    queue.unsubscribe(READS).await.unwrap();
    let refused = queue.pull(READS, NonZeroUsize::MIN).await.unwrap_err();
    let says = "subscription `weir-reads` is not known to queue `orders` (removed, or never made: subscribe first)";
    assert_eq!(refused, QueueError::Invalid(format!("`{url}`: {says}")));
    queue.subscribe(READS, Start::New).await.unwrap();
    nothing_comes(&*queue).await;
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn processes_share_what_comes_and_each_keeps_its_part() {
    let url = format!("{}/{}", shared().url(), fresh());
    let names = [fresh(), fresh()];
    let one = subscribed(opened_as(&url, &names[0]).await).await;
    publish(&*one, &["1", "2"]).await;
    let other = subscribed(opened_as(&url, &names[1]).await).await;
    publish(&*one, &["3", "4", "5", "6"]).await;
    let (ones, others) = (pull(&*one, 4).await, pull(&*other, 2).await);
    let mut all: Vec<&str> = ids(&ones).into_iter().chain(ids(&others)).collect();
    all.sort_unstable();
    assert_eq!(all, ["1", "2", "3", "4", "5", "6"]);
    // One leaves with something in hand: it is its own when it is back, and nobody else's.
    let kept: Vec<String> = ids(&others).into_iter().map(str::to_owned).collect();
    ack(&*one, ones).await;
    other.close().await;
    nothing_comes(&*one).await;
    let other = opened_as(&url, &names[1]).await.unwrap();
    let others = pull(&*other, 2).await;
    assert_eq!(ids(&others), kept);
    ack(&*other, others).await;
    one.close().await;
    other.close().await;
}
