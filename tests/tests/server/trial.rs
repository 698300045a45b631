//! `weir try` with an event of one's own: what it says, and that it changes nothing unless it is told to.

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Site, event};

use crate::{handler, one_handler};

const GRANT: &str =
    "[handler.it.grants]\nemail = { relay = \"file:./outbox\", from = \"qa@example.com\", to = [\"*@example.com\"] }\n";

fn site(component: &str, more: &str) -> Site {
    let site = Site::new(&one_handler("disk:./data/events", component, more));
    site.write("event.json", event("1", &json!("ann@example.com")).to_string().as_bytes());
    site
}

fn mails(site: &Site) -> usize {
    std::fs::read_dir(site.path("outbox")).map_or(0, Iterator::count)
}

#[test]
fn it_says_what_an_event_comes_to() {
    let site = site(guests::SERVER_MAIL, GRANT);
    let tried = site.run(&["try", "event.json", "--json"]).ending(0).json();
    let keys: Vec<&str> = tried.as_object().unwrap().keys().map(String::as_str).collect();
    for field in ["outcome", "limit", "reason", "fuel", "memory", "seconds", "log", "mails", "published"] {
        assert!(keys.contains(&field), "{field}: {tried}");
    }
    assert!(tried["fuel"].as_u64().unwrap() > 0 && tried["seconds"].as_f64().unwrap() > 0.0, "{tried}");
    assert_eq!((tried["mails"].as_array().unwrap().len(), &tried["published"]), (1, &json!([])));
    let mail = &tried["mails"][0];
    assert_eq!((&mail["to"], &mail["subject"], &mail["text"]), (&json!(["ann@example.com"]), &json!("hello"), &json!("hello")));
    assert!(mail["message"].as_str().unwrap().contains("\r\nMIME-Version: 1.0\r\n"), "{mail}");
    assert!(!site.path("outbox").exists() && !site.path(".weir").exists() && !site.path("data").exists(), "nothing is made");
    // A recipient outside the grant is refused as it would be live, and the handler rejects the event.
    site.write("event.json", event("1", &json!("ann@elsewhere.example")).to_string().as_bytes());
    let refused = site.run(&["try", "event.json", "--json"]).ending(1).json();
    assert_eq!((&refused["outcome"], &refused["mails"]), (&json!("reject"), &json!([])), "{refused}");
    assert!(refused["reason"].as_str().unwrap().contains("is not granted"), "{refused}");
}

#[test]
fn the_limits_of_the_handler_hold() {
    let site = site(guests::SERVER_LOG, "[handler.it.limits]\nfuel = 100_000\n");
    let tried = site.run(&["try", "event.json", guests::LIMIT_LOOP, "--json"]).ending(1).json();
    assert_eq!((&tried["outcome"], &tried["limit"]), (&json!("fuel"), &json!({"name": "fuel", "value": 100_000})), "{tried}");
    assert!(!tried["backtrace"].as_array().unwrap().is_empty(), "{tried}");
    let told = site.run(&["try", "event.json", guests::LIMIT_LOOP]).ending(1);
    assert!(told.stdout.contains("limit    fuel = 100000\n") && told.stdout.contains("would be tried again"), "{told:?}");
    assert!(told.stderr.contains("as handler `it`"), "{told:?}");
    let set = ["try", "event.json", guests::LIMIT_LOOP, "--json", "--set", "handler.it.limits.fuel=200000"];
    assert_eq!(site.run(&set).ending(1).json()["limit"]["value"], 200_000);
}

#[test]
fn a_component_runs_without_any_configuration() {
    let site = site(guests::SERVER_LOG, "");
    std::fs::remove_file(site.path("weir.toml")).unwrap();
    let tried = site.run(&["try", "event.json", guests::SERVER_LOG, "--json"]).ending(0);
    assert!(tried.json()["log"].as_str().unwrap().starts_with("handled 1 attempt 1 queue try"), "{tried:?}");
    assert!(tried.stderr.contains("default limits and no grants"), "{tried:?}");
    let ungranted = site.run(&["try", "event.json", guests::SERVER_MAIL]).ending(2);
    assert!(ungranted.stderr.contains("weir:events/email"), "{ungranted:?}");
    assert!(site.run(&["try", "event.json"]).ending(2).stderr.contains("weir.toml"));
}

