//! The bare client that a stream is measured against (`weir bench`): what a plain program would write, and none of Weir. Its events are
//! counted and not looked at.
//!
//! A blocking connection of its own: it costs less CPU than one that is shared by tasks.

use ::redis::{Pipeline, Value, cmd};

use super::answer;
use super::keys::{self, Keys};
use super::url::StreamUrl;
use crate::event::{Event, json};
use crate::queue::QueueError;
use crate::queue::floor::Floor;
use crate::redis::{Blocking, Redis};

/// Events of one round trip when a stream is filled.
const FILL: usize = 500;

/// After this time the server itself removes what an aborted measurement left.
const EXPIRES_SECONDS: u64 = 3_600;

const GROUP: &str = "client";

/// A plain client.
pub(in crate::queue) struct RedisFloor {
    connection: Blocking,
    /// Its own stream.
    stream: String,
    /// The stream beside it.
    queue: String,
}

/// Connects, and makes a stream with a group; and the URL of one beside it.
pub(in crate::queue) fn open(url: &StreamUrl) -> Result<(StreamUrl, RedisFloor), QueueError> {
    let fresh = StreamUrl { stream: format!("{}.bench-{}", url.stream, crate::clock::id()), ..url.clone() };
    let mut connection = Redis::new(&url.server)?.blocking()?;
    let stream = format!("{}.client", keys::tagged(&fresh.stream));
    connection.query::<()>(cmd("XGROUP").arg("CREATE").arg(&stream).arg(GROUP).arg("$").arg("MKSTREAM"))?;
    let floor = RedisFloor { connection, stream, queue: fresh.stream.clone() };
    Ok((fresh, floor))
}

impl Floor for RedisFloor {
    fn fill(&mut self, event: &Event, count: u64) -> Result<(), QueueError> {
        let stream = &self.stream;
        self.connection.query::<()>(cmd("XTRIM").arg(stream).arg("MAXLEN").arg(0))?;
        let text = json::write(event);
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while left > 0 {
            let mut some = Pipeline::with_capacity(FILL);
            for _ in 0..left.min(FILL) {
                some.cmd("XADD").arg(stream).arg("*").arg("event").arg(&text).ignore();
            }
            left -= left.min(FILL);
            self.connection.pipeline::<()>(&some)?;
        }
        Ok(self.connection.query(cmd("EXPIRE").arg(stream).arg(EXPIRES_SECONDS))?)
    }

    fn run(&mut self, count: u64, at_once: usize) -> Result<(), QueueError> {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while left > 0 {
            let mut read = cmd("XREADGROUP");
            read.arg("GROUP")
                .arg(GROUP)
                .arg("bench")
                .arg("COUNT")
                .arg(left.min(at_once))
                .arg("STREAMS")
                .arg(&self.stream)
                .arg(">");
            let entries = answer::read(self.connection.query::<Value>(&read)?)?;
            if entries.is_empty() {
                return Err(QueueError::Unavailable(format!("stream `{}` lost events", self.stream)));
            }
            left = left.saturating_sub(entries.len());
            let mut ack = cmd("XACK");
            ack.arg(&self.stream).arg(GROUP);
            for entry in &entries {
                ack.arg(answer::id(entry.position));
            }
            self.connection.query::<()>(&ack)?;
        }
        Ok(())
    }

    fn remove(&mut self) -> Result<(), QueueError> {
        let Keys { stream, delayed, dead, first, .. } = Keys::of(&self.queue);
        Ok(self.connection.query(cmd("DEL").arg(&[&self.stream, &stream, &delayed, &dead, &first]))?)
    }
}
