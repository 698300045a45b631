//! `order-by`: events of one key run one at a time in order of arrival, whatever fails and whatever becomes of the process; no key
//! waits for another.
//!
//! `WEIR_SEED` repeats a run's choices.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::log::Log;
use weir_tests::server::{Server, Site};

use crate::{keyed, one_handler, seed, stream};

const KEYS: u64 = 200;
const EVENTS: u64 = 2_000;
/// What never works: its data is an attempt that it does not reach.
const NEVER: u64 = 99;
/// Tries that the latest to work may fail before it works.
const FAILS: u64 = 2;

/// Events in order of publishing: each with its key, its number in it, and the attempt at which it works.
fn events(chance: &mut fastrand::Rng) -> Vec<(u64, u64, u64)> {
    let mut next = BTreeMap::<u64, u64>::new();
    let mut event = || {
        // Some keys have many events.
        let key = if chance.u8(..4) == 0 { chance.u64(..4) } else { chance.u64(..KEYS) };
        let number = next.entry(key).or_default();
        *number += 1;
        let works = [1, 1, 1, 1, 1, 1, 1, 2, FAILS + 1, NEVER];
        (key, *number, if chance.u8(..8) == 0 { chance.choice(works).unwrap() } else { 1 })
    };
    (0..EVENTS).map(|_| event()).collect()
}

/// What ran in one process, by key, in order: the number of each event, once for all of its tries.
fn ran(log: &Log) -> BTreeMap<String, Vec<u64>> {
    let mut ran = BTreeMap::<String, Vec<u64>>::new();
    for id in log.events("attempt ") {
        let (key, number) = id.split_once('/').unwrap();
        let of_key = ran.entry(key.to_owned()).or_default();
        let number = number.parse().unwrap();
        if of_key.last() != Some(&number) {
            of_key.push(number);
        }
    }
    ran
}

/// Publishes, ends the server now and then as `stop` says, and checks what ran in each process and over all of them.
fn order_is_kept(url: &str, stops: u64, stop: fn(Server) -> Log) {
    let mut chance = fastrand::Rng::with_seed(seed());
    // A try that was cut short by a kill counts (delivery.md §1, `lost`): what works in the end has to have one left.
    let attempts = FAILS + stops + 1;
    let more = format!("order-by = \"subject\"\nconcurrency = 8\nretry = {{ attempts = {attempts}, backoff = \"1ms..20ms\" }}\n");
    let site = Site::new(&one_handler(url, guests::SERVER_UNTIL, &more));
    let events = events(&mut chance);
    let mut server = site.start();
    for batch in events.chunks(500) {
        let batch: Vec<Value> =
            batch.iter().map(|(key, number, works)| keyed(&format!("{key}/{number}"), &key.to_string(), &json!(works))).collect();
        assert_eq!(server.publish_batch("events", &batch).status, 202);
    }
    let mut logs = Vec::new();
    for _ in 0..stops {
        let until = chance.u64(1..EVENTS / 8);
        server.eventually("some have ended", |server| server.metrics().sum("weir_events_ended_total", &[]) >= until);
        logs.push(stop(server));
        server = site.start();
    }
    server.eventually("the queue is empty", |server| server.get("/api/queues").body[0]["depth"] == 0);
    let metrics = server.metrics();
    let (ended, parked) = (metrics.sum("weir_events_ended_total", &[]), metrics.sum("weir_events_parked", &[]));
    assert!(parked == 0 && (stops > 0 || ended == EVENTS), "{url}: {ended} ended, {parked} parked");
    let given_up: BTreeSet<String> =
        server.dead().iter().map(|letter| letter["event"]["id"].as_str().unwrap().to_owned()).collect();
    let never = events.iter().filter(|(.., works)| *works == NEVER).map(|(key, number, _)| format!("{key}/{number}"));
    assert_eq!(given_up, never.collect(), "{url}: nothing but what never works is given up");
    logs.push(server.stop());
    let mut all = BTreeSet::new();
    for log in &logs {
        for (key, numbers) in ran(log) {
            assert!(numbers.is_sorted(), "{url}: key {key} ran in the order {numbers:?}");
            all.extend(numbers.iter().map(|number| format!("{key}/{number}")));
        }
    }
    assert_eq!(all.len() as u64, EVENTS, "{url}: every event ran");
}

