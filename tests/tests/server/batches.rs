//! Batch handlers in the whole server: each event has its own end whatever becomes of its call, and a batch neither waits too long nor
//! holds what must not go together.
//!
//! `WEIR_SEED` repeats a run's choices.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::log::Log;
use weir_tests::server::{Server, Site, event};

use crate::{keyed, one_handler, seed, stream};

/// A handler of batches of so many, and a quick retry.
fn batched(size: u32, wait: &str, more: &str) -> String {
    format!("batch = {{ size = {size}, wait = \"{wait}\" }}\nconcurrency = 16\nretry.backoff = \"1ms..20ms\"\n{more}\n")
}

fn publish(server: &Server, says: &[&str]) {
    let events: Vec<Value> = says.iter().enumerate().map(|(at, says)| event(&format!("e{at}"), &json!(says))).collect();
    assert_eq!(server.publish_batch("events", &events).status, 202);
}

fn urls(name: &str) -> [String; 3] {
    ["memory:".to_owned(), "disk:./data/events".to_owned(), stream(name)]
}

/// The calls that a guest `batch_ways` was made, each with its ids.
fn calls(log: &Log) -> Vec<Vec<String>> {
    let ids = |line: &Value| {
        let message = line["message"].as_str()?.strip_prefix("call with ")?.rsplit_once(" of ")?.0.to_owned();
        Some(message.split(' ').map(str::to_owned).collect())
    };
    log.with("call with ").iter().filter_map(ids).collect()
}

fn ended(server: &Server, state: &str) -> u64 {
    server.metrics().sum("weir_events_ended_total", &[("state", state)])
}

fn outcomes(server: &Server, outcome: &str) -> u64 {
    server.metrics().sum("weir_outcomes_total", &[("outcome", outcome)])
}

/// Only the one that fails alone has failed: the others have lost nothing, not even a try.
#[test]
fn poison_in_a_batch_charges_only_the_guilty() {
    for (poison, outcome) in [("trap", "trap"), ("loop", "fuel"), ("grow", "memory"), ("range", "trap"), ("twice", "trap")] {
        for url in urls(&format!("poison_in_a_batch_{poison}")) {
            let more = batched(8, "30s", "retry.trap = 1\nretry.attempts = 1\nlimits.fuel = 100_000_000\n");
            let site = Site::new(&one_handler(&url, guests::BATCH_WAYS, &more));
            let server = site.start();
            publish(&server, &["done", "done", "done", poison, "done", "done", "done", "done"]);
            server.ended(8);
            assert_eq!((ended(&server, "acked"), ended(&server, "dead")), (7, 1), "{url}");
            assert_eq!((outcomes(&server, "done"), outcomes(&server, outcome)), (7, 1), "{url}");
            assert_eq!(server.metrics().sum("weir_attempts_total", &[]), 8, "{url}: the call that failed is no try");
            assert_eq!(server.metrics().sum("weir_handler_seconds_count", &[]), 9, "{url}: but it was a call");
            let letter = server.dead().remove(0);
            let found = (&letter["event"]["id"], &letter["attempts"], &letter["outcome"]);
            assert_eq!(found, (&json!("e3"), &json!(1), &json!(outcome)), "{url}: {letter}");
            let failed = server.logged("batch failed", 1);
            assert_eq!((&failed[0]["events"], &failed[0]["outcome"]), (&json!(8), &json!(outcome)), "{url}");
            let sizes: Vec<usize> = calls(&server.stop()).iter().map(Vec::len).collect();
            assert_eq!(sizes, [8, 1, 1, 1, 1, 1, 1, 1, 1], "{url}");
        }
    }
}

