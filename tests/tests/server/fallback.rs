//! `fallback` of a queue: events are taken while its broker is away, outlive a kill, and reach the broker when it is back.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site, event};

use crate::one_handler;

fn site(redis: &RedisServer, component: &str, more: &str) -> Site {
    let url = format!("{}?stream=events&lease=1s\"\nfallback = \"disk:./data/late", redis.url(0));
    Site::new(&one_handler(&url, component, more))
}

fn held(server: &Server) -> u64 {
    server.metrics().sum("weir_fallback_events", &[("queue", "events")])
}

/// The server knows that its broker is away.
fn sees_it_away(server: &Server) {
    let degraded = |server: &Server| {
        let ready = server.get("/readyz");
        ready.status == 200 && ready.text.contains("queue `events` is away, its fallback takes events")
    };
    server.eventually("the broker is seen to be away", degraded);
}

fn all_handled(handled: &[String], prefix: &str, count: usize) {
    let handled: BTreeSet<&str> = handled.iter().map(String::as_str).collect();
    let missing: Vec<String> = (0..count).map(|at| format!("{prefix}{at}")).filter(|id| !handled.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?} never came");
}

#[test]
fn what_is_published_while_the_broker_is_away_arrives() {
    let mut redis = RedisServer::start(Keeps::Always, &[]);
    let site = site(&redis, guests::SERVER_LOG, "");
    let server = site.start();
    server.accept("events", "before", &Value::Null);
    server.ended(1);
    assert_eq!((held(&server), server.get("/readyz").status), (0, 200));

    redis.stop();
    // One by one, a batch, by the command, with a delay: from the very moment.
    for at in 0..20 {
        server.accept("events", &format!("e{at}"), &Value::Null);
    }
    sees_it_away(&server);
    let batch: Vec<Value> = (20..300).map(|at| event(&format!("e{at}"), &Value::Null)).collect();
    assert_eq!(server.publish_batch("events", &batch).status, 202);
    let _ = site.run(&["publish", "events", "--type", "t", "--id", "e300"]).ending(0);
    let late = server.post("/events/events?delay=1s", "application/cloudevents+json", &event("e301", &Value::Null).to_string());
    assert_eq!(late.status, 202);
    assert_eq!(held(&server), 302);
    let shown = site.run(&["queues", "--json"]).ending(0).json();
    let fallback = &shown[0]["fallback"];
    assert_eq!(
        (&fallback["depth"], &fallback["taken"], &fallback["forwarded"]),
        (&json!(302), &json!(302), &json!(0)),
        "{shown}"
    );
    let text = site.run(&["queues"]).ending(0).stdout;
    assert!(text.contains("events: 302 wait in its fallback `disk:"), "{text}");
    let _ = server.logged("broker is away: the fallback takes events, and forwards them in another order when it is back", 1);

    let _ = server.kill9_unasked();
    // Without a server it is asked itself.
    let shown = site.run(&["queues", "--json"]).ending(0).json();
    assert_eq!((&shown[0]["fallback"]["depth"], &shown[0]["connected"]), (&json!(302), &json!(false)), "{shown}");
    redis.start_again();
    let server = site.start();
    server.eventually("all of it has been handled", |server| {
        held(server) == 0 && server.metrics().sum("weir_events_ended_total", &[("state", "acked")]) >= 302
    });
    let _ = server.logged("broker is back: all that the fallback held is forwarded", 1);
    assert_eq!(server.get("/readyz").status, 200);
    all_handled(&server.stop().events("handled"), "e", 302);
}

/// Killed while it forwards: what was under way may come twice, nothing is lost.
#[test]
fn a_kill_while_it_forwards_loses_nothing() {
    let mut redis = RedisServer::start(Keeps::Always, &[]);
    let site = site(&redis, guests::SERVER_LOG, "duplicates = \"10m\"");
    let server = site.start();
    redis.stop();
    for from in (0..2_000).step_by(500) {
        let batch: Vec<Value> = (from..from + 500).map(|at| event(&format!("e{at}"), &Value::Null)).collect();
        assert_eq!(server.publish_batch("events", &batch).status, 202);
    }
    redis.start_again();
    let forwarded = |server: &Server| server.metrics().sum("weir_fallback_forwarded_total", &[]);
    server.eventually("it forwards", |server| forwarded(server) > 0);
    let mut handled = server.kill9_unasked().events("handled");
    let server = site.start();
    server.eventually("nothing is left", |server| {
        let depth = server.metrics().sum("weir_queue_depth", &[("queue", "events")]);
        held(server) == 0 && depth == 0
    });
    handled.extend(server.stop().events("handled"));
    all_handled(&handled, "e", 2_000);
}

/// The broker is away from the start: not ready, and events are taken all the same (delivery.md §10, §12).
#[test]
fn it_takes_events_before_the_broker_was_ever_reached() {
    let mut redis = RedisServer::start(Keeps::Nothing, &[]);
    redis.stop();
    let site = site(&redis, guests::SERVER_LOG, "");
    let server = site.start();
    assert_eq!(server.get("/readyz").status, 503);
    server.accept("events", "e0", &Value::Null);
    redis.start_again();
    server.ended(1);
    server.eventually("it is ready", |server| server.get("/readyz").status == 200);
    assert_eq!(server.stop().events("handled"), ["e0"]);
}

/// What handlers publish is taken too, and the bound holds.
#[test]
fn handlers_publish_into_it_and_it_is_bounded() {
    let mut redis = RedisServer::start(Keeps::Nothing, &[]);
    let config = format!(
        "[queue.events]\nurl = \"memory:\"\n[queue.out]\nurl = \"{}?stream=out\"\nfallback = \"disk:./data/late\"\nmax-size = \"2KiB\"\n{}",
        redis.url(0),
        crate::handler("it", guests::SERVER_PASS, "grants.publish = [\"out\"]\nconfig.to = \"out\"")
    );
    let site = Site::new(&config);
    let server = site.start();
    // Nobody reads the queue: it is reached a moment later.
    server.eventually("it is ready", |server| server.get("/readyz").status == 200);
    redis.stop();
    server.accept("events", "1", &Value::Null);
    server.ended(1);
    assert_eq!(server.handler("it")["ended"]["acked"], 1, "{}", server.log().tail());
    assert_eq!(server.metrics().sum("weir_fallback_events", &[("queue", "out")]), 1);
    let full = |server: &Server| server.publish("out", &event("more", &json!("x".repeat(200)))).status == 429;
    server.eventually("it is full", full);
    let ready = server.get("/readyz");
    assert!(ready.status == 503 && ready.text.contains("nor can its fallback"), "{ready:?}");
}
