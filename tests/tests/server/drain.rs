//! How a server stops: what runs is finished and settled, the rest is given back, and nothing is given up because of it.

use rustix::process::Signal;
use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Server, Site, read};

use crate::one_handler;

fn site(server: &str, handler: &str) -> Site {
    let more = format!("retry.attempts = 2\n{handler}");
    let config = format!("{server}\n{}", one_handler("disk:./data/events", "handler.wasm", &more));
    let site = Site::new(&config);
    site.write("handler.wasm", &read(guests::SERVER_SLOW.as_ref()));
    site
}

fn running(site: &Site, sleeps: u64) -> Server {
    let server = site.start();
    server.accept("events", "slow", &json!(sleeps));
    server.eventually("it runs", |server| server.metrics().sum("weir_events_in_flight", &[]) == 1);
    server
}

/// What became of the event under a handler that says at which attempt it gets it.
fn delivered_again(site: &Site) -> Vec<Value> {
    site.replace("handler.wasm", &read(guests::SERVER_LOG.as_ref()));
    let server = site.start();
    server.eventually("the queue is empty", |server| server.get("/api/queues").body[0]["depth"] == 0);
    assert_eq!(server.dead().len(), 0, "nothing is given up because of a shutdown");
    server.stop().with("handled slow ")
}

#[test]
pub(crate) fn what_runs_is_finished() {
    for signal in [Signal::TERM, Signal::INT] {
        let site = site("", "");
        let server = running(&site, 1_500);
        assert_eq!(server.get("/readyz").status, 200);
        server.signal(signal);
        server.eventually("it is not ready any more", |server| server.get("/readyz").status == 503);
        let ready = server.get("/readyz");
        assert_eq!((&ready.body["ready"], &ready.body["draining"]), (&json!(false), &json!(true)), "{ready:?}");
        assert_eq!(server.get("/healthz").status, 200);
        let url = server.url.clone();
        let log = server.ends_with(0);
        assert_eq!(log.events("slept, attempt 1"), ["slow"]);
        assert!(!log.with("stopped").is_empty() && !site.path(".weir/server.json").exists(), "{url}");
        assert_eq!(delivered_again(&site), [] as [Value; 0]);
    }
}

#[test]
fn what_waits_is_kept_for_the_next_start() {
    let site = site("", "concurrency = 1");
    let server = running(&site, 1_000);
    let waiting: Vec<Value> = (0..50).map(|at| weir_tests::server::event(&format!("waits {at}"), &json!(0))).collect();
    assert_eq!(server.publish_batch("events", &waiting).status, 202);
    server.signal(Signal::TERM);
    let log = server.ends_with(0);
    assert_eq!(log.events("slept, attempt 1"), ["slow"], "nothing new is begun");
    site.replace("handler.wasm", &read(guests::SERVER_LOG.as_ref()));
    let server = site.start();
    server.ended(50);
    let _ = server.logged("attempt 1 queue", 50);
}

#[test]
fn past_the_grace_time_events_are_given_back_without_an_attempt() {
    let site = site("server.grace = \"200ms\"", "");
    let server = running(&site, 60_000);
    server.signal(Signal::TERM);
    let log = server.ends_with(1);
    assert_eq!(log.with("stopped")[0]["given_back"], 1);
    let again = delivered_again(&site);
    assert_eq!(again.len(), 1);
    assert_eq!(again[0]["attempt"], 1, "{again:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let site = site("", "");
    let server = running(&site, 60_000);
    server.signal(Signal::INT);
    server.eventually("it is draining", |server| server.get("/readyz").status == 503);
    server.signal(Signal::TERM);
    let _ = server.ends_with(130);
    assert_eq!(delivered_again(&site).len(), 1);
}

#[test]
fn a_draining_server_takes_no_more_events() {
    let site = site("", "");
    let server = running(&site, 1_500);
    server.signal(Signal::TERM);
    server.eventually("it is draining", |server| server.get("/readyz").status == 503);
    let late = weir_tests::server::event("late", &json!(0));
    let answer = server.publish("events", &late);
    // On the loopback there is no load balancer that would have to see `/readyz` first (delivery.md §12).
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.retry_after.is_some(), "{answer:?}");
    let _ = server.ends_with(0);
}
