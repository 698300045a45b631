//! What a server does not do for us, in words.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;

use weir_runtime::queue::{QueueError, Tries};

use super::*;

async fn refused(url: &str) -> String {
    match opened(url, None).await {
        Err(QueueError::Invalid(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(queue) => match queue.subscribe(SUBSCRIPTION, Start::New).await {
            Err(QueueError::Invalid(text)) => text,
            other => panic!("{other:?}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn what_is_too_large_is_refused_and_the_rest_is_not() {
    let server = nsq::start("-max-msg-size=2000");
    let queue = subscribed(&url(&server, "lease=2s")).await;
    let large = Event { data: Some(format!("\"{}\"", "x".repeat(100_000)).into()), ..(*event(0)).clone() };
    for _ in 0..2 {
        let answer = queue.publish(vec![at_once(1), Publish { event: Arc::new(large.clone()), due: None }]).await;
        assert!(matches!(answer, Err(QueueError::TooLarge { size: 100_001.., bound: 2_000 })), "{answer:?}");
    }
    publish(&*queue, 2..3).await;
    assert_eq!(ids_of(&take(&*queue, 1).await), ids(2..3));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn order_is_refused() {
    let queue = subscribed(&url(shared(), "lease=2s")).await;
    assert_eq!(queue.keep_order(SUBSCRIPTION), Err(QueueError::Unsupported("order")));
    assert_eq!(queue.features().hold, Some(Duration::from_secs(900)));
    queue.note(SUBSCRIPTION, weir_runtime::queue::Position(1), Tries::default());
    let without = opened(shared().url().to_owned().as_str(), None).await.err();
    assert!(matches!(without, Some(QueueError::Invalid(text)) if text.contains("the topic is missing")));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn settings_that_a_server_does_not_take_are_named() {
    let server = nsq::start("-max-msg-timeout=10s");
    let topic = fresh();
    let at = format!("{}/{topic}", server.url());
    assert_eq!(
        refused(&format!("{at}?lease=11s")).await,
        format!(
            "{at}: the server answers `E_BAD_BODY IDENTIFY msg timeout (11000) is invalid` [`lease=` is above the server's `-max-msg-timeout`]"
        )
    );
    let long = "x".repeat(65);
    let queue = opened(&format!("{at}?lease=2s"), None).await.unwrap();
    let error = queue.subscribe(&long, Start::New).await.unwrap_err().to_string();
    assert_eq!(error, format!("{at}: channel `{long}` is no name to NSQ (expected 1 to 64 letters, digits, `.`, `_` and `-`)"));
    queue.close().await;
}

/// Something else listens there: said in the queue's state, as it may be a server that is being replaced.
#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn another_server_is_no_nsqd() {
    let queue = subscribed(&format!("nsq://127.0.0.1:{}/{}", shared().http().unwrap(), fresh())).await;
    let error = queue.health().error.unwrap();
    assert!(error.contains("[is this an nsqd?]"), "{error}");
    queue.close().await;
}

fn certificates(folder: &Path) {
    weir_tests::redis::certificates(folder);
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn connections_are_secured() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let at = folder.path().display();
    let server = nsq::start(&format!("-tls-cert={at}/server.pem -tls-key={at}/server.key -tls-required=true"));
    let topic = format!("nsq://localhost:{}/{}", server.port(), fresh());
    assert_eq!(
        refused(&format!("{topic}?lease=2s")).await,
        format!("{topic}: the server answers `E_INVALID cannot SUB in current state (TLS required)` [add `tls=yes` to the URL]")
    );
    let error = refused(&format!("{topic}?tls=yes")).await;
    assert!(error.starts_with(&format!("{topic}: no TLS with localhost")), "{error}");
    let error = refused(&format!("{topic}?tls=yes&ca={at}/nothing.pem")).await;
    assert!(error.contains("nothing.pem"), "{error}");
    let queue = subscribed(&format!("{topic}?tls=yes&ca={at}/ca.pem&lease=2s")).await;
    publish(&*queue, 0..100).await;
    let came = take(&*queue, 100).await;
    assert_eq!(ids_of(&came), ids(0..100));
    settle(&*queue, came, Settle::Ack).await;
    queue.close().await;
    let plain = shared();
    let error = refused(&format!("{}/{}?tls=yes&ca={at}/ca.pem", plain.url(), fresh())).await;
    assert!(error.contains("offers no TLS"), "{error}");
}

/// Answers an nsqd's questions of who may do what, as an operator's own service does: the secret `right` may do all with topics `q…`.
fn auth_service() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut asked, mut some) = (Vec::new(), [0; 4_096]);
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                let count = stream.read(&mut some).unwrap_or(0);
                if count == 0 {
                    break;
                }
                asked.extend_from_slice(&some[..count]);
            }
            let asked = String::from_utf8_lossy(&asked).into_owned();
            let topic = if asked.contains("secret=right") { "q.*" } else { "other" };
            let body = format!(
                r#"{{"ttl":3600,"identity":"t","identity_url":"","authorizations":[{{"topic":"{topic}","channels":[".*"],"permissions":["subscribe","publish"]}}]}}"#
            );
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(without_nsq, ignore = "no nsqd on this machine: make tools")]
async fn a_secret_is_asked_for_and_never_shown() {
    let server = nsq::start(&format!("-auth-http-address=127.0.0.1:{}", auth_service()));
    let (port, topic) = (server.port(), fresh());
    let at = format!("nsq://127.0.0.1:{port}/{topic}");
    let error = refused(&format!("{at}?lease=2s")).await;
    assert_eq!(
        error,
        format!(
            "{at}: 127.0.0.1:{port} asks for a secret [write it into the URL, as in `nsq://:${{NSQ_SECRET}}@host:4150/topic`]"
        )
    );
    let error = refused(&format!("nsq://:s3cret@127.0.0.1:{port}/{topic}?lease=2s")).await;
    assert_eq!(
        error,
        format!(
            "{at}: the server answers `E_UNAUTHORIZED AUTH failed for SUB on \\\"{topic}\\\" \\\"{SUBSCRIPTION}\\\"` \
             [the secret needs `publish` and `subscribe` for this topic and its channels]"
        )
    );
    let queue = subscribed(&format!("nsq://:right@127.0.0.1:{port}/{topic}?lease=2s")).await;
    publish(&*queue, 0..1).await;
    assert_eq!(take(&*queue, 1).await.len(), 1);
    queue.close().await;
}
