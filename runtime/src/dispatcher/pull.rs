//! The pulling side of a subscription: as many events as there is room for, while its handler can run.

use std::future::Future;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Subscription;
use crate::handler::State;
use crate::queue::{Delivery, QueueError};

/// How long the runners of a subscription may take nothing while events wait, before each gets a runner of its own: a run is short in
/// time too, so that a slow handler does not hold up the events behind it.
const STALL: Duration = Duration::from_millis(2);

/// Waits between attempts at a queue that is away: doubled from the first to the longest.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

impl Subscription {
    /// Pulls until told to stop.
    pub(super) async fn pull_until(self: &Arc<Self>, stop: &CancellationToken) {
        let mut state = self.handler.state();
        let mut wait = RECONNECT.0;
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => break,
                // An error would mean that the handler is gone, and it outlives its subscriptions.
                _ = state.wait_for(|state| *state == State::Running) => {}
            }
            let pulled = tokio::select! {
                () = stop.cancelled() => break,
                // A handler that fails while its queue is empty holds nothing.
                _ = state.wait_for(|state| *state != State::Running) => continue,
                pulled = self.starting_runners(self.pull()) => pulled,
            };
            match pulled {
                Ok(deliveries) => {
                    wait = RECONNECT.0;
                    self.take_in(deliveries);
                }
                Err(QueueError::Closed) => break,
                Err(error) => {
                    if wait == RECONNECT.0 {
                        tracing::warn!(queue = %self.queue_name, handler = %self.handler.name, %error, "queue is away, trying again");
                    }
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = self.starting_runners(tokio::time::sleep(wait)) => {}
                    }
                    wait = (wait * 2).min(RECONNECT.1);
                }
            }
        }
    }

    async fn pull(&self) -> Result<Vec<Delivery>, QueueError> {
        let room = self.work.room().await;
        self.queue.pull(&self.name, NonZeroUsize::new(room).unwrap_or(NonZeroUsize::MIN)).await
    }

    fn take_in(self: &Arc<Self>, deliveries: Vec<Delivery>) {
        {
            let mut counts = self.stats.count();
            counts.received += deliveries.len() as u64;
            counts.in_flight += deliveries.len() as u64;
        }
        let runners = self.work.push(deliveries);
        self.start_runners(runners);
    }

    /// Waits for `future`, and meanwhile starts runners when those there are stand still.
    async fn starting_runners<F: Future>(self: &Arc<Self>, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            let Some(taken) = self.work.taken_while_waiting() else { return future.await };
            tokio::select! {
                output = &mut future => return output,
                () = tokio::time::sleep(STALL) => self.start_runners(self.work.unstall(taken)),
            }
        }
    }

    fn start_runners(self: &Arc<Self>, count: usize) {
        for _ in 0..count {
            self.runners.spawn_on(Arc::clone(self).run_what_waits(), &self.guests);
        }
    }
}
