//! Dead letters in Redis: a stream of them, with what is known of each beside it, so that one can be listed, shown and dropped by id.
//!
//! Used by the Redis store, for queues whose broker holds none, and by the Redis Streams adapter, on the queue's own server. Four keys
//! of one slot: the stream, and with `.ids`, `.times` and `.counts` behind its name what finds a letter in it; the scripts in
//! `dead/redis/*.lua` keep them as one. Whoever takes an entry out of the stream by hand leaves a letter that can't be read.
//!
//! Considered and left out: one hash of letters. A stream is what people with Redis tools look for, and `XRANGE` shows it in order.

use std::fmt;
use std::sync::{Arc, LazyLock};

use ::redis::{Script, ScriptInvocation};

use super::{
    DEAD_LIST_BYTES_MAX, DeadBounds, DeadCount, DeadCounts, DeadCursor, DeadFilter, DeadLetter, DeadLetters, DeadPage,
    Unreadable, json,
};
use crate::clock::{self, Timestamp};
use crate::queue::BoxFuture;
use crate::redis::Redis;
use crate::store::StoreError;

/// Most letters of one script call: Redis answers nobody else meanwhile.
const CALL_LETTERS_MAX: usize = 100;
/// Most bytes of letters of one script call, or one letter: some milliseconds of Redis.
const CALL_BYTES_MAX: usize = 1 << 20;
/// Most letters that one script call looks at.
const CALL_LOOKED_MAX: usize = 1_000;
/// Most letters that one page looks at to find those that match; the next page goes on from there.
const PAGE_LOOKED_MAX: usize = 100_000;
/// Most letters that one script call drops; the next call goes on.
const DROPPED_MAX: usize = 1_000;
/// Scores of a sorted set are exact up to here; no letter is of later.
const SCORE_MAX: u64 = 1 << 53;

static PUT: LazyLock<Script> = LazyLock::new(|| changing(include_str!("redis/put.lua")));
static REMOVE: LazyLock<Script> = LazyLock::new(|| changing(include_str!("redis/remove.lua")));
static COUNTS: LazyLock<Script> = LazyLock::new(|| changing(include_str!("redis/counts.lua")));
static GET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/get.lua")));
static LIST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/list.lua")));

fn changing(script: &str) -> Script {
    Script::new(&format!("{}\n{script}", include_str!("redis/common.lua")))
}

/// One stream of dead letters.
#[derive(Clone)]
pub struct RedisDead {
    redis: Arc<Redis>,
    keys: [String; 4],
    bounds: DeadBounds,
}

impl fmt::Debug for RedisDead {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("RedisDead").field("server", &self.redis.name()).field("key", &self.keys[0]).finish_non_exhaustive()
    }
}

/// A letter as `list.lua` answers it: id, when it was given up, queue, text.
type Row = (String, u64, String, Vec<u8>);

impl RedisDead {
    /// The letters in the stream `key`, such as `{orders}.dead`: it has to carry a hash tag, so that all keys are of one slot.
    #[must_use]
    pub fn new(redis: Arc<Redis>, key: &str, bounds: DeadBounds) -> Self {
        let keys = ["", ".ids", ".times", ".counts"].map(|suffix| format!("{key}{suffix}"));
        Self { redis, keys, bounds }
    }

