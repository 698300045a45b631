//! What running a guest comes to, apart from limits: answers, traps, broken answers, outside failures; what it was given; and that nothing
//! stays from one event to the next.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use weir_runtime::config::Relay;
use weir_runtime::event::Event;
use weir_runtime::outcome::Outcome;
use weir_runtime::sandbox::Report;
use weir_tests::assert_test_exists;
use weir_tests::guests::rig::{Rig, Settings, check, check_slow, event, nobody};
use weir_tests::guests::*;

weir_tests::foreach_outcome!(assert_test_exists);
weir_tests::foreach_event!(assert_test_exists);

fn settings() -> Settings {
    Settings::default()
}

/// Runs a guest that traps, whatever it says, and answers with the report.
fn trap(guest: &str) -> Report {
    check(guest, &settings(), "trap", None)
}

#[test]
fn outcome_done() {
    let report = check(OUTCOME_DONE, &settings(), "done", None);
    assert_eq!(report.outcome, Outcome::Done);
    assert!(report.fuel > 0 && report.memory > 0, "{report:?}");
}

#[test]
fn outcome_retry() {
    let report = check(OUTCOME_RETRY, &settings(), "retry", None);
    assert_eq!(report.outcome, Outcome::Retry { reason: "not yet".to_owned(), after: None });
}

#[test]
fn outcome_retry_after() {
    let report = check(OUTCOME_RETRY_AFTER, &settings(), "retry", None);
    assert_eq!(report.outcome, Outcome::Retry { reason: "not yet".to_owned(), after: Some(Duration::from_secs(90)) });
}

#[test]
fn outcome_reject() {
    let report = check(OUTCOME_REJECT, &settings(), "reject", None);
    assert_eq!(report.outcome, Outcome::Reject { reason: "no such account".to_owned() });
}

#[test]
fn outcome_reject_long() {
    let report = check(OUTCOME_REJECT_LONG, &settings(), "reject", None);
    let reason = report.outcome.reason();
    assert!((4000..4200).contains(&reason.len()) && reason.starts_with("ééé") && reason.ends_with('…'), "{}", reason.len());
}

#[test]
fn outcome_panic() {
    let report = trap(OUTCOME_PANIC);
    let reason = report.outcome.reason();
    assert!(reason.starts_with("panicked at examples/outcome_panic.rs:"), "{reason}");
    assert!(reason.ends_with(":\norder `order-17` has no price"), "{reason}");
    assert!(report.log.contains(&reason), "{}", report.log);
    for function in ["outcome_panic::price_of", "outcome_panic::total"] {
        assert!(report.backtrace.iter().any(|frame| frame.contains(function)), "{function}: {:#?}", report.backtrace);
    }
}

#[test]
fn outcome_abort() {
    assert_eq!(trap(OUTCOME_ABORT).outcome.reason(), "the disk is on fire");
}

#[test]
fn outcome_exit_ok() {
    // Not an answer: an event is done when the handler says so.
    assert_eq!(trap(OUTCOME_EXIT_OK).outcome.reason(), "Exited with i32 exit status 0");
}

#[test]
fn outcome_exit_error() {
    assert_eq!(trap(OUTCOME_EXIT_ERROR).outcome.reason(), "Exited with i32 exit status 1");
}

#[test]
fn outcome_trap() {
    let report = trap(OUTCOME_TRAP);
    assert!(report.outcome.reason().contains("unreachable"), "{report:?}");
    assert!(report.backtrace[0].contains("price_of"), "{:?}", report.backtrace);
}

#[test]
fn outcome_start_trap() {
    assert!(trap(OUTCOME_START_TRAP).outcome.reason().contains("unreachable"));
}

#[test]
fn outcome_start_exit() {
    assert_eq!(trap(OUTCOME_START_EXIT).outcome.reason(), "Exited with i32 exit status 1");
}

#[test]
fn outcome_start_loop() {
    let settings = Settings::limits(|limits| limits.fuel = 1_000_000);
    check(OUTCOME_START_LOOP, &settings, "fuel", Some(("fuel", 1_000_000)));
    let settings = Settings::limits(|limits| (limits.fuel, limits.deadline) = (10_000_000_000, Duration::from_millis(100)));
    check_slow(OUTCOME_START_LOOP, &settings, "deadline", Some(("deadline", 100)));
}

