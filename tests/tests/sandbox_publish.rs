//! What a guest publishes: what the report holds of it, what is refused with which words, and which limits end the run. That nothing leaves
//! unless the outcome is done is shown over the whole server.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use weir_runtime::clock::Timestamp;
use weir_runtime::event::Event;
use weir_runtime::outbox::{Destination, Published};
use weir_runtime::sandbox::{LoadError, Report};
use weir_tests::assert_test_exists;
use weir_tests::guests::rig::{Rig, Settings, check, event};
use weir_tests::guests::*;

weir_tests::foreach_publish!(assert_test_exists);

fn granted() -> Settings {
    Settings::default().publish(&["events", "mails"])
}

fn limited(publishes: u32, published: u64) -> Settings {
    Settings::limits(|limits| (limits.publishes, limits.published) = (publishes, published)).publish(&["events"])
}

/// Runs a guest on an event, to an outcome.
fn run_on(guest: &str, settings: &Settings, event: Event, outcome: &str) -> Report {
    let rig = Rig::new();
    let report = rig.wait(rig.begin(&rig.load(guest, settings).unwrap(), Arc::new(event)));
    assert_eq!(report.outcome.name(), outcome, "{report:?}");
    report
}

fn run(guest: &str, settings: &Settings, outcome: &str) -> Report {
    run_on(guest, settings, event(), outcome)
}

fn queue(name: &str) -> Destination {
    Destination::Queue(name.to_owned())
}

fn kinds(report: &Report) -> Vec<&str> {
    report.published.iter().map(|published| published.event.kind.as_str()).collect()
}

/// The event in hand, with what Weir itself and others have added on its way.
fn travelled() -> Event {
    let mut event = event();
    let added =
        [("tenant", "a"), ("traceparent", "00-aa-bb-01"), ("tracestate", "x=y"), ("weirhops", "2"), ("weirhandler", "guest")];
    for (name, value) in added {
        event.set(name, value.to_owned()).unwrap();
    }
    event
}

#[test]
fn publish_events() {
    let report = run_on(PUBLISH_EVENTS, &granted(), travelled(), "done");
    let [whole, to_mails, first, second, empty, copy]: &[Published; 6] = report.published.as_slice().try_into().unwrap();
    let text = |text: &str| Some(text.to_owned());
    let extensions = |own: &[(&str, &str)]| {
        let mut all: Vec<_> = [("traceparent", "00-aa-bb-01"), ("tracestate", "x=y"), ("weirhops", "3")].to_vec();
        all.extend(own);
        all.sort_unstable();
        all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect::<Vec<_>>()
    };
    let expected = Event {
        id: "mine".to_owned(),
        source: "/own".to_owned(),
        kind: "whole".to_owned(),
        subject: text("ann"),
        time: text("2026-11-21T10:00:00Z"),
        datacontenttype: text("text/plain"),
        dataschema: text("https://example.com/schema"),
        extensions: extensions(&[("tenant", "a"), ("partitionkey", "ann")]),
        data: Some("héllo".into()),
    };
    assert_eq!((&whole.to, &*whole.event, whole.due), (&queue("events"), &expected, None));
    let expected = Event {
        id: first.event.id.clone(),
        source: "weir:handler/guest".to_owned(),
        kind: "small".to_owned(),
        time: first.event.time.clone(),
        extensions: extensions(&[]),
        data: Some("1".into()),
        ..Event::default()
    };
    assert_eq!((&first.to, &*first.event), (&queue("events"), &expected));
    assert!(expected.time.is_some() && expected.id.len() == 32, "{expected:?}");
    assert_eq!(to_mails.to, queue("mails"));
    let ids = [&first.event.id, &second.event.id, &to_mails.event.id, &empty.event.id, &copy.event.id];
    assert!(ids.iter().enumerate().all(|(at, id)| !ids[..at].contains(id)), "{ids:?}");
    assert_eq!(empty.event.data, None);
    // What it copied is what it was shown: nothing of Weir's own.
    let copied = Event { id: copy.event.id.clone(), kind: "copy".to_owned(), ..travelled() };
    assert_eq!(*copy.event, Event { extensions: extensions(&[("tenant", "a")]), time: copy.event.time.clone(), ..copied });
    check(PUBLISH_EVENTS, &granted(), "done", None);
}

#[test]
fn publish_denied() {
    let report = run(PUBLISH_DENIED, &granted(), "done");
    let line = r#"add to weir.toml under [handler.guest.grants]: publish = [\"events\", \"mails\", \"bills\"]"#;
    assert!(report.log.contains("Denied(\"queue `bills` is not granted") && report.log.contains(line), "{}", report.log);
    assert_eq!(report.published, []);
}

#[test]
fn publish_invalid() {
    let report = run(PUBLISH_INVALID, &granted(), "done");
    let expected = [
        "attribute `type` is missing or empty",
        "attribute `time` is `noon`",
        "attribute `source` is `a\\\\nb`",
        "attribute `Tenant`",
        "attribute `a` is given twice",
        "attribute `type` is among the extensions",
        "`data` is not JSON",
        "event of 1048579 bytes is larger than `max-event` (1048576 bytes)",
    ];
    let said: Vec<&str> = report.log.lines().collect();
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with("Err(Error::Invalid(\"") && said.contains(expected), "{said}, expected {expected}");
    }
    assert_eq!(report.published, []);
}

