//! What every queue adapter has to pass. It holds an adapter to the [`Features`] that it declares, and to the rest of the contract of
//! [`Queue`] in any case; what an adapter does not promise is reported as skipped, by name.
//!
//! An adapter outside this repository runs it like this, each scenario as a test of its own:
//!
//! ```no_run
//! use std::sync::Arc;
//! use weir_runtime::queue::conformance::Place;
//! use weir_runtime::queue::{BoxFuture, Queue, QueueError, memory::MemoryQueue};
//!
//! struct InMemory(u64);
//!
//! impl Place for InMemory {
//!     fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
//!         let queue: Arc<dyn Queue> = MemoryQueue::new("test", self.0);
//!         Box::pin(async move { Ok(queue) })
//!     }
//! }
//!
//! fn adapter(max_size: u64) -> Box<dyn Place> {
//!     Box::new(InMemory(max_size))
//! }
//!
//! weir_runtime::conformance_tests!(adapter);
//! # fn main() {}
//! ```
//!
//! Scenarios wait on conditions with a bound, never for a fixed time, but for the short while in which something must *not* happen.

mod contents;
mod groups;
mod lasting;
mod limits;
mod load;
mod outages;
mod processes;
mod pulling;
mod rig;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{BoxFuture, Features, Queue, QueueError};

/// Longest that one scenario may take before it counts as hanging; a slow broker in a container needs seconds.
const SCENARIO_TIME_MAX: Duration = Duration::from_secs(60);

/// The bound on a queue's bytes in scenarios that are not about it.
const ROOMY_BYTES: u64 = 64 * 1024 * 1024;

/// One place where a queue of the adapter under test lives, empty at first.
pub trait Place: Send + Sync {
    /// Opens the queue. Where it is durable it is called again after the queue was closed or killed, and finds the same queue.
    ///
    /// # Errors
    /// Whatever opening fails with; the scenario then fails.
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>>;

    /// How long a delivery stays with a process that has gone silent, where that is a time; none: until the process is gone, or not known.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// Whether there is a broker that can be restarted alone: then [`Place::restart_broker`] does that.
    fn has_broker(&self) -> bool {
        false
    }

    /// Ends the broker as its administrator would, and starts it again with what it kept. Queues stay open meanwhile.
    fn restart_broker(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Lets go of a queue as a killed process would, without closing it. Dropping it is enough for most adapters.
    fn kill(&self, queue: Arc<dyn Queue>) -> BoxFuture<'_, ()> {
        drop(queue);
        Box::pin(async {})
    }
}

/// Makes fresh places: the argument is the bound on the bytes that the queue may hold, where it has one.
pub trait Adapter: Send + Sync {
    /// A place that shares nothing with any made before.
    fn place(&self, max_size_bytes: u64) -> Box<dyn Place>;
}

impl<F: Fn(u64) -> Box<dyn Place> + Send + Sync> Adapter for F {
    fn place(&self, max_size_bytes: u64) -> Box<dyn Place> {
        self(max_size_bytes)
    }
}

/// What went wrong, for people: what was done, what came, what was expected.
pub type Failure = String;

/// A promise of [`Features`], or an ability of [`Place`], that a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    AtLeastOnce,
    Durable,
    Groups,
    Ordered,
    Delay,
    CountsTries,
    StablePosition,
    Depth,
    Bounded,
    Shared,
    Lease,
    Broker,
    History,
    AcksApart,
    HandsOver,
}

