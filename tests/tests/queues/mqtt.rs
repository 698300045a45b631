//! `mqtt://`.

mod faults;
mod own;
mod plain;
mod rig;

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tempfile::TempDir;
use weir_runtime::dead::DeadBounds;
use weir_runtime::queue::conformance::Place;
use weir_runtime::queue::url::QueueUrl;
use weir_runtime::queue::{BoxFuture, Opening, Queue, QueueError, open};
use weir_runtime::store::Store;
use weir_tests::brokers::mosquitto;
use weir_tests::brokers::server::Server;

use super::fresh;

/// Longest wait for something that must happen.
const SOON: Duration = Duration::from_secs(20);

/// The server that the tests of this process share.
fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(|| mosquitto::start(""))
}

/// Opens a queue as the process of this name, without a store.
async fn opened_as(url: &str, process: &str) -> Result<Arc<dyn Queue>, QueueError> {
    opened_with(url, process, None).await
}

async fn opened_with(url: &str, process: &str, store: Option<Arc<Store>>) -> Result<Arc<dyn Queue>, QueueError> {
    let url = QueueUrl::parse(url, std::path::Path::new("")).map_err(QueueError::Invalid)?;
    let opening = Opening {
        name: "orders".to_owned(),
        kind: "com.example.raw".to_owned(),
        max_size_bytes: 0,
        process: process.to_owned(),
        group: "weir".to_owned(),
        dead: DeadBounds::default(),
        key: None,
        map: None,
        store,
    };
    open(&url, opening).await
}

/// The name of a process, and its queue while it lives.
type Named = (String, Option<Weak<dyn Queue>>);

/// A topic of its own. What a process leaves behind waits for its name to come back: a new opening gets the first name that nobody has.
struct Topic {
    url: String,
    names: Mutex<Vec<Named>>,
    broker: Option<Mutex<Server>>,
    /// All its processes share it.
    store: Arc<Store>,
    _folder: TempDir,
}

impl Topic {
    fn new(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let url = format!("{}/{}/new?lease=2s", server.url(), fresh());
        Self { url, names: Mutex::default(), broker: None, store, _folder: folder }
    }

    fn on(mut self, broker: Server) -> Self {
        self.broker = Some(Mutex::new(broker));
        self
    }

    fn free_name(&self) -> String {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let free = names.iter().find(|(_, queue)| queue.as_ref().is_none_or(|queue| queue.strong_count() == 0));
        free.map(|(name, _)| name.clone()).unwrap_or_else(|| {
            let name = fresh();
            names.push((name.clone(), None));
            name
        })
    }
}

impl Place for Topic {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async {
            let name = self.free_name();
            let queue = opened_with(&self.url, &name, Some(Arc::clone(&self.store))).await?;
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.iter_mut().filter(|(known, _)| *known == name).for_each(|(_, used)| *used = Some(Arc::downgrade(&queue)));
            Ok(queue)
        })
    }

    fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    fn restart_broker(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(broker) = &self.broker {
                let mut broker = broker.lock().unwrap_or_else(PoisonError::into_inner);
                // In order: it writes down what it has when it ends, and every half hour.
                broker.process().stop();
                broker.start_again();
            }
        })
    }
}

mod conformance {
    use super::*;

    fn adapter(_: u64) -> Box<dyn Place> {
        Box::new(Topic::new(shared()))
    }

    weir_runtime::conformance_tests!(
        #[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
        adapter,
        skips: [
            "order_is_kept",
            "retry_keeps_tries",
            "position_is_stable",
            "first_subscriptions_see_what_waited",
            "start_decides_where_to_begin",
            "unsubscribe_frees",
            "depth_counts",
            "full_queue_refuses_and_recovers",
            "too_large_is_refused",
            "batch_is_all_or_none",
            "acked_never_come_back",
            "retries_outlive_the_process",
            "subscriptions_outlive_the_process",
            "order_outlives_the_process",
            "killed_tries_are_counted",
            "a_killed_process_is_replaced",
            "leases_are_kept_while_held",
            "order_is_taken_over",
            "order_is_given_up_at_close",
            "broker_restart_loses_nothing",
        ]
    );
}

/// The same with a server of its own, that is restarted.
mod restarts {
    use super::*;
    use weir_runtime::queue::conformance::{block_on, check};

    fn adapter(_: u64) -> Box<dyn Place> {
        let server = mosquitto::start("");
        Box::new(Topic::new(&server).on(server))
    }

    #[test]
    #[cfg_attr(without_mosquitto, ignore = "no mosquitto on this machine: make tools")]
    fn broker_restart_loses_nothing() {
        block_on(check(&adapter, "broker_restart_loses_nothing", &[])).unwrap();
    }
}
