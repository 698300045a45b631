//! `memory:` through the conformance suite, and what is its own.

use super::MemoryQueue;
use crate::queue::conformance::Place;
use crate::queue::{BoxFuture, Queue, QueueError};
use std::sync::Arc;

struct InMemory(u64);

impl Place for InMemory {
    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Queue>, QueueError>> {
        let queue: Arc<dyn Queue> = MemoryQueue::new("test", self.0);
        Box::pin(async move { Ok(queue) })
    }
}

fn adapter(max_size: u64) -> Box<dyn Place> {
    Box::new(InMemory(max_size))
}

mod conformance {
    use super::adapter;

    crate::conformance_tests!(adapter, skips: [
        "kill_keeps_what_was_not_settled",
        "close_gives_back",
        "acked_never_come_back",
        "retries_outlive_the_process",
        "delayed_outlive_the_process",
        "subscriptions_outlive_the_process",
        "order_outlives_the_process",
        "killed_tries_are_counted",
        "processes_share_a_subscription",
        "a_killed_process_is_replaced",
        "leases_are_kept_while_held",
        "order_is_taken_over",
        "order_is_given_up_at_close",
        "answered_publishes_outlive_a_kill",
        "broker_restart_loses_nothing",
    ]);
}