impl Need {
    fn promised(self, features: Features, place: &dyn Place) -> bool {
        match self {
            Self::AtLeastOnce => features.at_least_once,
            Self::Durable => features.durable,
            Self::Groups => features.groups,
            Self::Ordered => features.ordered,
            Self::Delay => features.delay,
            Self::CountsTries => features.counts_tries,
            Self::StablePosition => features.stable_position,
            Self::Depth => features.depth,
            Self::Bounded => features.bounded,
            Self::Shared => features.shared,
            Self::Lease => place.lease().is_some(),
            Self::Broker => place.has_broker(),
            Self::History => features.history,
            Self::AcksApart => features.acks_apart,
            Self::HandsOver => features.hands_over,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at_least_once",
            Self::Durable => "durable",
            Self::Groups => "groups",
            Self::Ordered => "ordered",
            Self::Delay => "delay",
            Self::CountsTries => "counts_tries",
            Self::StablePosition => "stable_position",
            Self::Depth => "depth",
            Self::Bounded => "bounded",
            Self::Shared => "shared",
            Self::Lease => "lease",
            Self::Broker => "restart_broker",
            Self::History => "history",
            Self::AcksApart => "acks_apart",
            Self::HandsOver => "hands_over",
        }
    }
}

/// One behaviour that is checked.
pub struct Scenario {
    /// Names it in reports and tests.
    pub name: &'static str,
    /// The behaviour in one sentence.
    pub checks: &'static str,
    needs: &'static [Need],
    run: for<'a> fn(&'a dyn Adapter) -> BoxFuture<'a, Result<(), Failure>>,
}

/// What one scenario came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It behaves as promised.
    Passed,
    /// The adapter does not promise this feature.
    Skipped(&'static str),
    /// It does not behave as promised.
    Failed(Failure),
}

/// What all scenarios came to, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Each scenario's name and verdict.
    pub verdicts: Vec<(&'static str, Verdict)>,
}

impl Report {
    /// The scenarios that failed, with why.
    pub fn failed(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.verdicts.iter().filter_map(|(name, verdict)| match verdict {
            Verdict::Failed(why) => Some((*name, why.as_str())),
            _ => None,
        })
    }

    /// The scenarios that were skipped, with the feature that is not promised.
    pub fn skipped(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.verdicts.iter().filter_map(|(name, verdict)| match verdict {
            Verdict::Skipped(feature) => Some((*name, *feature)),
            _ => None,
        })
    }
}

/// One line per scenario.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (name, verdict) in &self.verdicts {
            match verdict {
                Verdict::Passed => writeln!(f, "passed   {name}")?,
                Verdict::Skipped(feature) => writeln!(f, "skipped  {name}: `{feature}` is not promised")?,
                Verdict::Failed(why) => writeln!(f, "FAILED   {name}: {why}")?,
            }
        }
        Ok(())
    }
}

/// All scenarios, simple ones first.
pub fn scenarios() -> impl Iterator<Item = &'static Scenario> {
    [
        contents::SCENARIOS,
        pulling::SCENARIOS,
        waiting::SCENARIOS,
        groups::SCENARIOS,
        limits::SCENARIOS,
        load::SCENARIOS,
        lasting::SCENARIOS,
        processes::SCENARIOS,
        outages::SCENARIOS,
    ]
    .into_iter()
    .flatten()
}

/// Runs every scenario, one after the other.
pub async fn run_all(adapter: &dyn Adapter) -> Report {
    let mut report = Report::default();
    for scenario in scenarios() {
        report.verdicts.push((scenario.name, run_scenario(adapter, scenario).await));
    }
    report
}

/// Runs one scenario by name.
pub async fn run(adapter: &dyn Adapter, name: &str) -> Verdict {
    match scenarios().find(|scenario| scenario.name == name) {
        Some(scenario) => run_scenario(adapter, scenario).await,
        None => Verdict::Failed(format!("no scenario is named `{name}`")),
    }
}

async fn run_scenario(adapter: &dyn Adapter, scenario: &Scenario) -> Verdict {
    let place = adapter.place(ROOMY_BYTES);
    let features = match place.open().await {
        Ok(queue) => {
            let features = queue.features();
            queue.close().await;
            features
        }
        Err(error) => return Verdict::Failed(format!("opening the queue failed: {error}")),
    };
    if let Some(need) = scenario.needs.iter().find(|need| !need.promised(features, &*place)) {
        return Verdict::Skipped(need.name());
    }
    match tokio::time::timeout(SCENARIO_TIME_MAX, (scenario.run)(adapter)).await {
        Ok(Ok(())) => Verdict::Passed,
        Ok(Err(failure)) => Verdict::Failed(failure),
        Err(_) => Verdict::Failed(format!("still running after {SCENARIO_TIME_MAX:?}: {}", scenario.checks)),
    }
}

