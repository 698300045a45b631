//! A queue and its subscriptions as JSON.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::config::QueueConfig;
use crate::queue::fallback::Fallback;
use crate::queue::{Depth, Features, QueueError, SubscriptionDepth};
use crate::stats::Counts;

/// A queue.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct QueueStatus {
    /// Its name in weir.toml.
    pub name: String,
    /// Which adapter is behind it.
    pub adapter: String,
    /// Its URL, without credentials.
    pub url: String,
    /// `at-least-once` or `at-most-once`.
    pub guarantee: String,
    /// Whether it can be asked now.
    pub connected: bool,
    /// Why not.
    pub error: Option<String>,
    /// Events that wait.
    pub depth: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// Whether `POST /events/{name}` takes events.
    pub ingress: bool,
    /// Each subscription that the queue knows, and each that the configuration asks for.
    pub subscriptions: Vec<SubscriptionStatus>,
    /// Messages that found no room here and are lost, since the server's start; not there where the broker keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// What takes publishes while the broker is away; not there for queues without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<FallbackStatus>,
}

/// The `fallback` of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FallbackStatus {
    /// Where it is.
    pub url: String,
    /// Events that wait there for the broker.
    pub depth: Option<u64>,
    /// Their bytes.
    pub bytes: Option<u64>,
    /// Events that it took since the server's start; null where no server was asked.
    pub taken: Option<u64>,
    /// Events that were forwarded since then.
    pub forwarded: Option<u64>,
    /// Why it can't take events.
    pub error: Option<String>,
}

impl FallbackStatus {
    /// Asks the one of an open queue.
    pub async fn of(fallback: &Fallback) -> Self {
        let depth = fallback.depth().await;
        let (taken, forwarded) = (Some(fallback.taken()), Some(fallback.forwarded()));
        let problem = fallback.problem();
        Self { taken, forwarded, error: problem, ..Self::new(fallback.url(), depth) }
    }

    /// One that a command has opened by itself.
    #[must_use]
    pub fn new(url: String, depth: Result<Depth, QueueError>) -> Self {
        match depth {
            Ok(depth) => Self { url, depth: depth.events, bytes: depth.bytes, ..Self::default() },
            Err(error) => Self { url, error: Some(error.to_string()), ..Self::default() },
        }
    }
}

/// One handler's reading of a queue.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SubscriptionStatus {
    /// The handler; of an orphan that is not one of `[server] group`, the subscription's whole name.
    pub handler: String,
    /// Events that wait.
    pub depth: Option<u64>,
    /// How long ago the oldest of them was published.
    pub lag_seconds: Option<f64>,
    /// Events that run.
    pub in_flight: Option<u64>,
    /// Events that a process holds and does not run.
    pub parked: Option<u64>,
    /// Whether no configured handler reads it.
    pub orphan: bool,
}

/// What is known of a queue beside what it says itself.
#[derive(Debug, Clone, Copy)]
pub struct QueueFacts<'a> {
    /// Its name in weir.toml.
    pub name: &'a str,
    /// Its configuration.
    pub config: &'a QueueConfig,
    /// What its adapter promises.
    pub features: Features,
    /// `[server] group`.
    pub group: &'a str,
    /// The handlers that read it by the configuration, with this process's counters where it runs them.
    pub handlers: &'a [(&'a str, Option<Counts>)],
}

