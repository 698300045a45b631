//! Each outcome from end to end: one event, one handler for each behaviour, and what dead letters, counters and logs say of it.

use serde_json::{Value, json};
use weir_tests::guests;
use weir_tests::server::{Server, Site};

use crate::{handler, one_handler};

/// A handler that fails, and what its dead letter says.
struct Case {
    name: &'static str,
    component: &'static str,
    limits: &'static str,
    outcome: &'static str,
    limit: Value,
    attempts: u64,
    reason: &'static str,
}

fn cases() -> Vec<Case> {
    let case = |name, component, outcome, attempts, reason| Case {
        name,
        component,
        limits: "",
        outcome,
        limit: Value::Null,
        attempts,
        reason,
    };
    let limited = |case: Case, limits, limit, value: u64| Case { limits, limit: json!({"name": limit, "value": value}), ..case };
    vec![
        case("retry", guests::OUTCOME_RETRY, "retry", 3, "not yet"),
        case("reject", guests::OUTCOME_REJECT, "reject", 1, ""),
        case("panic", guests::OUTCOME_PANIC, "trap", 2, "panicked at"),
        case("trap", guests::OUTCOME_TRAP, "trap", 2, "unreachable"),
        limited(case("fuel", guests::LIMIT_LOOP, "fuel", 2, "fuel"), "fuel = 100_000", "fuel", 100_000),
        limited(case("memory", guests::LIMIT_MEMORY_GROW, "memory", 2, "memory"), "memory = \"4MiB\"", "memory", 4 << 20),
        limited(case("deadline", guests::LIMIT_SLEEP, "deadline", 3, "deadline"), "deadline = \"100ms\"", "deadline", 100),
        limited(case("output", guests::LIMIT_STDOUT, "output", 2, "limit"), "output = \"1KiB\"", "output", 1 << 10),
    ]
}

#[test]
fn each_failure_leaves_its_dead_letter() {
    let cases = cases();
    let mut config = "[queue.events]\nurl = \"memory:\"\n".to_owned();
    for Case { name, component, limits, .. } in &cases {
        let retry = "attempts = 3\ntrap = 2\nbackoff = \"1ms..2ms\"";
        config.push_str(&handler(
            name,
            component,
            &format!("[handler.{name}.limits]\n{limits}\n[handler.{name}.retry]\n{retry}"),
        ));
    }
    config.push_str(&handler("good", guests::SERVER_LOG, ""));
    let site = Site::new(&config);
    let server = site.start();
    server.accept("events", "1", &json!({"total": 1.50}));
    server.ended(cases.len() as u64 + 1);
    let listed = site.run(&["dead", "list", "--json"]).ending(0).json_lines();
    assert_eq!(listed.len(), cases.len());
    assert_eq!(server.metrics().sum("weir_dead_letters", &[("queue", "events")]), cases.len() as u64);
    for case in &cases {
        let letter = listed.iter().find(|letter| letter["handler"] == case.name).unwrap();
        check_letter(&server, case, letter);
        let id = letter["id"].as_str().unwrap();
        assert_eq!(&server.get(&format!("/api/dead/{id}")).body, letter);
        assert_eq!(&site.run(&["dead", "show", id, "--json"]).ending(0).json(), letter);
        let shown = site.run(&["dead", "show", id]).ending(0).stdout;
        assert!(shown.contains(case.outcome) && shown.contains(case.name), "{shown}");
    }
    // Whatever the others did, the good handler's event is done.
    assert_eq!(server.handler("good")["ended"]["acked"], 1);
    assert_eq!(server.stop().events("handled 1 attempt 1"), ["1"]);
}

