//! What a handler publishes leaves when it is done, before its event is acknowledged, or not at all.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site, event};

use crate::stream;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const RETRY: &str = "retry = { attempts = 2, backoff = \"10ms..20ms\" }\n";

/// A handler `it` of the queue `events`, which may publish to `mails` and to itself.
fn site(events: &str, mails: &str, more: &str) -> Site {
    let queues = format!("[queue.events]\nurl = \"{events}\"\n[queue.mails]\nurl = \"{mails}\"\n");
    let grants = format!("{RETRY}grants = {{ publish = [\"mails\", \"self\"] }}\n");
    Site::new(&format!("{queues}{more}{}", crate::handler("it", guests::SERVER_PUBLISH, &grants)))
}

/// A handler of the queue `mails`.
fn reader(name: &str, component: &str) -> String {
    let publishes = component == guests::SERVER_PUBLISH;
    let grants = if publishes { "grants = { publish = [\"self\"] }\n" } else { "" };
    format!("[handler.{name}]\ncomponent = \"{component}\"\nqueue = \"mails\"\n{grants}")
}

fn ended(server: &Server, handler: &str, state: &str) -> u64 {
    server.metrics().sum("weir_events_ended_total", &[("handler", handler), ("state", state)])
}

#[test]
pub(crate) fn what_is_published_leaves_with_done_or_never() {
    let name = "what_is_published_leaves";
    let (events, mails) = (stream(&format!("{name}_events")), stream(&format!("{name}_mails")));
    for (events, mails) in [("disk:./data/events", "disk:./data/mails"), (&events, &mails)] {
        let readers = format!("{}{}", reader("reads", guests::SERVER_PUBLISH), reader("rejects", guests::OUTCOME_REJECT));
        let site = site(events, mails, &readers);
        let server = site.start();
        for then in ["retry", "trap", "done"] {
            let mut event = event(then, &json!(format!("mails 0 {then}")));
            event["traceparent"] = json!(TRACE);
            assert_eq!(server.publish("events", &event).status, 202);
        }
        server.ended(5);
        assert_eq!((ended(&server, "it", "acked"), ended(&server, "it", "dead")), (1, 2), "{events}");
        assert_eq!((ended(&server, "reads", "acked"), ended(&server, "rejects", "dead")), (1, 1), "{events}");
        let said = server.logged("a published", 1);
        assert_eq!(said[0]["message"], format!("a published with the trace {TRACE}"), "{events}");
        let dead = server.dead();
        let letter = dead.iter().find(|letter| letter["handler"] == "rejects").unwrap();
        let event = &letter["event"];
        assert_eq!((&event["weirhops"], &event["traceparent"]), (&json!("1"), &json!(TRACE)), "{events}: {letter}");
        assert_eq!((&event["source"], &event["type"]), (&json!("weir:handler/it"), &json!("published")), "{events}: {letter}");
        assert_eq!(server.metrics().sum("weir_events_received_total", &[("handler", "reads")]), 1, "{events}");
    }
}

/// Publishes to a queue until it takes no more.
fn fill(server: &Server, queue: &str) -> u64 {
    let mut taken = 0;
    for size in [4_000, 0] {
        while server.publish(queue, &event(&taken.to_string(), &json!("x".repeat(size)))).status == 202 {
            taken += 1;
        }
    }
    taken
}

#[test]
fn a_target_that_is_full_costs_no_attempt() {
    for mails in ["memory:", "disk:./data/mails"] {
        let mails = format!("{mails}\"\nmax-size = \"128KiB\"\nstart = \"all");
        let site = site("disk:./data/events", &mails, &reader("reads", guests::SERVER_LOG));
        let server = site.start();
        let _ = site.run(&["handlers", "pause", "reads"]).ending(0);
        let full = fill(&server, "mails");
        server.accept("events", "1", &json!("mails 0 done"));
        server.eventually("it fails from outside, again and again", |server| {
            server.handler("it")["outcomes"]["host"].as_u64() >= Some(4)
        });
        assert_eq!(server.dead(), [] as [Value; 0]);
        let _ = site.run(&["handlers", "resume", "reads"]).ending(0);
        server.ended(full + 2);
        assert_eq!((ended(&server, "it", "acked"), ended(&server, "reads", "acked")), (1, full + 1));
        let told = server.stop().with("event will be tried again");
        assert!(told.iter().all(|line| line["outcome"] == "host" && line["attempt"] == 1), "{told:?}");
        assert!(told[0]["reason"].as_str().unwrap().contains("queue `mails`"), "{told:?}");
    }
}

