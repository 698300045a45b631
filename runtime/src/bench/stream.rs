//! The rows of a Redis stream: the bare client, and the whole path. Each has a fresh stream of its own beside the one that the URL names;
//! they are filled before a round is measured, and removed at the end.

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Instant;

use super::{Bench, CONCURRENCY_AWAY, OnQueue, SUBSCRIPTION, Step};
use crate::handler::PausedBy;
use crate::queue::redis::floor::Floor;
use crate::queue::redis::url::StreamUrl;
use crate::redis::Host;

/// Most events of a round: what is filled in beforehand stands in the server's memory, about 700 bytes an event.
pub(super) const EVENTS_MAX: u64 = 100_000;

/// See the module.
pub(super) struct OnStream {
    floor: RefCell<Floor>,
    path: OnQueue,
    stream: String,
    /// Whether the server runs on this machine, and takes its share of the cores.
    is_here: bool,
    /// Cores that the server took, round by round.
    taken: RefCell<Vec<f64>>,
}

/// The URL with a stream that nobody else has.
pub(super) fn fresh(url: &StreamUrl) -> StreamUrl {
    StreamUrl { stream: format!("{}.bench-{}", url.stream, crate::clock::id()), ..url.clone() }
}

impl OnStream {
    pub(super) fn new(url: &StreamUrl, path: OnQueue) -> anyhow::Result<Self> {
        let is_here = match &url.server.host {
            Host::Unix(_) => true,
            Host::Tcp { host, .. } => host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        };
        let floor = RefCell::new(Floor::open(url)?);
        Ok(Self { floor, path, stream: url.stream.clone(), is_here, taken: RefCell::default() })
    }

    /// Cores that the server took beside the whole path.
    pub(super) fn taken(&self) -> f64 {
        super::rounds::median(self.taken.borrow().iter().copied())
    }

    pub(super) fn fill_client<'a>(&'a self, bench: &'a Bench, events: u64) -> Step<'a> {
        Box::new(move || {
            let mut floor = self.floor.borrow_mut();
            let stream = floor.stream();
            Ok(floor.fill(&stream, &bench.event, events)?)
        })
    }

    pub(super) fn run_client(&self, events: u64) -> Step<'_> {
        Box::new(move || Ok(self.floor.borrow_mut().run(events, CONCURRENCY_AWAY as usize)?))
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
            let (begun, before) = (Instant::now(), self.server_seconds()?);
            self.path.subscription.handler.pause(None);
            bench.runtime.block_on(self.path.until_acked(until))?;
            let took = self.server_seconds()? - before;
            self.taken.borrow_mut().push(took / begun.elapsed().as_secs_f64());
            Ok(())
        })
    }

    fn server_seconds(&self) -> anyhow::Result<f64> {
        Ok(if self.is_here { self.floor.borrow_mut().server_seconds()? } else { 0.0 })
    }

    /// Removes everything from the server.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        self.path.queue.unsubscribe(SUBSCRIPTION).await?;
        self.path.queue.close().await;
        Ok(self.floor.borrow_mut().remove(&self.stream)?)
    }
}