impl QueueStatus {
    /// Puts together what the configuration, the queue and this process know.
    #[must_use]
    pub fn new(facts: &QueueFacts, depth: Result<Depth, QueueError>, now: Timestamp) -> Self {
        let (connected, error, depth) = match depth {
            Ok(depth) => (true, None, depth),
            Err(error) => (false, Some(error.to_string()), Depth::default()),
        };
        let prefix = format!("{}-", facts.group);
        let handler_of = |name: &str| name.strip_prefix(&prefix).unwrap_or(name).to_owned();
        let is_orphan = |depth: &&SubscriptionDepth| {
            let handler = depth.name.strip_prefix(&prefix);
            !facts.handlers.iter().any(|(name, _)| Some(*name) == handler)
        };
        let configured = facts.handlers.iter().map(|(handler, counts)| {
            let known = depth.subscriptions.iter().find(|known| known.name.strip_prefix(&prefix) == Some(handler));
            subscription((*handler).to_owned(), known, counts.as_ref(), now)
        });
        let orphans = depth
            .subscriptions
            .iter()
            .filter(is_orphan)
            .map(|known| SubscriptionStatus { orphan: true, ..subscription(handler_of(&known.name), Some(known), None, now) });
        Self {
            name: facts.name.to_owned(),
            adapter: facts.config.url.adapter().to_owned(),
            url: facts.config.url.to_string(),
            guarantee: if facts.features.at_least_once { "at-least-once" } else { "at-most-once" }.to_owned(),
            connected,
            error,
            depth: depth.events,
            bytes: depth.bytes,
            ingress: facts.config.ingress,
            subscriptions: configured.chain(orphans).collect(),
            fallback: None,
            dropped: None,
        }
    }
}

/// What this process counts is newer than what the queue says, so its own numbers win.
fn subscription(
    handler: String,
    known: Option<&SubscriptionDepth>,
    counts: Option<&Counts>,
    now: Timestamp,
) -> SubscriptionStatus {
    let lag = |known: &SubscriptionDepth| match (known.oldest, known.events) {
        (Some(oldest), _) => Some(now.since(oldest).as_secs_f64()),
        (None, Some(0)) => Some(0.0),
        (None, _) => None,
    };
    SubscriptionStatus {
        handler,
        depth: known.and_then(|known| known.events),
        lag_seconds: known.and_then(lag),
        in_flight: counts.map(|counts| counts.in_flight).or(known.and_then(|known| known.in_flight)),
        parked: counts.map(|counts| counts.parked),
        orphan: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Start;
    use crate::queue::url::QueueUrl;

    #[test]
    fn a_queue_has_the_fields_of_the_surface() {
        let config = QueueConfig {
            url: QueueUrl::Disk("/data/events".into()),
            kind: "weir.raw".to_owned(),
            key: None,
            map: None,
            start: Start::New,
            ingress: true,
            max_size: 1,
            dead_bounds: crate::dead::DeadBounds::default(),
            dead: None,
            fallback: None,
        };
        let counts = Counts { in_flight: 2, parked: 1, ..Counts::default() };
        let handlers = [("mailer", Some(counts)), ("audit", None)];
        let features = Features { at_least_once: true, ..Features::default() };
        let facts = QueueFacts { name: "events", config: &config, features, group: "weir", handlers: &handlers };
        let waits = |name: &str, events, oldest| SubscriptionDepth {
            name: name.to_owned(),
            events: Some(events),
            oldest,
            in_flight: Some(9),
        };
        let subscriptions =
            vec![waits("weir-mailer", 7, Some(Timestamp(1_000))), waits("weir-old", 0, None), waits("other", 1, None)];
        let depth = Depth { events: Some(8), bytes: Some(800), subscriptions };
        let expected = serde_json::json!({
            "name": "events", "adapter": "disk", "url": "disk:/data/events", "guarantee": "at-least-once", "connected": true,
            "error": null, "depth": 8, "bytes": 800, "ingress": true,
            "subscriptions": [
                {"handler": "mailer", "depth": 7, "lag_seconds": 2.5, "in_flight": 2, "parked": 1, "orphan": false},
                {"handler": "audit", "depth": null, "lag_seconds": null, "in_flight": null, "parked": null, "orphan": false},
                {"handler": "old", "depth": 0, "lag_seconds": 0.0, "in_flight": 9, "parked": null, "orphan": true},
                {"handler": "other", "depth": 1, "lag_seconds": null, "in_flight": 9, "parked": null, "orphan": true},
            ],
        });
        assert_eq!(serde_json::to_value(QueueStatus::new(&facts, Ok(depth), Timestamp(3_500))).unwrap(), expected);

        let away = QueueStatus::new(&facts, Err(QueueError::Unavailable("disk is full".to_owned())), Timestamp(0));
        assert_eq!((away.connected, away.error.as_deref(), away.depth), (false, Some("disk is full"), None));
        assert_eq!(away.subscriptions.len(), 2);
    }
}
