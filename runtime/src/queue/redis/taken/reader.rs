//! Takes messages, as many as pulls ask for. A task of its own, so that a pull that is dropped loses nothing.
//!
//! An empty list is waited for on a connection of its own, with a command that moves what comes into a list beside it: whoever takes next
//! takes that first, so a process that is killed meanwhile loses nothing. Of a sorted set the server tells nobody: it is looked at when
//! its first member is due, and often enough that what others add is not late.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::{Value, cmd};
use bytes::Bytes;

use super::scripts;
use super::shared::{CALL_MAX, Shared, Token, positions};
use super::url::{End, Kind};
use crate::clock::{Alarm, Timestamp};
use crate::queue::redis::answer;
use crate::queue::redis::tail::Tail;
use crate::queue::{Delivery, Position, QueueError, Settle, Settlement, Tries};
use crate::redis::RedisProblem;

/// How often is looked for what others let lapse and gave back, of which the server does not tell, and how long a list is waited for at once.
/// At most a quarter of a lease.
const LOOK: Duration = Duration::from_secs(1);

/// How often a sorted set is looked at: what another program adds comes later by at most this. A look costs the server some ten
/// microseconds.
const LOOK_AT_SET: Duration = Duration::from_millis(200);

/// Shortest time between two looks for what is due: retries of a busy queue come in small batches.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Most messages of one call, and the bytes after which it takes no more: the server answers nobody else meanwhile.
const TAKE_MAX: (usize, usize) = (1_000, 8 << 20);

/// After a problem, before the next attempt: nobody tells that it is over. Attempts to connect are paced by the connection itself.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Reader {
    shared: Arc<Shared>,
    tail: Tail,
    /// Messages may have been given to us that never reached us.
    recovering: bool,
    /// Something lies beside the list because we waited for it.
    woken: bool,
}

/// What a message is answered as: id, body, failed, outside, since, seen.
type Message = (Vec<u8>, Vec<u8>, u32, String, String, String);

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, tail: Tail::default(), recovering: false, woken: false }
    }

    /// Takes until the queue is closed.
    pub(super) async fn run(mut self) {
        let closed = self.shared.closed.clone();
        while !closed.is_cancelled() {
            if let Err(error) = self.step().await {
                self.shared.inbox.fail(error);
                self.tail.reset();
                self.recovering = true;
                tokio::select! {
                    () = closed.cancelled() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
        // What it still brought lies where `leave` finds it.
        drop(self.tail.end(&self.shared.redis).await);
    }

    async fn step(&mut self) -> Result<(), QueueError> {
        let shared = Arc::clone(&self.shared);
        let mut missing = shared.inbox.hold().missing();
        if std::mem::take(&mut self.woken) && missing == 0 {
            shared.unwake().await?;
        }
        if missing == 0 {
            missing = tokio::select! {
                () = shared.closed.cancelled() => return Ok(()),
                missing = shared.inbox.missing() => missing,
                came = self.tail.finished() => return self.came(came).await,
            };
        }
        shared.ensure().await?;
        if self.recovering {
            self.recover().await?;
            self.recovering = false;
        }
        let Some((came, due)) = self.take(missing).await? else { return self.stand_by().await };
        if came > 0 {
            return Ok(());
        }
        let most = match shared.kind {
            Kind::List { take } => {
                self.wait_for(take).await?;
                LOOK.min(shared.lease / 4)
            }
            Kind::SortedSet { .. } => LOOK_AT_SET,
        };
        let alarm = Alarm::new(due, most);
        tokio::select! {
            () = shared.closed.cancelled() => {}
            came = self.tail.finished() => self.came(came).await?,
            () = shared.stirred.notified() => {}
            () = async {
                alarm.rung().await;
                // By the server's clock it may not be due yet.
                tokio::time::sleep(if due.is_some() { LOOK_AGAIN } else { Duration::ZERO }).await;
            } => {}
        }
        Ok(())
    }

    /// The list has something, or was waited for long enough.
    async fn came(&mut self, answer: Result<Value, RedisProblem>) -> Result<(), QueueError> {
        self.woken |= !matches!(self.shared.explained(answer).await?, Value::Nil);
        Ok(())
    }

    /// How many came, and when the next one is due; none: another process reads.
    async fn take(&mut self, wanted: usize) -> Result<Option<(usize, Option<Timestamp>)>, QueueError> {
        let shared = &self.shared;
        let asked = Instant::now();
        let mut call = shared.call(&scripts::TAKE);
        call.arg(wanted.min(TAKE_MAX.0)).arg(TAKE_MAX.1);
        let answer = shared.redis.script(&call).await;
        let (messages, due, reads): (Vec<Message>, String, String) = shared.explained(answer).await?;
        if reads == "other" {
            // What we still hold of the time when we read is no longer ours.
            shared.inbox.lapse(|_| true);
            return Ok(None);
        }
        let count = messages.len();
        let came = messages.into_iter().filter_map(|message| delivery(message, shared));
        shared.inbox.put_since(asked, came);
        Ok(Some((count, answer::score(&due))))
    }

    /// What was given to us in an answer that got lost goes back, without a try.
    async fn recover(&mut self) -> Result<(), QueueError> {
        let shared = &self.shared;
        let mine = shared.redis.script(&shared.call(&scripts::MINE)).await;
        let mine: Vec<Vec<u8>> = shared.explained(mine).await?;
        let mut lost: Vec<Position> = {
            let mut hold = shared.inbox.hold();
            positions(&mine).into_iter().filter(|position| hold.get_mut(*position).is_none()).collect()
        };
        // What is given back lies on the end that is taken from: the oldest goes last.
        lost.sort_by_key(|position| std::cmp::Reverse(*position));
        let back: Vec<Settlement> = lost.into_iter().map(|position| Settlement { position, settle: Settle::Return }).collect();
        for some in back.chunks(CALL_MAX) {
            shared.send(some).await?;
        }
        Ok(())
    }

    /// Nobody tells when the process that reads is gone.
    async fn stand_by(&mut self) -> Result<(), QueueError> {
        tokio::select! {
            () = self.shared.closed.cancelled() => {}
            () = tokio::time::sleep(LOOK.min(self.shared.lease / 4)) => {}
        }
        Ok(())
    }

    /// Waits for a list to have something, in the background.
    async fn wait_for(&mut self, take: End) -> Result<(), QueueError> {
        if self.tail.is_running() {
            return Ok(());
        }
        let blocks = LOOK.min(self.shared.lease / 4);
        let mut command = cmd("BLMOVE");
        command.arg(&self.shared.keys.source).arg(&self.shared.keys.woken);
        command.arg(if take == End::Right { "RIGHT" } else { "LEFT" }).arg("LEFT").arg(blocks.as_secs_f64());
        let started = self.tail.start(&self.shared.redis, command, blocks).await;
        self.shared.explained(started).await
    }
}

fn delivery((id, body, failed, outside, since, seen): Message, shared: &Shared) -> Option<(Delivery, Token)> {
    let position = answer::position(&id)?;
    let id = String::from_utf8(id).ok()?;
    let first_seen = Timestamp(seen.parse().ok()?);
    let outside_since = since.parse().ok().map(Timestamp);
    let tries = Tries { failed, outside: outside.parse().unwrap_or(0), outside_since };
    let event = Arc::new(shared.wrapping.body(id, &Bytes::from(body), first_seen));
    let told = failed.saturating_add(1);
    Some((Delivery { event, position, tries, first_seen }, Token { position, told, known: told }))
}
