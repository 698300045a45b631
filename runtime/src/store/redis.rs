//! The store in Redis, shared by all processes of a group: `[server] store = "redis://…"`.
//!
//! All keys carry the hash tag `{weir:GROUP}`, so that the scripts in `store/redis/*.lua` work in a cluster. The time is an argument of
//! theirs, from `clock.rs`: a window or a rate is out by as much as the clocks of two processes differ. Leases, and how long Redis keeps
//! a key that nobody needs any more, are by the server's.
//! What is answered is as durable as that Redis makes it (`appendonly yes`; `appendfsync always` for what must outlive a power cut).
//! While it is away every call fails as unavailable, within the connection's own bound in time, and it heals by itself.

mod delays;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use ::redis::{Script, cmd};
use futures_util::future::try_join_all;

use super::duplicates::Crowded;
use super::{Claimed, DUPLICATES_MAX, MailIdentity, Settings, Sighting, StoreError};
use crate::clock::{self, Timestamp};
use crate::config::Rate;
use crate::dead::redis::RedisDead;
use crate::dead::{DeadBounds, DeadCounts, DeadFilter, DeadLetter, DeadLetters, DeadPage};
use crate::keyvalue::redis::RedisBuckets;
use crate::redis::{Redis, RedisProblem};

/// Most deliveries of one script call: Redis answers nobody else meanwhile.
const CALL_MAX: usize = 500;
/// Longest time to live that a key is given, in milliseconds: ten years, far from what Redis can't count.
const LIFE_MAX: u64 = 10 * 365 * 24 * 3_600 * 1_000;
/// Longest time of a turn in microseconds: what Lua's numbers hold exactly beside the time of now.
const MICROS_MAX: u64 = 1 << 52;

static CLAIM: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/claim.lua")));
static KEEP: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/keep.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/release.lua")));
static TURN: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/turn.lua")));

/// See the module.
pub(super) struct RedisStore {
    redis: Arc<Redis>,
    buckets: RedisBuckets,
    prefix: String,
    process: String,
    // By queue.
    bounds: BTreeMap<String, DeadBounds>,
    crowded: Mutex<Crowded>,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("RedisStore").field("server", &self.redis.name()).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl From<RedisProblem> for StoreError {
    /// Whatever a server answers now, it may answer otherwise when somebody has changed something.
    fn from(problem: RedisProblem) -> Self {
        Self::Unavailable(format!("store: {problem}"))
    }
}

impl RedisStore {
    pub(super) fn new(redis: Arc<Redis>, settings: &Settings) -> Self {
        let prefix = format!("{{weir:{}}}", settings.group);
        let buckets = RedisBuckets::new(Arc::clone(&redis), &settings.group);
        Self {
            redis,
            buckets,
            prefix,
            process: settings.process.clone(),
            bounds: settings.dead.clone(),
            crowded: Mutex::default(),
        }
    }

    pub(super) fn buckets(&self) -> &RedisBuckets {
        &self.buckets
    }

    fn key(&self, what: &str) -> String {
        format!("{}:{what}", self.prefix)
    }

    /// Who a delivery is, for what stands in its event's key.
    fn who(&self, delivery: &Sighting) -> String {
        match delivery.position {
            Some(position) => position.to_string(),
            None => format!("of {}", self.process),
        }
    }

    fn event(&self, handler: &str, delivery: &Sighting) -> String {
        format!("{}:event:{handler}:{}", self.prefix, hex::encode(delivery.key.0))
    }

    fn place(&self, queue: &str) -> RedisDead {
        let bounds = self.bounds.get(queue).copied().unwrap_or_default();
        RedisDead::new(self.redis.clone(), &self.key(&format!("{queue}.dead")), bounds)
    }

    /// The places of all queues that ever had a dead letter here.
    async fn places(&self) -> Result<Vec<RedisDead>, StoreError> {
        let queues: BTreeSet<String> = self.redis.query(cmd("SMEMBERS").arg(self.key("dead"))).await?;
        Ok(queues.iter().map(|queue| self.place(queue)).collect())
    }

    pub(super) async fn put_dead(&self, letters: &[&DeadLetter]) -> Result<(), StoreError> {
        let mut queues: BTreeMap<&str, Vec<&DeadLetter>> = BTreeMap::new();
        for letter in letters {
            queues.entry(&letter.queue).or_default().push(letter);
        }
        for (queue, letters) in queues {
            // First, so that no letter is where nobody looks for it.
            let () = self.redis.query(cmd("SADD").arg(self.key("dead")).arg(queue)).await?;
            self.place(queue).put(&letters).await?;
        }
        Ok(())
    }

    pub(super) async fn list_dead(&self, filter: DeadFilter) -> Result<DeadPage, StoreError> {
        if let Some(queue) = &filter.queue {
            return self.place(queue).list(filter.clone()).await;
        }
        let places = self.places().await?;
        let pages = try_join_all(places.iter().map(|place| place.list(filter.clone()))).await?;
        Ok(DeadPage::merge(pages, filter.page()))
    }

    pub(super) async fn get_dead(&self, id: &str) -> Result<Option<DeadLetter>, StoreError> {
        let places = self.places().await?;
        let found = try_join_all(places.iter().map(|place| place.get(id))).await?;
        Ok(found.into_iter().flatten().next())
    }

