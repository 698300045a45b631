//! The bare client that a list or a sorted set is measured against (`weir bench`): what a plain program would write, and none of Weir. Its
//! events are counted and not looked at.
//!
//! Of a list, `LMOVE` into another one and `LREM` when it is done with; of a sorted set, `ZRANGEBYSCORE` and `ZREM`: so nothing is lost with
//! the program, where it is the only one. Many in one round trip, as many as Weir may have at once.
//!
//! A blocking connection of its own: it costs less CPU than one that is shared by tasks.

use ::redis::{Cmd, Pipeline, cmd};

use super::keys::Keys;
use super::url::{End, Kind, TakenUrl};
use crate::event::{Event, json};
use crate::queue::QueueError;
use crate::queue::floor::{Floor, numbered};
use crate::queue::redis::keys::tagged;
use crate::redis::{Blocking, Redis};

/// Events of one round trip when it is filled.
const FILL: u64 = 500;

/// After this time the server itself removes what an aborted measurement left.
const EXPIRES_SECONDS: u64 = 3_600;

/// A plain client.
pub(in crate::queue) struct TakenFloor {
    connection: Blocking,
    kind: Kind,
    /// Its own list or sorted set.
    source: String,
    /// What it has taken of a list.
    taken: String,
    /// What the queue beside it may leave.
    queue: Keys,
}

/// Connects; and the URL of a list or sorted set beside its own.
pub(in crate::queue) fn open(url: &TakenUrl) -> Result<(TakenUrl, TakenFloor), QueueError> {
    let fresh = TakenUrl { key: format!("{}.bench-{}", url.key, crate::clock::id()), ..url.clone() };
    let connection = Redis::new(&url.server)?.blocking()?;
    let tagged = tagged(&fresh.key);
    let (source, taken) = (format!("{tagged}.client"), format!("{tagged}.client.taken"));
    let floor = TakenFloor { connection, kind: url.kind, source, taken, queue: Keys::of(&fresh.key) };
    Ok((fresh, floor))
}

impl TakenFloor {
    fn command(&self, name: &str) -> Cmd {
        let mut command = cmd(name);
        command.arg(&self.source);
        command
    }

    /// At most so many, which are then still there.
    fn take(&mut self, count: usize) -> Result<Vec<Vec<u8>>, QueueError> {
        let Kind::List { take } = self.kind else {
            let mut range = self.command("ZRANGEBYSCORE");
            range.arg("-inf").arg("+inf").arg("LIMIT").arg(0).arg(count);
            return Ok(self.connection.query(&range)?);
        };
        let end = if take == End::Right { "RIGHT" } else { "LEFT" };
        let mut some = Pipeline::with_capacity(count);
        for _ in 0..count {
            some.cmd("LMOVE").arg(&self.source).arg(&self.taken).arg(end).arg("LEFT");
        }
        let moved: Vec<Option<Vec<u8>>> = self.connection.pipeline(&some)?;
        Ok(moved.into_iter().flatten().collect())
    }

    fn acknowledge(&mut self, bodies: &[Vec<u8>]) -> Result<(), QueueError> {
        if let Kind::SortedSet { .. } = self.kind {
            let mut remove = self.command("ZREM");
            remove.arg(bodies);
            return Ok(self.connection.query(&remove)?);
        }
        let mut some = Pipeline::with_capacity(bodies.len());
        for body in bodies {
            // The first that was taken stands last.
            some.cmd("LREM").arg(&self.taken).arg(-1).arg(body).ignore();
        }
        Ok(self.connection.pipeline(&some)?)
    }
}

impl Floor for TakenFloor {
    fn fill(&mut self, event: &Event, count: u64) -> Result<(), QueueError> {
        self.connection.query::<()>(cmd("DEL").arg(&self.source).arg(&self.taken))?;
        for from in (0..count).step_by(usize::try_from(FILL).unwrap_or(usize::MAX)) {
            let mut add = self.command(match self.kind {
                Kind::SortedSet { .. } => "ZADD",
                Kind::List { take: End::Right } => "LPUSH",
                Kind::List { take: End::Left } => "RPUSH",
            });
            for number in from..count.min(from + FILL) {
                if let Kind::SortedSet { .. } = self.kind {
                    add.arg(number);
                }
                add.arg(json::write(&numbered(event, number)));
            }
            self.connection.query::<()>(&add)?;
        }
        let mut expire = self.command("EXPIRE");
        Ok(self.connection.query(expire.arg(EXPIRES_SECONDS))?)
    }

    fn run(&mut self, count: u64, at_once: usize) -> Result<(), QueueError> {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while left > 0 {
            let bodies = self.take(left.min(at_once))?;
            if bodies.is_empty() {
                return Err(QueueError::Unavailable(format!("`{}` lost events", self.source)));
            }
            left = left.saturating_sub(bodies.len());
            self.acknowledge(&bodies)?;
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<(), QueueError> {
        let mut remove = cmd("DEL");
        remove.arg(&[&self.source, &self.taken, &self.queue.dead]).arg(&self.queue.all());
        Ok(self.connection.query(&remove)?)
    }
}