#[test]
fn order_is_kept_under_failures() {
    order_is_kept("disk:./data/events", 0, Server::stop);
    order_is_kept(&stream("order_is_kept_under_failures"), 0, Server::stop);
}

#[test]
fn order_is_kept_over_orderly_stops() {
    order_is_kept("disk:./data/events", 3, Server::stop);
    order_is_kept(&stream("order_is_kept_over_orderly_stops"), 3, Server::stop);
}

#[test]
fn order_is_kept_over_kills() {
    order_is_kept("disk:./data/events", 3, Server::kill9_unasked);
}

/// A retry that waits holds neither a worker nor another key, and its lane waits with it.
#[test]
fn a_key_that_fails_holds_up_nobody() {
    for url in ["memory:", "disk:./data/events", &stream("a_key_that_fails_holds_up_nobody")] {
        let more = "order-by = \"subject\"\nconcurrency = 1\nretry.backoff = \"1h..1h\"\n";
        let site = Site::new(&one_handler(url, guests::SERVER_UNTIL, more));
        let server = site.start();
        server.publish("events", &keyed("hot/1", "hot", &json!(NEVER)));
        for at in 0..20 {
            server.publish("events", &keyed(&format!("hot/{at}"), "hot", &json!(1)));
            server.publish("events", &keyed(&format!("{at}/1"), &at.to_string(), &json!(1)));
        }
        server.eventually("the others have ended", |server| server.metrics().sum("weir_events_ended_total", &[]) == 20);
        server.eventually("the hot ones are parked", |server| server.metrics().sum("weir_events_parked", &[]) == 21);
        let metrics = server.metrics();
        assert_eq!(metrics.sum("weir_events_in_flight", &[]), 0, "{url}");
        assert_eq!(metrics.sum("weir_outcomes_total", &[("outcome", "retry")]), 1, "{url}");
        assert_eq!(server.handler("it")["parked"], 21, "{url}");
        let log = server.stop();
        assert_eq!(ran(&log)["hot"], [1], "{url}");
    }
}

#[test]
pub(crate) fn a_wait_that_its_lane_shares_is_bounded_by_the_backoff() {
    let more = "order-by = \"subject\"\nretry.backoff = \"1ms..20ms\"\n";
    let site = Site::new(&one_handler("memory:", guests::SERVER_AFTER, more));
    let server = site.start();
    server.publish("events", &keyed("1", "a", &Value::Null));
    server.ended(1);
}

/// Within the bound no key waits for another; past it nothing is pulled, which is said once and shown, and heals.
#[test]
fn what_is_parked_is_bounded() {
    for url in ["disk:./data/events", &stream("what_is_parked_is_bounded")] {
        let more = "order-by = \"subject\"\nconcurrency = 2\nparked = 10\n";
        let site = Site::new(&one_handler(url, guests::SERVER_SLOW, more));
        let server = site.start();
        let mut batch = vec![keyed("hot/0", "hot", &json!(1_000))];
        batch.extend((1..=30).map(|at| keyed(&format!("hot/{at}"), "hot", &json!(0))));
        batch.extend((0..5).map(|at| keyed(&format!("{at}/0"), &at.to_string(), &json!(0))));
        assert_eq!(server.publish_batch("events", &batch).status, 202);
        server.eventually("it is shown", |server| server.handler("it")["error"].as_str().is_some_and(|why| why.contains("hot")));
        let it = server.handler("it");
        assert_eq!((&it["parked"], &it["state"]), (&json!(10), &json!("running")), "{url}: {it}");
        assert_eq!(
            it["error"],
            "nothing is pulled: `parked` is full with 10 events, 10 of them wait behind one with the order key `hot`",
            "{url}"
        );
        server.ended(36);
        assert_eq!(server.handler("it")["error"], Value::Null, "{url}");
        let said = server.logged("`parked` is full", 1);
        assert_eq!((&said[0]["lane"], &said[0]["parked"], &said[0]["level"]), (&json!("hot"), &json!(10), &json!("WARN")));
        let log = server.stop();
        let order: Vec<String> = log.events("slept").into_iter().filter(|id| id.starts_with("hot")).collect();
        assert_eq!(order, (0..=30).map(|at| format!("hot/{at}")).collect::<Vec<_>>(), "{url}");
    }
}
