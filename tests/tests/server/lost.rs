//! Events that run while the server is killed: each time counts as a try, so that none kills it for ever; what waits loses nothing.

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Server, Site, event};

use crate::one_handler;

/// Milliseconds, longer than any test waits.
const NEVER: u64 = 600_000;

fn site() -> Site {
    Site::new(&one_handler("disk:./data/events", guests::SERVER_SLOW, "concurrency = 1\nretry.attempts = 2\n"))
}

/// Waits until an event runs: before that its try is noted, in a file that is empty after each start.
fn running(site: &Site, server: &Server) {
    let noted = || std::fs::metadata(site.path("data/events/running")).is_ok_and(|file| file.len() > 0);
    server.eventually("an event runs", |_| noted());
}

#[test]
fn an_event_that_ends_with_its_process_each_time_is_given_up_as_lost() {
    let site = site();
    let server = site.start();
    server.accept("events", "killer", &json!(NEVER));
    running(&site, &server);
    let _ = server.kill9();
    let server = site.start();
    running(&site, &server);
    assert_eq!(server.dead().len(), 0, "it has another try");
    let _ = server.kill9();

    let server = site.start();
    server.accept("events", "other", &json!(0));
    server.ended(2);
    let metrics = server.metrics();
    assert_eq!(metrics.sum("weir_outcomes_total", &[("outcome", "lost")]), 1);
    assert_eq!(metrics.sum("weir_attempts_total", &[]), 1, "of the other one");
    let letter = server.dead().remove(0);
    assert_eq!((&letter["event"]["id"], &letter["attempts"]), (&json!("killer"), &json!(2)), "{letter:#}");
    assert_eq!((&letter["outcome"], &letter["version"]), (&json!("lost"), &Value::Null), "{letter:#}");
    assert!(letter["reason"].as_str().is_some_and(|reason| reason.contains("the process ended while it ran")), "{letter:#}");
    assert_eq!(server.stop().events("slept"), ["other"]);
}

#[test]
fn what_waits_while_the_process_is_killed_loses_nothing() {
    let site = site();
    let server = site.start();
    server.accept("events", "killer", &json!(NEVER));
    running(&site, &server);
    let waiting: Vec<Value> = (0..50).map(|at| event(&format!("waits {at}"), &json!(0))).collect();
    assert_eq!(server.publish_batch("events", &waiting).status, 202);
    let _ = server.kill9();
    let server = site.start();
    running(&site, &server);
    let _ = server.kill9();
    let server = site.start();
    server.ended(51);
    let dead = server.dead();
    assert_eq!(dead.iter().map(|letter| &letter["event"]["id"]).collect::<Vec<_>>(), ["killer"]);
    let log = server.stop();
    assert_eq!(log.events("slept, attempt 1").len(), 50);
}