/// The same on Redis: a server that is away, and one that has no memory left.
#[test]
fn a_target_on_redis_that_takes_nothing_costs_no_attempt() {
    let mut redis = RedisServer::start(Keeps::Always, &[]);
    let mails = format!("{}?stream=mails", redis.url(0));
    let site = site(&stream("a_target_on_redis"), &mails, &reader("reads", guests::SERVER_LOG));
    let server = site.start();
    for (number, is_full) in [(1, true), (2, false)] {
        if is_full {
            assert!(redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).starts_with("+OK"));
        } else {
            redis.stop();
        }
        let before = server.handler("it")["outcomes"]["host"].as_u64();
        server.accept("events", &number.to_string(), &json!("mails 0 done"));
        server.eventually("it fails from outside, again and again", |server| {
            server.handler("it")["outcomes"]["host"].as_u64() >= before.map(|before| before + 4)
        });
        assert_eq!(ended(&server, "it", "dead"), 0);
        if is_full {
            assert!(redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).starts_with("+OK"));
        } else {
            redis.start_again();
        }
        server.ended(2 * number);
    }
    assert_eq!((ended(&server, "it", "acked"), ended(&server, "reads", "acked")), (2, 2));
    let told = server.stop().with("event will be tried again");
    assert!(told.iter().all(|line| line["outcome"] == "host" && line["attempt"] == 1), "{told:?}");
}

/// One queue could never hold its part: nothing is published, to no queue.
#[test]
fn what_one_target_could_never_hold_keeps_all_back() {
    let more = format!("[queue.small]\nurl = \"memory:\"\nmax-size = \"1KiB\"\n{}", reader("reads", guests::SERVER_LOG));
    let queues = format!("[queue.events]\nurl = \"memory:\"\n[queue.mails]\nurl = \"memory:\"\n{more}");
    let grants = format!("{RETRY}grants = {{ publish = [\"mails\", \"small\"] }}\n");
    let site = Site::new(&format!("{queues}{}", crate::handler("it", guests::SERVER_PUBLISH, &grants)));
    let server = site.start();
    server.accept("events", "1", &json!("mails,small:2000 0 done"));
    server.ended(1);
    let dead = server.dead();
    assert!(dead[0]["outcome"] == "reject" && dead[0]["reason"].as_str().unwrap().contains("queue `small`"), "{dead:?}");
    assert_eq!(server.metrics().sum("weir_events_received_total", &[("handler", "reads")]), 0);
}

#[test]
fn what_is_published_for_later_survives_a_restart() {
    let name = "what_is_published_for_later";
    let (events, mails) = (stream(&format!("{name}_events")), stream(&format!("{name}_mails")));
    for (events, mails) in [("disk:./data/events", "disk:./data/mails"), (&events, &mails)] {
        let site = site(events, mails, &reader("reads", guests::SERVER_PUBLISH));
        let server = site.start();
        let begun = Instant::now();
        server.accept("events", "1", &json!("mails 2000 done"));
        server.ended(1);
        let _ = server.stop();
        let server = site.start();
        server.ended(1);
        assert!(begun.elapsed() >= Duration::from_secs(2), "{events}: {:?}", begun.elapsed());
        assert_eq!(ended(&server, "reads", "acked"), 1, "{events}");
    }
}

#[test]
fn what_a_handler_publishes_to_itself_is_for_it_alone() {
    let name = "what_a_handler_publishes_to_itself";
    for events in ["memory:", "disk:./data/events", &stream(name)] {
        let site = site(events, "memory:", &crate::handler("other", guests::SERVER_LOG, ""));
        let server = site.start();
        server.accept("events", "1", &json!("self 50 done"));
        server.ended(4);
        assert_eq!(ended(&server, "it", "acked"), 2, "{events}");
        assert_eq!((ended(&server, "other", "acked"), ended(&server, "other", "filtered")), (1, 1), "{events}");
        let _ = server.logged("a published with the trace none", 1);
    }
}

#[test]
pub(crate) fn a_loop_ends() {
    let pass = |name: &str, from: &str, to: &str| {
        let more = format!("config = {{ to = \"{to}\" }}\ngrants = {{ publish = [\"{to}\"] }}\n");
        format!("[handler.{name}]\ncomponent = \"{}\"\nqueue = \"{from}\"\n{more}", guests::SERVER_PASS)
    };
    for (a, b) in [("disk:./data/a", "disk:./data/b"), (&stream("a_loop_ends_a"), &stream("a_loop_ends_b"))] {
        let queues = format!("[queue.a]\nurl = \"{a}\"\n[queue.b]\nurl = \"{b}\"\n");
        let site = Site::new(&format!("{queues}{}{}", pass("there", "a", "b"), pass("back", "b", "a")));
        let server = site.start();
        server.accept("a", "1", &json!("round and round"));
        // It descends through as many handlers as it may, and would through one more.
        server.ended(18);
        let dead = server.dead();
        assert_eq!(dead.len(), 1, "{dead:?}");
        let letter = &dead[0];
        assert!(letter["reason"].as_str().unwrap().starts_with("loop"), "{letter}");
        assert_eq!((&letter["outcome"], &letter["attempts"]), (&Value::Null, &json!(0)), "{letter}");
        let event = &letter["event"];
        assert_eq!((&event["weirhops"], &event["data"]), (&json!("17"), &json!("round and round")), "{letter}");
    }
}
