//! `map` of a queue: a producer's own envelope becomes the event, over HTTP, by the command and on a broker.

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site};

use crate::one_handler;

const MAP: &str = "map = { type = \"/topic\", id = \"/id\", subject = \"/account\", data = \"/payload\", tenant = \"/meta/0\" }";

/// Takes what was mapped; what was wrapped ends as filtered.
const FILTER: &str = "filter = \"type = 'order.paid' AND subject = 'ann' AND tenant = 'b' AND source = '/weir/queue/events'\"";

fn envelope(id: &str) -> Value {
    json!({ "topic": "order.paid", "id": id, "account": "ann", "payload": { "n": 1 }, "meta": ["b"] })
}

fn ended(server: &Server, state: &str) -> u64 {
    server.metrics().sum("weir_events_ended_total", &[("state", state)])
}

#[test]
fn envelopes_become_events_wherever_they_come_in() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let url = format!("{}?stream=events\"\n{MAP}\n#", redis.url(0));
    let site = Site::new(&one_handler(&url, guests::SERVER_LOG, FILTER));
    let server = site.start();
    let answer = server.post("/events/events", "application/json", &envelope("http").to_string());
    assert_eq!((answer.status, &answer.body["ids"]), (202, &json!(["http"])), "{answer:?}");
    let _ = site.run_with(&["publish", "events", "--stdin"], &envelope("line").to_string()).ending(0);
    // As its one field, whatever that is called, and as several.
    let _ = redis.ask(&["XADD", "events", "*", "body", &envelope("field").to_string()]);
    server.ended(3);
    assert_eq!(ended(&server, "acked"), 3);
    // What does not fit is wrapped as it was: it ends as filtered here.
    let misfit = json!({ "topic": "order.paid", "account": "ann", "payload": 1 });
    for body in [misfit.to_string(), "[1]".to_owned(), "text".to_owned()] {
        let _ = redis.ask(&["XADD", "events", "*", "body", &body]);
    }
    let _ = redis.ask(&["XADD", "events", "*", "topic", "order.paid", "id", "flat"]);
    assert_eq!(server.post("/events/events", "application/json", &misfit.to_string()).status, 202);
    // A CloudEvent is what it says, whatever else is in it.
    let mut own = envelope("own");
    for (name, value) in [("specversion", "1.0"), ("source", "/own"), ("type", "own")] {
        own[name] = Value::from(value);
    }
    assert_eq!(server.post("/events/events", "application/cloudevents+json", &own.to_string()).status, 400);
    server.ended(8);
    assert_eq!((ended(&server, "acked"), ended(&server, "filtered")), (3, 5));
    let mut handled = server.stop().events("handled");
    handled.sort_unstable();
    assert_eq!(handled, ["field", "http", "line"]);
}

#[test]
fn a_wrong_pointer_is_found_by_check() {
    let site = Site::new(&one_handler(
        "disk:./data/events\"\nmap = { type = \"topic\", data = \"/a~2\", weirhops = \"/h\" }\n#",
        guests::SERVER_LOG,
        "",
    ));
    let told = site.run(&["check", "--json"]).ending(2).json();
    let told: Vec<(u64, &str)> = told["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["line"].as_u64().unwrap(), error["key"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(4, "queue.events.map.type"), (4, "queue.events.map.data"), (4, "queue.events.map.weirhops")]);
    let text = site.run(&["check"]).ending(2).stderr;
    for says in ["is not a JSON pointer (RFC 6901)", "it begins with `/`: `/topic`", "is nothing that can be mapped"] {
        assert!(text.contains(says), "{says}:\n{text}");
    }
}
