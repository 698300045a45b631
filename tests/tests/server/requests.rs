//! Requests over core NATS: what a handler replies goes to who asked, when it is done.

use std::time::{Duration, Instant};

use async_nats::{Client, Message};
use serde_json::{Value, json};
use weir_tests::brokers::nats;
use weir_tests::guests;
use weir_tests::server::Site;

use crate::handler;

/// Longer than `reply-within` of the queue, and long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

async fn ask(client: &Client, subject: &str, data: &str) -> Message {
    let request = async_nats::Request::new().payload(json!(data).to_string().into()).timeout(Some(PATIENCE));
    client.send_request(subject.to_owned(), request).await.unwrap()
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    message.headers.as_ref().and_then(|headers| headers.get(name)).map_or("", |value| value.as_str())
}

#[test]
#[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
pub(crate) fn requests_are_answered() {
    let broker = nats::start("");
    let queue = format!("[queue.events]\nurl = \"{}/jobs.*?reply-within=2s\"\n", broker.url());
    let retry = "retry = { attempts = 5, backoff = \"10ms..20ms\" }\n";
    let site = Site::new(&format!("{queue}{}", handler("it", guests::SERVER_REPLY, retry)));
    let server = site.start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = async_nats::connect(broker.url()).await.unwrap();
        let answer = ask(&client, "jobs.one", "hello").await;
        assert_eq!((&*answer.payload, header(&answer, "ce-type")), (&b"\"hello\""[..], "answer"), "{answer:?}");
        assert_eq!((header(&answer, "ce-source"), header(&answer, "ce-specversion")), ("weir:handler/it", "1.0"), "{answer:?}");
        assert!(!header(&answer, "ce-id").is_empty(), "{answer:?}");
        for (data, says) in [("retry", "retry: later"), ("trap", "trap: "), ("slow", "deadline: ")] {
            let begun = Instant::now();
            let answer = ask(&client, "jobs.one", data).await;
            let said = header(&answer, "Nats-Service-Error");
            assert!(said.starts_with(says) && answer.payload.is_empty(), "{data}: {answer:?}");
            assert_eq!(header(&answer, "Nats-Service-Error-Code"), "500", "{data}");
            assert!(data != "slow" || begun.elapsed() >= Duration::from_secs(2), "it ended after {:?}", begun.elapsed());
        }
        // Nobody waits for this one: it is as any event, and replying has no effect.
        client.publish("jobs.two", json!("alone").to_string().into()).await.unwrap();
        client.flush().await.unwrap();
    });
    server.ended(5);
    assert_eq!(server.metrics().sum("weir_events_ended_total", &[("state", "acked")]), 2);
    let dead = server.dead();
    let attempts: Vec<&Value> = dead.iter().map(|letter| &letter["attempts"]).collect();
    assert_eq!(attempts, [&json!(1), &json!(1), &json!(1)], "requests are tried once: {dead:#?}");
    assert!(server.log().says("\\\"alone\\\" wants a reply: false"), "{}", server.log().tail());
}
