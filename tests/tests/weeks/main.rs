//! Weeks of simulated time with real processes: what is to happen later happens at its time, once, also over restarts and in two processes
//! on one Redis server.
//!
//! The time of all processes comes from one file, which the test sets (`weir` with the feature `test-clock`). It stands still while
//! anything is under way, so a mail is not "about in time": the time that its file's name says is the very millisecond at which it was due,
//! or at which a server came back that was away then. A second before each such time the test looks that nothing has come early.
//!
//! What is expected stands in a ledger outside Weir, and is computed here, from what the documentation says.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what fails here fails the test; each run says its seed"
)]

mod timers;
mod world;

/// For the guest `weeks_*` the test that it is for, under the guest's name.
mod each_guest {
    use weir_tests::assert_test_exists;

    use super::timers::what_is_to_happen_later_happens_then_on_disk as weeks_timer;

    weir_tests::foreach_weeks!(assert_test_exists);
}

/// The seed of a test's choices: `WEIR_SEED`, or one that is told.
fn random() -> fastrand::Rng {
    let given = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("WEIR_SEED={seed} repeats these choices");
    fastrand::Rng::with_seed(seed)
}
