//! Waiting for what is due: never ends early by the wall clock's millisecond.

use std::future::Future;
use std::time::Duration;

use crate::clock::{Alarm, Timestamp};

/// Longest single wait: the wall clock may be set meanwhile.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// Waits until a change, the time, or a while: the caller looks again after each.
pub(crate) async fn until(due: Option<Timestamp>, changed: impl Future<Output = ()>) {
    let Some(due) = due else { return changed.await };
    let alarm = Alarm::new(Some(due), WAIT_MAX);
    tokio::select! {
        () = changed => {}
        () = alarm.rung() => {}
    }
}
