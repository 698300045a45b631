//! Every limit of the sandbox binds: a guest crosses it, the outcome and the limit are named, and good guests then run as if nothing had
//! happened, with no worker and no instance lost (`rig::check`).

#![expect(clippy::expect_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use weir_runtime::config::{Limits, Relay};
use weir_runtime::outcome::Outcome;
use weir_runtime::sandbox::Report;
use weir_tests::assert_test_exists;
use weir_tests::guests::rig::{INSTANCES, Rig, Settings, WORKERS, check, check_slow, event};
use weir_tests::guests::*;

weir_tests::foreach_limit!(assert_test_exists);

const MIB: u64 = 1 << 20;

/// Enough for what a good guest does, and used up at once by one that loops.
const LITTLE_FUEL: u64 = 1_000_000;

/// More than any deadline here has time for.
const MUCH_FUEL: u64 = 10_000_000_000;

/// A deadline that a test can wait for.
const DEADLINE: Duration = Duration::from_millis(100);

/// How much later than its deadline a guest may end on a machine that does a dozen other things at once.
const SLACK: Duration = Duration::from_secs(5);

fn settings() -> Settings {
    Settings::default()
}

fn little_fuel() -> Settings {
    Settings::limits(|limits| limits.fuel = LITTLE_FUEL)
}

fn short() -> Settings {
    Settings::limits(|limits| (limits.fuel, limits.deadline) = (MUCH_FUEL, DEADLINE))
}

fn with_memory(memory: u64) -> Settings {
    Settings::limits(|limits| limits.memory = memory)
}

fn with_tables(tables: u64) -> Settings {
    Settings::limits(|limits| limits.tables = tables)
}

fn with_handles(handles: u32) -> Settings {
    Settings::limits(|limits| limits.handles = handles)
}

/// Out of fuel, having used all of it.
fn check_fuel(guest: &str) {
    let report = check(guest, &little_fuel(), "fuel", Some(("fuel", LITTLE_FUEL)));
    assert!(report.fuel >= LITTLE_FUEL - 1000, "{}", report.fuel);
}

/// Past the deadline, no sooner and not much later.
fn check_deadline(guest: &str) -> Report {
    let report = check_slow(guest, &short(), "deadline", Some(("deadline", 100)));
    assert!((DEADLINE..DEADLINE + SLACK).contains(&report.elapsed), "{:?}", report.elapsed);
    report
}

#[test]
fn limit_good() {
    check(LIMIT_GOOD, &settings(), "done", None);
}

#[test]
fn limit_good_large() {
    check(LIMIT_GOOD_LARGE, &settings(), "done", None);
}

#[test]
fn limit_loop() {
    check_fuel(LIMIT_LOOP);
    let report = check_deadline(LIMIT_LOOP);
    assert!(report.backtrace.iter().any(|frame| frame.contains("spin")), "{:?}", report.backtrace);
}

#[test]
fn limit_host_calls() {
    check_fuel(LIMIT_HOST_CALLS);
    check_deadline(LIMIT_HOST_CALLS);
}

#[test]
fn limit_bulk() {
    check_fuel(LIMIT_BULK);
    check_deadline(LIMIT_BULK);
}

#[test]
fn limit_sleep() {
    check_deadline(LIMIT_SLEEP);
}

#[test]
fn limit_sleep_many() {
    check_deadline(LIMIT_SLEEP_MANY);
}

#[test]
fn limit_naps() {
    check_deadline(LIMIT_NAPS);
}

#[test]
fn limit_random_loop() {
    check_deadline(LIMIT_RANDOM_LOOP);
}

/// A host call that waits longer than it may, and gets nothing done because all workers are busy, still ends.
#[test]
fn deadlines_hold_on_busy_workers() {
    let rig = Rig::new();
    let sleeper = rig.load(LIMIT_SLEEP, &short()).unwrap();
    let looper = rig.load(LIMIT_LOOP, &short()).unwrap();
    let running: Vec<_> = (0..20).flat_map(|_| [&sleeper, &looper]).map(|guest| rig.begin(guest, Arc::new(event()))).collect();
    for report in running.into_iter().map(|task| rig.wait(task)) {
        assert_eq!(report.outcome.name(), "deadline", "{:?}", report.outcome);
    }
    drop((sleeper, looper));
    rig.assert_serves();
}

/// What waits for an instance has not begun: its deadline is counted from when it runs.
#[test]
fn waiting_for_an_instance_costs_no_time() {
    let rig = Rig::new();
    let deadline = Duration::from_secs(1);
    let good = rig.load(LIMIT_GOOD, &Settings::limits(|limits| limits.deadline = deadline)).unwrap();
    let begun = Instant::now();
    // Each takes 30 ms, and as many as there are instances run at once.
    for report in rig.run_many(&good, 160) {
        assert_eq!(report.outcome, Outcome::Done);
    }
    assert!(begun.elapsed() > deadline, "{:?}: none of them waited long", begun.elapsed());
}