#[test]
fn outcome_start_memory() {
    let settings = Settings::limits(|limits| limits.memory = 4 << 20);
    check(OUTCOME_START_MEMORY, &settings, "memory", Some(("memory", 4 << 20)));
}

#[test]
fn outcome_start_output() {
    check(OUTCOME_START_OUTPUT, &settings(), "output", Some(("output", 256 << 10)));
}

#[test]
fn outcome_bad_utf8() {
    assert!(trap(OUTCOME_BAD_UTF8).outcome.reason().contains("utf-8"));
}

#[test]
fn outcome_bad_result() {
    assert!(trap(OUTCOME_BAD_RESULT).outcome.reason().contains("invalid expected discriminant"));
}

#[test]
fn outcome_bad_failure() {
    assert!(trap(OUTCOME_BAD_FAILURE).outcome.reason().contains("discriminant"));
}

#[test]
fn outcome_bad_string() {
    assert!(trap(OUTCOME_BAD_STRING).outcome.reason().contains("out of bounds"));
}

#[test]
fn outcome_bad_pointer() {
    assert!(trap(OUTCOME_BAD_POINTER).outcome.reason().contains("pointer"));
}

#[test]
fn outcome_bad_alignment() {
    assert!(trap(OUTCOME_BAD_ALIGNMENT).outcome.reason().contains("aligned"));
}

#[test]
fn outcome_post_return_trap() {
    assert!(trap(OUTCOME_POST_RETURN_TRAP).outcome.reason().contains("unreachable"));
}

#[test]
fn outcome_post_return_loop() {
    let settings = Settings::limits(|limits| limits.fuel = 1_000_000);
    check(OUTCOME_POST_RETURN_LOOP, &settings, "fuel", Some(("fuel", 1_000_000)));
}

/// The mail fails from outside; an answer that ends the event stands, everything else is the outside's fault (sandbox.md §3).
#[test]
fn outcome_mail() {
    let table = [("ok", "done"), ("reject", "reject"), ("retry", "host"), ("panic", "host"), ("loop", "host")];
    for (then, outcome) in table {
        let settings = Settings::limits(|limits| limits.fuel = 2_000_000).with("then", then).mail(nobody());
        let report = check_slow(OUTCOME_MAIL, &settings, outcome, None);
        assert!(report.log.contains("Unavailable"), "{report:?}");
        if outcome == "host" {
            assert!(report.outcome.reason().starts_with("mail: "), "{report:?}");
        }
    }
    let sent = Settings::default().with("then", "retry").mail(Relay::File("outbox".into()));
    let report = check_slow(OUTCOME_MAIL, &sent, "retry", None);
    assert!(report.log.contains("Ok("), "{report:?}");
}

fn full_event() -> Event {
    let mut event = Event::default();
    let attributes = [
        ("id", "a \"quoted\" id"),
        ("source", "/shop/größe"),
        ("type", "order.created"),
        ("subject", "17"),
        ("time", "2026-11-05T10:00:00.123456Z"),
        ("datacontenttype", "application/octet-stream"),
        ("dataschema", "https://example.com/schema"),
        ("zone", "eu"),
        ("account", ""),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("weirhops", "3"),
    ];
    for (name, value) in attributes {
        event.set(name, value.to_owned()).unwrap();
    }
    event.data = Some((0..=255).collect::<Vec<u8>>().into());
    event
}

/// What `event_echo` says of an event, without its idempotency key and the key alone.
fn echo(rig: &Rig, event: Event, attempt: u32) -> (String, String) {
    let echo = rig.load(EVENT_ECHO, &settings()).unwrap();
    let event = Arc::new(event);
    let report = rig.wait(rig.spawn(async move { echo.run(&event, attempt).await }));
    assert_eq!(report.outcome, Outcome::Done, "{report:?}");
    let (keys, rest): (Vec<_>, Vec<_>) = report.log.lines().partition(|line| line.starts_with("idempotency-key="));
    (rest.join("\n"), keys[0].strip_prefix("idempotency-key=").unwrap().to_owned())
}

