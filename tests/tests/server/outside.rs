//! Failures that no handler can help: they cost no attempt, and end when the outside is back.

use std::net::TcpListener;

use serde_json::json;
use weir_tests::guests;
use weir_tests::server::Site;
use weir_tests::smtp::{Options, SmtpServer};

use crate::one_handler;

fn mailing(port: u16, attempts: u32) -> String {
    let relay = format!("smtp://127.0.0.1:{port}?tls=none");
    let grant = format!("email = {{ relay = \"{relay}\", from = \"qa@example.com\", to = [\"*@example.com\"] }}");
    let retry = format!("attempts = {attempts}\nbackoff = \"10ms..50ms\"");
    one_handler(
        "disk:./data/events",
        guests::SERVER_MAIL,
        &format!("[handler.it.grants]\n{grant}\n[handler.it.retry]\n{retry}\n"),
    )
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
pub(crate) fn a_relay_that_is_away_costs_no_attempt() {
    // Before the port is chosen: whether there is a mail server at all.
    let name = "a_relay_that_is_away_costs_no_attempt";
    if SmtpServer::start(name, Options::default()).is_none() {
        return;
    }
    let port = free_port();
    let site = Site::new(&mailing(port, 2));
    let server = site.start();
    server.accept("events", "1", &json!("ann@example.com"));
    server.eventually("it fails from outside, again and again", |server| {
        server.handler("it")["outcomes"]["host"].as_u64() >= Some(5)
    });
    assert_eq!(server.dead().len(), 0);
    let told = server.stop().with("event will be tried again");
    assert!(told.len() >= 5 && told.iter().all(|line| line["outcome"] == "host" && line["attempt"] == 1), "{told:?}");
    // Over a restart neither.
    let server = site.start();
    server.eventually("it fails from outside again", |server| server.handler("it")["outcomes"]["host"].as_u64() >= Some(2));
    let smtp = SmtpServer::start(name, Options { port, ..Options::default() }).unwrap();
    server.ended(1);
    assert_eq!(server.metrics().sum("weir_events_ended_total", &[("state", "acked")]), 1);
    assert_eq!(smtp.messages().len(), 1);
    assert_eq!(smtp.messages()[0].to, ["ann@example.com"]);
}

#[test]
fn what_the_relay_refuses_for_good_is_rejected() {
    let Some(smtp) = SmtpServer::start("what_the_relay_refuses_for_good_is_rejected", Options::default()) else { return };
    let server = Site::new(&mailing(smtp.port(), 3));
    let server = server.start();
    server.accept("events", "recipient", &json!("reject-550@example.com"));
    server.accept("events", "content", &json!("content-554@example.com"));
    server.accept("events", "not granted", &json!("ann@elsewhere.test"));
    server.ended(3);
    let dead = server.dead();
    assert_eq!(dead.len(), 3);
    for (id, reason) in [("recipient", "550"), ("content", "554"), ("not granted", "ann@elsewhere.test")] {
        let letter = dead.iter().find(|letter| letter["event"]["id"] == id).unwrap();
        assert_eq!((&letter["outcome"], &letter["attempts"]), (&json!("reject"), &json!(1)), "{letter}");
        assert!(letter["reason"].as_str().unwrap().contains(reason), "{letter}");
    }
    assert_eq!(smtp.messages().len(), 0);
}

#[test]
fn what_the_relay_puts_off_is_tried_again() {
    let Some(smtp) = SmtpServer::start("what_the_relay_puts_off_is_tried_again", Options::default()) else { return };
    let site = Site::new(&mailing(smtp.port(), 2));
    let server = site.start();
    server.accept("events", "1", &json!("later-451@example.com"));
    server.eventually("the relay says later, again and again", |server| {
        server.handler("it")["outcomes"]["host"].as_u64() >= Some(4)
    });
    assert_eq!(server.dead().len(), 0);
    assert_eq!(server.handler("it")["outcomes"]["retry"], 0);
}
