//! `duplicates`: a second event with the same source and id ends as duplicate, whoever had the first and whenever.

use serde_json::json;
use weir_tests::guests;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site};

use crate::{one_handler, stream};

const WINDOW: &str = "duplicates = \"10m\"\n";

fn ended(server: &Server, state: &str) -> u64 {
    server.metrics().sum("weir_events_ended_total", &[("state", state)])
}

#[test]
fn the_same_event_again_ends_as_duplicate_also_after_a_restart() {
    for url in ["disk:./data/events", &stream("the_same_event_again")] {
        let site = Site::new(&one_handler(url, guests::SERVER_LOG, WINDOW));
        let server = site.start();
        server.accept("events", "1", &json!(1));
        server.ended(1);
        server.accept("events", "1", &json!(2));
        server.accept("events", "2", &json!(1));
        server.ended(3);
        assert_eq!((ended(&server, "acked"), ended(&server, "duplicate")), (2, 1), "{url}");
        assert_eq!(server.stop().events("handled"), ["1", "2"], "{url}");
        let server = site.start();
        server.accept("events", "2", &json!(3));
        server.ended(1);
        assert_eq!(ended(&server, "duplicate"), 1, "{url}");
        let _ = server.kill9();
        let server = site.start();
        server.accept("events", "1", &json!(4));
        server.eventually("it has ended", |server| ended(server, "duplicate") >= 1);
        assert_eq!(ended(&server, "acked"), 0, "{url}");
    }
}

#[test]
fn a_copy_waits_for_the_one_that_runs() {
    for url in ["memory:", "disk:./data/events", &stream("a_copy_waits")] {
        let more = format!("{WINDOW}retry.attempts = 1\nlimits.deadline = \"1s\"\n");
        let site = Site::new(&one_handler(url, guests::SERVER_SLOW, &more));
        let server = site.start();
        // The first of them is acknowledged, or is given up when its deadline has passed.
        for (id, sleeps, states) in [("works", 700, (1, 0, 1)), ("fails", 60_000, (1, 1, 0))] {
            let before = ["acked", "dead", "duplicate"].map(|state| ended(&server, state));
            server.accept("events", id, &json!(sleeps));
            server.eventually("it runs", |server| server.metrics().sum("weir_events_in_flight", &[]) == 1);
            server.accept("events", id, &json!(0));
            server.eventually("the copy is parked", |server| server.metrics().sum("weir_events_parked", &[]) == 1);
            server.ended(before.iter().sum::<u64>() + 2);
            let after = ["acked", "dead", "duplicate"].map(|state| ended(&server, state));
            let new = (after[0] - before[0], after[1] - before[1], after[2] - before[2]);
            assert_eq!(new, states, "{url}: {id}");
        }
        assert_eq!(server.stop().events("slept"), ["works", "fails"], "{url}");
    }
}

#[test]
fn servers_that_share_a_store_know_what_the_other_had() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nstore = \"{}\"\n{}",
        redis.url(1),
        one_handler("disk:./data/events", guests::SERVER_SLOW, WINDOW)
    );
    let sites = [Site::new(&config), Site::new(&config)];
    let [one, two] = [sites[0].start(), sites[1].start()];
    one.accept("events", "1", &json!(0));
    one.ended(1);
    two.accept("events", "1", &json!(0));
    two.ended(1);
    assert_eq!((ended(&one, "acked"), ended(&two, "duplicate")), (1, 1));
    one.accept("events", "2", &json!(700));
    one.eventually("it runs", |server| server.metrics().sum("weir_events_in_flight", &[]) == 1);
    two.accept("events", "2", &json!(0));
    two.eventually("the copy is parked", |server| server.metrics().sum("weir_events_parked", &[]) == 1);
    one.ended(2);
    two.ended(2);
    assert_eq!((ended(&one, "acked"), ended(&two, "duplicate")), (2, 2));
    assert_eq!(two.stop().events("slept").len(), 0);
}
