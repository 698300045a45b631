//! `nats://…?stream=`.

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
    fn answered_publishes_outlive_a_kill() {
        block_on(check(&adapter, "answered_publishes_outlive_a_kill", &[])).unwrap();
    }

    #[test]
    #[cfg_attr(without_nats, ignore = "no nats-server on this machine: make tools")]
    fn broker_restart_loses_nothing() {
        block_on(check(&adapter, "broker_restart_loses_nothing", &[])).unwrap();
    }
}
