//! Queues that are full: publishers are told so, and told when to try again.

use serde_json::json;
use weir_tests::guests;
use weir_tests::server::{Server, Site};

use crate::handler;

const SIZE: u64 = 256 << 10;

/// Publishes until it is refused; answers how many events were taken.
fn fill(server: &Server) -> u64 {
    let data = json!("x".repeat(4_000));
    for at in 0.. {
        let answer = server.publish("events", &weir_tests::server::event(&at.to_string(), &data));
        if answer.status != 202 {
            assert_eq!(answer.status, 429, "{answer:?}");
            assert!(answer.retry_after.as_deref().is_some_and(|after| after.parse::<u64>().is_ok()), "{answer:?}");
            assert!(answer.error().contains("max-size"), "the key to change is named: {answer:?}");
            return at;
        }
        assert!(at < 1_000, "a queue of {SIZE} bytes took {at} events of 4,000");
    }
    0
}

#[test]
fn a_full_queue_says_so_and_when_to_come_back() {
    for url in ["memory:", "disk:./data/events"] {
        let queue = format!("[queue.events]\nurl = \"{url}\"\nmax-size = \"{SIZE}B\"\n");
        let site = Site::new(&queue);
        let server = site.start();
        let taken = fill(&server);
        assert!(taken >= 10, "{url}: {taken}");
        let depth = server.get("/api/queues").body[0]["depth"].as_u64();
        assert_eq!(depth, Some(taken), "{url}");
        if url == "memory:" {
            continue;
        }
        // With a handler there is room again.
        let _ = server.stop();
        site.configure(&format!("{queue}{}", handler("it", guests::SERVER_LOG, "")));
        let server = site.start();
        server.ended(taken);
        server.accept("events", "after", &json!(null));
        server.ended(taken + 1);
    }
}

#[test]
fn an_event_over_the_largest_is_refused() {
    let site = Site::new("server.max-event = \"16KiB\"\n[queue.events]\nurl = \"memory:\"\n");
    let server = site.start();
    let answer = server.publish("events", &weir_tests::server::event("1", &json!("x".repeat(20_000))));
    assert_eq!(answer.status, 413, "{answer:?}");
    let good = weir_tests::server::event("2", &json!("x"));
    let large = weir_tests::server::event("3", &json!("x".repeat(20_000)));
    let answer = server.publish_batch("events", &[good, large]);
    assert_eq!((answer.status, &answer.body["index"]), (413, &json!(1)), "{answer:?}");
    assert_eq!(server.get("/api/queues").body[0]["depth"], 0, "a batch is checked whole before any of it is taken");
}
