//! Mails that wait, through the handler itself: its bucket, its timers, and what becomes of them when they come back.

use std::time::SystemTime;

use serde_json::json;
use weir_sdk::publish::Schedule;
use weir_sdk::testing::{self, Run};
use weir_sdk::{Bytes, Delivery, Event, keyvalue, publish, reject, retry};

use super::{host, mail, notify, rejected, rule};
use crate::TIMER;

const MAIL: &str = "subject = \"s\"\ntext = \"t\"";

/// The only event that a run published, as it comes back.
#[track_caller]
fn timer(run: &Run) -> Event<Bytes> {
    assert_eq!(run.result, Ok(()), "{run:?}");
    let [published] = run.published.as_slice() else { panic!("{:?}", run.published) };
    assert_eq!((published.queue.as_str(), published.event.kind.as_str()), ("self", TIMER));
    Event { source: "weir:handler/test".to_owned(), ..published.event.clone() }
}

#[test]
fn a_digest_is_armed_and_sent_when_it_is_due() {
    // The rule has every type: its own timers are none of its events.
    let rules = rule("to = \"data.to\"\nwhen = \"digest 30d by data.to\"", "subject = \"{{ count }}\"\ntext = \"t\"");
    let delivery = Delivery { first_seen: SystemTime::now(), ..testing::delivery() };
    let mut host = host(&rules.replace("\"t\"\nto", "\"*\"\nto")).delivery(delivery);
    let event = || testing::event("t", json!({ "to": "ann@example.com" }));
    let arm = timer(&host.run(notify, event()));
    assert_eq!(timer(&host.run(notify, event())), arm, "every attempt publishes the same");
    assert_eq!(host.keys("digest").len(), 2, "an event and a list: {:?}", host.keys("digest"));

    let armed = host.run(notify, arm.clone());
    assert_eq!(armed.published.len(), 2, "one that sends and one that forgets: {armed:?}");
    assert_eq!(host.run(notify, arm).published, armed.published);
    assert!(host.run(notify, event()).published.is_empty(), "it is certain");
    // Too early: it comes again when it is due.
    let send = Event { source: "weir:handler/test".to_owned(), ..armed.published[0].event.clone() };
    let early = host.run(notify, send);
    assert_eq!(early.published[0].due, armed.published[0].due);
    assert!(matches!(early.published[0].due, Schedule::At(_)) && early.mails.is_empty());
    assert_eq!(host.run(notify, armed.published[1].event.clone()).published.len(), 1, "too early to forget");
}

#[test]
fn a_mail_that_leaves_at_once_touches_no_bucket() {
    let denied = keyvalue::Error::Denied("bucket `digest` is not granted".to_owned());
    let mut host = host(&rule("to = \"a@example.com\"", MAIL)).keyvalue_error(denied);
    assert_eq!(mail(host.run(notify, testing::event("t", json!({})))).to, ["a@example.com"]);
}

#[test]
fn what_the_server_refuses_is_said() {
    let rules = rule("to = \"a@example.com\"\nwhen = \"after 1h\"", MAIL);
    let event = || testing::event("t", json!({}));
    let mut away = host(&rules).keyvalue_error(keyvalue::Error::Other("the store is away".to_owned()));
    assert_eq!(away.run(notify, event()).result, Err(retry("the store is away")));
    let mut denied = host(&rules).publish_error(publish::Error::Denied("queue `self` is not granted".to_owned()));
    assert_eq!(denied.run(notify, event()).result, Err(reject("queue `self` is not granted")));
    // Somebody else's timer, or somebody else's bucket.
    let said = rejected(host(&rules).run(notify, testing::event(TIMER, json!({ "send": 5 }))).result);
    assert!(said.starts_with("data"), "{said}");
    let mut filled = host(&rules);
    let timer = filled.run(notify, event()).published[0].event.clone();
    let list = filled.keys("digest").into_iter().find(|key| key.starts_with("w/")).unwrap();
    let mut filled = filled.value_of("digest", &list, "x");
    let said = rejected(filled.run(notify, timer).result);
    assert!(said.starts_with(&format!("the bucket's key `{list}` can't be read")), "{said}");
}
