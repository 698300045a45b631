//! What is RabbitMQ's own.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::BasicGetOptions;
use weir_runtime::clock;
use weir_runtime::event::Event;
use weir_runtime::queue::{Delivery, Publish, Queue, QueueError, Settle, Start, Tries};

use super::*;
use crate::opened;

const HANDLER: &str = "weir-a";

/// Longest wait for something that must happen.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) fn event(id: &str) -> Arc<Event> {
    let kind = "com.example.order".to_owned();
    Arc::new(Event { id: id.to_owned(), source: "/t".to_owned(), kind, data: Some("{}".into()), ..Event::default() })
}

pub(super) async fn publish(queue: &dyn Queue, id: &str, wait: Option<Duration>) -> Result<(), QueueError> {
    let due = wait.map(|wait| clock::now().after(wait));
    queue.publish(vec![Publish { event: event(id), due }]).await
}

pub(super) async fn pull(queue: &dyn Queue, handler: &str) -> Delivery {
    let pulled = tokio::time::timeout(SOON, queue.pull(handler, NonZeroUsize::MIN)).await;
    pulled.expect("something comes soon").unwrap().pop().unwrap()
}

pub(super) async fn settle(queue: &dyn Queue, handler: &str, delivery: Delivery, how: Settle) {
    let late = queue.settle(handler, vec![delivery.settle(how).1]).await.unwrap();
    assert!(late.is_empty(), "{late:?}");
}

