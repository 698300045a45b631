//! The keeping side of a subscription: lets run what has waited for its time or for others, and lets go of what this process has lost.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::Subscription;
use crate::clock::now;
use crate::queue::{Position, timer};

impl Subscription {
    /// Keeps until nothing more runs.
    pub(super) async fn keep_until(self: &Arc<Self>, ended: &CancellationToken) {
        loop {
            let (due, full, runners) = self.work.release_due(now());
            self.start_runners(runners);
            tokio::select! {
                () = ended.cancelled() => return,
                () = self.work.timed() => {}
                () = timer::until(due, std::future::pending()) => {}
                () = tokio::time::sleep_until(full.unwrap_or_else(Instant::now).into()), if full.is_some() => {}
                lost = self.queue.lapsed(&self.name) => self.lose(&lost),
            }
        }
    }

    /// Lets go of deliveries whose lease is gone.
    pub(super) fn lose(self: &Arc<Self>, lost: &[Position]) {
        let (queue, handler, count) = (&*self.queue_name, &*self.handler.name, lost.len());
        tracing::warn!(queue, handler, count, "leases could not be kept: their events run again, perhaps elsewhere");
        let runners = self.work.lose(lost);
        self.start_runners(runners);
    }
}
