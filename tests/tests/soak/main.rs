//! A soak of each adapter: two processes of the real server on one queue of a real broker, thousands of events (`make soak`: a hundred thousand),
//! some of which fail, while the broker is restarted once and a process is killed once. Everything that was accepted ends, and where the adapter promises at least
//! once, each event by itself.
//!
//! And what a process holds while handlers stand still: `waiting.rs`.
//!
//! `WEIR_TEST_EVENTS` sets the size, `WEIR_TEST_SEED` repeats the drawn ends. Each prints its figures.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what fails here fails the test; each run says its seed and its figures"
)]

mod brokers;
mod run;
mod waiting;

/// For the guest `soak_*` the test that it is for, under the guest's name.
mod each_guest {
    use weir_tests::assert_test_exists;

    use super::brokers::redis_stream as soak_ways;

    weir_tests::foreach_soak!(assert_test_exists);
}