/// Guests that loop on every worker give way to others at every tick, and however many of them wait, they leave another handler its own
/// instance.
#[test]
fn loopers_on_all_workers_let_others_run() {
    let rig = Rig::new();
    let settings = Settings::limits(|limits| (limits.fuel, limits.deadline) = (u64::MAX / 2, Duration::from_secs(60)));
    let looper = rig.load(LIMIT_LOOP, &settings).unwrap();
    let good = rig.load(LIMIT_GOOD, &Settings::default()).unwrap();
    let loopers: Vec<_> = (0..5 * INSTANCES).map(|_| rig.begin(&looper, Arc::new(event()))).collect();
    assert!(loopers.len() > WORKERS);
    for report in rig.run_many(&good, 10) {
        assert_eq!(report.outcome, Outcome::Done);
    }
    assert!(loopers.iter().all(|looper| !looper.is_finished()), "a looper ended, and the good ones may have waited for it");
    // A run that is given up in the middle gives its instance back too.
    loopers.iter().for_each(tokio::task::JoinHandle::abort);
    drop((looper, good));
    rig.assert_serves();
}

#[test]
fn limit_memory_vec() {
    let report = check_slow(LIMIT_MEMORY_VEC, &with_memory(8 * MIB), "memory", Some(("memory", 8 * MIB)));
    assert!((6 * MIB..=8 * MIB).contains(&report.memory), "{}", report.memory);
}

#[test]
fn limit_memory_grow() {
    let report = check_slow(LIMIT_MEMORY_GROW, &settings(), "memory", Some(("memory", 64 * MIB)));
    assert!((63 * MIB..=64 * MIB).contains(&report.memory), "{}", report.memory);
    // As much as the pool has: the handler's limit is still what is named.
    check_slow(LIMIT_MEMORY_GROW, &with_memory(256 * MIB), "memory", Some(("memory", 256 * MIB)));
}

#[test]
fn limit_memory_cope() {
    let report = check_slow(LIMIT_MEMORY_COPE, &settings(), "done", None);
    assert!((63 * MIB..=64 * MIB).contains(&report.memory), "{}", report.memory);
}

#[test]
fn limit_memory_own_maximum() {
    // Not a denial of ours.
    check(LIMIT_MEMORY_OWN_MAXIMUM, &settings(), "trap", None);
}

#[test]
fn limit_memory_initial() {
    let report = check(LIMIT_MEMORY_INITIAL, &settings(), "load", None);
    assert!(report.outcome.reason().contains("exceeds memory limits"), "{report:?}");
    check(LIMIT_MEMORY_INITIAL, &with_memory(101 * MIB), "done", None);
}

#[test]
fn limit_memory_two() {
    check(LIMIT_MEMORY_TWO, &settings(), "memory", Some(("memory", 64 * MIB)));
    let report = check(LIMIT_MEMORY_TWO, &with_memory(80 * MIB), "done", None);
    assert_eq!(report.memory, 80 * MIB);
}

#[test]
fn limit_memory_two_initial() {
    let report = check(LIMIT_MEMORY_TWO_INITIAL, &with_memory(40 * MIB), "load", None);
    assert!(report.outcome.reason().contains("exceeds memory limits"), "{report:?}");
    let report = check(LIMIT_MEMORY_TWO_INITIAL, &settings(), "done", None);
    // 40 MiB, a page, and what was denied of 25 MiB more: nothing.
    assert_eq!(report.memory, 40 * MIB + (64 << 10));
}

#[test]
fn limit_memory_dodge() {
    let report = check_slow(LIMIT_MEMORY_DODGE, &settings(), "memory", Some(("memory", 64 * MIB)));
    assert!(report.memory <= 64 * MIB, "{}", report.memory);
}

#[test]
fn limit_table_grow() {
    check(LIMIT_TABLE_GROW, &with_tables(10_000), "memory", Some(("tables", 10_000)));
    // The default is what one table of the pool holds: it is still the limit that is named.
    check(LIMIT_TABLE_GROW, &settings(), "memory", Some(("tables", 100_000)));
    // More than one table can hold: that bound is named then.
    check(LIMIT_TABLE_GROW, &with_tables(500_000), "memory", Some(("tables", 100_000)));
}

#[test]
fn limit_table_two() {
    check(LIMIT_TABLE_TWO, &with_tables(1_000), "memory", Some(("tables", 1_000)));
    check(LIMIT_TABLE_TWO, &with_tables(1_200), "done", None);
}

#[test]
fn limit_table_initial() {
    let report = check(LIMIT_TABLE_INITIAL, &with_tables(80_000), "load", None);
    assert!(report.outcome.reason().contains("exceeds table limits"), "{report:?}");
    check(LIMIT_TABLE_INITIAL, &settings(), "done", None);
}

#[test]
fn limit_pollables() {
    check(LIMIT_POLLABLES, &with_handles(100), "trap", Some(("handles", 100)));
}

#[test]
fn limit_streams() {
    check(LIMIT_STREAMS, &with_handles(100), "trap", Some(("handles", 100)));
}

