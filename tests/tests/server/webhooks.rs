//! An event becomes a signed request, the shipped handler and a real receiver in between; and what it is signed with is nowhere to be read.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Site, event};
use weir_tests::web::{Asked, WebServer};

use crate::one_handler;

/// 32 bytes of a key, and how the rules have it.
const KEY_HEX: &str = "8d2f6b1c9a4e7053f1e6d2c3b4a59687a0b1c2d3e4f5061728394a5b6c7d8e9f";
const KEY: &str = "whsec_jS9rHJpOcFPx5tLDtKWWh6CxwtPk9QYXKDlKW2x9jp8=";

/// A site with the shipped handler and this rule.
fn site(server: &WebServer, rule: &str, more: &str) -> Site {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let origin = format!("http://127.0.0.1:{}", server.port());
    let config = format!(
        "[handler.it.config]\nrules = {{ file = \"rules.toml\" }}\nkey = \"${{file:key}}\"\n\
         [handler.it.grants]\nhttp = [{{ url = \"{origin}/*\", methods = [\"POST\"] }}]\n{more}\n"
    );
    let site = Site::new(&one_handler("disk:./data/events", "webhook-notifier.wasm", &config));
    let built = site.run(&["build", &root.join("handlers/webhook-notifier").to_string_lossy()]).ending(0).stdout;
    site.write("webhook-notifier.wasm", &fs::read(built.trim()).unwrap());
    site.write("key", format!("{KEY}\n").as_bytes());
    site.write(
        "rules.toml",
        format!("[[webhook]]\nname = \"all\"\ntype = \"*\"\n{}", rule.replace("ORIGIN", &origin)).as_bytes(),
    );
    site
}

/// The signature as README.md of the handler says it is verified, with a tool that shares nothing with the handler.
fn signature(site: &Site, asked: &Asked) -> String {
    let mut signed = format!("{}.{}.", asked.header("webhook-id"), asked.header("webhook-timestamp")).into_bytes();
    signed.extend_from_slice(&asked.body);
    site.write("signed", &signed);
    let script = format!("openssl dgst -sha256 -mac HMAC -macopt hexkey:{KEY_HEX} -binary signed | base64");
    let output = Command::new("sh").args(["-c", &script]).current_dir(site.path("")).output().unwrap();
    format!("v1,{}", String::from_utf8(output.stdout).unwrap().trim())
}

/// Everything that the server shows of itself.
fn shown(server: &weir_tests::server::Server) -> String {
    let dead = server.dead();
    let letters: String =
        dead.iter().map(|letter| server.get(&format!("/api/dead/{}", letter["id"].as_str().unwrap())).text).collect();
    let pages: String = ["/api/handlers", "/api/queues", "/api/dead", "/metrics"].map(|path| server.get(path).text).concat();
    letters + &pages
}

#[test]
fn an_event_arrives_signed() {
    let receiver = WebServer::plain();
    let site = site(&receiver, "url = \"ORIGIN/hooks/{{ event.id }}\"", "");
    let checked = site.run(&["check", "--json"]).ending(0);
    let server = site.start();
    server.accept("events", "7", &json!({ "paid": true }));
    server.ended(1);
    let asked = receiver.asked();
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((asked.line.as_str(), asked.header("transfer-encoding")), ("POST /hooks/7", ""));
    assert_eq!(asked.header("content-type"), "application/cloudevents+json; charset=utf-8");
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    assert_eq!((&body["id"], &body["data"]), (&json!("7"), &json!({ "paid": true })));
    assert_eq!(asked.header("webhook-signature"), signature(&site, asked));
    let shown = shown(&server) + &checked.stdout + &checked.stderr;
    let log = server.stop().end();
    assert!(!shown.contains("jS9rHJpOc") && !log.contains("jS9rHJpOc"), "{log}");
}