#[test]
fn each_event_has_its_own_end() {
    for url in urls("each_event_has_its_own_end") {
        let more = batched(6, "1s", "retry.attempts = 2\nduplicates = \"1m\"\n");
        let site = Site::new(&one_handler(&url, guests::BATCH_WAYS, &more));
        let server = site.start();
        publish(&server, &["done", "2", "missing", "reject", "retry"]);
        server.accept("events", "e0", &json!("again"));
        server.ended(6);
        let states = ["acked", "dead", "duplicate"].map(|state| ended(&server, state));
        assert_eq!(states, [2, 3, 1], "{url}");
        let letters: BTreeMap<String, Value> =
            server.dead().into_iter().map(|letter| (letter["event"]["id"].to_string(), letter)).collect();
        let told: Vec<_> =
            letters.values().map(|letter| format!("{} {} {}", letter["outcome"], letter["attempts"], letter["reason"])).collect();
        let expected =
            [r#""retry" 2 "the handler gave no answer for this item""#, r#""reject" 1 "never""#, r#""retry" 2 "not now""#];
        assert_eq!(told, expected, "{url}");
        assert_eq!(server.metrics().sum("weir_attempts_total", &[]), 1 + 2 + 2 + 1 + 2, "{url}");
        // What is on its last try is in a call of its own.
        let mut of_one: Vec<String> = calls(&server.stop()).into_iter().filter(|ids| ids.len() == 1).flatten().collect();
        of_one.sort();
        assert_eq!(of_one, ["e1", "e2", "e4"], "{url}");
    }
}

const KEYS: u64 = 20;
const EVENTS: u64 = 1_000;

/// By key in order, each event once for all of its calls; no call has two of one key.
fn ran(log: &Log, url: &str) -> BTreeMap<String, Vec<u64>> {
    let mut ran = BTreeMap::<String, Vec<u64>>::new();
    for ids in calls(log) {
        let mut keys = BTreeSet::new();
        for id in &ids {
            let (key, number) = id.split_once('/').unwrap();
            assert!(keys.insert(key), "{url}: two of key {key} in one call: {ids:?}");
            let (of_key, number) = (ran.entry(key.to_owned()).or_default(), number.parse().unwrap());
            if of_key.last() != Some(&number) {
                of_key.push(number);
            }
        }
    }
    ran
}

fn order_is_kept(url: &str, stops: usize) {
    let mut chance = fastrand::Rng::with_seed(seed());
    let wait = chance.choice(["0s", "5ms"]).unwrap();
    let more = batched(8, wait, "order-by = \"subject\"\nretry.attempts = 3\n");
    let site = Site::new(&one_handler(url, guests::BATCH_WAYS, &more));
    let mut numbers = BTreeMap::<u64, u64>::new();
    let mut poison = BTreeSet::new();
    let mut event = || {
        let key = if chance.u8(..4) == 0 { 0 } else { chance.u64(..KEYS) };
        let number = numbers.entry(key).and_modify(|number| *number += 1).or_insert(1);
        let says =
            if chance.u8(..10) == 0 { chance.choice(["2", "3", "missing", "reject", "trap", "twice"]).unwrap() } else { "1" };
        let id = format!("{key}/{number}");
        if ["missing", "reject", "trap", "twice"].contains(&says) {
            poison.insert(id.clone());
        }
        keyed(&id, &key.to_string(), &json!(says))
    };
    let events: Vec<Value> = (0..EVENTS).map(|_| event()).collect();
    let mut server = site.start();
    for events in events.chunks(100) {
        assert_eq!(server.publish_batch("events", events).status, 202);
    }
    let mut logs = Vec::new();
    for _ in 0..stops {
        let until = chance.u64(1..EVENTS / 4);
        server.eventually("some have ended", |server| server.metrics().sum("weir_events_ended_total", &[]) >= until);
        logs.push(server.stop());
        server = site.start();
    }
    server.eventually("the queue is empty", |server| server.get("/api/queues").body[0]["depth"] == 0);
    let given_up: BTreeSet<String> =
        server.dead().iter().map(|letter| letter["event"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(given_up, poison, "{url}: nothing but what never works is given up");
    logs.push(server.stop());
    let mut all = 0;
    for log in &logs {
        for (key, numbers) in ran(log, url) {
            assert!(numbers.is_sorted(), "{url}: key {key} ran in the order {numbers:?}");
            all += numbers.len() as u64;
        }
    }
    assert!(all >= EVENTS, "{url}: {all} ran");
    if stops == 0 {
        let calls = calls(&logs[0]);
        assert!(all == EVENTS && calls.iter().any(|ids| ids.len() == 8), "{url}: {all} ran, in {} calls", calls.len());
    }
}

#[test]
fn lanes_keep_their_order_in_batches() {
    for url in urls("lanes_keep_their_order_in_batches") {
        order_is_kept(&url, 0);
    }
}

#[test]
fn lanes_keep_their_order_in_batches_over_stops() {
    for url in &urls("lanes_keep_their_order_in_batches_over_stops")[1..] {
        order_is_kept(url, 3);
    }
}

/// A batch that is full does not wait, and one that is not waits no longer than it may.
#[test]
fn a_batch_waits_for_its_events_and_no_longer() {
    for url in urls("a_batch_waits_for_its_events") {
        let site = Site::new(&one_handler(&url, guests::BATCH_WAYS, &batched(3, "60s", "")));
        let server = site.start();
        publish(&server, &["done", "done"]);
        server.eventually("two wait", |server| server.metrics().sum("weir_events_in_flight", &[]) == 2);
        assert_eq!(calls(server.log()).len(), 0, "{url}");
        server.accept("events", "last", &json!("done"));
        server.ended(3);
        assert_eq!(calls(&server.stop()), [["e0", "e1", "last"]], "{url}");

        site.configure(&one_handler(&url, guests::BATCH_WAYS, &batched(3, "300ms", "")));
        let server = site.start();
        let begun = Instant::now();
        publish(&server, &["done", "done"]);
        server.ended(2);
        assert!(begun.elapsed() >= Duration::from_millis(300), "{url}: {:?}", begun.elapsed());
        assert_eq!(calls(&server.stop()), [["e0", "e1"]], "{url}");
    }
}

/// What waits for its batch goes back without an attempt.
#[test]
fn a_stop_and_a_pause_while_a_batch_waits_lose_nothing() {
    for url in &urls("a_stop_while_a_batch_waits")[1..] {
        let configure = |wait: &str| one_handler(url, guests::BATCH_WAYS, &batched(10, wait, "retry.attempts = 1\n"));
        let site = Site::new(&configure("60s"));
        let server = site.start();
        publish(&server, &["done", "done", "done"]);
        let waits = |server: &Server| server.metrics().sum("weir_events_in_flight", &[]) == 3;
        server.eventually("they wait", waits);
        let _ = site.run(&["handlers", "pause", "it"]).ending(0);
        server.eventually("they are given back", |server| {
            server.metrics().sum("weir_events_returned_total", &[("cause", "pause")]) == 3
        });
        let _ = site.run(&["handlers", "resume", "it"]).ending(0);
        server.eventually("they wait again", waits);
        let begun = Instant::now();
        let log = server.stop();
        assert!(begun.elapsed() < Duration::from_secs(20), "{url}: {:?}", begun.elapsed());
        assert_eq!(calls(&log).len(), 0, "{url}");
        site.configure(&configure("0s"));
        let server = site.start();
        server.ended(3);
        assert_eq!(ended(&server, "acked"), 3, "{url}");
    }
}

/// What an item publishes leaves when that item is done, once.
#[test]
fn what_is_published_for_an_item_leaves_with_it() {
    for url in urls("what_is_published_for_an_item") {
        // The guest publishes to `events`.
        let more = batched(4, "30s", "retry.attempts = 1\ngrants.publish = [\"events\"]\n");
        let it = format!("[handler.it]\ncomponent = \"{}\"\nqueue = \"inbox\"\n{more}", guests::BATCH_PUBLISHES);
        let site = Site::new(&format!("[queue.events]\nurl = \"memory:\"\n[queue.inbox]\nurl = \"{url}\"\n{it}"));
        let server = site.start();
        let events: Vec<Value> = ["2 done", "1 reject", "1 trap", "3 done"]
            .iter()
            .enumerate()
            .map(|(at, says)| event(&format!("e{at}"), &json!(says)))
            .collect();
        assert_eq!(server.publish_batch("inbox", &events).status, 202);
        server.ended(4);
        assert_eq!((ended(&server, "acked"), ended(&server, "dead")), (2, 2), "{url}");
        let queues = server.get("/api/queues").body;
        let queue = queues.as_array().unwrap().iter().find(|queue| queue["name"] == "events").unwrap().clone();
        assert_eq!(queue["depth"], 5, "{url}: {queue}");
        let _ = server.logged("batch failed", 1);
    }
}

#[test]
fn check_inspect_and_try_know_batches() {
    let site = Site::new(&one_handler("memory:", guests::SERVER_LOG, "batch = { size = 2 }\n"));
    let ran = site.run(&["check"]).ending(2);
    assert!(ran.stderr.contains("`batch` is for components that export that"), "{ran:?}");
    site.configure(&one_handler("memory:", guests::SERVER_LOG, "run = \"batch\"\n"));
    let errors = site.run(&["check", "--json"]).ending(2).json()["errors"].clone();
    let expected = errors[0]["expected"].as_str().unwrap();
    assert!(expected.contains("expected `weir:events/batch-handler@0.1.0`: `run = \"batch\"` is for"), "{errors}");
    assert_eq!(site.run(&["inspect", "--json", guests::BATCH_WAYS]).ending(0).json()["run"], "batch");
    for more in ["batch = { size = 1 }\n", "", "run = \"batch\"\n", "batch = { size = 16, wait = \"1s\" }\n"] {
        site.configure(&one_handler("memory:", guests::BATCH_WAYS, more));
        let _ = site.run(&["check"]).ending(0);
        for (says, code, outcome) in [("done", 0, "done"), ("missing", 1, "retry"), ("trap", 1, "trap")] {
            site.write("event.json", event("1", &json!(says)).to_string().as_bytes());
            let tried = site.run(&["try", "event.json", "--handler", "it", "--json"]).ending(code).json();
            assert_eq!(tried["outcome"], outcome, "{tried}");
        }
        let server = site.start();
        publish(&server, &["done", "2"]);
        server.ended(2);
        let _ = server.stop();
    }
}
