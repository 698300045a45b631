//! What the tasks of a list or sorted set share: the connection, what is held, and how it is settled, published to and asked.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::redis::cmd;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::keys::Keys;
use super::scripts;
use super::url::{End, Kind, TakenUrl};
use crate::clock::{self, Timestamp};
use crate::dead::DeadBounds;
use crate::event::json;
use crate::queue::fanout::READER;
use crate::queue::inbox::Inbox;
use crate::queue::redis::answer::{self, id};
use crate::queue::redis::lock;
use crate::queue::wrapping::Wrapping;
use crate::queue::{Depth, Opening, Position, Publish, QueueError, Settle, Settlement, SubscriptionDepth, Tries};
use crate::redis::{Redis, RedisProblem};

/// Settlements of one call of the script, which holds up the server while it runs: about a millisecond.
pub(super) const CALL_MAX: usize = 500;

/// What a message that is ours is settled with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    pub(super) position: Position,
    /// The tries that have failed if we are killed now, as the server has it.
    pub(super) told: u32,
    /// The same, as it is.
    pub(super) known: u32,
}

/// What the tasks of a queue share.
pub(super) struct Shared {
    pub(super) name: String,
    /// The queue's URL, for people.
    pub(super) url: String,
    pub(super) wrapping: Wrapping,
    pub(super) redis: Arc<Redis>,
    pub(super) keys: Keys,
    pub(super) kind: Kind,
    pub(super) dead: DeadBounds,
    /// Our name: `[server] name` and a number of this opening, so that what an earlier one held is not taken for ours.
    pub(super) consumer: String,
    pub(super) lease: Duration,
    pub(super) inbox: Inbox<Token>,
    pub(super) closed: CancellationToken,
    pub(super) connected_once: AtomicBool,
    /// One process reads at a time.
    pub(super) ordered: AtomicBool,
    /// The connection over which the key was looked at last; 0: none.
    checked_over: AtomicU64,
    /// What the last round of the heartbeat failed with.
    pub(super) trouble: Mutex<Option<String>>,
    /// Wakes the reader: something was added, given back or put off here.
    pub(super) stirred: Notify,
    /// Wakes the heartbeat: there are notes to write.
    pub(super) noted: Notify,
}

impl Shared {
    /// A list or sorted set that is not asked for anything yet.
    ///
    /// # Errors
    /// Certificates that can't be read.
    pub(super) fn new(url: &TakenUrl, opening: &Opening) -> Result<Self, QueueError> {
        let closed = CancellationToken::new();
        Ok(Self {
            name: opening.name.clone(),
            url: url.to_string(),
            wrapping: Wrapping::of(opening),
            redis: Arc::new(Redis::new(&url.server)?),
            keys: Keys::of(&url.key),
            kind: url.kind,
            dead: opening.dead,
            consumer: format!("{}.{:08x}", opening.process, fastrand::u32(..)),
            lease: url.lease,
            inbox: Inbox::new(closed.clone()),
            closed,
            connected_once: AtomicBool::new(false),
            ordered: AtomicBool::new(false),
            checked_over: AtomicU64::new(0),
            trouble: Mutex::default(),
            stirred: Notify::new(),
            noted: Notify::new(),
        })
    }

    /// The age up to which a lease is certainly ours (delivery.md §3).
    pub(super) fn young(&self) -> Duration {
        self.lease * 2 / 3
    }

    pub(super) fn is_ordered(&self) -> bool {
        self.ordered.load(Ordering::Relaxed)
    }

    /// Milliseconds of one unit of a score.
    pub(super) fn unit(&self) -> u32 {
        match self.kind {
            Kind::List { .. } => 1,
            Kind::SortedSet { unit } => unit.millis(),
        }
    }

    /// Connected to a server that has a key of the right type, or none.
    pub(super) async fn ensure(&self) -> Result<(), QueueError> {
        let connection = self.redis.connect().await?;
        if self.checked_over.load(Ordering::Acquire) == connection {
            return Ok(());
        }
        let found: Result<String, RedisProblem> = self.redis.query(cmd("TYPE").arg(&self.keys.source)).await;
        let expected = self.kind.redis_type();
        let found = found?;
        if found != "none" && found != expected {
            return Err(self.redis.explain_type(&[(&self.keys.source, expected)]).await.into());
        }
        self.checked_over.store(connection, Ordering::Release);
        self.connected_once.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// A problem as one of the queue; a key of another type is named.
    pub(super) async fn explained<T>(&self, answer: Result<T, RedisProblem>) -> Result<T, QueueError> {
        match answer {
            Err(problem) if problem.is("WRONGTYPE") => {
                Err(self.redis.explain_type(&self.keys.types(self.kind.redis_type())).await.into())
            }
            other => Ok(other?),
        }
    }

    /// Adds a batch, all or none; answers when the server has it. Nothing is repeated: after a lost connection it is not known whether a
    /// batch was taken.
    pub(super) async fn publish(&self, batch: &[Publish]) -> Result<(), QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        self.ensure().await?;
        let now = clock::now();
        let due = |publish: &Publish| publish.due.filter(|due| *due > now);
        let answer = match (batch, self.kind) {
            ([], _) => return Ok(()),
            ([one], Kind::List { take }) if due(one).is_none() => {
                let push = if take == End::Right { "LPUSH" } else { "RPUSH" };
                self.redis.query::<()>(cmd(push).arg(&self.keys.source).arg(json::write(&one.event))).await
            }
            _ => {
                let mut call = self.call(&scripts::PUBLISH);
                for one in batch {
                    call.arg(due(one).map(|due| due.0.to_string()).unwrap_or_default()).arg(json::write(&one.event));
                }
                self.redis.script::<()>(&call).await
            }
        };
        self.explained(answer).await?;
        self.stirred.notify_one();
        Ok(())
    }

