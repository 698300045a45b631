//! A connection to one `nsqd` that is kept: made, and made again when it is lost. What is said over it: `consumer.rs`, `producer.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::client::Problem;
use super::client::command;
use super::client::identify::Negotiated;
use super::client::wire::Wire;
use super::url::Address;

/// Waits between attempts to connect: doubling from the first to the last, and between half and the whole of it, so that processes do not
/// all come at once.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// One connection, for as long as it lasts.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) wire: Wire,
    /// The largest RDY that its server takes.
    pub(super) max: usize,
    /// Messages that came by it and are not settled.
    in_flight: AtomicUsize,
    /// The RDY that was sent last.
    ready: AtomicUsize,
}

impl Feed {
    pub(super) fn new(negotiated: &Negotiated) -> Self {
        Self { wire: Wire::new(), max: negotiated.max_rdy_count, in_flight: AtomicUsize::new(0), ready: AtomicUsize::new(0) }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// So many messages came.
    pub(super) fn came(&self, count: usize) {
        self.in_flight.fetch_add(count, Ordering::Relaxed);
    }

    /// So many are no longer this connection's.
    pub(super) fn left(&self, count: usize) {
        let less = |held: usize| Some(held.saturating_sub(count));
        // It always succeeds: `less` never refuses.
        let _ = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Says how many messages may be unsettled, if that has changed. One caller at a time.
    pub(super) fn set_ready(&self, ready: usize) {
        if self.ready.load(Ordering::Relaxed) != ready && self.wire.put(|out| command::rdy(out, ready)).is_some() {
            self.ready.store(ready, Ordering::Relaxed);
        }
    }
}

/// How a line stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Status {
    /// The connection, while there is one.
    pub(super) feed: Option<Arc<Feed>>,
    /// It was there once, and its channel is made.
    pub(super) made: bool,
    /// Why there is none now.
    pub(super) problem: Option<Problem>,
}

/// A connection that is kept.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) address: Address,
    /// Ends it: the queue is closed, or the subscription removed.
    pub(super) ended: CancellationToken,
    /// Its server is no longer named by `nsqlookupd`: it is not connected to again.
    left: AtomicBool,
    status: watch::Sender<Status>,
}

impl Line {
    pub(super) fn new(address: &Address, ended: CancellationToken) -> Arc<Self> {
        let status = watch::Sender::new(Status::default());
        Arc::new(Self { address: address.clone(), ended, left: AtomicBool::new(false), status })
    }

    pub(super) fn up(&self, feed: &Arc<Feed>) {
        self.status.send_replace(Status { feed: Some(Arc::clone(feed)), made: true, problem: None });
    }

    pub(super) fn down(&self, problem: Problem) {
        self.status.send_modify(|status| (status.feed, status.problem) = (None, Some(problem)));
    }

    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// How it stands now.
    pub(super) fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// The connection, while there is one that can be used.
    pub(super) fn feed(&self) -> Option<Arc<Feed>> {
        self.status.borrow().feed.clone().filter(|feed| feed.wire.is_open())
    }

    /// Waits until it is made, or said why it is not; for so long at most.
    pub(super) async fn first(&self, most: Duration) -> Result<(), Problem> {
        let mut seen = self.status.subscribe();
        let known = seen.wait_for(|status| status.made || status.problem.is_some());
        match timeout(most, known).await {
            Ok(Ok(status)) if status.made => Ok(()),
            Ok(Ok(status)) => Err(status.problem.clone().unwrap_or_else(|| self.not_yet())),
            Ok(Err(_)) | Err(_) => Err(self.not_yet()),
        }
    }

    /// Waits for a connection; for so long at most.
    pub(super) async fn connected(&self, most: Duration) -> Result<Arc<Feed>, Problem> {
        let mut seen = self.status.subscribe();
        let usable = |status: &Status| status.feed.as_ref().is_some_and(|feed| feed.wire.is_open());
        let found = match timeout(most, seen.wait_for(usable)).await {
            Ok(Ok(status)) => status.feed.clone(),
            Ok(Err(_)) | Err(_) => None,
        };
        found.ok_or_else(|| self.status().problem.unwrap_or_else(|| self.not_yet()))
    }

    fn not_yet(&self) -> Problem {
        Problem::Away(format!("{} is not connected yet", self.address))
    }

    /// Waits before the next attempt, after so many failures in a row; false: it has ended.
    pub(super) async fn pause(&self, failures: u32) -> bool {
        tokio::select! {
            () = self.ended.cancelled() => false,
            () = tokio::time::sleep(wait_before(failures, fastrand::f64())) => !self.has_left(),
        }
    }
}

/// `chance` is from 0 to 1.
fn wait_before(failures: u32, chance: f64) -> Duration {
    let whole = RECONNECT.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(RECONNECT.1);
    whole.mul_f64(0.5 + chance / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_less_and_less_often_and_not_all_at_once() {
        for (failures, least, most) in [(1, 50, 100), (2, 100, 200), (5, 800, 1_600), (8, 5_000, 10_000), (100, 5_000, 10_000)] {
            let wait = |chance| wait_before(failures, chance).as_millis();
            assert_eq!((wait(0.0), wait(1.0)), (least, most), "{failures}");
        }
    }

    #[test]
    fn rdy_is_said_when_it_changes() {
        let feed = Feed::new(&Negotiated::default());
        feed.came(3);
        feed.left(5);
        assert_eq!(feed.in_flight(), 0);
        feed.set_ready(0);
        assert_eq!(feed.wire.put(|out| assert!(out.is_empty())), Some(1), "0 is what a connection begins with");
        feed.set_ready(2);
        feed.set_ready(2);
        assert_eq!(feed.wire.put(|out| assert_eq!(&out[..], b"RDY 2\n")), Some(3));
    }
}
