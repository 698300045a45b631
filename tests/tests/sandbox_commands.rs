//! Commands: programs with the event on stdin, as components and as core modules. What their end comes to, that every limit binds as for
//! other handlers, and that they have nothing of the world.

#![expect(clippy::panic, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::Duration;

use weir_runtime::event::Event;
use weir_runtime::outcome::Outcome;
use weir_runtime::sandbox::Report;
use weir_tests::assert_test_exists;
use weir_tests::guests::rig::{Rig, Settings, check, check_slow, event};
use weir_tests::guests::*;

weir_tests::foreach_command!(assert_test_exists);
weir_tests::foreach_module!(assert_test_exists);

/// A test of a program in both of its forms.
macro_rules! both {
    ($test:ident, $component:ident $of_component:ident, $module:ident $of_module:ident) => {
        #[test]
        fn $component() {
            $test($of_component);
        }

        #[test]
        fn $module() {
            $test($of_module);
        }
    };
}

fn settings() -> Settings {
    Settings::default()
}

/// Runs programs with events, one after another.
struct Runs {
    rig: Rig,
    loaded: weir_tests::guests::rig::Loaded,
}

impl Runs {
    fn new(guest: &str, settings: &Settings) -> Self {
        let rig = Rig::new();
        let loaded = rig.load(guest, settings).unwrap_or_else(|error| panic!("{guest}: {error}"));
        rig.probe(&loaded).unwrap_or_else(|error| panic!("{guest}: {error}"));
        Self { rig, loaded }
    }

    fn run(&self, event: Event) -> Report {
        self.rig.wait(self.rig.begin(&self.loaded, Arc::new(event)))
    }
}

/// An event that says to `command_ways` what to do.
fn ways(words: Option<&str>, line: Option<&str>, code: Option<&str>) -> Event {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Event { subject: text(words), dataschema: text(line), datacontenttype: text(code), ..event() }
}

both!(echo, command_echo COMMAND_ECHO, module_echo MODULE_ECHO);

fn echo(guest: &str) {
    let runs = Runs::new(guest, &settings());
    let given = Event {
        subject: Some("größer".to_owned()),
        extensions: vec![("tenant".to_owned(), "a".to_owned()), ("weirhops".to_owned(), "3".to_owned())],
        ..event()
    };
    let report = runs.run(given);
    assert_eq!(report.outcome, Outcome::Done);
    assert!(report.fuel > 0 && report.memory > 0, "{report:?}");
    let expected = r#"{"specversion":"1.0","id":"order-17","source":"/shop","type":"order.created","subject":"größer","tenant":"a","data":{"order_id":"17"}}"#;
    assert_eq!(report.log, format!("{} bytes\n{expected}\n", expected.len() + 1));
    // Larger than a pipe and than any buffer on the way.
    let data = format!("\"{}\"", "x".repeat(40_000));
    let report = runs.run(Event { data: Some(data.clone().into()), ..event() });
    assert_eq!(report.outcome, Outcome::Done);
    assert!(report.log.ends_with(&format!("\"data\":{data}}}\n")), "{}", report.log.len());
}

both!(every_way, command_ways COMMAND_WAYS, module_ways MODULE_WAYS);