#[test]
fn what_cannot_be_tried_is_said() {
    let site = site(guests::SERVER_LOG, "");
    let two = format!("{}{}", one_handler("disk:./data/events", guests::SERVER_LOG, ""), handler("b", guests::SERVER_LOG, ""));
    site.write("no.json", b"[1]");
    site.write("no.wasm", b"not wasm");
    for (args, code, expected) in [
        (&["try", "nowhere.json"][..], 2, "`nowhere.json` can't be read"),
        (&["try", "no.json"], 2, "is no event"),
        (&["try", "event.json", "no.wasm"], 2, "neither wasm nor its text form"),
        (&["try", "event.json", "nowhere.wasm"], 2, "can't be read"),
        (&["try", "event.json", "--handler", "x"], 2, "handler `x` is not defined (known: `it`)"),
        (&["try", "0123456789abcdef"], 1, "`0123456789abcdef` is not known"),
    ] {
        let ran = site.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(expected), "{args:?}: {ran:?}");
    }
    site.configure(&two);
    let which = site.run(&["try", "event.json"]).ending(2);
    assert!(which.stderr.contains("`--handler`; known: `b`, `it`"), "{which:?}");
    assert_eq!(site.run(&["try", "event.json", "--handler", "b", "--json"]).ending(0).json()["outcome"], "done");
}

#[test]
fn a_live_trial_sends_a_mail_once() {
    let site = site(guests::SERVER_MAIL, GRANT);
    let live = ["try", "event.json", "--live", "--json"];
    let first = site.run(&live).ending(0).json();
    assert_eq!((mails(&site), first["mails"].as_array().unwrap().len()), (1, 1), "{first}");
    let second = site.run(&live).ending(0).json();
    assert_eq!((mails(&site), &second["mails"]), (1, &json!([])), "it was sent before: {second}");
    // What was sent before is the server's to know while it runs.
    let server = site.start();
    let owned = site.run(&live).ending(1);
    assert!(owned.stderr.contains(&server.pid().to_string()), "{owned:?}");
    assert_eq!(site.run(&["try", "event.json", "--json"]).ending(0).json()["outcome"], "done");
    assert_eq!(server.get("/api/dead").body, Value::from(Vec::<Value>::new()));
}

#[test]
fn what_a_handler_publishes_is_shown_and_leaves_only_live() {
    let queues = "[queue.in]\nurl = \"memory:\"\n[queue.events]\nurl = \"disk:./data/events\"\n";
    let config = |then: &str| {
        let handler = format!("[handler.it]\ncomponent = \"{}\"\nqueue = \"in\"\n", guests::PUBLISH_THEN);
        format!("{queues}{handler}[handler.it.config]\nthen = \"{then}\"\n[handler.it.grants]\npublish = [\"events\"]\n")
    };
    let site = Site::new(&config("ok"));
    site.write("event.json", event("1", &Value::Null).to_string().as_bytes());
    let waiting = || {
        let queues = site.run(&["queues", "--json"]).ending(0).json();
        queues.as_array().unwrap().iter().find(|queue| queue["name"] == "events").unwrap()["depth"].clone()
    };
    let tried = site.run(&["try", "event.json", "--json"]).ending(0).json();
    let published = tried["published"].as_array().unwrap();
    assert_eq!((published.len(), &published[0]["queue"], &published[0]["due"]), (1, &json!("events"), &Value::Null), "{tried}");
    assert_eq!((&published[0]["event"]["type"], &published[0]["event"]["source"]), (&json!("t"), &json!("weir:handler/it")));
    assert!(site.run(&["try", "event.json"]).ending(0).stdout.contains("event 1 of 1, to queue `events`:\n  {\n"));
    assert_eq!(waiting(), 0);
    let _ = site.run(&["try", "event.json", "--live"]).ending(0);
    assert_eq!(waiting(), 1);
    let server = site.start();
    let _ = site.run(&["try", "event.json", "--live"]).ending(0);
    assert_eq!(waiting(), 2, "through the server, which owns the queue");
    let _ = server.stop();
    // Nothing leaves of what is not done.
    site.configure(&config("retry"));
    let tried = site.run(&["try", "event.json", "--live", "--json"]).ending(1).json();
    assert_eq!((&tried["outcome"], &tried["published"]), (&json!("retry"), &json!([])), "{tried}");
    assert_eq!(waiting(), 2);
}
