//! Counters of one process: each term counted where it happens, read as one consistent snapshot per queue and handler
//! (delivery.md §5). How they are written for Prometheus stands in `admin/metrics.rs`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::outcome::Outcome;

/// Why a delivery went back unfinished (delivery.md §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The queue holds the retry.
    Delay,
    /// This process stops.
    Shutdown,
    /// Its lease could not be kept.
    Lease,
    /// Its partition went to another process.
    Rebalance,
    /// Its subscription was paused.
    Pause,
    /// It is for a handler that this process lacks.
    Elsewhere,
    /// No instance was free, which is a bug.
    Capacity,
}

impl Cause {
    /// All causes, in the order of the counters.
    pub const ALL: [Self; 7] =
        [Self::Delay, Self::Shutdown, Self::Lease, Self::Rebalance, Self::Pause, Self::Elsewhere, Self::Capacity];

    /// The label's value.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Shutdown => "shutdown",
            Self::Lease => "lease",
            Self::Rebalance => "rebalance",
            Self::Pause => "pause",
            Self::Elsewhere => "elsewhere",
            Self::Capacity => "capacity",
        }
    }
}

/// Bucket bounds of `weir_handler_seconds`: 10 µs, where a small handler in a fresh instance ends, to the longest deadline.
pub const SECONDS: [f64; 16] =
    [0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0];
/// Bucket bounds of `weir_handler_fuel`: a typical handler uses 0.01 to 2 million (sandbox.md §3).
pub const FUEL: [f64; 12] = [1e3, 1e4, 3e4, 1e5, 3e5, 1e6, 3e6, 1e7, 3e7, 1e8, 1e9, 1e10];
/// Bucket bounds of `weir_handler_memory_bytes`: one wasm page to the default ceiling.
pub const MEMORY: [f64; 10] = [
    65_536.0,
    131_072.0,
    262_144.0,
    1_048_576.0,
    2_097_152.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    134_217_728.0,
    268_435_456.0,
];
/// Bucket bounds of `weir_event_age_seconds`: publish to end, to the longest outage that is waited out.
pub const AGE: [f64; 12] = [0.001, 0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3_600.0, 86_400.0];

/// A histogram with fixed buckets.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// Upper bounds, ascending.
    pub bounds: &'static [f64],
    /// Observations per bucket, not cumulative; one more than bounds, for +Inf.
    pub counts: Vec<u64>,
    /// Sum of what was observed.
    pub sum: f64,
}

impl Histogram {
    /// An empty one.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts one value.
    pub fn observe(&mut self, value: f64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(bucket) {
            *count += 1;
        }
        self.sum += value;
    }

    /// How many were observed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The upper bound of the bucket in which the quantile (0 to 1) lies; none when nothing was observed.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        #[expect(clippy::cast_precision_loss, reason = "a rank needs no more than 52 bits")]
        let rank = quantile * count as f64;
        let mut seen = 0;
        for (at, bucket) in self.counts.iter().enumerate() {
            seen += bucket;
            #[expect(clippy::cast_precision_loss, reason = "as above")]
            if *bucket > 0 && seen as f64 >= rank {
                return self.bounds.get(at).or(self.bounds.last()).copied();
            }
        }
        None
    }
}

/// The counters of one queue and handler.
#[derive(Debug, Clone)]
pub struct Counts {
    /// Deliveries taken from the queue.
    pub received: u64,
    /// Ended: acked.
    pub acked: u64,
    /// Ended: dead-lettered.
    pub dead: u64,
    /// Ended: the filter said no.
    pub filtered: u64,
    /// Ended: too old.
    pub expired: u64,
    /// Ended: seen before.
    pub duplicate: u64,
    /// Gone back unfinished, by [`Cause::ALL`].
    pub returned: [u64; Cause::ALL.len()],
    /// Running now, or taken and about to run.
    pub in_flight: u64,
    /// Held and not running.
    pub parked: u64,
    /// Runs that ended, by [`Outcome::NAMES`].
    pub outcomes: [u64; Outcome::NAMES.len()],
    /// Runs begun.
    pub attempts: u64,
    /// Wall clock of a run.
    pub seconds: Histogram,
    /// Fuel of a run.
    pub fuel: Histogram,
    /// Peak of linear memory of a run.
    pub memory: Histogram,
    /// Publish to end.
    pub age: Histogram,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            received: 0,
            acked: 0,
            dead: 0,
            filtered: 0,
            expired: 0,
            duplicate: 0,
            returned: [0; Cause::ALL.len()],
            in_flight: 0,
            parked: 0,
            outcomes: [0; Outcome::NAMES.len()],
            attempts: 0,
            seconds: Histogram::new(&SECONDS),
            fuel: Histogram::new(&FUEL),
            memory: Histogram::new(&MEMORY),
            age: Histogram::new(&AGE),
        }
    }
}

impl Counts {
    /// Counts a delivery that went back unfinished.
    pub fn count_returned(&mut self, cause: Cause) {
        if let Some(count) = self.returned.get_mut(cause as usize) {
            *count += 1;
        }
    }
}

/// One subscription's counters, shared by the dispatcher that counts and the scrapes that read.
#[derive(Debug)]
pub struct SubscriptionStats {
    /// The queue's name.
    pub queue: String,
    /// The handler's name.
    pub handler: String,
    // std's mutex: held for a few additions, never across an await.
    counts: Mutex<Counts>,
}

impl SubscriptionStats {
    /// Zeros.
    #[must_use]
    pub fn new(queue: &str, handler: &str) -> Arc<Self> {
        Arc::new(Self { queue: queue.to_owned(), handler: handler.to_owned(), counts: Mutex::default() })
    }

    /// Counts: everything that one step changes is changed under one lock, so that a snapshot never shows half a step.
    pub fn count(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A consistent copy.
    #[must_use]
    pub fn snapshot(&self) -> Counts {
        self.count().clone()
    }
}
