//! Queues with the store beside them through the conformance suite: over adapters that hold nothing back, which refuse to; and what is the
//! layer's own.

mod bare;
mod own;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use self::bare::Bare;
use super::{Later, over};
use crate::dead::DeadBounds;
use crate::queue::conformance::Place;
use crate::queue::disk::DiskQueue;
use crate::queue::{BoxFuture, Opening, Queue, QueueError};
use crate::store::{Settings, Store};

/// Short, so that what a killed process held comes soon; long enough for a busy machine to renew.
const LEASE: Duration = Duration::from_secs(2);

fn opening(store: Arc<Store>) -> Opening {
    Opening {
        name: "events".to_owned(),
        kind: "weir.raw".to_owned(),
        max_size_bytes: 0,
        process: "one".to_owned(),
        group: "weir".to_owned(),
        dead: DeadBounds::default(),
        key: None,
        map: None,
        store: Some(store),
    }
}

/// A disk queue that holds nothing back, with the embedded store.
struct OnDisk {
    folder: TempDir,
    max_size: u64,
}

impl OnDisk {
    fn try_open(&self) -> Result<Arc<dyn Queue>, QueueError> {
        let settings = Settings { data: self.folder.path().join("data"), ..Settings::default() };
        let store = Store::open_with(&settings).map_err(|error| QueueError::Owned(error.to_string()))?;
        let bare = Bare::over(DiskQueue::open(&self.folder.path().join("queue"), "test", self.max_size)?);
        Ok(over(bare, Later::ALL.with_lease(LEASE), &opening(store)))
    }
}

impl Place for OnDisk {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async {
            // A process that is killed takes its tasks with it; here they end a moment later, and the files are theirs so long.
            for _ in 0..1_000 {
                match self.try_open() {
                    Err(QueueError::Owned(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                    opened => return opened,
                }
            }
            self.try_open()
        })
    }
}

fn disk(max_size: u64) -> Box<dyn Place> {
    Box::new(OnDisk { folder: tempfile::tempdir().unwrap(), max_size })
}

mod disk {
    use super::disk;

    crate::conformance_tests!(disk, skips: [
        "position_is_stable",
        "processes_share_a_subscription",
        "a_killed_process_is_replaced",
        "leases_are_kept_while_held",
        "order_is_taken_over",
        "order_is_given_up_at_close",
        "broker_restart_loses_nothing",
    ]);
}

/// Streams that hold nothing back, with a store on the same server.
#[cfg(feature = "redis")]
mod redis {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::queue::redis::RedisQueue;
    use crate::queue::url::QueueUrl;
    use crate::redis::server::shared;
    use crate::store::StoreUrl;

    pub(super) fn store(group: &str, process: &str) -> Arc<Store> {
        let url = StoreUrl::parse(&shared().url(0), Path::new("/")).unwrap();
        let settings =
            Settings { url, group: group.to_owned(), process: process.to_owned(), dead: BTreeMap::new(), ..Settings::default() };
        Store::open_with(&settings).unwrap()
    }

    /// A name that nothing else in this process has.
    pub(super) fn fresh() -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        format!("later-{}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    struct OnRedis(String);

    impl Place for OnRedis {
        fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
            Box::pin(async {
                let process = fresh();
                let url = format!("{}?stream={}&lease=2s", shared().url(0), self.0);
                let QueueUrl::Redis(url) = QueueUrl::parse(&url, Path::new("/")).map_err(QueueError::Invalid)? else {
                    return Err(QueueError::Invalid(url));
                };
                let opening = Opening { process: process.clone(), ..opening(store(&self.0, &process)) };
                let bare = Bare::over(RedisQueue::open(&url, &opening).await?);
                Ok(over(bare, Later::ALL.with_lease(LEASE), &opening))
            })
        }

        fn lease(&self) -> Option<Duration> {
            Some(LEASE)
        }
    }

    fn adapter(_: u64) -> Box<dyn Place> {
        Box::new(OnRedis(fresh()))
    }

    mod conformance {
        use super::adapter;

        crate::conformance_tests!(adapter, skips: [
            "position_is_stable",
            "full_queue_refuses_and_recovers",
            "too_large_is_refused",
            "batch_is_all_or_none",
            "broker_restart_loses_nothing",
        ]);
    }
}
