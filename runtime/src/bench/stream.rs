//! The rows of a Redis stream: the bare client, and the whole path. Each has a fresh stream of its own beside the one that the URL names;
//! they are filled before a round is measured, and removed at the end.

use std::cell::RefCell;

use super::{Bench, CONCURRENCY, OnQueue, SUBSCRIPTION, Step};
use crate::handler::PausedBy;
use crate::queue::redis::floor::Floor;
use crate::queue::redis::url::StreamUrl;

/// Most events of a round: what is filled in beforehand stands in the server's memory, about 700 bytes an event.
pub(super) const EVENTS_MAX: u64 = 100_000;

/// See the module.
pub(super) struct OnStream {
    floor: RefCell<Floor>,
    path: OnQueue,
    stream: String,
}

/// The URL with a stream that nobody else has.
pub(super) fn fresh(url: &StreamUrl) -> StreamUrl {
    StreamUrl { stream: format!("{}.bench-{}", url.stream, uuid::Uuid::now_v7()), ..url.clone() }
}

impl OnStream {
    pub(super) fn new(url: &StreamUrl, path: OnQueue) -> anyhow::Result<Self> {
        Ok(Self { floor: RefCell::new(Floor::open(url)?), path, stream: url.stream.clone() })
    }

    pub(super) fn fill_client<'a>(&'a self, bench: &'a Bench, events: u64) -> Step<'a> {
        Box::new(move || {
            let mut floor = self.floor.borrow_mut();
            let stream = floor.stream();
            Ok(floor.fill(&stream, &bench.event, events)?)
        })
    }

    pub(super) fn run_client(&self, events: u64) -> Step<'_> {
        Box::new(move || Ok(self.floor.borrow_mut().run(events, CONCURRENCY as usize)?))
    }

    /// Nothing is pulled meanwhile.
    pub(super) fn fill<'a>(&'a self, bench: &'a Bench, events: u64) -> Step<'a> {
        Box::new(move || {
            self.path.subscription.handler.pause(Some(PausedBy::Operator));
            Ok(self.floor.borrow_mut().fill(&self.stream, &bench.event, events)?)
        })
    }

    pub(super) fn run<'a>(&'a self, bench: &'a Bench, events: u64) -> Step<'a> {
        Box::new(move || {
            let until = self.path.acked() + events;
            self.path.subscription.handler.pause(None);
            bench.runtime.block_on(self.path.until_acked(until))
        })
    }

    /// Removes everything from the server.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        self.path.queue.unsubscribe(SUBSCRIPTION).await?;
        self.path.queue.close().await;
        Ok(self.floor.borrow_mut().remove(&self.stream)?)
    }
}