fn every_way(guest: &str) {
    let runs = Runs::new(guest, &settings());
    let reject = |reason: &str| Outcome::Reject { reason: reason.to_owned() };
    let retry = |reason: &str, after| Outcome::Retry { reason: reason.to_owned(), after };
    let trap = |reason: &str| Outcome::Trap { reason: reason.to_owned(), limit: None };
    let later = retry("later", Some(Duration::from_secs(90)));
    let table = [
        (None, None, None, Outcome::Done),
        (Some("a warning"), None, Some("0"), Outcome::Done),
        (Some("no such order"), None, Some("65"), reject("no such order")),
        (None, None, Some("65"), reject("exit code 65")),
        (Some("not yet"), None, Some("75"), retry("not yet", None)),
        (Some("no such file"), None, Some("2"), trap("exit code 2: no such file")),
        (None, None, Some("200"), trap("exit code 200")),
        (Some("words"), Some("reject"), None, reject("no such account")),
        (Some("words"), Some("reject"), Some("75"), reject("no such account")),
        (Some("words"), Some("retry"), None, later.clone()),
        (Some("words"), Some("retry"), Some("1"), later),
    ];
    for (words, line, code, expected) in table {
        assert_eq!(runs.run(ways(words, line, code)).outcome, expected, "{words:?} {line:?} {code:?}");
    }
    let report = runs.run(ways(None, Some("misspelt"), None));
    let reason = report.outcome.reason();
    assert_eq!(report.outcome.name(), "trap");
    assert!(reason.starts_with(r#"its last line on stdout is `{"weir":{"rety":{}}}`, expected `{"weir":{"retry":"#), "{reason}");
}

both!(main_error, command_error COMMAND_ERROR, module_error MODULE_ERROR);

fn main_error(guest: &str) {
    assert_eq!(check(guest, &settings(), "trap", None).outcome.reason(), r#"exit code 1: Error: "no such order""#);
}

both!(panics, command_panic COMMAND_PANIC, module_panic MODULE_PANIC);

fn panics(guest: &str) {
    let report = check(guest, &settings(), "trap", None);
    let reason = report.outcome.reason();
    assert!(reason.starts_with("panicked at examples/command_panic.rs:3:5:"), "{reason}");
    assert!(reason.ends_with("order has no price"), "{reason}");
    assert!(report.backtrace.iter().any(|frame| frame.contains("main")), "{:#?}", report.backtrace);
}

both!(loops, command_loop COMMAND_LOOP, module_loop MODULE_LOOP);

fn loops(guest: &str) {
    let settings = Settings::limits(|limits| limits.fuel = 1_000_000);
    check(guest, &settings, "fuel", Some(("fuel", 1_000_000)));
    let settings = Settings::limits(|limits| (limits.fuel, limits.deadline) = (10_000_000_000, Duration::from_millis(100)));
    check_slow(guest, &settings, "deadline", Some(("deadline", 100)));
}

both!(memory, command_memory COMMAND_MEMORY, module_memory MODULE_MEMORY);

fn memory(guest: &str) {
    let settings = Settings::limits(|limits| limits.memory = 8 << 20);
    let report = check(guest, &settings, "memory", Some(("memory", 8 << 20)));
    assert!((4 << 20..=8 << 20).contains(&report.memory), "{}", report.memory);
}

both!(output, command_output COMMAND_OUTPUT, module_output MODULE_OUTPUT);
both!(output, command_stderr COMMAND_STDERR, module_stderr MODULE_STDERR);

fn output(guest: &str) {
    let settings = Settings::limits(|limits| limits.output = 10_000);
    let report = check(guest, &settings, "output", Some(("output", 10_000)));
    assert!((5_000..=10_000).contains(&report.log.len()), "{}", report.log.len());
}

both!(sleeps, command_sleep COMMAND_SLEEP, module_sleep MODULE_SLEEP);

fn sleeps(guest: &str) {
    let settings = Settings::limits(|limits| limits.deadline = Duration::from_millis(200));
    let report = check_slow(guest, &settings, "deadline", Some(("deadline", 200)));
    assert!(report.elapsed < Duration::from_secs(30), "{:?}", report.elapsed);
}

both!(handles, command_handles COMMAND_HANDLES, module_handles MODULE_HANDLES);

fn handles(guest: &str) {
    let settings = Settings::limits(|limits| limits.handles = 500);
    check(guest, &settings, "trap", Some(("handles", 500)));
}

both!(stack, command_stack COMMAND_STACK, module_stack MODULE_STACK);

fn stack(guest: &str) {
    // What its own memory has for a stack may be used up before the engine's.
    let report =
        check(guest, &settings(), "trap", Runs::new(guest, &settings()).run(event()).outcome.limit().map(|l| (l.name, l.value)));
    let reason = report.outcome.reason();
    assert!(reason.contains("stack") || reason.contains("out of bounds"), "{reason}");
}

both!(nothing, command_nothing COMMAND_NOTHING, module_nothing MODULE_NOTHING);

fn nothing(guest: &str) {
    let report = check(guest, &settings(), "done", None);
    for line in ["arguments: 0", "variables: 0", "read: Err(())", "relative: Err(())", "write: Err(())", "socket: Err(())"] {
        assert!(report.log.lines().any(|found| found == line), "`{line}`: {}", report.log);
    }
    assert!(report.log.contains("after its end: Ok(0)"), "{}", report.log);
}

both!(counter, command_counter COMMAND_COUNTER, module_counter MODULE_COUNTER);

/// Nothing stays from one event to the next.
fn counter(guest: &str) {
    let runs = Runs::new(guest, &settings());
    for report in runs.rig.run_many(&runs.loaded, 20) {
        assert_eq!(report.log, "run 1\n");
    }
}

// As a core module it carries the type of a component, and is made one.
both!(publishes, command_publish COMMAND_PUBLISH, module_publish MODULE_PUBLISH);

fn publishes(guest: &str) {
    let error = Rig::new().load(guest, &settings()).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("imports `weir:events/publisher@0.1.0`, which is not granted"), "{error}");
    let runs = Runs::new(guest, &settings().publish(&["events"]));
    for (code, outcome) in [(None, "done"), (Some("65"), "reject"), (Some("75"), "retry"), (Some("3"), "trap")] {
        let code = if guest == MODULE_PUBLISH && code.is_some() { Some("1") } else { code };
        let outcome = if guest == MODULE_PUBLISH && code.is_some() { "trap" } else { outcome };
        let report = runs.run(ways(None, None, code));
        assert_eq!(report.outcome.name(), outcome, "{report:?}");
        // Kept until it is known whether it leaves; that it does not, with another outcome than done, is the dispatcher's.
        assert_eq!(report.published.len(), 1);
    }
}

#[test]
fn module_table_grow() {
    let settings = Settings::limits(|limits| limits.tables = 1000);
    check(MODULE_TABLE_GROW, &settings, "memory", Some(("tables", 1000)));
}

#[test]
fn module_memories() {
    let settings = Settings::limits(|limits| limits.memory = 64 << 20);
    check(MODULE_MEMORIES, &settings, "memory", Some(("memory", 64 << 20)));
}

/// What a start function does is done by the program.
#[test]
fn module_start_code() {
    assert_eq!(check(MODULE_START_CODE, &settings(), "trap", None).outcome.reason(), "exit code 300");
}

#[test]
fn module_no_memory() {
    let reason = check(MODULE_NO_MEMORY, &settings(), "trap", None).outcome.reason();
    assert!(reason.contains("memory"), "{reason}");
}

#[test]
fn module_random() {
    let reason = check(MODULE_RANDOM, &settings(), "trap", None).outcome.reason();
    assert!(reason.contains("65536") || reason.contains("random"), "{reason}");
}