#[test]
fn what_the_receiver_answers_decides() {
    let receiver = WebServer::plain();
    let retry = "[handler.it.retry]\nattempts = 2\nbackoff = \"10ms..50ms\"";
    let site = site(&receiver, "url = \"ORIGIN/status/{{ data.status }}?retry-after=0\"", retry);
    let server = site.start();
    for (id, status) in [("gone", 410), ("wrong", 500)] {
        server.accept("events", id, &json!({ "status": status }));
    }
    server.ended(2);
    let dead = server.dead();
    let letter = |id: &str| dead.iter().find(|letter| letter["event"]["id"] == id).unwrap();
    assert_eq!(letter("gone")["reason"], "rule `all`: answered 410: so it is");
    assert_eq!((&letter("gone")["outcome"], &letter("gone")["attempts"]), (&json!("reject"), &json!(1)));
    assert_eq!((&letter("wrong")["outcome"], &letter("wrong")["attempts"]), (&json!("retry"), &json!(2)));
    // A receiver that says "not now" costs no attempt; each time it is the same message.
    server.accept("events", "busy", &json!({ "status": 503 }));
    server.eventually("it fails from outside, again and again", |server| {
        server.handler("it")["outcomes"]["host"].as_u64() >= Some(5)
    });
    assert_eq!(server.dead().len(), 2);
    let busy: Vec<_> = receiver.asked().into_iter().filter(|asked| asked.line.contains("/503")).collect();
    assert!(busy.iter().all(|asked| asked.header("webhook-id") == busy[0].header("webhook-id")), "{busy:?}");
    // Another rule takes it where it is welcome: read with the next try.
    let rules = fs::read_to_string(site.path("rules.toml")).unwrap().replace("/status/{{ data.status }}", "/ok");
    site.replace("rules.toml", rules.as_bytes());
    server.ended(3);
    assert_eq!(server.metrics().sum("weir_events_ended_total", &[("state", "acked")]), 1);
    drop(server.stop());
}

#[test]
fn a_redirect_into_the_network_is_not_followed() {
    let (receiver, private) = (WebServer::plain(), WebServer::plain());
    let rule = format!("url = \"ORIGIN/status/307?location=http://127.0.0.1:{}/admin\"", private.port());
    let site = site(&receiver, &rule, "[handler.it.retry]\nattempts = 1");
    let server = site.start();
    server.accept("events", "1", &json!(1));
    server.ended(1);
    assert!(server.dead()[0]["reason"].as_str().unwrap().contains("answered 307"), "{:?}", server.dead());
    assert_eq!((receiver.asked().len(), private.asked().len()), (1, 0));
    drop(server.stop());
}

#[test]
fn an_event_that_is_tried_sends_nothing() {
    let receiver = WebServer::plain();
    let site = site(&receiver, "url = \"ORIGIN/\"", "");
    site.write("event.json", event("1", &json!(1)).to_string().as_bytes());
    let tried = site.run(&["try", "event.json", "--json"]).ending(1).json();
    assert!(tried["log"].as_str().unwrap().contains("weir: denied: wasi:http POST request to 127.0.0.1"), "{tried}");
    assert!(tried["log"].as_str().unwrap().contains("no request leaves without --live"), "{tried}");
    assert_eq!(receiver.asked().len(), 0);
    let tried = site.run(&["try", "event.json", "--live", "--json"]).ending(0).json();
    assert_eq!((&tried["outcome"], receiver.asked().len()), (&json!("done"), 1), "{tried}");
}

#[test]
pub(crate) fn a_value_that_was_put_in_is_shown_nowhere() {
    let values = "[handler.it.config]\nsecret = \"${file:secret}\"\n[handler.it.retry]\nattempts = 1\ntrap = 1";
    let site = Site::new(&one_handler("disk:./data/events", guests::SERVER_LEAK, values));
    site.write("secret", b"correct-horse-battery\n");
    let server = site.start();
    let endings = ["done", "reject", "long", "retry", "panic"];
    for ending in endings {
        server.accept("events", ending, &json!(ending));
    }
    server.ended(endings.len() as u64);
    assert_eq!(server.dead().len(), endings.len() - 1);
    let mut shown = shown(&server);
    shown += &site.run(&["dead", "list", "--json"]).ending(0).stdout;
    shown += &site.run(&["check", "--json"]).ending(0).stdout;
    site.write("event.json", event("1", &json!("panic")).to_string().as_bytes());
    for more in [&["--json"][..], &[]] {
        let tried = site.run(&[&["try", "event.json"], more].concat()).ending(1);
        shown += &(tried.stdout + &tried.stderr);
    }
    let log = server.stop().end();
    for (place, text) in [("answers", &shown), ("log", &log)] {
        assert!(!text.contains("correct-horse") && !text.contains("battery"), "{place}: {text}");
        for said in ["logged ***", "printed ***", "in two: ***"] {
            assert!(text.contains(said), "{place}: {said}");
        }
    }
    assert!(
        shown.contains("rejected with ***") && shown.contains("panicked with ***") && shown.contains("retried with ***"),
        "{shown}"
    );
}