    /// Settles; answers what came too late.
    pub(super) async fn settle(&self, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        let mut plan = self.inbox.hold().plan(batch, Instant::now(), Some(self.young()));
        // What is given back lies on the end that is taken from: the oldest goes last.
        plan.sent.sort_by_key(|(settlement, _)| std::cmp::Reverse(settlement.position));
        let sent: Vec<Settlement> = plan.sent.into_iter().map(|(settlement, _)| settlement).collect();
        let mut late = plan.late;
        for some in sent.chunks(CALL_MAX) {
            // What is given back may be taken again by the reader, before we have the answer.
            let again =
                || some.iter().filter(|settlement| settlement.settle != Settle::Ack).map(|settlement| settlement.position);
            let gone: Vec<_> = {
                let mut hold = self.inbox.hold();
                again().filter_map(|position| Some((position, hold.let_go(position)?))).collect()
            };
            match self.send(some).await {
                Ok(more) => {
                    late.extend(more);
                    let mut hold = self.inbox.hold();
                    let acked = some.iter().filter(|settlement| settlement.settle == Settle::Ack);
                    acked.for_each(|settlement| hold.settled(settlement.position));
                }
                Err(error) => {
                    let mut hold = self.inbox.hold();
                    gone.into_iter().for_each(|(position, held)| hold.hold_again(position, held));
                    return Err(error);
                }
            }
        }
        if sent.iter().any(|settlement| settlement.settle != Settle::Ack) {
            self.stirred.notify_one();
        }
        Ok(late)
    }

    /// Tells the server; what is no longer ours.
    pub(super) async fn send(&self, settlements: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        let mut call = self.call(&scripts::SETTLE);
        for Settlement { position, settle } in settlements {
            let (what, due, tries) = match settle {
                Settle::Ack => ("ack", Timestamp(0), Tries::default()),
                Settle::Retry { due, tries } => ("wait", *due, *tries),
                Settle::Return => ("back", Timestamp(0), Tries::default()),
            };
            let since = tries.outside_since.map_or_else(|| "-".to_owned(), |since| since.0.to_string());
            call.arg(what).arg(id_of(*position)).arg(due.0).arg(tries.failed).arg(tries.outside).arg(since);
        }
        let answer: Result<Vec<Vec<u8>>, _> = self.redis.script(&call).await;
        Ok(positions(&self.explained(answer).await?))
    }

    /// Gives back all that is held.
    pub(super) async fn leave(&self) -> Result<(), QueueError> {
        let all: Vec<Settlement> = {
            let hold = self.inbox.hold();
            hold.iter().map(|(position, _)| Settlement { position, settle: Settle::Return }).collect()
        };
        if !all.is_empty() {
            self.settle(&all).await?;
        }
        if self.is_ordered() {
            self.explained(self.redis.script::<()>(&self.call(&scripts::LEAVE)).await).await?;
        }
        self.unwake().await
    }

    /// What woke us goes back, for whoever asks.
    pub(super) async fn unwake(&self) -> Result<(), QueueError> {
        if matches!(self.kind, Kind::SortedSet { .. }) {
            return Ok(());
        }
        self.explained(self.redis.script::<()>(&self.call(&scripts::UNWAKE)).await).await
    }

    pub(super) async fn depth(&self) -> Result<Depth, QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let answer = self.redis.script(&self.call(&scripts::DEPTH)).await;
        let (waits, taken, leased, first): (u64, u64, u64, String) = self.explained(answer).await?;
        let events = Some(waits + taken);
        // A list does not say how old its messages are.
        let oldest =
            first.parse::<f64>().ok().and_then(|score| answer::score(&(score * f64::from(self.unit())).round().to_string()));
        let own = SubscriptionDepth { name: READER.to_owned(), events, oldest, in_flight: Some(leased), partitions: Vec::new() };
        Ok(Depth { events, bytes: None, subscriptions: vec![own] })
    }

    /// Says what will go wrong before anybody waits for it.
    pub(super) fn note(&self, position: Position, tries: Tries) {
        let urgent = {
            let mut hold = self.inbox.hold();
            let Some(held) = hold.get_mut(position) else { return };
            held.token.known = tries.failed;
            // Fewer is what has not begun: by the next beat most of it has.
            tries.failed > held.token.told
        };
        if urgent {
            self.noted.notify_one();
        }
    }

    pub(super) fn say_trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }
}

/// The id of a message: its count within a millisecond has a fixed width there, so that ids sort as positions do.
pub(super) fn id_of(position: Position) -> String {
    let plain = id(position);
    match plain.split_once('-') {
        Some((ms, count)) => format!("{ms}-{count:0>12}"),
        None => plain,
    }
}

/// Ids that a script answers.
pub(super) fn positions(ids: &[Vec<u8>]) -> Vec<Position> {
    answer::positions(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_positions() {
        let position = answer::position(b"1700000000000-000000000012").unwrap();
        assert_eq!(position, Position(1_700_000_000_000 << 64 | 12));
        assert_eq!(id_of(position), "1700000000000-000000000012");
        assert!(id_of(Position(position.0 + 1)) > id_of(position));
    }
}
