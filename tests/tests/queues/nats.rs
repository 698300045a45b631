//! `nats://…`, with and without `?stream=`.

mod streams;
mod subjects;

use std::sync::OnceLock;
use std::time::Duration;

use weir_runtime::queue::conformance::Place;
use weir_tests::brokers::nats;
use weir_tests::brokers::server::Server;

use super::{Spot, fresh};

/// Short, so that what a killed process held comes soon; long enough for a busy machine to renew.
const LEASE: Duration = Duration::from_secs(2);

/// The server that the tests of this process share.
fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| nats::start(""))
}

/// A stream of its own.
fn stream(server: &Server) -> Spot {
    let name = fresh();
    Spot::new(format!("{}/{name}.new?stream={name}&lease=2s", server.url())).lease(LEASE)
}

/// A subject of its own.
fn subject(server: &Server) -> Spot {
    Spot::new(format!("{}/{}.new", server.url(), fresh()))
}

mod conformance {
    use super::*;

    fn adapter(_: u64) -> Box<dyn Place> {
        Box::new(stream(shared()))
    }

    weir_runtime::conformance_tests!(
        #[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
        adapter,
        skips: [
            "full_queue_refuses_and_recovers",
            "too_large_is_refused",
            "batch_is_all_or_none",
            "broker_restart_loses_nothing",
        ]
    );
}

mod subjects_conform {
    use super::*;

    fn adapter(_: u64) -> Box<dyn Place> {
        Box::new(subject(shared()))
    }

    weir_runtime::conformance_tests!(
        #[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
        adapter,
        skips: [
            "order_is_kept",
            "retry_waits_and_holds_up_nobody",
            "retry_keeps_tries",
            "delayed_publish_waits",
            "first_subscriptions_see_what_waited",
            "start_decides_where_to_begin",
            "unsubscribe_frees",
            "depth_counts",
            "full_queue_refuses_and_recovers",
            "too_large_is_refused",
            "batch_is_all_or_none",
            "kill_keeps_what_was_not_settled",
            "close_gives_back",
            "acked_never_come_back",
            "retries_outlive_the_process",
            "delayed_outlive_the_process",
            "subscriptions_outlive_the_process",
            "order_outlives_the_process",
            "killed_tries_are_counted",
            "a_killed_process_is_replaced",
            "leases_are_kept_while_held",
            "order_is_taken_over",
            "order_is_given_up_at_close",
            "answered_publishes_outlive_a_kill",
            "broker_restart_loses_nothing",
        ]
    );
}

/// The same with a server of its own, that is killed.
mod restarts {
    use super::*;
    use weir_runtime::queue::conformance::{block_on, check};

    fn adapter(_: u64) -> Box<dyn Place> {
        let server = nats::start("");
        Box::new(stream(&server).on(server))
    }

    #[test]
    #[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
    fn broker_restart_loses_nothing() {
        block_on(check(&adapter, "broker_restart_loses_nothing", &[])).unwrap();
    }
}
