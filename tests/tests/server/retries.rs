//! Attempts: what the handler sees of them, and what they don't repeat.

use serde_json::json;
use weir_tests::guests;
use weir_tests::server::Site;
use weir_tests::smtp::{Options, SmtpServer};

use crate::one_handler;

fn retrying(attempts: u32) -> String {
    format!("[handler.it.retry]\nattempts = {attempts}\nbackoff = \"10ms..50ms\"\n")
}

#[test]
pub(crate) fn attempts_rise_until_it_works() {
    for url in ["memory:", "disk:./data/events"] {
        let site = Site::new(&one_handler(url, guests::SERVER_UNTIL, &retrying(5)));
        let server = site.start();
        server.accept("events", "works", &json!(4));
        server.accept("events", "never", &json!(99));
        server.ended(2);
        let metrics = server.metrics();
        assert_eq!(metrics.sum("weir_events_ended_total", &[("state", "acked")]), 1);
        assert_eq!(metrics.sum("weir_events_returned_total", &[("cause", "delay")]), 3 + 4);
        let letter = server.dead().remove(0);
        assert_eq!((&letter["event"]["id"], &letter["attempts"]), (&json!("never"), &json!(5)));
        assert_eq!((&letter["outcome"], &letter["reason"]), (&json!("retry"), &json!("not yet")));
        let log = server.stop();
        let said = |id: &str| -> Vec<String> {
            let lines = log.with("attempt ").into_iter().filter(|line| line["target"] == "weir::guest" && line["event"] == id);
            lines.map(|line| format!("{} = {}", line["message"].as_str().unwrap(), line["attempt"])).collect()
        };
        let expected = ["attempt 1 left 4 = 1", "attempt 2 left 3 = 2", "attempt 3 left 2 = 3", "attempt 4 left 1 = 4"];
        assert_eq!(said("works"), expected);
        assert_eq!(said("never").last().unwrap(), "attempt 5 left 0 = 5");
    }
}

#[test]
fn waits_lie_within_the_backoff() {
    let more = "[handler.it.retry]\nattempts = 3\nbackoff = \"300ms..300ms\"\n";
    let site = Site::new(&one_handler("memory:", guests::SERVER_UNTIL, more));
    let server = site.start();
    let begun = std::time::Instant::now();
    server.accept("events", "1", &json!(3));
    server.ended(1);
    // Twice at least half of it, by the jitter.
    assert!(begun.elapsed() >= std::time::Duration::from_millis(300), "{:?}", begun.elapsed());
}

fn mailing(server: &SmtpServer, more: &str) -> String {
    let relay = format!("smtp://127.0.0.1:{}?tls=none", server.port());
    let grant = format!("email = {{ relay = \"{relay}\", from = \"qa@example.com\", to = [\"*@example.com\"] }}");
    format!("[handler.it.grants]\n{grant}\n{more}")
}

#[test]
pub(crate) fn a_retried_event_does_not_mail_twice() {
    let Some(smtp) = SmtpServer::start("a_retried_event_does_not_mail_twice", Options::default()) else { return };
    let site = Site::new(&one_handler("memory:", guests::SERVER_MAIL_RETRY, &mailing(&smtp, &retrying(5))));
    let server = site.start();
    server.accept("events", "1", &json!("ann@example.com"));
    server.accept("events", "2", &json!("bob@example.com"));
    server.ended(2);
    // Every attempt is told the id of the one mail.
    let _ = server.logged("mailed <", 6);
    let mut to: Vec<_> = smtp.messages().into_iter().flat_map(|mail| mail.to).collect();
    to.sort();
    assert_eq!(to, ["ann@example.com", "bob@example.com"]);
}

#[test]
fn a_retried_event_does_not_mail_twice_over_a_restart() {
    let Some(smtp) = SmtpServer::start("a_retried_event_does_not_mail_twice_over_a_restart", Options::default()) else { return };
    let retry = "[handler.it.retry]\nattempts = 6\nbackoff = \"1s..1s\"\n";
    let site = Site::new(&one_handler("disk:./data/events", guests::SERVER_MAIL_RETRY, &mailing(&smtp, retry)));
    let server = site.start();
    server.accept("events", "1", &json!("ann@example.com"));
    server.eventually("it is tried again", |server| server.metrics().sum("weir_events_returned_total", &[]) == 1);
    let first = server.kill9();
    let server = site.start();
    server.ended(1);
    assert_eq!(smtp.messages().len(), 1);
    let ids = |log: &weir_tests::server::log::Log| -> Vec<String> {
        log.with("mailed <").iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    };
    let (mut before, after) = (ids(&first), ids(&server.stop()));
    before.dedup();
    assert!(before.len() == 1 && after.iter().all(|id| *id == before[0]), "{before:?} {after:?}");
}