pub(super) async fn nothing_comes(queue: &dyn Queue, handler: &str) {
    let pulled = tokio::time::timeout(Duration::from_millis(100), queue.pull(handler, NonZeroUsize::MIN)).await;
    assert!(pulled.is_err(), "{pulled:?} came");
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(super) fn failed(failed: u32) -> Tries {
    Tries { failed, ..Tries::default() }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn anybodys_messages_are_events() {
    let (server, name) = (shared(Release::Old), fresh());
    let queue = opened(&format!("{}/%2F/{name}", server.url()), None).await.unwrap();
    queue.subscribe(HANDLER, Start::New).await.unwrap();
    let channel = bare(server).await;
    send(&channel, &name, br#"{"a":1}"#, BasicProperties::default().with_message_id("m-1".into()).with_timestamp(1_700_000_000))
        .await;
    let plain = pull(&*queue, HANDLER).await;
    assert_eq!((plain.event.id.as_str(), plain.event.kind.as_str()), ("m-1", "com.example.raw"));
    assert_eq!((plain.first_seen.0, plain.event.data.as_deref()), (1_700_000_000_000, Some(&br#"{"a":1}"#[..])));
    settle(&*queue, HANDLER, plain, Settle::Ack).await;
    let mut headers = FieldTable::default();
    for (name, value) in
        [("cloudEvents_specversion", "1.0"), ("cloudEvents_id", "7"), ("cloudEvents:source", "/s"), ("cloudEvents:type", "t")]
    {
        headers.insert(name.into(), text(value));
    }
    let properties =
        BasicProperties::default().with_headers(headers).with_content_type("text/plain".into()).with_correlation_id("c".into());
    send(&channel, &name, b"hello", properties).await;
    let binary = pull(&*queue, HANDLER).await;
    assert_eq!((binary.event.id.as_str(), binary.event.extension("correlationid")), ("7", Some("c")));
    // It keeps what it is over a retry.
    let sent = binary.event.clone();
    settle(&*queue, HANDLER, binary, Settle::Retry { due: clock::now(), tries: Tries { outside: 1, ..failed(0) } }).await;
    let again = pull(&*queue, HANDLER).await;
    assert_eq!((&again.event, again.tries.outside), (&sent, 1));
    settle(&*queue, HANDLER, again, Settle::Ack).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn what_is_published_is_a_cloudevent_of_amqp() {
    let (server, name) = (shared(Release::New), fresh());
    let queue = opened(&format!("{}/%2F/{name}", server.url()), None).await.unwrap();
    publish(&*queue, "o-1", None).await.unwrap();
    let channel = bare(server).await;
    let got = channel.basic_get(name.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap().unwrap();
    let properties = &got.delivery.properties;
    let headers = properties.headers().as_ref().unwrap().inner();
    for (name, value) in [("specversion", "1.0"), ("id", "o-1"), ("source", "/t"), ("type", "com.example.order")] {
        assert_eq!(headers[format!("cloudEvents:{name}").as_str()], text(value));
    }
    assert!(properties.message_id().is_some() && properties.timestamp().is_some());
    assert_eq!((properties.delivery_mode(), got.delivery.data.as_slice()), (&Some(2), &b"{}"[..]));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn an_unroutable_publish_is_an_error() {
    let (server, name) = (shared(Release::New), fresh());
    let queue = opened(
        &format!("{}/%2F?exchange={name}&routing=com.example.order&exchange-type=direct&publish-key=other", server.url()),
        None,
    )
    .await
    .unwrap();
    queue.subscribe(HANDLER, Start::New).await.unwrap();
    let error = publish(&*queue, "1", None).await.unwrap_err().to_string();
    let url = format!("amqp://127.0.0.1:{}/%2F?exchange={name}", server.port());
    assert_eq!(
        error,
        format!(
            "`{url}`: no queue is bound to exchange `{name}` for the routing key `other` (NO_ROUTE) [bind one, or set `publish-key=`]"
        )
    );
    // With the key that its queue is bound with, it comes; beside it, what is not for anybody is told by its own caller.
    let good = opened(&format!("{}/%2F?exchange={name}&routing=com.example.order", server.url()), None).await.unwrap();
    let (bad, fine) = tokio::join!(
        futures_util::future::join_all((0..20).map(|number| publish_id(&*queue, number))),
        futures_util::future::join_all((0..20).map(|number| publish_id(&*good, number)))
    );
    assert!(bad.iter().all(Result::is_err) && fine.iter().all(Result::is_ok), "{bad:?} {fine:?}");
    for _ in 0..20 {
        let came = pull(&*queue, HANDLER).await;
        settle(&*queue, HANDLER, came, Settle::Ack).await;
    }
    nothing_comes(&*queue, HANDLER).await;
    queue.close().await;
    good.close().await;
}

pub(super) async fn publish_id(queue: &dyn Queue, number: u32) -> Result<(), QueueError> {
    publish(queue, &number.to_string(), None).await
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn routing_keys_choose_and_each_handler_has_its_own_queue() {
    let (server, name) = (shared(Release::Old), fresh());
    let url = |more: &str| format!("{}/%2F?exchange={name}{more}", server.url());
    let orders = opened(&url("&routing=com.example.*&routing=x"), None).await.unwrap();
    let others = opened(&url("&routing=other.%23").replace("%2F?", "%2F/others?"), None).await.unwrap();
    for queue in [&orders, &others] {
        queue.subscribe(HANDLER, Start::New).await.unwrap();
    }
    orders.subscribe("weir-b", Start::New).await.unwrap();
    publish(&*orders, "1", None).await.unwrap();
    for handler in [HANDLER, "weir-b"] {
        let came = pull(&*orders, handler).await;
        assert_eq!(came.event.id, "1");
        settle(&*orders, handler, came, Settle::Ack).await;
    }
    nothing_comes(&*others, HANDLER).await;
    let channel = bare(server).await;
    for queue in [format!("weir-a.{name}"), format!("weir-b.{name}"), "weir-a.others".to_owned()] {
        channel
            .queue_declare(queue.as_str().into(), QueueDeclareOptions::durable().passive(), FieldTable::default())
            .await
            .unwrap();
    }
    orders.unsubscribe("weir-b").await.unwrap();
    let gone = channel.queue_declare(
        format!("weir-b.{name}").as_str().into(),
        QueueDeclareOptions::durable().passive(),
        FieldTable::default(),
    );
    assert!(gone.await.is_err(), "the queue of a handler that was forgotten is there");
    orders.close().await;
    others.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn long_waits_go_in_steps_without_a_try() {
    const WAIT: Duration = Duration::from_millis(3_700);
    let queue = queue(shared(Release::New)).opened().await.unwrap();
    queue.subscribe(HANDLER, Start::New).await.unwrap();
    publish(&*queue, "1", None).await.unwrap();
    let came = pull(&*queue, HANDLER).await;
    let due = clock::now().after(WAIT);
    settle(&*queue, HANDLER, came, Settle::Retry { due, tries: failed(2) }).await;
    let again = pull(&*queue, HANDLER).await;
    let late = clock::now();
    assert!(late >= due, "{:?} early", due.since(late));
    assert!(late.since(due) < Duration::from_secs(3), "{:?} late", late.since(due));
    assert_eq!(again.tries, failed(2));
    settle(&*queue, HANDLER, again, Settle::Ack).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn a_classic_queue_counts_too() {
    let (server, name) = (shared(Release::Old), fresh());
    declare(&bare(server).await, &name, &[]).await;
    let url = format!("{}/%2F/{name}", server.url());
    let mut queue = opened(&url, None).await.unwrap();
    publish(&*queue, "1", None).await.unwrap();
    for killed in 0..3 {
        counted(&*queue, killed).await;
        drop(queue);
        queue = opened(&url, None).await.unwrap();
    }
    let came = counted(&*queue, 3).await;
    settle(&*queue, HANDLER, came, Settle::Return).await;
    // What is given back costs no try.
    let came = counted(&*queue, 3).await;
    settle(&*queue, HANDLER, came, Settle::Ack).await;
    queue.close().await;
}

/// The event with so many tries: a kill between a copy and the acknowledgement of its original leaves both.
async fn counted(queue: &dyn Queue, tries: u32) -> Delivery {
    loop {
        let came = pull(queue, HANDLER).await;
        if came.tries == failed(tries) {
            return came;
        }
        assert!(came.tries.failed < tries, "{:?} after {tries} kills", came.tries);
        settle(queue, HANDLER, came, Settle::Ack).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn a_limit_of_deliveries_ends_nothing() {
    let (server, name) = (shared(Release::New), fresh());
    declare(&bare(server).await, &name, &[("x-queue-type", text("quorum")), ("x-delivery-limit", AMQPValue::LongInt(1))]).await;
    let queue = opened(&format!("{}/%2F/{name}", server.url()), None).await.unwrap();
    publish(&*queue, "1", None).await.unwrap();
    for tries in 1..5 {
        let came = pull(&*queue, HANDLER).await;
        settle(&*queue, HANDLER, came, Settle::Retry { due: clock::now(), tries: failed(tries) }).await;
    }
    let came = pull(&*queue, HANDLER).await;
    assert_eq!(came.tries, failed(4));
    settle(&*queue, HANDLER, came, Settle::Ack).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn nothing_is_sent_that_nobody_asks_for() {
    let (server, name) = (shared(Release::New), fresh());
    let queue = opened(&format!("{}/%2F/{name}", server.url()), None).await.unwrap();
    queue.window(HANDLER, NonZeroUsize::new(4).unwrap());
    for id in 0..10 {
        publish_id(&*queue, id).await.unwrap();
    }
    let mut held = Vec::new();
    while held.len() < 3 {
        held.push(pull(&*queue, HANDLER).await);
    }
    let ready = bare(server)
        .await
        .queue_declare(name.as_str().into(), QueueDeclareOptions::durable().passive(), FieldTable::default())
        .await
        .unwrap();
    assert!(ready.message_count() >= 6, "only {} are left for others, of ten, with three asked for", ready.message_count());
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn two_handlers_of_one_queue_each_see_every_event() {
    let queue = queue(shared(Release::New)).opened().await.unwrap();
    for handler in ["weir-a", "weir-b"] {
        queue.subscribe(handler, Start::New).await.unwrap();
    }
    publish(&*queue, "1", None).await.unwrap();
    let (mine, other) = (pull(&*queue, "weir-a").await, pull(&*queue, "weir-b").await);
    assert_eq!((mine.event.id.as_str(), other.event.id.as_str()), ("1", "1"));
    settle(&*queue, "weir-a", mine, Settle::Ack).await;
    // A retry is a copy for the one that asked for it.
    settle(&*queue, "weir-b", other, Settle::Retry { due: clock::now(), tries: failed(1) }).await;
    let again = pull(&*queue, "weir-b").await;
    assert_eq!((again.event.id.as_str(), again.tries), ("1", failed(1)));
    settle(&*queue, "weir-b", again, Settle::Ack).await;
    for handler in ["weir-a", "weir-b"] {
        nothing_comes(&*queue, handler).await;
    }
    queue.close().await;
}
