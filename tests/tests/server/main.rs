//! The real binary from outside: started in a folder of its own, spoken to over HTTP and by its commands, killed, drained.
//!
//! What a library test can say better stands elsewhere: limits and imports in `sandbox_*.rs`, queues in their conformance suite.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io::Write as _;

use serde_json::Value;
use weir_tests::server::event;

mod batches;
mod cases;
mod commands;
mod dead;
mod delivery;
mod drain;
mod duplicates;
mod examples;
mod fallback;
mod filters;
mod held;
mod keyvalue;
mod lanes;
mod leftover;
mod lost;
mod mapping;
mod moving;
mod neighbours;
mod operator;
mod outcomes;
mod outside;
mod pauses;
mod pressure;
mod programs;
mod publishing;
mod refusals;
mod reload;
mod requests;
mod retries;
mod sample;
mod trial;
mod waiting;
mod webhooks;

/// For each guest `server_*` the test that it is for, under the guest's name: one without does not compile.
mod each_guest {
    use weir_tests::assert_test_exists;

    use super::cases::case_timers;
    use super::delivery::every_accepted_event_is_handled_at_least_once as server_log;
    use super::drain::what_runs_is_finished as server_slow;
    use super::keyvalue::what_is_kept_outlives_the_server as server_keyvalue;
    use super::lanes::a_wait_that_its_lane_shares_is_bounded_by_the_backoff as server_after;
    use super::outside::a_relay_that_is_away_costs_no_attempt as server_mail;
    use super::publishing::a_loop_ends as server_pass;
    use super::publishing::what_is_published_leaves_with_done_or_never as server_publish;
    use super::reload::a_broken_file_leaves_the_old_version_running as server_self_test;
    use super::requests::requests_are_answered as server_reply;
    use super::retries::a_retried_event_does_not_mail_twice as server_mail_retry;
    use super::retries::attempts_rise_until_it_works as server_until;
    use super::webhooks::a_value_that_was_put_in_is_shown_nowhere as server_leak;

    weir_tests::foreach_server!(assert_test_exists);
    weir_tests::foreach_case!(assert_test_exists);
}

/// A `weir.toml` with one queue `events` and one handler `it` that reads it; `more` stands in the handler's table.
fn one_handler(url: &str, component: &str, more: &str) -> String {
    format!("[queue.events]\nurl = \"{url}\"\n{}", handler("it", component, more))
}

/// A handler of the queue `events`.
fn handler(name: &str, component: &str, more: &str) -> String {
    format!("[handler.{name}]\ncomponent = \"{component}\"\nqueue = \"events\"\n{more}\n")
}

/// An event with a subject, for `order-by`.
fn keyed(id: &str, key: &str, data: &Value) -> Value {
    let mut event = event(id, data);
    event["subject"] = Value::from(key);
    event
}

/// The URL of a stream on the server that all tests share: named after the test, as nobody cleans it up.
fn stream(name: &str) -> String {
    format!("{}?stream={name}", weir_tests::redis::shared().url(0))
}

/// The seed of a test's choices: `WEIR_SEED`, or one that is told.
fn seed() -> u64 {
    let given = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    // Straight to the file descriptor: a run that hangs must have told it too.
    let _ = writeln!(std::io::stderr(), "WEIR_SEED={seed} repeats these choices");
    seed
}
