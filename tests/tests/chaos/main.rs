//! Two processes on one Redis stream, while handlers fail in every way, processes are killed in turn and the server is restarted: every
//! event ends acked or dead-lettered, none is lost, none runs twice at the same time, and the counters agree at every scrape.
//!
//! What happened is told by a ledger outside Weir: what each process wrote to its stderr before it was killed, what handlers published,
//! and what stands on the server in the end. `WEIR_TEST_SEED` repeats a run's random choices, `WEIR_TEST_EVENTS` sets its size.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what fails here fails the test; each run says its seed and its figures"
)]

mod audit;
mod broker;
#[path = "../../guests/src/chance.rs"]
#[expect(unreachable_pub, reason = "the guests have it in public")]
mod chance;
mod cluster;
mod ledger;
mod plan;

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use self::audit::Audit;
use self::cluster::Cluster;
use self::plan::Plan;

/// For the guest `chaos_*` the test that it is for, under the guest's name.
mod each_guest {
    use weir_tests::assert_test_exists;

    use super::every_event_ends_in_one_state as chaos_ways;

    weir_tests::foreach_chaos!(assert_test_exists);
}

/// Each test has the machine to itself.
static TURN: Mutex<()> = Mutex::new(());

fn run(plan: &Plan) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let begun = Instant::now();
    eprintln!("{plan}");
    let mut cluster = Cluster::start(plan);
    cluster.suffer();
    cluster.end_of_work();
    let standing = cluster.standing();
    let history = cluster.stop();
    let audit = Audit::new(plan, &history, &standing);
    let figures = audit.check();
    eprintln!("{figures}, in {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn every_event_ends_in_one_state() {
    run(&Plan::from_environment(false));
}

#[test]
fn in_order_one_reads_and_another_takes_over() {
    run(&Plan::from_environment(true));
}
