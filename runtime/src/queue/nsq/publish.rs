//! Publishing: several events as one MPUB, those that are due later by DPUB, to one server; to the next one where that fails. There is no
//! replication in NSQ, so one that has confirmed is as good as all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::client::refusal::Refusal;
use super::client::wire::Answer;
use super::client::{Problem, command};
use super::line::Feed;
use super::message::{self, Outgoing};
use super::shared::{Node, Shared};
use crate::clock;
use crate::queue::{Publish, QueueError};

/// Longest wait for a server to confirm.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Longest wait for a connection that is being made again, and for channels to be made.
const CONNECTION_MAX: Duration = Duration::from_secs(1);

/// Bytes of one MPUB: below a server's `-max-body-size`, which is 5 MiB unless it is set. A larger batch is several, each all or none.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Why a server has not taken a batch.
enum Failed {
    /// Nor would another.
    Everywhere(QueueError),
    /// Another may.
    Here(QueueError),
    /// It was asked for a longer delay than it holds; now its bound is known.
    Delay,
}

impl Shared {
    /// Answers when one server has all of it. A failure in the middle of a large batch, or between events with delays, leaves what came
    /// before it.
    pub(super) async fn publish(self: &Arc<Self>, batch: &[Publish]) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        if batch.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        let messages: Vec<Outgoing> = batch.iter().map(|publish| message::outgoing(publish, now)).collect();
        let size = messages.iter().map(|message| message.body.len() as u64).max().unwrap_or(0);
        let bound = self.message_max.load(Ordering::Relaxed);
        if size > bound {
            return Err(QueueError::TooLarge { size, bound });
        }
        let _turn = self.publishing.acquire().await.map_err(|_| QueueError::Closed)?;
        if self.nodes().is_empty() {
            self.choose_node().await?;
        }
        let mut last = None;
        for node in self.in_turn() {
            match self.publish_to(&node, &messages).await {
                Ok(()) => return Ok(()),
                Err(Failed::Everywhere(error)) => return Err(error),
                Err(Failed::Here(error)) => last = Some(error),
                Err(Failed::Delay) => match self.publish_to(&node, &messages).await {
                    Ok(()) => return Ok(()),
                    Err(_) => last = Some(QueueError::Unavailable(format!("{} holds no such delay", node.address))),
                },
            }
        }
        Err(last.unwrap_or_else(|| QueueError::Unavailable(format!("{}: no nsqd is known", self.url))))
    }

    /// All servers, those that are connected first, and each first by turns.
    fn in_turn(&self) -> Vec<Arc<Node>> {
        let mut nodes = self.nodes();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % nodes.len().max(1);
        nodes.rotate_left(turn);
        nodes.sort_by_key(|node| node.producer.feed().is_none());
        nodes
    }

    async fn publish_to(&self, node: &Node, messages: &[Outgoing]) -> Result<(), Failed> {
        let here = |problem: Problem| Failed::Here(self.explained(&problem));
        let feed = node.producer.connected(CONNECTION_MAX).await.map_err(here)?;
        // A channel that is not made yet would miss it.
        for subscription in self.subscriptions() {
            let line = subscription.lines().get(&node.address).cloned();
            if let Some(line) = line {
                line.first(CONNECTION_MAX).await.map_err(here)?;
            }
        }
        let lost = || Failed::Here(QueueError::Unavailable(format!("{}: the connection to {} was lost", self.url, node.address)));
        for answer in self.send(&feed, messages).ok_or_else(lost)? {
            match timeout(ANSWER_MAX, answer).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(refusal))) => return Err(self.refused(refusal)),
                Ok(Err(_)) => return Err(lost()),
                Err(_) => {
                    let text = format!("{}: {} has not confirmed within {ANSWER_MAX:?}", self.url, node.address);
                    return Err(Failed::Here(QueueError::Unavailable(text)));
                }
            }
        }
        Ok(())
    }

    /// Puts messages on their way; none: the connection is lost.
    fn send(&self, feed: &Feed, messages: &[Outgoing]) -> Option<Vec<Answer>> {
        let topic = self.url.topic.as_str();
        let mut answers = Vec::new();
        let (mut bodies, mut bytes): (Vec<&[u8]>, usize) = (Vec::new(), 0);
        for message in messages.iter().filter(|message| message.wait.is_none()) {
            if !bodies.is_empty() && bytes + message.body.len() > BATCH_BYTES {
                answers.push(feed.wire.ask(|out| command::mpub(out, topic, &bodies))?);
                (bodies, bytes) = (Vec::new(), 0);
            }
            bytes += message.body.len() + 4;
            bodies.push(&message.body);
        }
        if !bodies.is_empty() {
            answers.push(feed.wire.ask(|out| command::mpub(out, topic, &bodies))?);
        }
        for message in messages {
            let Some(wait) = message.wait else { continue };
            let millis = self.request_millis(wait);
            answers.push(feed.wire.ask(|out| command::dpub(out, topic, millis, &message.body))?);
        }
        Some(answers)
    }

    fn refused(&self, refusal: Refusal) -> Failed {
        if let Some(bound) = delay_bound(&refusal) {
            self.request_max.fetch_min(bound, Ordering::Relaxed);
            return Failed::Delay;
        }
        let message = refusal.text.contains("message too big");
        match self.explained(&Problem::Refused(refusal)) {
            QueueError::TooLarge { size, bound } => {
                if message {
                    self.message_max.fetch_min(bound, Ordering::Relaxed);
                }
                Failed::Everywhere(QueueError::TooLarge { size, bound })
            }
            refused @ QueueError::Invalid(_) => Failed::Everywhere(refused),
            other => Failed::Here(other),
        }
    }
}

/// `DPUB timeout 7200000 out of range 0-3600000`: the longest that the server holds.
fn delay_bound(refusal: &Refusal) -> Option<u64> {
    refusal.text.split_once(" out of range 0-").and_then(|(_, bound)| bound.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_on_delays_is_understood() {
        for (text, bound) in [
            ("E_INVALID DPUB timeout 7200000 out of range 0-3600000", Some(3_600_000)),
            ("E_INVALID RDY count 5000 out of range 0-x", None),
            ("E_BAD_TOPIC no", None),
        ] {
            assert_eq!(delay_bound(&Refusal::read(text)), bound, "{text}");
        }
    }
}