/// What a generated test asserts: passed, or skipped where the test says that it is.
///
/// # Errors
/// The failure's text.
pub async fn check(adapter: &dyn Adapter, name: &str, skips: &[&str]) -> Result<(), Failure> {
    match (run(adapter, name).await, skips.contains(&name)) {
        (Verdict::Passed, false) | (Verdict::Skipped(_), true) => Ok(()),
        (Verdict::Skipped(feature), false) => {
            Err(format!("skipped, as `{feature}` is not promised (list `{name}` among the skipped, or promise it)"))
        }
        (Verdict::Passed, true) => Err("passed, but is listed as skipped".to_owned()),
        (Verdict::Failed(failure), _) => Err(failure),
    }
}

/// A test for each scenario, named after it: `conformance_tests!(adapter)`, or with the scenarios that the adapter's features leave
/// out, `conformance_tests!(adapter, skips: ["depth_counts"])`. The adapter is the name of a value that implements [`Adapter`]. Attributes
/// before it are put on each test, such as an `ignore` where the broker is not on the machine.
#[macro_export]
macro_rules! conformance_tests {
    ($(#[$attribute:meta])* $adapter:ident) => {
        $crate::conformance_tests!($(#[$attribute])* $adapter, skips: []);
    };
    ($(#[$attribute:meta])* $adapter:ident, skips: [$($skip:literal),* $(,)?]) => {
        $crate::conformance_tests!(@each [$(#[$attribute])*] $adapter, [$($skip),*],
            round_trip publish_time_is_kept empty_batch_is_taken settling_what_is_not_there_is_harmless
            pull_returns_at_most_max pull_waits_for_an_event leased_events_are_not_given_out_again pull_is_cancel_safe
            order_is_kept returned_events_come_again close_ends_pulls concurrent_close
            retry_waits_and_holds_up_nobody retry_keeps_tries due_retry_comes_at_once delayed_publish_waits
            position_is_stable
            each_subscription_sees_all first_subscriptions_see_what_waited start_decides_where_to_begin unsubscribe_frees
            depth_counts
            full_queue_refuses_and_recovers too_large_is_refused batch_is_all_or_none large_event
            many_publishers_and_pullers many_cancelled_pulls
            kill_keeps_what_was_not_settled close_gives_back acked_never_come_back retries_outlive_the_process
            delayed_outlive_the_process subscriptions_outlive_the_process order_outlives_the_process
            killed_tries_are_counted
            processes_share_a_subscription a_killed_process_is_replaced leases_are_kept_while_held order_is_taken_over
            order_is_given_up_at_close
            answered_publishes_outlive_a_kill broker_restart_loses_nothing
        );
        #[test]
        fn every_scenario_has_a_test() {
            let known: Vec<_> = $crate::queue::conformance::scenarios().map(|scenario| scenario.name).collect();
            assert_eq!(known, SCENARIO_TESTS);
        }
    };
    (@each $attributes:tt $adapter:ident, $skips:tt, $($name:ident)*) => {
        const SCENARIO_TESTS: &[&str] = &[$(stringify!($name)),*];
        $($crate::conformance_tests!(@one $attributes $adapter, $skips, $name);)*
    };
    (@one [$($attributes:tt)*] $adapter:ident, [$($skip:literal),*], $name:ident) => {
        #[test]
        $($attributes)*
        fn $name() -> Result<(), $crate::queue::conformance::Failure> {
            $crate::queue::conformance::block_on($crate::queue::conformance::check(&$adapter, stringify!($name), &[$($skip),*]))
        }
    };
}

/// Runs one check on a runtime of its own with several threads, as the server has.
///
/// # Errors
/// The check's failure, or that no runtime could be made.
pub fn block_on(check: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(|error| format!("making a tokio runtime failed: {error}"))?.block_on(check)
}

#[cfg(test)]
mod tests;
