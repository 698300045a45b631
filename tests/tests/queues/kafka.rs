//! `kafka://`.

mod apart;
mod faults;
mod groups;
mod own;
mod refusals;
mod rig;

use std::sync::OnceLock;
use std::time::Duration;

use weir_runtime::queue::conformance::Place;
use weir_tests::brokers::kafka;
use weir_tests::brokers::server::Server;

use self::apart::Apart;
use super::{Spot, fresh};

/// Short, so that what a killed process held comes soon; long enough for a busy machine to answer in time.
const LEASE: Duration = Duration::from_secs(4);

/// The server that the tests of this process share.
fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| kafka::start(""))
}

/// The URL of a topic of its own with so many partitions.
fn topic(server: &Server, partitions: u32) -> String {
    format!("{}/{}?partitions={partitions}&lease=4s", server.url(), fresh())
}

/// With one partition, as order is promised within one.
fn spot(server: &Server) -> Spot {
    Spot::new(topic(server, 1)).lease(LEASE)
}

mod conformance {
    use super::*;

    fn adapter(_: u64) -> Box<dyn Place> {
        Apart::place(spot(shared()))
    }

    weir_runtime::conformance_tests!(
        #[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
        adapter,
        skips: [
            "full_queue_refuses_and_recovers",
            "too_large_is_refused",
            "batch_is_all_or_none",
            "broker_restart_loses_nothing",
        ]
    );
}

/// The same with the group protocol of Kafka 4, where groups matter.
mod new_protocol {
    use super::*;
    use weir_runtime::queue::conformance::{block_on, check};

    fn adapter(_: u64) -> Box<dyn Place> {
        Apart::place(Spot::new(format!("{}&protocol=consumer", topic(shared(), 1))))
    }

    #[test]
    #[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
    fn processes_share_and_replace_each_other() {
        for name in [
            "acked_never_come_back",
            "processes_share_a_subscription",
            "a_killed_process_is_replaced",
            "order_is_given_up_at_close",
        ] {
            block_on(check(&adapter, name, &[])).unwrap_or_else(|why| panic!("{name}: {why}"));
        }
    }
}

/// The same with a server of its own, that is killed.
mod restarts {
    use super::*;
    use weir_runtime::queue::conformance::{block_on, check};

    fn adapter(_: u64) -> Box<dyn Place> {
        let server = kafka::start("");
        // Longer than the broker is away: what is held over its restart stays ours.
        let url = topic(&server, 1).replace("lease=4s", "lease=30s");
        Apart::place(Spot::new(url).on(server))
    }

    #[test]
    #[cfg_attr(without_kafka, ignore = "no Kafka on this machine: make tools")]
    fn broker_restart_loses_nothing() {
        block_on(check(&adapter, "broker_restart_loses_nothing", &[])).unwrap();
    }
}
