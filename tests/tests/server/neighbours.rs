//! Several handlers and queues in one server: who sees what, and that none stands in another's way.

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Server, Site};

use crate::handler;

fn publish(server: &Server, queue: &str, count: u64) {
    let events: Vec<Value> = (0..count).map(|at| weir_tests::server::event(&format!("{queue}-{at}"), &Value::Null)).collect();
    let answer = server.publish_batch(queue, &events);
    assert_eq!((answer.status, &answer.body["accepted"]), (202, &json!(count)), "{answer:?}");
}

#[test]
fn two_handlers_on_one_queue_each_see_every_event() {
    for url in ["memory:", "disk:./data/events"] {
        let queue = format!("[queue.events]\nurl = \"{url}\"\n");
        let site = Site::new(&format!("{queue}{}{}", handler("a", guests::SERVER_LOG, ""), handler("b", guests::SERVER_LOG, "")));
        let server = site.start();
        publish(&server, "events", 100);
        server.ended(200);
        for name in ["a", "b"] {
            assert_eq!(server.handler(name)["ended"]["acked"], 100, "{url}");
            assert_eq!(server.metrics().sum("weir_events_received_total", &[("queue", "events"), ("handler", name)]), 100);
        }
        server.eventually("nothing waits", |server| server.get("/api/queues").body[0]["depth"] == 0);
    }
}

#[test]
fn one_handler_reads_two_queues() {
    let mut config = "[queue.old]\nurl = \"memory:\"\n[queue.new]\nurl = \"disk:./data/new\"\n".to_owned();
    config.push_str(&format!("[handler.it]\ncomponent = \"{}\"\nqueue = [\"old\", \"new\"]\n", guests::SERVER_LOG));
    let server = Site::new(&config);
    let server = server.start();
    assert!(server.ready_line().ends_with(" queues=2 handlers=1"), "{}", server.ready_line());
    publish(&server, "old", 10);
    publish(&server, "new", 20);
    server.ended(30);
    let metrics = server.metrics();
    let acked = |queue| metrics.sum("weir_events_ended_total", &[("queue", queue), ("handler", "it"), ("state", "acked")]);
    assert_eq!((acked("old"), acked("new")), (10, 20));
    assert_eq!(server.handler("it")["queue"], json!(["old", "new"]));
    // A guest is told the queue.
    let _ = server.logged("queue old", 10);
}

#[test]
fn a_handler_that_was_removed_leaves_an_orphan() {
    let queue = "[queue.events]\nurl = \"disk:./data/events\"\n";
    let it = handler("it", guests::SERVER_LOG, "");
    let site = Site::new(&format!("{queue}{it}{}", handler("gone", guests::SERVER_LOG, "")));
    let server = site.start();
    publish(&server, "events", 1);
    server.ended(2);
    let _ = server.stop();
    site.configure(&format!("{queue}{it}"));
    let server = site.start();
    publish(&server, "events", 5);
    server.ended(5);
    let orphan = |queues: &Value| {
        let all = queues[0]["subscriptions"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["orphan"] == true).unwrap()
    };
    let shown = orphan(&site.run(&["queues", "--json"]).ending(0).json());
    assert_eq!((&shown["handler"], &shown["depth"]), (&json!("gone"), &json!(5)), "{shown}");
    assert_eq!(server.get("/api/queues").body[0]["depth"], 5, "an orphan keeps its events");
    assert!(site.run(&["queues"]).ending(0).stdout.contains("gone (orphan)"));
    // A warning at every start.
    assert_eq!(server.logged("orphaned subscription", 1)[0]["handler"], "gone");
}

#[test]
fn a_handler_that_loops_does_not_hold_up_its_neighbour() {
    let mut config = "[queue.loops]\nurl = \"memory:\"\n[queue.events]\nurl = \"disk:./data/events\"\n".to_owned();
    let limits = "fuel = 10_000_000_000\ndeadline = \"5m\"";
    config.push_str(&format!("[handler.loops]\ncomponent = \"{}\"\nqueue = \"loops\"\nconcurrency = 8\n", guests::LIMIT_LOOP));
    config.push_str(&format!("[handler.loops.limits]\n{limits}\n{}", handler("good", guests::SERVER_LOG, "")));
    let site = Site::new(&config);
    let server = site.start();
    publish(&server, "loops", 8);
    let looping = |server: &Server| server.metrics().sum("weir_events_in_flight", &[("handler", "loops")]);
    server.eventually("all of them loop", |server| looping(server) == 8);
    publish(&server, "events", 500);
    server.eventually("the neighbour's events are handled", |server| server.handler("good")["ended"]["acked"] == 500);
    assert_eq!(looping(&server), 8, "and meanwhile the others have looped on");
    assert_eq!(server.get("/readyz").status, 200);
    let _ = server.kill9();
}

#[test]
fn what_ended_is_acknowledged_while_slow_ones_still_run() {
    let ids = |what: &str, count: u64, sleeps: u64| -> Vec<Value> {
        (0..count).map(|at| weir_tests::server::event(&format!("{what} {at}"), &json!(sleeps))).collect()
    };
    for url in ["memory:", "disk:./data/events"] {
        let site = Site::new(&crate::one_handler(url, guests::SERVER_SLOW, "concurrency = 16"));
        let server = site.start();
        // Fewer fast ones than are gathered before they are settled together, and every runner ends up with a slow one.
        let (fast, slow) = (4, 12);
        let events = [ids("fast", fast, 0), ids("slow", slow, 25_000)].concat();
        assert_eq!(server.publish_batch("events", &events).status, 202);
        server.eventually(&format!("{url}: the fast ones are acknowledged, the slow ones run"), |server| {
            let metrics = server.metrics();
            let acked = metrics.sum("weir_events_ended_total", &[("handler", "it"), ("state", "acked")]);
            (acked, metrics.sum("weir_events_in_flight", &[("handler", "it")])) == (fast, slow)
        });
        assert_eq!(server.log().events("slept, attempt 1").iter().filter(|id| id.starts_with("slow")).count(), 0, "{url}");
        let _ = server.kill9();
    }
}
