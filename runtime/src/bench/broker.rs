//! The rows of a broker: its bare client, and the whole path. Each has a fresh queue of its own beside the one that the URL names; they are
//! filled before a round is measured, and removed at the end.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Instant;

use super::rounds::{cpu_time, machine_time, median};
use super::{Bench, CONCURRENCY_AWAY, FILL, OnQueue, SUBSCRIPTION, Step};
use crate::handler::PausedBy;
use crate::queue::floor::{Floor, numbered};
use crate::queue::{Publish, QueueError};

/// Most events of a round: what is filled in beforehand stands on the server, about 700 bytes an event.
pub(super) const EVENTS_MAX: u64 = 100_000;

/// See the module.
pub(super) struct OnBroker {
    floor: RefCell<Box<dyn Floor>>,
    path: OnQueue,
    /// Events that were filled in, over all rounds.
    filled: Cell<u64>,
    /// Cores that others took, the broker above all, round by round.
    taken: RefCell<Vec<f64>>,
}

impl OnBroker {
    pub(super) fn new(floor: Box<dyn Floor>, path: OnQueue) -> Self {
        Self { floor: RefCell::new(floor), path, filled: Cell::new(0), taken: RefCell::default() }
    }

    /// Cores that others took beside the whole path.
    pub(super) fn taken(&self) -> f64 {
        median(self.taken.borrow().iter().copied())
    }

    pub(super) fn fill_client<'a>(&'a self, bench: &'a Bench, events: u64) -> Step<'a> {
        Box::new(move || Ok(self.floor.borrow_mut().fill(&bench.event, events)?))
    }

    pub(super) fn run_client(&self, events: u64) -> Step<'_> {
        Box::new(move || Ok(self.floor.borrow_mut().run(events, CONCURRENCY_AWAY as usize)?))
    }

    /// Nothing is pulled meanwhile.
    pub(super) fn fill<'a>(&'a self, bench: &'a Bench, events: u64) -> Step<'a> {
        Box::new(move || {
            self.path.subscription.handler.pause(Some(PausedBy::Operator));
            let from = self.filled.replace(self.filled.get() + events);
            let all: Vec<u64> = (from..from + events).collect();
            bench.runtime.block_on(async {
                for some in all.chunks(FILL) {
                    let event = |number: &u64| Publish { event: Arc::new(numbered(&bench.event, *number)), due: None };
                    self.path.queue.publish(some.iter().map(event).collect()).await?;
                }
                Ok::<_, QueueError>(())
            })?;
            Ok(())
        })
    }

    pub(super) fn run<'a>(&'a self, bench: &'a Bench, events: u64) -> Step<'a> {
        Box::new(move || {
            let until = self.path.acked() + events;
            let (begun, machine, own) = (Instant::now(), machine_time(), cpu_time());
            self.path.subscription.handler.pause(None);
            bench.runtime.block_on(self.path.until_acked(until))?;
            let others = (machine_time().saturating_sub(machine)).saturating_sub(cpu_time().saturating_sub(own));
            self.taken.borrow_mut().push(others.as_secs_f64() / begun.elapsed().as_secs_f64());
            Ok(())
        })
    }

    /// Ends the queue.
    pub(super) async fn leave(&self) -> anyhow::Result<()> {
        match self.path.queue.unsubscribe(SUBSCRIPTION).await {
            Ok(()) | Err(QueueError::Unsupported(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.path.queue.close().await;
        Ok(())
    }

    /// Removes everything from the server. It blocks, as its client may be one that does.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        Ok(self.floor.borrow_mut().remove()?)
    }
}