fn check_letter(server: &Server, case: &Case, letter: &Value) {
    let name = case.name;
    assert_eq!(letter["outcome"], case.outcome, "{name}: {letter}");
    assert_eq!(letter["limit"], case.limit, "{name}: {letter}");
    assert_eq!(letter["attempts"], case.attempts, "{name}: {letter}");
    assert!(letter["reason"].as_str().unwrap().contains(case.reason), "{name}: {letter}");
    assert_eq!((&letter["queue"], &letter["event"]["id"]), (&json!("events"), &json!("1")), "{name}");
    assert_eq!(letter["event"]["data"], json!({"total": 1.50}), "{name}");
    assert!(letter["first_at"].as_str() <= letter["dead_at"].as_str(), "{name}: {letter}");
    let handler = server.handler(name);
    assert_eq!(letter["version"], handler["version"], "{name}");
    assert!(handler["version"].as_str().unwrap().starts_with("sha256:"), "{handler}");
    assert_eq!(handler["outcomes"][case.outcome], case.attempts, "{handler}");
    assert_eq!(handler["ended"], json!({"acked": 0, "dead": 1, "filtered": 0, "expired": 0, "duplicate": 0}), "{name}");
    assert_eq!(handler["returned"], case.attempts - 1, "{handler}");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("weir_outcomes_total", &[("handler", name), ("outcome", case.outcome)]), case.attempts);
    assert_eq!(metrics.sum("weir_attempts_total", &[("handler", name)]), case.attempts);
    assert_eq!(metrics.sum("weir_handler_seconds_count", &[("handler", name)]), case.attempts);
    let frames = letter["backtrace"].as_array().unwrap();
    match case.outcome {
        "trap" | "fuel" => assert!(!frames.is_empty(), "{name}: a trap has a backtrace: {letter}"),
        "retry" | "reject" => assert!(frames.is_empty(), "{name}: an answer has none: {letter}"),
        _ => {}
    }
}

#[test]
fn a_panic_reads_as_its_own_text_with_function_names() {
    let site = Site::new(&one_handler("memory:", guests::OUTCOME_PANIC, "retry.attempts = 1"));
    let server = site.start();
    server.accept("events", "1", &Value::Null);
    server.ended(1);
    let letter = server.dead().remove(0);
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.starts_with("panicked at examples/outcome_panic.rs:"), "{reason}");
    assert!(letter["log"].as_str().unwrap().contains("panicked at"), "{letter}");
    let frames = letter["backtrace"].to_string();
    assert!(frames.contains("outcome_panic"), "the handler's own function is named: {frames}");
}

#[test]
fn two_events_that_call_themselves_the_same_are_two_dead_letters() {
    for url in ["memory:", "disk:./data/events"] {
        let site = Site::new(&one_handler(url, guests::OUTCOME_REJECT, ""));
        let server = site.start();
        let events = ["first", "second"].map(|data| weir_tests::server::event("same", &json!(data)));
        assert_eq!(server.publish_batch("events", &events).status, 202);
        server.ended(2);
        let dead = server.dead();
        let mut data: Vec<_> = dead.iter().filter_map(|letter| letter["event"]["data"].as_str()).collect();
        data.sort_unstable();
        assert_eq!(data, ["first", "second"], "{url}: {dead:#?}");
        assert_ne!(dead[0]["id"], dead[1]["id"], "{url}");
        assert_eq!(server.metrics().sum("weir_dead_letters", &[("queue", "events")]), 2, "{url}");
    }
}

#[test]
fn a_person_reads_what_a_handler_says_from_info_up() {
    let site = Site::new(&one_handler("memory:", guests::IMPORT_LOGGING, ""));
    let server = site.start_typed(&[]);
    server.accept("events", "1", &json!(null));
    server.ended(1);
    server.eventually("it has said its last line", |server| server.log().says("no context"));
    let text = server.stop().end();
    // `TIME LEVEL MESSAGE FIELDS`; the guest counts once at each level, from trace to critical.
    let counted: Vec<&str> = text.lines().filter(|line| line.contains("counted")).collect();
    let levels: Vec<_> = counted.iter().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(levels, ["INFO", "WARN", "ERROR", "ERROR"], "{text}");
    for line in counted {
        assert!(line.contains(r#"orders: counted handler="it" queue="events" event="1""#), "{line}");
    }
    assert!(!text.contains("DEBUG") && !text.contains("TRACE"), "{text}");
}
