//! Buckets on a Redis server: in the store of several processes, or at the URL of a grant. What has to happen at once is a script
//! (`keyvalue/redis/*.lua`).
//!
//! A bucket is three keys with the hash tag `{weir:GROUP}`: `…:values`, a hash; `…:keys`, its keys by the number with which they came, a
//! sorted set; `…:counts`, the next number and the bytes. Numbers are far below 2^53, where those of Redis and Lua stop being exact.

use std::fmt;
use std::sync::{Arc, LazyLock};

use ::redis::{Script, cmd};

use super::plan::{NoSum, no_room, no_sum};
use super::{
    ANSWER_MAX, BATCH_MAX, Bucket, BucketError, Buckets, ENTRY_BYTES, KEYS_MAX, Page, Size, Values, Write, Written, too_much,
};
use crate::queue::BoxFuture;
use crate::redis::{Redis, RedisProblem};

static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/read.lua")));
static WRITE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/write.lua")));

/// See the module.
pub(crate) struct RedisBuckets {
    redis: Arc<Redis>,
    prefix: String,
}

impl fmt::Debug for RedisBuckets {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("RedisBuckets").field("server", &self.redis.name()).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl From<RedisProblem> for BucketError {
    /// Whatever a server answers now, it may answer otherwise when somebody has changed something.
    fn from(problem: RedisProblem) -> Self {
        Self::Unavailable(problem.to_string())
    }
}

impl RedisBuckets {
    pub(crate) fn new(redis: Arc<Redis>, group: &str) -> Self {
        Self { redis, prefix: format!("{{weir:{group}}}:bucket") }
    }

    fn key(&self, bucket: &Bucket, what: &str) -> String {
        format!("{}:{}:{what}", self.prefix, bucket.path())
    }

    async fn read_now(&self, bucket: &Bucket, keys: &[String]) -> Result<Values, BucketError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = READ.key(self.key(bucket, "values"));
        call.arg(ANSWER_MAX).arg(keys);
        let values: Option<Values> = self.redis.script(&call).await?;
        values.ok_or_else(too_much)
    }

    async fn write_now(&self, bucket: &Bucket, write: Write) -> Result<Written, BucketError> {
        let mut call = WRITE.key(self.key(bucket, "values"));
        call.key(self.key(bucket, "keys")).key(self.key(bucket, "counts"));
        call.arg(bucket.max_bytes).arg(KEYS_MAX).arg(ENTRY_BYTES);
        match &write {
            Write::Put(entries) => {
                call.arg("put");
                for (key, value) in entries {
                    call.arg(key).arg(u8::from(value.is_some())).arg(value.as_deref().unwrap_or_default());
                }
            }
            Write::Increment { key, delta } => {
                call.arg("increment").arg(key).arg(delta);
            }
            Write::Swap { key, expected, value } => {
                call.arg("swap").arg(key).arg(u8::from(expected.is_some()));
                call.arg(expected.as_deref().unwrap_or_default()).arg(value);
            }
        }
        let mut answer: Vec<Vec<u8>> = self.redis.script(&call).await?;
        written(bucket, &write, &mut answer)
            .ok_or_else(|| BucketError::Unavailable(format!("`{}` gave an answer that makes no sense", self.redis.name())))?
    }

    async fn list_now(&self, bucket: &Bucket, after: u64) -> Result<Page, BucketError> {
        let mut command = cmd("ZRANGEBYSCORE");
        command.arg(self.key(bucket, "keys")).arg(format!("({after}")).arg("+inf").arg("WITHSCORES");
        // One more, to know whether there are any.
        command.arg("LIMIT").arg(0).arg(BATCH_MAX + 1);
        let mut page: Vec<(String, u64)> = self.redis.query(&command).await?;
        let more = page.len() > BATCH_MAX;
        page.truncate(BATCH_MAX);
        let next = page.last().map(|(_, number)| *number).filter(|_| more);
        Ok(Page { keys: page.into_iter().map(|(key, _)| key).collect(), next })
    }

    async fn size_now(&self, bucket: &Bucket) -> Result<Size, BucketError> {
        let keys: u64 = self.redis.query(cmd("ZCARD").arg(self.key(bucket, "keys"))).await?;
        let bytes: Option<u64> = self.redis.query(cmd("HGET").arg(self.key(bucket, "counts")).arg("bytes")).await?;
        Ok(Size { keys, bytes: bytes.unwrap_or_default() })
    }
}

/// What the script's answer means; none: nothing that it can answer.
fn written(bucket: &Bucket, write: &Write, answer: &mut Vec<Vec<u8>>) -> Option<Result<Written, BucketError>> {
    let number = |at: usize| std::str::from_utf8(answer.get(at)?).ok()?.parse::<i64>().ok();
    let key = match write {
        Write::Put(_) => "",
        Write::Increment { key, .. } | Write::Swap { key, .. } => key,
    };
    let said = match answer.first()?.as_slice() {
        b"done" => Ok(Written::Done),
        b"number" => Ok(Written::Number(number(1)?)),
        b"stale" => Ok(Written::Stale(if answer.len() > 1 { answer.pop() } else { None })),
        b"full" => {
            let size = Size { keys: number(1)?.unsigned_abs(), bytes: number(2)?.unsigned_abs() };
            Err(no_room(bucket, size))
        }
        b"no number" => Err(no_sum(key, NoSum::NoNumber)),
        b"beyond" => Err(no_sum(key, NoSum::Beyond)),
        _ => return None,
    };
    Some(said)
}

impl Buckets for RedisBuckets {
    fn read<'a>(&'a self, bucket: &'a Bucket, keys: &'a [String]) -> BoxFuture<'a, Result<Values, BucketError>> {
        Box::pin(self.read_now(bucket, keys))
    }

    fn write<'a>(&'a self, bucket: &'a Bucket, write: Write) -> BoxFuture<'a, Result<Written, BucketError>> {
        Box::pin(self.write_now(bucket, write))
    }

    fn list<'a>(&'a self, bucket: &'a Bucket, after: u64) -> BoxFuture<'a, Result<Page, BucketError>> {
        Box::pin(self.list_now(bucket, after))
    }

    fn size<'a>(&'a self, bucket: &'a Bucket) -> BoxFuture<'a, Result<Size, BucketError>> {
        Box::pin(self.size_now(bucket))
    }
}
