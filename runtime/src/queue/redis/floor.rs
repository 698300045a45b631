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
use crate::redis::{Blocking, Redis};

/// Events of one round trip when a stream is filled.
const FILL: usize = 500;

/// After this time the server itself removes what an aborted measurement left.
const EXPIRES_SECONDS: u64 = 3_600;

const GROUP: &str = "client";

/// A plain client.
pub struct Floor {
    connection: Blocking,
    stream: String,
}

impl Floor {
    /// Connects, and makes a stream with a group.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub fn open(url: &StreamUrl) -> Result<Self, QueueError> {
        let mut connection = Redis::new(&url.server)?.blocking()?;
        let stream = format!("{}.client", keys::tagged(&url.stream));
        connection.query::<()>(cmd("XGROUP").arg("CREATE").arg(&stream).arg(GROUP).arg("$").arg("MKSTREAM"))?;
        Ok(Self { connection, stream })
    }

    /// Its own stream.
    #[must_use]
    pub fn stream(&self) -> String {
        self.stream.clone()
    }

    /// Empties a stream, and puts the same event into it so many times.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub fn fill(&mut self, stream: &str, event: &Event, count: u64) -> Result<(), QueueError> {
        self.connection.query::<()>(cmd("XTRIM").arg(stream).arg("MAXLEN").arg(0))?;
        let text = json::write(event);
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while left > 0 {
            let mut some = Pipeline::with_capacity(FILL);
            for _ in 0..left.min(FILL) {
                some.cmd("XADD").arg(stream).arg("*").arg("event").arg(&text).ignore();
            }
            left -= left.min(FILL);
            self.connection.pipeline(&some)?;
        }
        Ok(self.connection.query(cmd("EXPIRE").arg(stream).arg(EXPIRES_SECONDS))?)
    }

    /// Reads and acknowledges so many events of its own stream, at most `batch` at once.
    ///
    /// # Errors
    /// When the server is away or refuses, or the stream holds fewer.
    pub fn run(&mut self, count: u64, batch: usize) -> Result<(), QueueError> {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while left > 0 {
            let mut read = cmd("XREADGROUP");
            read.arg("GROUP").arg(GROUP).arg("bench").arg("COUNT").arg(left.min(batch)).arg("STREAMS").arg(&self.stream).arg(">");
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

    /// CPU time that the server has used so far, in seconds; 0 where it does not say.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub fn server_seconds(&mut self) -> Result<f64, QueueError> {
        let info: String = self.connection.query(cmd("INFO").arg("cpu"))?;
        let seconds = |name| info.lines().filter_map(move |line| line.strip_prefix(name)?.parse::<f64>().ok());
        Ok(seconds("used_cpu_sys:").chain(seconds("used_cpu_user:")).sum())
    }

    /// Removes a stream, what stands beside it, and its own.
    ///
    /// # Errors
    /// When the server is away or refuses.
    pub fn remove(&mut self, stream: &str) -> Result<(), QueueError> {
        let Keys { stream, delayed, dead, first, .. } = Keys::of(stream);
        Ok(self.connection.query(cmd("DEL").arg(&[&self.stream, &stream, &delayed, &dead, &first]))?)
    }
}
