//! What adapters promise, and all of it in one table (docs/queues.md).

use std::time::Duration;

#[cfg(feature = "redis")]
use super::redis;
use super::{disk, memory};

/// What an adapter promises; [`super::conformance`] holds it to each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// An event that runs but is never settled is delivered again once its holder is gone.
    pub at_least_once: bool,
    /// An answered publish survives the end of the process.
    pub durable: bool,
    /// Each subscription sees every event.
    pub groups: bool,
    /// With one reader, events come in the order in which they were published; retries aside.
    pub ordered: bool,
    /// [`super::Settle::Retry`] and [`super::Publish::due`] are kept by the queue, to the millisecond or later, and outlive the process if `durable`.
    pub delay: bool,
    /// [`super::Tries`] are kept with the event over redeliveries.
    pub counts_tries: bool,
    /// [`super::Position`] is the same at every delivery of an event.
    pub stable_position: bool,
    /// [`super::Queue::depth`] can tell.
    pub depth: bool,
    /// There is a bound on what waits, and publishers get [`super::QueueError::Full`] beyond it.
    pub bounded: bool,
    /// Several processes may open the same queue and share its subscriptions.
    pub shared: bool,
    /// Longest that a delivery can be kept unsettled; none: as long as the process lives.
    pub hold: Option<Duration>,
    /// A subscription can begin with what was published before it was made.
    pub history: bool,
    /// An ack outlives the process whatever was given out before it; else only once all of that has ended.
    pub acks_apart: bool,
    /// What a process held when it went comes to the others, and what it does not pull is theirs; else it waits for that process.
    pub hands_over: bool,
}

impl Features {
    /// Of a queue of one process that keeps everything, also over its end: each adapter says where it differs.
    pub const LASTING: Self = Self {
        at_least_once: true,
        durable: true,
        groups: true,
        ordered: true,
        delay: true,
        counts_tries: true,
        stable_position: true,
        depth: true,
        bounded: true,
        shared: false,
        hold: None,
        history: true,
        acks_apart: true,
        hands_over: true,
    };
}

/// What each adapter of this build promises, by the name in `weir queues`; with a store beside it, as in `weir serve`.
#[must_use]
pub fn promises() -> Vec<(&'static str, Features)> {
    let mut all = vec![("memory", memory::FEATURES), ("disk", disk::FEATURES)];
    #[cfg(feature = "redis")]
    all.extend([
        ("redis", redis::FEATURES),
        ("redis-list", redis::taken::FEATURES),
        ("redis-zset", redis::taken::SORTED_SET_FEATURES),
        ("redis-channel", redis::channel::FEATURES),
    ]);
    #[cfg(feature = "nats")]
    all.extend([("jetstream", super::nats::stream::FEATURES), ("nats", super::nats::subject::FEATURES)]);
    #[cfg(feature = "nsq")]
    all.push(("nsq", super::nsq::FEATURES));
    #[cfg(feature = "amqp")]
    all.extend([("amqp", super::amqp::FEATURES), ("amqp-queue", super::amqp::QUEUE_FEATURES)]);
    #[cfg(feature = "kafka")]
    all.push(("kafka", super::kafka::FEATURES));
    #[cfg(feature = "mqtt")]
    all.push(("mqtt", super::later::Later::ALL.features(super::mqtt::FEATURES)));
    all
}

/// The table of docs/queues.md.
#[cfg(test)]
fn table() -> String {
    let mut text = String::from(
        "| adapter | guarantee | outlives its process | each handler sees all | order | delays and retries held | tries kept | depth | several processes | held at most | starts with what was before |\n",
    );
    text += "|---|---|---|---|---|---|---|---|---|---|---|\n";
    let yes = |is: bool| if is { "yes" } else { "no" };
    for (name, features) in promises() {
        let guarantee = if features.at_least_once { "at least once" } else { "at most once" };
        let hold = features.hold.map_or("while it is renewed".to_owned(), |hold| format!("{} min", hold.as_secs() / 60));
        let cells = [
            format!("`{name}`"),
            guarantee.to_owned(),
            yes(features.durable).to_owned(),
            yes(features.groups).to_owned(),
            yes(features.ordered).to_owned(),
            yes(features.delay).to_owned(),
            yes(features.counts_tries).to_owned(),
            yes(features.depth).to_owned(),
            yes(features.shared).to_owned(),
            hold,
            yes(features.history).to_owned(),
        ];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    #[cfg(all(feature = "amqp", feature = "kafka", feature = "mqtt", feature = "nats", feature = "nsq", feature = "redis"))]
    fn the_table_in_the_documents_is_what_adapters_promise() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/queues.md");
        let text = std::fs::read_to_string(file).unwrap();
        let (_, rest) = text.split_once("<!-- promises -->\n").unwrap();
        let (found, _) = rest.split_once("<!-- /promises -->").unwrap();
        assert_eq!(found, super::table(), "put this into docs/queues.md:\n{}", super::table());
    }
}