#[test]
fn limit_own_handles() {
    check(LIMIT_OWN_HANDLES, &settings(), "trap", Some(("handles", 1_000)));
}

#[test]
fn limit_own_handles_dropped() {
    check(LIMIT_OWN_HANDLES_DROPPED, &with_handles(10), "done", None);
}

#[test]
fn limit_stack() {
    let report = check(LIMIT_STACK, &settings(), "trap", Some(("stack", 512 << 10)));
    assert!(report.backtrace.len() <= 32 && report.backtrace[0].contains("deeper"), "{:?}", report.backtrace);
}

/// Over its output by one byte or by millions: what went before is kept, and nothing more.
fn check_output(guest: &str) {
    let report = check(guest, &settings(), "output", Some(("output", 256 << 10)));
    assert!((200 << 10..=256 << 10).contains(&report.log.len()), "{}", report.log.len());
}

#[test]
fn limit_stdout() {
    check_output(LIMIT_STDOUT);
}

#[test]
fn limit_stderr() {
    check_output(LIMIT_STDERR);
}

#[test]
fn limit_logging() {
    check_output(LIMIT_LOGGING);
}

#[test]
fn limit_write_once() {
    let settings = Settings::limits(|limits| limits.output = 64 << 10);
    let report = check(LIMIT_WRITE_ONCE, &settings, "output", Some(("output", 64 << 10)));
    assert_eq!(report.log.len(), 40_000);
}

#[test]
fn limit_write_zeroes() {
    let report = check(LIMIT_WRITE_ZEROES, &settings(), "trap", None);
    assert!(report.outcome.reason().contains("zeroes"), "{report:?}");
}

/// What one host call may hand over: twice the largest event and a little.
const ARGUMENTS: (&str, u64) = ("arguments", 2 * MIB + (64 << 10));

#[test]
fn limit_arguments_logging() {
    check(LIMIT_ARGUMENTS_LOGGING, &settings(), "trap", Some(ARGUMENTS));
}

fn outbox() -> Relay {
    Relay::File("outbox".into())
}

#[test]
fn limit_arguments_email() {
    check(LIMIT_ARGUMENTS_EMAIL, &settings().mail(outbox()), "trap", Some(ARGUMENTS));
}

#[test]
fn limit_arguments_list() {
    check(LIMIT_ARGUMENTS_LIST, &settings().mail(outbox()), "trap", Some(ARGUMENTS));
}

#[test]
fn limit_requests() {
    let settings = |requests| Settings::limits(|limits| limits.requests = requests).mail(outbox());
    check_slow(LIMIT_REQUESTS, &settings(3), "output", Some(("requests", 3)));
    check_slow(LIMIT_REQUESTS, &settings(5), "done", None);
}

#[test]
fn limit_random() {
    let report = check(LIMIT_RANDOM, &settings(), "trap", None);
    assert!(report.outcome.reason().contains("1000000 exceeds limit 65536"), "{report:?}");
}

/// Bytes of the host's memory that a guest could take, by what it says.
fn taken(guest: &str, settings: &Settings) -> u64 {
    let report = check_slow(guest, settings, "reject", None);
    let Outcome::Reject { reason } = report.outcome else { unreachable!("checked above") };
    reason.parse().expect("a number")
}

/// Bodies that nobody reads wait in the host's memory, which no linear memory shows: a handful of bytes for each handle.
#[test]
fn limit_http_bodies() {
    let taken = taken(LIMIT_HTTP_BODIES, &settings().with("many", "200"));
    assert!((1..=200 * 32 * 1024).contains(&taken), "{taken}");
    let many = settings().with("many", "100000");
    check(LIMIT_HTTP_BODIES, &many, "trap", Some(("handles", 1_000)));
}

#[test]
fn limit_http_fields() {
    check(LIMIT_HTTP_FIELDS, &settings().with("many", "8"), "done", None);
    let report = check(LIMIT_HTTP_FIELDS, &settings().with("many", "32"), "trap", None);
    assert!(report.outcome.reason().contains("size of fields exceeds limit"), "{report:?}");
}

/// The host's own lines in an event's log are few, however often something is denied.
#[test]
fn limit_denied_loop() {
    let report = check(LIMIT_DENIED_LOOP, &settings().with("many", "5000"), "done", None);
    assert_eq!(report.log.lines().count(), 3, "{}", report.log);
}

/// The defaults are those of surface.md.
#[test]
fn defaults() {
    let limits = Limits::default();
    assert_eq!((limits.fuel, limits.memory, limits.tables, limits.handles), (100_000_000, 64 * MIB, 100_000, 1_000));
    assert_eq!((limits.deadline, limits.output, limits.requests), (Duration::from_secs(30), 256 << 10, 20));
}

/// With its default limits a loop ends by fuel, long before its deadline.
#[test]
fn the_default_fuel_is_used_up_in_moments() {
    let rig = Rig::new();
    let begun = Instant::now();
    let report = rig.run(&rig.load(LIMIT_LOOP, &settings()).unwrap());
    assert_eq!(report.outcome.name(), "fuel");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