#[test]
fn publish_reserved() {
    let report = run_on(PUBLISH_RESERVED, &granted(), travelled(), "done");
    let (shown, told) = report.log.split_once('\n').unwrap();
    assert!(shown.contains("\"tenant\"") && !shown.contains("weir"), "{shown}");
    assert!(told.contains("Invalid(\"attribute `weirhandler` is Weir's own"), "{told}");
    assert_eq!(report.published, []);
}

/// A handler that ignores errors must not be acknowledged with an event missing.
#[test]
fn publish_too_many() {
    check(PUBLISH_TOO_MANY, &limited(3, 1 << 20), "output", Some(("publishes", 3)));
    let report = check(PUBLISH_TOO_MANY, &limited(5, 1 << 20), "done", None);
    assert_eq!(report.published.len(), 5);
}

/// Five events of a thousand bytes of data and one of type.
#[test]
fn publish_too_much() {
    check(PUBLISH_TOO_MUCH, &limited(100, 5_004), "output", Some(("published", 5_004)));
    let report = check(PUBLISH_TOO_MUCH, &limited(100, 5_005), "done", None);
    assert_eq!(report.published.len(), 5);
}

/// What was published is dropped with an outcome other than done: the report tells both.
#[test]
fn publish_then() {
    for (then, outcome) in [("ok", "done"), ("reject", "reject"), ("retry", "retry"), ("panic", "trap"), ("loop", "fuel")] {
        let report = run(PUBLISH_THEN, &granted().with("then", then), outcome);
        assert_eq!(kinds(&report), ["t"], "{then}");
    }
}

#[test]
fn publish_schedule() {
    let hour = Duration::from_secs(3_600);
    let report = run(PUBLISH_SCHEDULE, &granted(), "done");
    assert_eq!(kinds(&report), ["now", "after nothing", "after an hour", "at the beginning", "at two hours"]);
    let mut said = report.log.lines();
    let guests_now = Timestamp(said.next().unwrap().parse().unwrap());
    let due: Vec<_> = report.published.iter().map(|published| published.due).collect();
    let [None, None, Some(hour_later), None, Some(at)] = due.as_slice() else { panic!("{due:?}") };
    assert_eq!(*at, guests_now.after(hour + hour));
    assert!((hour..hour * 2).contains(&hour_later.since(guests_now)), "{hour_later} {guests_now}");
    for name in ["after ten years", "at the end"] {
        let line = said.next().unwrap();
        assert!(line.starts_with(&format!("{name}: Error::Invalid(")) && line.contains("at most 366 days from now"), "{line}");
    }
}

#[test]
fn publish_own() {
    let report = run(PUBLISH_OWN, &Settings::default().publish(&["self"]), "done");
    let [published] = report.published.as_slice() else { panic!("{report:?}") };
    assert_eq!((&published.to, published.due.is_some()), (&Destination::Own, true));
    let own = ["weirhandler", "weirhops"].map(|name| published.event.extension(name));
    assert_eq!(own, [Some("guest"), Some("1")]);
    let report = run(PUBLISH_OWN, &granted(), "done");
    assert!(report.log.contains("Denied(\"queue `self` is not granted"), "{}", report.log);
}

#[test]
fn publish_batch() {
    let report = run(PUBLISH_BATCH, &granted(), "done");
    let (batch, reply) = report.log.trim_end().split_once('\n').unwrap();
    assert!(batch.contains("Invalid(\"`publish-for` names an item of a batch"), "{batch}");
    assert_eq!((reply, report.published.as_slice()), ("false Ok(())", [].as_slice()));
}

/// Pairs of type and id of what a run along this path publishes.
fn path(path: &str) -> Vec<(String, String)> {
    let report = run(PUBLISH_PATH, &granted().with("path", path), "done");
    report.published.iter().map(|published| (published.event.kind.clone(), published.event.id.clone())).collect()
}

/// Another attempt at an event gives the same ids; one that takes another path gives no other event an id that has left.
#[test]
fn publish_path() {
    let left = path("a b b c");
    assert_eq!(left, path("a b b c"));
    for rerun in ["b a", "x b b b", "c b a a", "d", "b"] {
        for (kind, id) in path(rerun) {
            let same = left.iter().find(|(_, left)| *left == id).map(|(kind, _)| kind);
            assert!(same.is_none_or(|same| *same == kind), "{rerun}: `{kind}` has the id of `{same:?}`");
        }
    }
    assert_eq!(path("b a"), [left[1].clone(), left[0].clone()]);
}

#[test]
fn publish_arguments() {
    check(PUBLISH_ARGUMENTS, &granted(), "trap", Some(("arguments", (2 << 20) + (64 << 10))));
}

/// While a version is probed nothing is published.
#[test]
fn publish_self_test() {
    let rig = Rig::new();
    let loaded = rig.load(PUBLISH_SELF_TEST, &granted()).unwrap();
    let Err(LoadError::SelfTest(text)) = rig.probe(&loaded) else { panic!() };
    assert!(text.starts_with("3 denied: ") && text.contains("while a new version is probed"), "{text}");
    assert_eq!(kinds(&rig.run(&loaded)), ["t"]);
}