#[test]
fn event_echo() {
    let rig = Rig::new();
    let data: Vec<u8> = (0..=255).collect();
    let expected = format!(
        r#"id="a \"quoted\" id"
source="/shop/größe"
type="order.created"
subject=Some("17")
time=Some("2026-11-05T10:00:00.123456Z")
datacontenttype=Some("application/octet-stream")
dataschema=Some("https://example.com/schema")
extensions=[("account", ""), ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("zone", "eu")]
data=Some({data:?})
handler="guest"
queue="events"
order-key=None
attempt=7
attempts-left=1
first-seen=1700000000123
time-left=30000
wants-reply=false"#
    );
    assert_eq!(echo(&rig, full_event(), 7).0, expected);

    let bare = Event { id: "1".to_owned(), source: "s".to_owned(), kind: "t".to_owned(), ..Event::default() };
    let (text, _) = echo(&rig, bare, 1);
    for line in ["subject=None", "time=None", "datacontenttype=None", "dataschema=None", "extensions=[]", "data=None"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let empty = Event { data: Some(Vec::new().into()), ..event() };
    assert!(echo(&rig, empty, 1).0.contains("data=Some([])"));
}

#[test]
fn the_idempotency_key_is_the_events_own() {
    let rig = Rig::new();
    let key = |event: Event, attempt| echo(&rig, event, attempt).1;
    let first = key(event(), 1);
    assert!(first.len() == 64 && first.bytes().all(|byte| byte.is_ascii_hexdigit()), "{first}");
    assert_eq!(first, key(event(), 2), "another attempt");
    assert_eq!(first, key(Event { data: None, subject: Some("x".to_owned()), ..event() }, 1), "a copy is known by source and id");
    let (id, source) = (event().id, event().source);
    let others = [
        key(Event { id: format!("{id}x"), ..event() }, 1),
        key(Event { source: format!("{source}x"), ..event() }, 1),
        key(Event { id: format!("p{id}"), source: source.trim_end_matches('p').to_owned(), ..event() }, 1),
    ];
    let different: HashSet<_> = others.iter().chain([&first]).collect();
    assert_eq!(different.len(), 4, "{others:?}");
}

/// An event of the largest size passes over the boundary whole.
#[test]
fn event_data() {
    let rig = Rig::new();
    let loaded = rig.load(EVENT_DATA, &settings()).unwrap();
    let event = Arc::new(Event { data: Some(vec![3; 1 << 20].into()), ..event() });
    let report = rig.wait(rig.begin(&loaded, event));
    assert_eq!(report.outcome.reason(), format!("{} bytes, sum {}", 1 << 20, 3 << 20), "{report:?}");
}

#[test]
fn event_counter() {
    let rig = Rig::new();
    let loaded = rig.load(EVENT_COUNTER, &settings()).unwrap();
    for report in rig.run_many(&loaded, 200) {
        assert_eq!(report.outcome, Outcome::Reject { reason: "1 events, 1 kept, 0 variables".to_owned() });
    }
}

#[test]
fn event_memory_fill() {
    assert!(check(EVENT_MEMORY_FILL, &settings(), "done", None).memory > 16 << 20);
}

/// The budget is the same for the same event, whatever ran before (sandbox.md §3).
#[test]
fn fuel_is_the_same_for_the_same_event() {
    let rig = Rig::new();
    let loaded = rig.load(EVENT_DATA, &settings()).unwrap();
    let used: HashSet<_> = rig.run_many(&loaded, 50).iter().map(|report| report.fuel).collect();
    assert_eq!(used.len(), 1, "{used:?}");
}

/// What one guest left in memory is not there for another one that comes into its slot.
#[test]
fn event_memory() {
    let rig = Rig::new();
    for _ in 0..20 {
        let filled = rig.load(EVENT_MEMORY_FILL, &settings()).unwrap();
        assert!(rig.run_many(&filled, 8).iter().all(|report| report.outcome == Outcome::Done));
        drop(filled);
        let looking = rig.load(EVENT_MEMORY, &settings()).unwrap();
        for report in rig.run_many(&looking, 8) {
            assert_eq!(report.outcome, Outcome::Reject { reason: "0 words are not zero".to_owned() });
        }
    }
}
