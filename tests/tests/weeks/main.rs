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

mod oracle;
mod readme;
mod rules;
mod timers;
mod world;

use weir_tests::clock::Clock;
use weir_tests::server::Site;

/// For the guest `weeks_*` the test that it is for, under the guest's name.
mod each_guest {
    use weir_tests::assert_test_exists;

    use super::timers::what_is_to_happen_later_happens_then_on_disk as weeks_timer;

    weir_tests::foreach_weeks!(assert_test_exists);
}

/// A build that goes by a file says so, and does nothing without it; every other build knows nothing of it.
#[test]
fn a_build_whose_time_is_a_file_says_so() {
    let clock = Clock::new("2026-03-08T07:00:00Z".parse().unwrap());
    let config = "[queue.events]\nurl = \"disk:./data\"\n";
    let (site, other) = (Site::with_clock(config, &clock), Site::new(config));
    let version = |site: &Site| site.run(&["--version"]).ending(0).stdout;
    assert_eq!(version(&site).trim(), format!("{} (test-clock)", version(&other).trim()));
    let _ = site.run(&["check"]).ending(0);
    for (path, said) in [(None, "name one in WEIR_TEST_CLOCK"), (Some("nowhere"), "`nowhere`: can't be read")] {
        let mut command = site.command(&["check"]);
        command.env_remove("WEIR_TEST_CLOCK").envs(path.map(|path| ("WEIR_TEST_CLOCK", path)));
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && stderr.contains(said), "{path:?}: {output:?}");
    }
    let mut command = other.command(&["check"]);
    let output = command.env("WEIR_TEST_CLOCK", "nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let server = site.start();
    let _ = server.logged("this is a test build: the time comes from a file", 1);
}

/// The seed of a test's choices: `WEIR_SEED`, or one that is told.
fn random() -> fastrand::Rng {
    let given = std::env::var("WEIR_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("WEIR_SEED={seed} repeats these choices");
    fastrand::Rng::with_seed(seed)
}
