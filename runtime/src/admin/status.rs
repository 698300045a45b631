//! What the JSON API answers and the commands read back (surface.md §3): plain values, built by pure functions.
//!
//! Times are RFC 3339 in UTC. A number that nobody can tell is null. Dead letters write themselves: `dead/json.rs`.

pub mod queue;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::stats::{Counts, Histogram};

pub use queue::{QueueFacts, QueueStatus, SubscriptionStatus};

/// Whether a handler takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandlerState {
    /// It does.
    #[default]
    Running,
    /// Not now: `paused_by` says why.
    Paused,
    /// No version of it can be used: `error` says why.
    Failed,
}

/// The queue that a handler reads, an array when there are several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum QueueNames {
    /// One.
    One(String),
    /// Several.
    Several(Vec<String>),
}

impl Default for QueueNames {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl From<&[String]> for QueueNames {
    fn from(names: &[String]) -> Self {
        match names {
            [name] => Self::One(name.clone()),
            _ => Self::Several(names.to_vec()),
        }
    }
}

/// One handler.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HandlerStatus {
    /// Its name.
    pub name: String,
    /// The queues that it reads.
    pub queue: QueueNames,
    /// Whether it takes events.
    pub state: HandlerState,
    /// `operator`, `config`, `breaker` or `load`.
    pub paused_by: Option<String>,
    /// When it is probed next.
    pub until: Option<String>,
    /// The whole digest of what runs: `sha256:…`.
    pub version: Option<String>,
    /// Since when.
    pub loaded_at: Option<String>,
    /// The digest of what ran before.
    pub previous: Option<String>,
    /// Events that run now.
    pub in_flight: u64,
    /// Events held that do not run.
    pub parked: u64,
    /// Events ended since the start, by state.
    pub ended: Ended,
    /// Deliveries that went back unfinished since the start.
    pub returned: u64,
    /// Runs since the start, by outcome; every name is there.
    pub outcomes: BTreeMap<String, u64>,
    /// Fuel of a run.
    pub fuel: Usage,
    /// Peak of linear memory of a run, in bytes.
    pub memory: Usage,
    /// Why the newest file is not used.
    pub error: Option<String>,
}

/// Events ended, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ended {
    /// Done with.
    pub acked: u64,
    /// Given up.
    pub dead: u64,
    /// The filter said no.
    pub filtered: u64,
    /// Too old.
    pub expired: u64,
    /// Seen before.
    pub duplicate: u64,
}

/// How much of a limit runs use. The quantiles are upper bounds of histogram buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Half of the runs use at most this.
    pub p50: Option<u64>,
    /// All but one in a hundred use at most this.
    pub p99: Option<u64>,
    /// The limit.
    pub limit: Option<u64>,
}

impl HandlerStatus {
    /// Fills in what the counters say, summed over the queues that the handler reads.
    #[must_use]
    pub fn with_counts(mut self, counts: &[Counts]) -> Self {
        let sum = |term: fn(&Counts) -> u64| counts.iter().map(term).sum::<u64>();
        self.in_flight = sum(|counts| counts.in_flight);
        self.parked = sum(|counts| counts.parked);
        self.ended = Ended {
            acked: sum(|counts| counts.acked),
            dead: sum(|counts| counts.dead),
            filtered: sum(|counts| counts.filtered),
            expired: sum(|counts| counts.expired),
            duplicate: sum(|counts| counts.duplicate),
        };
        self.returned = sum(|counts| counts.returned.iter().sum());
        for (at, name) in Outcome::NAMES.into_iter().enumerate() {
            let runs = counts.iter().filter_map(|counts| counts.outcomes.get(at)).sum();
            self.outcomes.insert(name.to_owned(), runs);
        }
        self.fuel = Usage { limit: self.fuel.limit, ..usage(&merge(counts, |counts| &counts.fuel)) };
        self.memory = Usage { limit: self.memory.limit, ..usage(&merge(counts, |counts| &counts.memory)) };
        self
    }
}

/// The histograms of several subscriptions as one.
pub(super) fn merge(counts: &[Counts], of: fn(&Counts) -> &Histogram) -> Histogram {
    let mut all = counts.iter().map(of);
    let mut merged = all.next().cloned().unwrap_or_else(|| Histogram::new(&[]));
    for histogram in all {
        merged.sum += histogram.sum;
        for (count, more) in merged.counts.iter_mut().zip(&histogram.counts) {
            *count += more;
        }
    }
    merged
}

fn usage(histogram: &Histogram) -> Usage {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounds of buckets are whole and positive")]
    let whole = |value: f64| value as u64;
    Usage { p50: histogram.quantile(0.5).map(whole), p99: histogram.quantile(0.99).map(whole), limit: None }
}

/// Whether the server can do its work (delivery.md §12), and what is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Readiness {
    /// Whether it is stopping.
    pub draining: bool,
    /// What keeps it from being ready: a queue that was never connected, or that takes events and is away. One sentence each.
    pub not_ready: Vec<String>,
    /// What is wrong but does not count: a failed handler, another queue that is away. One sentence each.
    pub degraded: Vec<String>,
}

impl Readiness {
    /// Whether `/readyz` answers 200.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.draining && self.not_ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handler_has_the_fields_of_the_surface() {
        let mut counts = Counts { acked: 3, in_flight: 1, ..Counts::default() };
        counts.count_returned(crate::stats::Cause::Delay);
        for _ in 0..99 {
            counts.fuel.observe(20_000.0);
        }
        counts.fuel.observe(2e6);
        let status = HandlerStatus {
            name: "mailer".to_owned(),
            queue: QueueNames::from(&["events".to_owned()][..]),
            fuel: Usage { limit: Some(100), ..Usage::default() },
            ..HandlerStatus::default()
        };
        let json = serde_json::to_value(status.with_counts(&[counts.clone(), counts])).unwrap();
        let outcomes = Outcome::NAMES.into_iter().map(|name| (name.to_owned(), serde_json::json!(0)));
        let expected = serde_json::json!({
            "name": "mailer", "queue": "events", "state": "running", "paused_by": null, "until": null, "version": null,
            "loaded_at": null, "previous": null, "in_flight": 2, "parked": 0,
            "ended": {"acked": 6, "dead": 0, "filtered": 0, "expired": 0, "duplicate": 0}, "returned": 2,
            "outcomes": outcomes.collect::<serde_json::Map<_, _>>(),
            "fuel": {"p50": 30_000, "p99": 30_000, "limit": 100}, "memory": {"p50": null, "p99": null, "limit": null},
            "error": null,
        });
        assert_eq!(json, expected);
        let several = QueueNames::from(&["a".to_owned(), "b".to_owned()][..]);
        assert_eq!(serde_json::to_string(&several).unwrap(), r#"["a","b"]"#);
    }

    #[test]
    fn ready_means_not_draining_and_nothing_missing() {
        let ready = Readiness { degraded: vec!["handler `x` failed".to_owned()], ..Readiness::default() };
        assert!(ready.is_ready());
        assert!(!Readiness { draining: true, ..ready.clone() }.is_ready());
        assert!(!Readiness { not_ready: vec!["queue `events` is away".to_owned()], ..ready }.is_ready());
    }
}
