//! Ten thousand events through a durable queue while the server is stopped again and again: none is lost, and over orderly stops none is
//! handled twice. The ledger is the log that the guests write, read outside Weir.
//!
//! `WEIR_SEED` repeats a run's choices; what the machine does between them it can't repeat.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::log::Log;
use weir_tests::server::{Server, Site, event, post};

use crate::{one_handler, seed};

const EVENTS: u64 = 10_000;
const PUBLISHERS: u64 = 4;
const BATCH_MAX: u64 = 100;
/// Most stops of a run: each loses the answers that are under way, and every event has eight attempts.
const STOPS_MAX: u64 = 12;

/// What publishers know, shared with the test that stops the server under them.
struct Publishing {
    /// Where the server answers now; it changes with every start.
    url: Mutex<String>,
    accepted: Mutex<BTreeSet<String>>,
    count: AtomicU64,
}

impl Publishing {
    fn start(url: &str, seed: u64) -> (Arc<Self>, Vec<JoinHandle<()>>) {
        let accepted = Mutex::default();
        let publishing = Arc::new(Self { url: Mutex::new(url.to_owned()), accepted, count: AtomicU64::new(0) });
        let publisher = |number| {
            let publishing = Arc::clone(&publishing);
            std::thread::spawn(move || publishing.publish(number, seed))
        };
        let publishers = (0..PUBLISHERS).map(publisher).collect();
        (publishing, publishers)
    }

    /// Publishes until this publisher's share was accepted. What got no answer is published again under another id: whether it was
    /// taken nobody can know.
    fn publish(&self, number: u64, seed: u64) {
        let mut chance = fastrand::Rng::with_seed(seed.wrapping_add(number));
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent: ureq::Agent = config.timeout_global(Some(Duration::from_secs(20))).build().into();
        let (mut left, mut next) = (EVENTS / PUBLISHERS, 0);
        while left > 0 {
            let size = if chance.bool() { 1 } else { chance.u64(1..=BATCH_MAX.min(left)) };
            let ids: Vec<String> = (next..next + size).map(|at| format!("{number}-{at}")).collect();
            next += size;
            let events: Vec<Value> = ids.iter().map(|id| event(id, &json!({"publisher": number}))).collect();
            let (media, body) = match events.as_slice() {
                [event] => ("application/cloudevents+json", event.to_string()),
                events => ("application/cloudevents-batch+json", Value::from(events).to_string()),
            };
            let url = self.url.lock().unwrap().clone();
            match post(&agent, &url, "/events/events", media, &body) {
                Ok(answer) if answer.status == 202 => {
                    assert_eq!(answer.body["accepted"], size, "{answer:?}");
                    self.accepted.lock().unwrap().extend(ids);
                    self.count.fetch_add(size, Ordering::Relaxed);
                    left -= size;
                }
                Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
                // The server is gone; its next address will be there soon.
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    fn accepted(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// Publishes, stops and starts again until everything was accepted and handled; answers what was accepted, and how often each event was
/// handled.
fn run(stop: fn(Server) -> Log) -> (BTreeSet<String>, BTreeMap<String, u64>) {
    let seed = seed();
    let mut chance = fastrand::Rng::with_seed(seed);
    let site = Site::new(&one_handler("disk:./data/events", guests::SERVER_LOG, ""));
    let mut handled: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = |log: &Log| {
        for id in log.events("handled ") {
            *handled.entry(id).or_default() += 1;
        }
    };
    let mut server = site.start();
    let (publishing, publishers) = Publishing::start(&server.url, seed);
    let mut stops = 0;
    for _ in 0..STOPS_MAX {
        let until = publishing.accepted() + chance.u64(1..=2 * EVENTS / STOPS_MAX);
        if until > EVENTS {
            break;
        }
        server.eventually("events are accepted", |_| publishing.accepted() >= until);
        std::thread::sleep(Duration::from_micros(chance.u64(..20_000)));
        count(&stop(server));
        stops += 1;
        server = site.start();
        publishing.url.lock().unwrap().clone_from(&server.url);
    }
    assert!(stops >= STOPS_MAX / 4, "only {stops} stops");
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    let waits = |server: &Server| server.get("/api/queues").body[0]["depth"].as_u64();
    server.eventually("the queue is empty", |server| waits(server) == Some(0));
    assert_eq!(server.dead(), [] as [Value; 0]);
    count(&server.stop());
    let accepted = std::mem::take(&mut *publishing.accepted.lock().unwrap());
    assert_eq!(accepted.len() as u64, EVENTS);
    (accepted, handled)
}

#[test]
pub(crate) fn every_accepted_event_is_handled_at_least_once() {
    let (accepted, handled) = run(Server::kill9_unasked);
    let lost: Vec<_> = accepted.iter().filter(|id| !handled.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} accepted events were never handled: {lost:?}", lost.len(), accepted.len());
}

#[test]
fn over_orderly_stops_every_event_is_handled_exactly_once() {
    let (accepted, handled) = run(Server::stop);
    let wrong: Vec<_> =
        accepted.iter().map(|id| (id, handled.get(id).copied().unwrap_or(0))).filter(|(_, count)| *count != 1).collect();
    assert!(wrong.is_empty(), "not handled exactly once: {wrong:?}");
    // What nobody was told about may have been taken, but not twice either.
    assert!(handled.values().all(|count| *count == 1));
}