    /// The stream's key.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.keys[0]
    }

    fn call<'s>(&self, script: &'s Script) -> ScriptInvocation<'s> {
        let mut call = script.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        call
    }

    /// Gives a script what `pruned` of `common.lua` takes.
    fn bound(&self, call: &mut ScriptInvocation) {
        call.arg(clock::now().0).arg(clock::millis(self.bounds.keep)).arg(self.bounds.bytes).arg(DROPPED_MAX);
    }

    fn say_dropped(&self, count: u64) {
        if count > 0 {
            tracing::warn!(key = %self.keys[0], count, "the oldest dead letters were dropped: too old or too many");
        }
    }

    async fn put_all(&self, letters: &[&DeadLetter]) -> Result<(), StoreError> {
        let mut letters = letters.iter().peekable();
        while letters.peek().is_some() {
            let mut call = self.call(&PUT);
            self.bound(&mut call);
            let (mut count, mut bytes) = (0, 0);
            while count < CALL_LETTERS_MAX
                && bytes < CALL_BYTES_MAX
                && let Some(letter) = letters.next()
            {
                let text = json::stored(letter, self.bounds).map_err(StoreError::Damaged)?;
                (count, bytes) = (count + 1, bytes + text.len());
                call.arg(&letter.id).arg(letter.dead_at.0.min(SCORE_MAX)).arg(&letter.queue).arg(&letter.handler);
                call.arg(letter.outcome.unwrap_or_default()).arg(&letter.reason).arg(text);
            }
            self.say_dropped(self.redis.script(&call).await?);
        }
        Ok(())
    }

    async fn page(&self, filter: &DeadFilter) -> Result<DeadPage, StoreError> {
        let (mut page, mut after, mut bytes) = (DeadPage::default(), filter.end(), 0);
        for _ in 0..PAGE_LOOKED_MAX / CALL_LOOKED_MAX {
            let left = filter.page().saturating_sub(page.letters.len() + page.unreadable.len());
            if left == 0 || bytes > DEAD_LIST_BYTES_MAX {
                break;
            }
            let (at, id, rows) = self.part(filter, &after, left).await?;
            for row in rows {
                bytes += row.3.len();
                add(&mut page, row);
            }
            let Ok(at) = at.parse() else { return Ok(page) };
            after = DeadCursor { dead_at: Timestamp(at), id };
        }
        page.next = Some(after);
        Ok(page)
    }

    /// What one script call finds after a place, and where it stopped; an empty place is the end.
    async fn part(&self, filter: &DeadFilter, after: &DeadCursor, left: usize) -> Result<(String, String, Vec<Row>), StoreError> {
        let at = if after.dead_at.0 > SCORE_MAX { "+inf".to_owned() } else { after.dead_at.0.to_string() };
        let mut call = self.call(&LIST);
        call.arg(at).arg(&after.id).arg(left.min(CALL_LETTERS_MAX)).arg(CALL_BYTES_MAX).arg(CALL_LOOKED_MAX);
        call.arg(filter.queue.as_deref().unwrap_or_default()).arg(filter.handler.as_deref().unwrap_or_default());
        call.arg(filter.reason.as_deref().unwrap_or_default()).arg(u8::from(filter.reason.is_some()));
        Ok(self.redis.script(&call).await?)
    }
}

fn add(page: &mut DeadPage, (id, dead_at, queue, text): Row) {
    match read(&text) {
        Ok(letter) => page.letters.push(letter),
        Err(reason) => page.unreadable.push(Unreadable { id, queue, dead_at: Timestamp(dead_at), reason }),
    }
}

fn read(text: &[u8]) -> Result<DeadLetter, String> {
    if text.is_empty() { Err("its entry is gone from the stream".to_owned()) } else { json::read(text) }
}

/// `counts.lua`'s answer: names such as `held:events`, each followed by its value.
fn counts(fields: &[(String, i64)]) -> DeadCounts {
    let mut counts = DeadCounts::default();
    for (name, value) in fields {
        let Some((what, queue)) = name.split_once(':') else { continue };
        let count: &mut DeadCount = counts.queues.entry(queue.to_owned()).or_default();
        let value = u64::try_from(*value).unwrap_or_default();
        match what {
            "held" => count.held = value,
            "bytes" => count.bytes = value,
            "dropped" => count.dropped = value,
            _ => {}
        }
    }
    counts
}

impl DeadLetters for RedisDead {
    fn put<'a>(&'a self, letters: &'a [&'a DeadLetter]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.put_all(letters))
    }

    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<DeadLetter>, StoreError>> {
        Box::pin(async move {
            let mut call = self.call(&GET);
            call.arg(id);
            let Some(text): Option<Vec<u8>> = self.redis.script(&call).await? else { return Ok(None) };
            let unreadable = |reason| {
                StoreError::Damaged(format!("dead letter `{id}` can't be read ({reason}) [`weir dead drop {id}` removes it]"))
            };
            read(&text).map(Some).map_err(unreadable)
        })
    }

    fn list(&self, filter: DeadFilter) -> BoxFuture<'_, Result<DeadPage, StoreError>> {
        Box::pin(async move { self.page(&filter).await })
    }

    fn remove<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move {
            let mut call = self.call(&REMOVE);
            call.arg(id);
            let removed: u64 = self.redis.script(&call).await?;
            Ok(removed > 0)
        })
    }

    fn forget<'a>(&'a self, _: &'a str, ids: &'a [String]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            for some in ids.chunks(CALL_LETTERS_MAX) {
                let mut call = self.call(&REMOVE);
                for id in some {
                    call.arg(id);
                }
                let _: u64 = self.redis.script(&call).await?;
            }
            Ok(())
        })
    }

    /// Also drops what has become too old since the last one was put.
    fn counts(&self) -> BoxFuture<'_, Result<DeadCounts, StoreError>> {
        Box::pin(async move {
            let mut call = self.call(&COUNTS);
            self.bound(&mut call);
            let (dropped, fields): (u64, Vec<(String, i64)>) = self.redis.script(&call).await?;
            self.say_dropped(dropped);
            Ok(counts(&fields))
        })
    }
}
