//! What waits on the server for its time: delayed publishes and retries, each in a sorted set by when it is due.

use std::num::NonZeroUsize;
use std::sync::Arc;

use ::redis::cmd;
use bytes::Bytes;

use super::RedisQueue;
use super::answer::{position, score};
use super::entry;
use super::scripts;
use super::shared::Shared;
use crate::clock::Timestamp;
use crate::event::json;
use crate::queue::waits::{Waiters, Waiting, Waits};
use crate::queue::{BoxFuture, QueueError};

/// Bytes in front of the event of a delayed publish: they make equal ones differ.
const MARK_BYTES: usize = 16;

/// When it is due, its member of the sorted set, and a retry's entry: its id, names and values.
type Row = (String, Vec<u8>, Vec<Vec<u8>>);

impl Waits for RedisQueue {
    fn list<'a>(
        &'a self,
        of: Waiters<'a>,
        from: Timestamp,
        max: NonZeroUsize,
    ) -> BoxFuture<'a, Result<Vec<Waiting>, QueueError>> {
        Box::pin(self.shared.waiting(of, from, max.get()))
    }

    fn end<'a>(&'a self, of: Waiters<'a>, keys: Vec<Bytes>) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(self.shared.end_waiting(of, keys))
    }
}

impl Shared {
    async fn waiting(&self, of: Waiters<'_>, from: Timestamp, max: usize) -> Result<Vec<Waiting>, QueueError> {
        let mut call = scripts::WAITING.prepare_invoke();
        match of {
            Waiters::Publishes => call.key(&self.keys.delayed).key(&self.keys.stream),
            Waiters::Retries(name) => call.key(&self.find_or_adopt(name).keys.retry).key(&self.keys.stream),
        };
        call.arg(from.0).arg(max).arg(u8::from(of != Waiters::Publishes));
        let rows: Vec<Row> = self.explained(self.redis.script(&call).await).await?;
        let read = |row| match of {
            Waiters::Publishes => publish(row),
            Waiters::Retries(_) => self.retry(row),
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    fn retry(&self, (due, member, entry): Row) -> Option<Waiting> {
        let mut parts = entry.into_iter();
        let position = position(&parts.next()?)?;
        let mut fields = Vec::new();
        while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
            fields.push((name, value));
        }
        let event = Arc::new(entry::event(position, fields, &self.wrapping));
        Some(Waiting { event, due: score(&due)?, key: member.into() })
    }

    async fn end_waiting(&self, of: Waiters<'_>, keys: Vec<Bytes>) -> Result<(), QueueError> {
        if keys.is_empty() {
            return Ok(());
        }
        let answer = match of {
            Waiters::Publishes => {
                let mut remove = cmd("ZREM");
                remove.arg(&self.keys.delayed);
                for key in &keys {
                    remove.arg(&key[..]);
                }
                self.redis.query::<u64>(&remove).await.map(drop)
            }
            Waiters::Retries(name) => {
                let subscription = self.find_or_adopt(name);
                let mut call = subscription.asker(self).call(&scripts::ABANDON);
                for key in &keys {
                    call.arg(&key[..]);
                }
                self.to_trim.store(true, std::sync::atomic::Ordering::Relaxed);
                self.redis.script::<u64>(&call).await.map(drop)
            }
        };
        self.explained(answer).await
    }
}

fn publish((due, member, _): Row) -> Option<Waiting> {
    let event = json::read(member.get(MARK_BYTES..)?).ok()?;
    Some(Waiting { event: Arc::new(event), due: score(&due)?, key: member.into() })
}
