//! Buckets over the whole server: over restarts, apart for each handler, and shared by the processes of one store.

use serde_json::json;
use weir_tests::guests::SERVER_KEYVALUE;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site, event};

use crate::{handler, one_handler};

const GRANT: &str = "grants.keyvalue = [{ bucket = \"b\" }]\n";

/// What a handler said of its bucket: `counted ID as N of KEYS`.
fn said(server: &Server, text: &str) {
    server.eventually(text, |server| server.log().says(text));
}

#[test]
pub(crate) fn what_is_kept_outlives_the_server() {
    let two = handler("other", SERVER_KEYVALUE, GRANT);
    let site = Site::new(&format!("{}{two}", one_handler("disk:./data/events", SERVER_KEYVALUE, GRANT)));
    let server = site.start();
    server.accept("events", "1", &json!(null));
    server.ended(2);
    server.accept("events", "2", &json!(null));
    server.ended(4);
    // Each handler has its own: none has counted the other's.
    assert_eq!(server.log().events("counted 2 as 2").len(), 2, "{}", server.log().tail());
    assert!(!server.log().says("as 3"), "{}", server.log().tail());
    let _ = server.kill9();
    let server = site.start();
    server.accept("events", "3", &json!(null));
    server.ended(2);
    said(&server, "counted 3 as 3");
    server.stop();
}

#[test]
fn processes_that_share_a_store_share_buckets() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let queue = one_handler("disk:./data/events", SERVER_KEYVALUE, GRANT);
    let config = format!("[server]\nlisten = \"127.0.0.1:0\"\nstore = \"{}\"\n{queue}", redis.url(1));
    let sites = [Site::new(&config), Site::new(&config)];
    let [one, two] = [sites[0].start(), sites[1].start()];
    for number in 1..=20 {
        one.accept("events", &format!("one-{number}"), &json!(null));
        two.accept("events", &format!("two-{number}"), &json!(null));
    }
    one.ended(20);
    two.ended(20);
    one.accept("events", "last", &json!(null));
    said(&one, "counted last as 41");
}

#[test]
fn a_store_that_is_away_costs_no_attempt() {
    let mut redis = RedisServer::start(Keeps::Always, &[]);
    let more = format!(
        "grants.keyvalue = [{{ bucket = \"b\", url = \"{}\" }}]\nretry.attempts = 1\nretry.backoff = \"10ms..50ms\"\n",
        redis.url(2)
    );
    let site = Site::new(&one_handler("disk:./data/events", SERVER_KEYVALUE, &more));
    let server = site.start();
    server.accept("events", "1", &json!(null));
    server.ended(1);
    redis.kill();
    server.accept("events", "2", &json!(null));
    server.eventually("it failed from outside", |server| server.metrics().sum("weir_outcomes_total", &[("outcome", "host")]) > 2);
    redis.start_again();
    server.ended(2);
    assert_eq!(server.dead().len(), 0);
    said(&server, "counted 2 as 2");
}

#[test]
fn a_trial_reads_and_writes_nothing() {
    let site = Site::new(&one_handler("disk:./data/events", SERVER_KEYVALUE, GRANT));
    site.write("event.json", event("tried", &json!(null)).to_string().as_bytes());
    let tried = |args: &[&str]| {
        let ran = site.run(&[&["try", "event.json", "--json"], args].concat()).ending(0);
        (ran.json()["log"].as_str().unwrap().to_owned(), ran.stderr)
    };
    assert!(tried(&[]).0.contains("counted tried as 1 of Ok([\"tried\", \"n\"])"));
    assert!(!site.path(".weir").exists(), "nothing is made");
    let server = site.start();
    server.accept("events", "1", &json!(null));
    server.ended(1);
    let (log, note) = tried(&[]);
    assert!(log.contains("counted tried as 1 ") && note.contains("buckets of the store begin empty here"), "{log} {note}");
    server.stop();
    for _ in 0..2 {
        assert!(tried(&[]).0.contains("counted tried as 2 of Ok([\"1\", \"n\", \"tried\"])"));
    }
    assert!(tried(&["--live"]).0.contains("counted tried as 2 "));
    assert!(tried(&[]).0.contains("counted tried as 3 "));
}

#[test]
fn a_handler_without_the_grant_is_refused() {
    let site = Site::new(&one_handler("disk:./data/events", SERVER_KEYVALUE, ""));
    let errors = site.run(&["check", "--json"]).ending(2).json()["errors"].to_string();
    assert!(errors.contains("wasi:keyvalue/store@0.2.0-draft2") && errors.contains("keyvalue = [{ bucket = "), "{errors}");
    let imports = site.run(&["inspect", SERVER_KEYVALUE, "--json"]).ending(0).json()["imports"].clone();
    let import =
        imports.as_array().unwrap().iter().find(|import| import["name"] == "wasi:keyvalue/atomics@0.2.0-draft2").unwrap();
    assert_eq!((&import["class"], &import["grant"]), (&json!("capability"), &json!("keyvalue")));
}
