//! A stream through the bare client, without a queue's promises: what `weir bench` measures a Redis queue against. Events are added in
//! transactions, read through a group, not looked at, and acknowledged, in batches of the same size.

use std::time::Duration;

use ::redis::{Pipeline, Value, cmd};
use tokio::sync::Mutex;

use super::answer;
use super::keys::tagged;
use super::url::StreamUrl;
use crate::event::{Event, json};
use crate::queue::QueueError;
use crate::redis::{Dedicated, Redis};

/// The group that reads.
const GROUP: &str = "bare";

/// How long a read waits for events.
const BLOCK: Duration = Duration::from_secs(1);

/// A stream of its own beside the one of a URL.
pub struct BareStream {
    redis: Redis,
    // One round at a time reads.
    reader: Mutex<Dedicated>,
    stream: String,
}

impl BareStream {
    /// Makes the stream, empty.
    ///
    /// # Errors
    /// When the server can't be used.
    pub async fn open(url: &StreamUrl) -> Result<Self, QueueError> {
        let redis = Redis::new(&url.server)?;
        let stream = format!("{}.bare", tagged(&url.stream));
        redis.query::<()>(cmd("DEL").arg(&stream)).await?;
        redis.query::<()>(cmd("XGROUP").arg("CREATE").arg(&stream).arg(GROUP).arg("0").arg("MKSTREAM")).await?;
        let reader = Mutex::new(redis.dedicated(BLOCK).await?);
        Ok(Self { redis, reader, stream })
    }

    /// Adds so many events, and reads and acknowledges them meanwhile.
    ///
    /// # Errors
    /// When the server fails.
    pub async fn round(&self, event: &Event, events: u64, batch: usize) -> Result<(), QueueError> {
        let added = self.add(event, usize::try_from(events).unwrap_or(usize::MAX), batch);
        let (added, ended) = tokio::join!(added, self.end(events, batch));
        added.and(ended)?;
        Ok(self.redis.query(cmd("XTRIM").arg(&self.stream).arg("MAXLEN").arg(0)).await?)
    }

    async fn add(&self, event: &Event, mut left: usize, batch: usize) -> Result<(), QueueError> {
        while left > 0 {
            let count = left.min(batch);
            let mut commands = Pipeline::with_capacity(count);
            commands.atomic();
            for _ in 0..count {
                commands.cmd("XADD").arg(&self.stream).arg("*").arg("event").arg(json::write(event)).ignore();
            }
            self.redis.pipeline::<()>(&commands).await?;
            left -= count;
        }
        Ok(())
    }

    async fn end(&self, events: u64, batch: usize) -> Result<(), QueueError> {
        let mut reader = self.reader.lock().await;
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg("one").arg("COUNT").arg(batch);
        read.arg("BLOCK").arg(crate::clock::millis(BLOCK)).arg("STREAMS").arg(&self.stream).arg(">");
        let mut left = events;
        while left > 0 {
            let entries = answer::read(reader.query::<Value>(&self.redis, &read).await?)?;
            if entries.is_empty() {
                continue;
            }
            let mut ack = cmd("XACK");
            ack.arg(&self.stream).arg(GROUP);
            for entry in &entries {
                ack.arg(answer::id(entry.position));
            }
            left = left.saturating_sub(self.redis.query::<u64>(&ack).await?);
        }
        Ok(())
    }
}
