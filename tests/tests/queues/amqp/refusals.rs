//! What the server refuses, and how it is told: never with a password.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use weir_runtime::clock;
use weir_runtime::event::Event;
use weir_runtime::queue::{Publish, QueueError, Settle, Start};

use super::own::{SOON, event, failed, nothing_comes, publish, pull, settle, text};
use super::*;
use crate::opened;

const HANDLER: &str = "weir-a";

/// Why it can't be opened.
async fn refused(url: &str) -> String {
    match opened(url, None).await {
        Err(QueueError::Invalid(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("{url} was opened"),
    }
}

/// The URL of somebody's, and how it is shown.
fn urls(server: &Server, login: &str, rest: &str) -> (String, String) {
    let port = server.port();
    (format!("amqp://{login}@127.0.0.1:{port}/{rest}"), format!("amqp://127.0.0.1:{port}/{rest}"))
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn who_is_not_let_in_is_told_at_once() {
    let (server, name) = (shared(Release::New), fresh());
    for (login, rest, says) in [
        (
            "guest:wr0ng",
            format!("%2F/{name}"),
            "the server refuses the login: ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile. [check user and password]",
        ),
        (
            "guest:guest",
            format!("nowhere/{name}"),
            "the virtual host can't be used: NOT_ALLOWED - vhost nowhere not found [rabbitmqctl add_vhost makes one, set_permissions lets a user in]",
        ),
        (
            "stranger:s3cret",
            format!("%2F/{name}"),
            "the virtual host can't be used: NOT_ALLOWED - access to vhost '/' refused for user 'stranger' [rabbitmqctl add_vhost makes one, set_permissions lets a user in]",
        ),
    ] {
        let (url, shown) = urls(server, login, &rest);
        assert_eq!(refused(&url).await, format!("`{shown}`: {says}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn what_is_there_otherwise_is_told_at_once() {
    let (server, stream, alone) = (shared(Release::New), fresh(), fresh());
    let channel = bare(server).await;
    declare(&channel, &stream, &[("x-queue-type", text("stream"))]).await;
    let (url, shown) = urls(server, "guest:guest", &format!("%2F/{stream}"));
    assert_eq!(
        refused(&url).await,
        format!("`{shown}`: `{stream}` is a queue of type `stream` (Weir reads `quorum` and `classic`)")
    );
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(alone.as_str().into(), exclusive, FieldTable::default()).await.unwrap();
    let (url, shown) = urls(server, "guest:guest", &format!("%2F/{alone}"));
    assert_eq!(
        refused(&url).await,
        format!(
            "`{shown}`: another connection has it for itself: RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{alone}' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."
        )
    );
    let (url, shown) = urls(server, "guest:guest", "%2F?exchange=amq.direct");
    assert_eq!(
        refused(&format!("{url}&exchange-type=topic")).await,
        format!(
            "`{shown}`: exchange `amq.direct` is there, and is not as `exchange-type=` says: PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'topic' but current is 'direct' [leave `exchange-type=` out, or name its own]"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn permissions_that_are_missing_are_named() {
    let (server, name) = (shared(Release::New), fresh());
    let channel = bare(server).await;
    let (url, shown) = urls(server, "reader:s3cret", &format!("%2F/{name}"));
    assert_eq!(
        refused(&url).await,
        format!(
            "`{shown}`: there is no queue `{name}`, and this user may not make it [rabbitmqctl set_permissions: configure `{name}`, or make the queue by hand]"
        )
    );
    let (url, shown) = urls(server, "reader:s3cret", &format!("%2F?exchange={name}"));
    assert_eq!(
        refused(&url).await,
        format!(
            "`{shown}`: there is no exchange `{name}`, and this user may not make it [rabbitmqctl set_permissions: configure `{name}`, or make the exchange by hand]"
        )
    );
    // One that is there, and its handler's queue: that can't be bound.
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(name.as_str().into(), ExchangeKind::Topic, options, FieldTable::default()).await.unwrap();
    let own = format!("{HANDLER}.{name}");
    declare(&channel, &own, &[("x-queue-type", text("quorum"))]).await;
    let queue = opened(&url, None).await.unwrap();
    let error = queue.subscribe(HANDLER, Start::New).await.unwrap_err();
    assert_eq!(
        error,
        QueueError::Invalid(format!(
            "`{shown}`: queue `{own}` can't be bound to exchange `{name}`: ACCESS_REFUSED - write access to queue '{own}' in vhost '/' refused for user 'reader' [it takes the permissions to write to the queue and to read the exchange]"
        ))
    );
    queue.close().await;
    // Who may not read may publish.
    let (url, shown) = urls(server, "writer:s3cret", &format!("%2F/{own}"));
    let queue = opened(&url, None).await.unwrap();
    publish(&*queue, "1", None).await.unwrap();
    let pulled = tokio::time::timeout(SOON, queue.pull(HANDLER, NonZeroUsize::MIN)).await.unwrap();
    assert_eq!(
        pulled.unwrap_err(),
        QueueError::Invalid(format!(
            "`{shown}`: this user may not read queue `{own}`: ACCESS_REFUSED - read access to queue '{own}' in vhost '/' refused for user 'writer' [rabbitmqctl set_permissions]"
        ))
    );
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq_old, ignore = "no RabbitMQ of the distribution on this machine: make tools")]
async fn who_may_only_read_parks_retries_here() {
    let (server, name) = (shared(Release::Old), fresh());
    let channel = bare(server).await;
    declare(&channel, &name, &[("x-queue-type", text("quorum"))]).await;
    let reader = opened(&format!("amqp://reader:s3cret@127.0.0.1:{}/%2F/{name}", server.port()), None).await.unwrap();
    send(&channel, &name, b"{}", BasicProperties::default().with_message_id("m".into())).await;
    let came = pull(&*reader, HANDLER).await;
    let due = clock::now().after(Duration::from_millis(1_500));
    settle(&*reader, HANDLER, came, Settle::Retry { due, tries: failed(1) }).await;
    let again = pull(&*reader, HANDLER).await;
    assert!(clock::now() >= due, "{:?} early", due.since(clock::now()));
    assert_eq!((again.event.id.as_str(), again.tries), ("m", failed(1)));
    let error = publish(&*reader, "1", None).await.unwrap_err().to_string();
    assert!(error.contains("this user may not write to exchange `amq.default`"), "{error}");
    settle(&*reader, HANDLER, again, Settle::Ack).await;
    nothing_comes(&*reader, HANDLER).await;
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_rabbitmq, ignore = "no RabbitMQ 4 on this machine: make tools")]
async fn an_oversized_event_is_refused_alone() {
    let queue = queue(shared(Release::New)).opened().await.unwrap();
    let large = Arc::new(Event {
        datacontenttype: Some("text/plain".to_owned()),
        data: Some(vec![b'x'; 3_000_000].into()),
        ..(*event("large")).clone()
    });
    for _ in 0..2 {
        let error = queue.publish(vec![Publish { event: Arc::clone(&large), due: None }]).await.unwrap_err();
        assert_eq!(error, QueueError::TooLarge { size: 3_000_000, bound: 2_000_000 });
    }
    assert!(queue.too_large(&[Publish { event: large, due: None }]).is_some());
    let begun = std::time::Instant::now();
    while let Err(error) = publish(&*queue, "small", None).await {
        assert!(matches!(error, QueueError::Unavailable(_)) && begun.elapsed() < SOON, "{error}");
        tokio::task::yield_now().await;
    }
    assert_eq!(pull(&*queue, HANDLER).await.event.id, "small");
    queue.close().await;
}
