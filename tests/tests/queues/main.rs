//! Adapters of brokers through the conformance suite, against real servers, and what is their own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what fails here fails the test; measured times are shown"
)]

mod again;
mod amqp;
mod bench;
mod kafka;
mod mqtt;
mod nats;
mod nsq;
mod silence;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;
use weir_runtime::dead::DeadBounds;
use weir_runtime::queue::conformance::Place;
use weir_runtime::queue::url::QueueUrl;
use weir_runtime::queue::{BoxFuture, Opening, Queue, QueueError, open};
use weir_runtime::store::Store;
use weir_tests::brokers::server::Server;

/// A name that nothing else in this process has.
fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("q{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A place for a queue: a URL on a server, and a store beside it that outlives processes.
struct Spot {
    url: String,
    /// How long a delivery stays with a process that has gone silent.
    lease: Option<Duration>,
    /// The server, where it may be restarted.
    broker: Option<Mutex<Server>>,
    /// Whether it is stopped for a restart, not killed: some keep in memory what is in flight.
    gently: bool,
    store: Arc<Store>,
    _folder: TempDir,
}

impl Spot {
    /// A place on a server that others use too.
    fn new(url: impl Into<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { url: url.into(), lease: None, broker: None, gently: false, store, _folder: folder }
    }

    fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// With a server of its own.
    fn on(mut self, broker: Server) -> Self {
        self.broker = Some(Mutex::new(broker));
        self
    }

    /// With a server of its own that is stopped for a restart, not killed.
    fn on_gently(mut self, broker: Server) -> Self {
        self.gently = true;
        self.on(broker)
    }

    /// Opens its queue as a process of its own.
    async fn opened(&self) -> Result<Arc<dyn Queue>, QueueError> {
        opened(&self.url, Some(Arc::clone(&self.store))).await
    }
}

impl Place for Spot {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(self.opened())
    }

    fn lease(&self) -> Option<Duration> {
        self.lease
    }

    fn has_broker(&self) -> bool {
        self.broker.is_some()
    }

    fn restart_broker(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(broker) = &self.broker {
                let mut broker = broker.lock().unwrap_or_else(PoisonError::into_inner);
                match self.gently {
                    true => broker.process().stop(),
                    // What it answered is kept, also when it is killed.
                    false => broker.process().kill(),
                }
                broker.start_again();
            }
        })
    }
}

/// Opens a queue as a process of its own.
async fn opened(url: &str, store: Option<Arc<Store>>) -> Result<Arc<dyn Queue>, QueueError> {
    let url = QueueUrl::parse(url, std::path::Path::new("")).map_err(QueueError::Invalid)?;
    let opening = Opening {
        name: "orders".to_owned(),
        kind: "com.example.raw".to_owned(),
        key: None,
        map: None,
        max_size_bytes: 0,
        process: fresh(),
        group: "weir".to_owned(),
        dead: DeadBounds::default(),
        store,
    };
    open(&url, opening).await
}
