//! What of a queue a handler takes: by its filter, by its age, by whom an event is for.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Server, Site, event};

use crate::{handler, one_handler, stream};

fn ended(server: &Server, handler: &str, state: &str) -> u64 {
    server.metrics().sum("weir_events_ended_total", &[("handler", handler), ("state", state)])
}

fn with(id: &str, data: &Value, more: &[(&str, Value)]) -> Value {
    let mut event = event(id, data);
    for (name, value) in more {
        event[*name] = value.clone();
    }
    event
}

#[test]
fn what_does_not_match_ends_as_filtered() {
    for url in ["memory:", "disk:./data/events", &stream("what_does_not_match")] {
        let queue = format!("[queue.events]\nurl = \"{url}\"\n");
        let paid = handler("paid", guests::SERVER_LOG, "filter = \"type = 'paid'\"");
        let large = handler("large", guests::SERVER_LOG, "filter = \"amount > 10\"");
        let site = Site::new(&format!("{queue}{paid}{large}"));
        let server = site.start();
        for (at, kind) in ["paid", "ordered", "paid"].into_iter().enumerate() {
            for (name, amount) in [("small", Some(9)), ("large", Some(11)), ("none", None)] {
                let mut event = with(&format!("{kind} {name} {at}"), &Value::Null, &[("type", json!(kind))]);
                if let Some(amount) = amount {
                    event["amount"] = json!(amount);
                }
                assert_eq!(server.publish("events", &event).status, 202);
            }
        }
        server.ended(18);
        assert_eq!((ended(&server, "paid", "acked"), ended(&server, "paid", "filtered")), (6, 3), "{url}");
        assert_eq!((ended(&server, "large", "acked"), ended(&server, "large", "filtered")), (3, 6), "{url}");
        let said = server.logged("the filter has no answer", 1);
        assert_eq!((&said[0]["handler"], &said[0]["level"]), (&json!("large"), &json!("WARN")), "{url}");
        assert!(said[0]["error"].as_str().unwrap().contains("amount"), "{url}: {said:?}");
        assert_eq!(server.metrics().sum("weir_attempts_total", &[]), 9, "{url}: what is filtered is not run");
        assert_eq!(server.dead().len(), 0, "{url}");
        assert!(!server.stop().events("handled").iter().any(|id| id.starts_with("ordered small")), "{url}");
    }
}

#[test]
fn a_filter_that_is_wrong_is_shown_before_the_start() {
    let site = Site::new(&one_handler("memory:", guests::SERVER_LOG, "filter = \"type = \""));
    for args in [&["check"][..], &["serve"]] {
        let ran = site.run(args).ending(2);
        assert!(ran.stderr.contains("handler.it.filter") && ran.stderr.contains('^'), "{ran:?}");
    }
}

/// Older than that by when its queue had it, or when it was due.
#[test]
fn what_is_too_old_ends_as_expired() {
    for url in ["disk:./data/events", &stream("what_is_too_old")] {
        let more = "expires = \"1s\"\nconcurrency = 1\n";
        let site = Site::new(&one_handler(url, guests::SERVER_SLOW, more));
        let server = site.start();
        let begun = Instant::now();
        server.accept("events", "slow", &json!(1_500));
        server.eventually("it runs", |server| server.metrics().sum("weir_events_in_flight", &[]) == 1);
        server.accept("events", "late", &json!(0));
        let delayed = event("delayed", &json!(0)).to_string();
        let answer = server.post("/events/events?delay=2s", "application/cloudevents+json", &delayed);
        assert_eq!(answer.status, 202, "{answer:?}");
        server.ended(3);
        assert!(begun.elapsed() >= Duration::from_secs(2), "{url}");
        assert_eq!((ended(&server, "it", "acked"), ended(&server, "it", "expired")), (2, 1), "{url}");
        assert_eq!(server.stop().events("slept"), ["slow", "delayed"], "{url}");
    }
}

#[test]
fn an_event_may_say_itself_when_it_expires() {
    for url in ["memory:", &stream("an_event_may_say_itself")] {
        let site = Site::new(&one_handler(url, guests::SERVER_LOG, ""));
        let server = site.start();
        for (id, time) in [("past", "2020-01-01T00:00:00Z"), ("future", "2099-01-01T00:00:00+01:00")] {
            let event = with(id, &Value::Null, &[("expirytime", json!(time))]);
            assert_eq!(server.publish("events", &event).status, 202);
        }
        server.ended(2);
        assert_eq!(ended(&server, "it", "expired"), 1, "{url}");
        assert_eq!(server.stop().events("handled"), ["future"], "{url}");
    }
}

/// Age is looked at before each run, not only the first.
#[test]
fn a_retry_may_come_too_late() {
    let more = "expires = \"400ms\"\nretry.backoff = \"1s..1s\"\n";
    let site = Site::new(&one_handler("disk:./data/events", guests::SERVER_UNTIL, more));
    let server = site.start();
    server.accept("events", "1", &json!(99));
    server.ended(1);
    assert_eq!(ended(&server, "it", "expired"), 1);
    assert_eq!(server.dead().len(), 0);
}

#[test]
fn a_replay_is_taken_by_its_own_handler_alone() {
    for url in ["memory:", "disk:./data/events", &stream("a_replay_is_taken")] {
        let queue = format!("[queue.events]\nurl = \"{url}\"\n");
        let own = "filter = \"type = 'test'\"\nduplicates = \"10m\"\nexpires = \"1h\"\n";
        let site = Site::new(&format!(
            "{queue}{}{}",
            handler("it", guests::OUTCOME_REJECT, own),
            handler("other", guests::SERVER_LOG, "")
        ));
        let server = site.start();
        server.accept("events", "1", &Value::Null);
        server.ended(2);
        let id = server.dead()[0]["id"].as_str().unwrap().to_owned();
        let ran = site.run(&["dead", "replay", &id]).ending(0);
        assert_eq!(ran.stdout, "replayed 1\n", "{url}");
        server.ended(4);
        assert_eq!((ended(&server, "other", "acked"), ended(&server, "other", "filtered")), (1, 1), "{url}");
        assert_eq!((ended(&server, "it", "dead"), server.dead().len()), (2, 1), "{url}");
        let to = server.dead()[0]["id"].as_str().unwrap().to_owned();
        let _ = site.run(&["dead", "replay", &to, "--handler", "other"]).ending(0);
        server.ended(6);
        assert_eq!((ended(&server, "other", "acked"), ended(&server, "it", "filtered")), (2, 1), "{url}");
        assert_eq!(server.dead().len(), 0, "{url}");
    }
}
