//! `disk:` through the conformance suite, and what is its own.

mod faults;
mod kill;
mod model;
mod owner;
mod running;

use std::sync::Arc;

use super::DiskQueue;
use crate::queue::conformance::Place;
use crate::queue::{BoxFuture, Queue, QueueError};

/// A folder that goes with it.
struct Folder {
    folder: tempfile::TempDir,
    max_size: u64,
}

impl Place for Folder {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        Box::pin(async { Ok(DiskQueue::open(&self.folder.path().join("a/queue"), "test", self.max_size)? as Arc<dyn Queue>) })
    }
}

fn adapter(max_size: u64) -> Box<dyn Place> {
    Box::new(Folder { folder: tempfile::tempdir().unwrap(), max_size })
}

mod conformance {
    use super::adapter;

    crate::conformance_tests!(adapter, skips: [
        "processes_share_a_subscription",
        "a_killed_process_is_replaced",
        "leases_are_kept_while_held",
        "order_is_taken_over",
        "order_is_given_up_at_close",
        "broker_restart_loses_nothing",
    ]);
}
