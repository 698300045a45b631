//! Waiting for what is due: never ends early by the wall clock's millisecond.

use std::future::Future;
use std::time::Duration;

use crate::clock::{self, Timestamp};

/// Longest single sleep: the wall clock may be set while a timer, which follows the monotonic one, sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// Waits until a change, the time, or a while: the caller looks again after each.
pub(super) async fn until(due: Option<Timestamp>, changed: impl Future<Output = ()>) {
    let Some(due) = due else { return changed.await };
    tokio::select! {
        () = changed => {}
        () = tokio::time::sleep(due.since(clock::now()).min(SLEEP_MAX)) => {}
    }
}