    pub(super) async fn remove_dead(&self, id: &str) -> Result<bool, StoreError> {
        let places = self.places().await?;
        let removed = try_join_all(places.iter().map(|place| place.remove(id))).await?;
        Ok(removed.contains(&true))
    }

    pub(super) async fn forget_dead(&self, queue: &str, ids: &[String]) -> Result<(), StoreError> {
        self.place(queue).forget(queue, ids).await
    }

    pub(super) async fn dead_counts(&self) -> Result<DeadCounts, StoreError> {
        let places = self.places().await?;
        let counts = try_join_all(places.iter().map(DeadLetters::counts)).await?;
        Ok(DeadCounts { queues: counts.into_iter().flat_map(|counts| counts.queues).collect() })
    }

    pub(super) async fn put_mail(&self, identity: MailIdentity, message_id: &str, expires: Timestamp) -> Result<(), StoreError> {
        let key = self.key(&format!("mail:{}", hex::encode(identity)));
        let left = clock::millis(expires.since(clock::now())).min(LIFE_MAX);
        if left == 0 {
            return Ok(());
        }
        let kept = format!("{} {message_id}", expires.0);
        Ok(self.redis.query(cmd("SET").arg(key).arg(kept).arg("PX").arg(left)).await?)
    }

    pub(super) async fn mail(&self, identity: &MailIdentity, now: Timestamp) -> Result<Option<String>, StoreError> {
        let key = self.key(&format!("mail:{}", hex::encode(identity)));
        let kept: Option<String> = self.redis.query(cmd("GET").arg(key)).await?;
        // Until when, and what.
        let kept = kept.as_deref().and_then(|kept| kept.split_once(' '));
        let known = kept.filter(|(expires, _)| expires.parse().is_ok_and(|expires: u64| expires > now.0));
        Ok(known.map(|(_, message_id)| message_id.to_owned()))
    }

    pub(super) async fn claim(
        &self,
        handler: &str,
        lease: Duration,
        deliveries: &[Sighting],
    ) -> Result<Vec<Claimed>, StoreError> {
        let mut claimed = Vec::with_capacity(deliveries.len());
        for part in deliveries.chunks(CALL_MAX) {
            let mut call = CLAIM.prepare_invoke();
            call.arg(clock::now().0).arg(clock::millis(lease).max(1));
            for delivery in part {
                call.key(self.event(handler, delivery));
                call.arg(u8::from(delivery.position.is_some())).arg(self.who(delivery));
            }
            let answers: Vec<i64> = self.redis.script(&call).await?;
            let now = clock::now();
            claimed.extend(answers.into_iter().map(|answer| match u64::try_from(answer) {
                Ok(left) => Claimed::Taken { until: now.after(Duration::from_millis(left)) },
                Err(_) if answer == -1 => Claimed::Mine,
                Err(_) => Claimed::Seen,
            }));
        }
        Ok(claimed)
    }

    pub(super) async fn keep(&self, handler: &str, window: Duration, deliveries: &[Sighting]) -> Result<(), StoreError> {
        self.keep_within(handler, window, deliveries, DUPLICATES_MAX).await
    }

    async fn keep_within(&self, handler: &str, window: Duration, deliveries: &[Sighting], most: u64) -> Result<(), StoreError> {
        for part in deliveries.chunks(CALL_MAX) {
            let mut call = KEEP.prepare_invoke();
            call.key(self.key(&format!("ended:{handler}")));
            call.arg(clock::now().0).arg(clock::millis(window).clamp(1, LIFE_MAX)).arg(most);
            for delivery in part {
                call.key(self.event(handler, delivery)).arg(self.who(delivery));
            }
            let early: u64 = self.redis.script(&call).await?;
            if early > 0 {
                self.crowded.lock().unwrap_or_else(PoisonError::into_inner).say(handler);
            }
        }
        Ok(())
    }

    pub(super) async fn release(&self, handler: &str, deliveries: &[Sighting]) -> Result<(), StoreError> {
        for part in deliveries.chunks(CALL_MAX) {
            let mut call = RELEASE.prepare_invoke();
            for delivery in part {
                call.key(self.event(handler, delivery)).arg(self.who(delivery));
            }
            let () = self.redis.script(&call).await?;
        }
        Ok(())
    }

    pub(super) async fn turn(
        &self,
        handler: &str,
        rate: Rate,
        bound: Duration,
    ) -> Result<Result<Duration, Duration>, StoreError> {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min(MICROS_MAX);
        let mut call = TURN.key(self.key(&format!("rate:{handler}")));
        call.arg(rate.count).arg(micros(rate.per)).arg(micros(bound)).arg(micros(clock::wall()));
        let (taken, wait): (bool, u64) = self.redis.script(&call).await?;
        let wait = Duration::from_micros(wait);
        Ok(if taken { Ok(wait) } else { Err(wait) })
    }

    pub(super) async fn set_pause(&self, handler: &str, paused: bool) -> Result<(), StoreError> {
        let change = if paused { "SADD" } else { "SREM" };
        Ok(self.redis.query(cmd(change).arg(self.key("pauses")).arg(handler)).await?)
    }

    pub(super) async fn pauses(&self) -> Result<BTreeSet<String>, StoreError> {
        Ok(self.redis.query(cmd("SMEMBERS").arg(self.key("pauses"))).await?)
    }
}

#[cfg(test)]
mod tests;
