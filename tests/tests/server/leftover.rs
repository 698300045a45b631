//! A dead letter whose event was not settled any more, because its process ended in between: gone once the event ends otherwise.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::redis::{Keeps, RedisServer};
use weir_tests::server::{Server, Site, read};

use crate::one_handler;

/// Its handler is mended, and it ends.
fn ends_acked(site: &Site, what: &str) {
    site.replace("handler.wasm", &read(guests::SERVER_LOG.as_ref()));
    let server = site.start();
    server.ended(1);
    assert_eq!((server.handler("it")["ended"]["acked"].clone(), server.dead()), (json!(1), Vec::new()), "{what}");
    let log = server.stop();
    assert_eq!(log.events("handled"), ["1"], "{what}");
}

fn has_its_letter(server: &Server) {
    server.eventually("its letter stands", |server| server.dead().len() == 1);
}

#[test]
fn on_redis() {
    for is_killed in [true, false] {
        let redis = RedisServer::start(Keeps::Nothing, &[]);
        let site = Site::new(&one_handler(&format!("{}?stream=events&lease=1s", redis.url(0)), "handler.wasm", ""));
        site.write("handler.wasm", &read(guests::OUTCOME_REJECT.as_ref()));
        let server = site.start();
        // From now on letters can be written, and nothing be acknowledged.
        assert!(redis.ask(&["ACL", "SETUSER", "default", "-xack"]).starts_with("+OK"));
        server.accept("events", "1", &Value::Null);
        has_its_letter(&server);
        let _ = if is_killed { server.kill9() } else { server.stop_with(Signal::TERM, 1) };
        assert!(redis.ask(&["ACL", "SETUSER", "default", "+xack"]).starts_with("+OK"));
        ends_acked(&site, if is_killed { "killed" } else { "stopped" });
    }
}

fn copy(from: &Path, to: &Path) {
    let _ = std::fs::remove_dir_all(to);
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// Its queue as it was before the settlement, and its letter in the store; with the note that it ran, and without it, as after a loss of
/// power.
#[test]
fn on_disk() {
    for is_noted in [true, false] {
        let site = Site::new(&one_handler("disk:./data/events", "handler.wasm", ""));
        site.write("handler.wasm", &read(guests::SERVER_SLOW.as_ref()));
        let server = site.start();
        server.accept("events", "1", &json!(600_000));
        let note = site.path("data/events/running");
        server.eventually("it runs", |_| std::fs::metadata(&note).is_ok_and(|file| file.len() > 0));
        let _ = server.kill9();
        if !is_noted {
            std::fs::remove_file(&note).unwrap();
        }
        copy(&site.path("data/events"), &site.path("before"));

        site.replace("handler.wasm", &read(guests::OUTCOME_REJECT.as_ref()));
        let server = site.start();
        server.ended(1);
        has_its_letter(&server);
        let _ = server.stop();
        copy(&site.path("before"), &site.path("data/events"));
        ends_acked(&site, if is_noted { "noted" } else { "not noted" });
    }
}

/// A process that was frozen for longer than its lease gives up what another has handled meanwhile: too late for a letter.
#[test]
fn a_frozen_process_writes_none() {
    let redis = RedisServer::start(Keeps::Nothing, &[]);
    let queue = format!("{}?stream=events&lease=1s", redis.url(0));
    let more = "retry.attempts = 1\nlimits.deadline = \"2s\"\n";
    let (slow, quick) =
        (Site::new(&one_handler(&queue, guests::SERVER_SLOW, more)), Site::new(&one_handler(&queue, guests::SERVER_LOG, "")));
    let frozen = slow.start();
    frozen.accept("events", "1", &json!(600_000));
    frozen.eventually("it runs", |server| in_flight(server) == 1);
    frozen.signal(Signal::STOP);
    let other = quick.start();
    other.ended(1);
    frozen.signal(Signal::CONT);
    frozen.eventually("its run is over", |server| in_flight(server) == 0);
    let returned = frozen.metrics().sum("weir_events_returned_total", &[("cause", "lease")]);
    assert_eq!((returned, other.dead(), other.handler("it")["ended"]["acked"].clone()), (1, Vec::new(), json!(1)));
}

fn in_flight(server: &Server) -> u64 {
    server.metrics().sum("weir_events_in_flight", &[])
}
