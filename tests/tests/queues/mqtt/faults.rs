//! What goes wrong: brokers that are away, stop, forget or fall silent, and those that say no.

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_runtime::clock;
use weir_runtime::event::Event;
use weir_runtime::queue::{Publish, QueueError, Settle, Start, Tries};
use weir_tests::brokers::mosquitto;
use weir_tests::brokers::stall::Stall;

use super::rig::{READS, ack, event, health_says, ids, nothing_comes, publish, publish_at_last, pull, subscribed};
use super::{SOON, fresh, opened_as, shared};

async fn refused(url: &str) -> String {
    match opened_as(url, &fresh()).await {
        Err(QueueError::Invalid(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("`{url}` was opened"),
    }
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn a_broker_may_be_away_when_it_is_opened() {
    let mut server = mosquitto::start("");
    server.process().stop();
    let url = format!("{}/{}", server.url(), fresh());
    let queue = opened_as(&url, &fresh()).await.unwrap();
    let health = queue.health();
    assert!(!health.connected_once && health.error.as_ref().is_some_and(|error| error.contains(&url)), "{health:?}");
    assert!(matches!(queue.subscribe(READS, Start::New).await, Err(QueueError::Unavailable(_))));
    assert!(matches!(queue.publish(vec![event("0")]).await, Err(QueueError::Unavailable(_))));
    server.start_again();
    health_says(&*queue, None).await;
    assert!(queue.health().connected_once);
    publish(&*queue, &["1"]).await;
    let came = pull(&*queue, 1).await;
    ack(&*queue, came).await;
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn a_broker_that_forgets_everything_costs_nothing_that_is_held() {
    let mut server = mosquitto::start("");
    let queue = subscribed(opened_as(&format!("{}/{}", server.url(), fresh()), &fresh()).await).await;
    publish(&*queue, &["1", "2"]).await;
    let held = pull(&*queue, 2).await;
    // Killed, it has written nothing down.
    server.process().kill();
    health_says(&*queue, Some("")).await;
    server.start_again();
    publish_at_last(&*queue, "3").await;
    ack(&*queue, held).await;
    let came = pull(&*queue, 1).await;
    assert_eq!(ids(&came), ["3"]);
    ack(&*queue, came).await;
    nothing_comes(&*queue).await;
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn a_connection_that_falls_silent_is_made_again() {
    let stall = Stall::before(shared().port());
    let url = format!("mqtt://127.0.0.1:{}/{}?keepalive=5s", stall.port(), fresh());
    let queue = subscribed(opened_as(&url, &fresh()).await).await;
    publish(&*queue, &["1", "2"]).await;
    let held = pull(&*queue, 2).await;
    stall.silence();
    health_says(&*queue, Some("the broker does not answer")).await;
    stall.speak();
    // What came again meanwhile is what is held: it runs once.
    ack(&*queue, held).await;
    publish_at_last(&*queue, "3").await;
    let came = pull(&*queue, 1).await;
    assert_eq!(ids(&came), ["3"]);
    ack(&*queue, came).await;
    nothing_comes(&*queue).await;
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn what_waits_for_another_try_outlives_the_connection() {
    let mut server = mosquitto::start("");
    let queue = subscribed(opened_as(&format!("{}/{}", server.url(), fresh()), &fresh()).await).await;
    publish(&*queue, &["1"]).await;
    let came = pull(&*queue, 1).await.remove(0);
    let tries = Tries { failed: 2, ..Tries::default() };
    let due = clock::now().after(Duration::from_millis(700));
    let retry = came.settle(Settle::Retry { due, tries }).1;
    assert_eq!(queue.settle(READS, vec![retry]).await, Ok(Vec::new()));
    server.process().stop();
    server.start_again();
    let again = pull(&*queue, 1).await;
    assert!(clock::now() >= due, "it came early");
    assert_eq!(again[0].tries, tries);
    ack(&*queue, again).await;
    nothing_comes(&*queue).await;
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn two_processes_of_one_name_are_told() {
    let (url, name) = (format!("{}/{}", shared().url(), fresh()), fresh());
    let one = subscribed(opened_as(&url, &name).await).await;
    let other = opened_as(&url, &name).await.unwrap();
    // Each takes the other's place, so this may fail: it is the one that comes last.
    let _ = other.subscribe(READS, Start::New).await;
    health_says(&*one, Some("[processes that share a queue need a `[server] name` each]")).await;
    one.close().await;
    other.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn a_wrong_login_is_refused() {
    let server = mosquitto::start_with_login("ann", "s3cret", "orders/#", "");
    let (at, port) = ("127.0.0.1", server.port());
    for login in ["", "ann:wr0ng@", "bob:s3cret@"] {
        let error = refused(&format!("mqtt://{login}{at}:{port}/orders/new")).await;
        let says = "the broker does not let us in: not authorised [check the login in the URL, or allow this client there]";
        assert_eq!(error, format!("`mqtt://{at}:{port}/orders/new`: {says}"), "{login}");
    }
    let queue = subscribed(opened_as(&format!("mqtt://ann:s3cret@{at}:{port}/orders/new"), &fresh()).await).await;
    publish(&*queue, &["1"]).await;
    let came = pull(&*queue, 1).await;
    ack(&*queue, came).await;
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn a_topic_that_may_not_be_written_is_named() {
    let server = mosquitto::start_with_login("ann", "s3cret", "read/#", "");
    let url = format!("mqtt://ann:s3cret@127.0.0.1:{}/secret", server.port());
    let queue = opened_as(&url, &fresh()).await.unwrap();
    // A connection may be lost at any time, on a busy machine: asked again, as a producer does.
    let begun = Instant::now();
    let error = loop {
        let error = queue.publish(vec![event("1")]).await.unwrap_err();
        if !matches!(error, QueueError::Unavailable(_)) || begun.elapsed() > SOON {
            break error;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let shown = url.replace("ann:s3cret@", "");
    let says = "we may not publish to `secret` [allow this login to write it]";
    assert_eq!(error, QueueError::Invalid(format!("`{shown}`: {says}")));
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn what_is_too_large_for_the_broker_is_refused_before_it_leaves() {
    let server = mosquitto::start("max_packet_size 4000");
    let queue = subscribed(opened_as(&format!("{}/{}", server.url(), fresh()), &fresh()).await).await;
    let large = Event { data: Some(vec![b'0'; 5_000].into()), ..(*event("1").event).clone() };
    let large = Publish { event: Arc::new(large), due: None };
    for batch in [vec![large.clone()], vec![event("2"), large]] {
        assert!(matches!(queue.too_large(&batch), Some(QueueError::TooLarge { bound: 4_000, .. })));
        let refused = queue.publish(batch).await;
        assert!(matches!(refused, Err(QueueError::TooLarge { size: 5_000.., bound: 4_000 })), "{refused:?}");
    }
    publish(&*queue, &["3"]).await;
    let came = pull(&*queue, 1).await;
    assert_eq!(ids(&came), ["3"]);
    ack(&*queue, came).await;
    queue.close().await;
}

#[tokio::test]
#[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
async fn a_broker_with_tls_is_known_by_its_certificate_and_knows_us_by_ours() {
    let server = mosquitto::start_with_tls();
    let file = |name: &str| server.folder().join(name).display().to_string();
    let topic = format!("{}/{}", server.url(), fresh());
    let url = format!("{topic}?ca={}&cert={}&key={}", file("ca.pem"), file("server.pem"), file("server.key"));
    let queue = subscribed(opened_as(&url, &fresh()).await).await;
    publish(&*queue, &["1"]).await;
    let came = pull(&*queue, 1).await;
    ack(&*queue, came).await;
    queue.close().await;
    let error = refused(&format!("{topic}?ca={}", file("missing.pem"))).await;
    assert!(error.starts_with(&format!("`{topic}`: the certificates {}", file("missing.pem"))), "{error}");
    let stranger = opened_as(&topic, &fresh()).await;
    // This machine may trust nobody at all.
    if let Ok(queue) = stranger {
        health_says(&*queue, Some("no TLS: ")).await;
        queue.close().await;
    }
}

#[tokio::test]
async fn what_listens_there_and_is_no_broker_is_told_from_one() {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let mut open = Vec::new();
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(format!("HTTP/1.1 400 Bad Request\r\nServer: {}\r\n\r\n", "x".repeat(100)).as_bytes());
            open.push(stream);
        }
    });
    let queue = opened_as(&format!("mqtt://127.0.0.1:{port}/a"), &fresh()).await.unwrap();
    health_says(&*queue, Some("[is it an MQTT 5 broker?]")).await;
    queue.close().await;
}
