//! Listens to a channel, and again after each lost connection; what comes goes into the buffer, or is counted as dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};

use super::url::Channel;
use crate::clock;
use crate::queue::memory::MemoryQueue;
use crate::queue::wrapping::Wrapping;
use crate::queue::{Publish, Queue as _};
use crate::redis::{Heard, Listening, Redis, RedisProblem};

/// How often a connection on which nothing comes is asked whether it is still there: one that was cut silently says nothing.
const ASK: Duration = Duration::from_secs(5);

/// After a problem, before the next attempt. Attempts to connect are paced by the connection itself.
const PAUSE: Duration = Duration::from_millis(100);

/// How it stands with the channel.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// Nothing was tried yet.
    Begun,
    /// What is published comes.
    Listening,
    /// What is published is lost.
    Away(RedisProblem),
}

/// What the queue and the task that listens share.
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) redis: Arc<Redis>,
    pub(super) channel: Channel,
    pub(super) wrapping: Wrapping,
    pub(super) buffer: Arc<MemoryQueue>,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) connected_once: AtomicBool,
    /// Connections that were lost while it listened.
    pub(super) lost: AtomicU64,
    /// Messages for which there was no room.
    pub(super) dropped: AtomicU64,
}

impl Listener {
    /// Listens until the task is dropped.
    pub(super) async fn run(self: Arc<Self>) {
        let mut lost_at = None;
        loop {
            match self.listen().await {
                Ok((mut listening, gone)) => {
                    self.connected_once.store(true, Ordering::Relaxed);
                    self.say_back(lost_at);
                    self.standing.send_replace(Standing::Listening);
                    let problem = self.until_lost(&mut listening, &gone).await;
                    lost_at = Some(Instant::now());
                    let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
                    tracing::warn!(queue = %self.name, lost, %problem, "connection to a channel is lost: what is published now never comes");
                    self.standing.send_replace(Standing::Away(problem));
                }
                Err(problem) => {
                    self.standing.send_replace(Standing::Away(problem));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn listen(self: &Arc<Self>) -> Result<(Listening, Arc<Notify>), RedisProblem> {
        let (name, pattern) = match &self.channel {
            Channel::One(name) => (name, false),
            Channel::Pattern(pattern) => (pattern, true),
        };
        let gone = Arc::new(Notify::new());
        let (listener, told) = (Arc::clone(self), Arc::clone(&gone));
        let hears = move |heard: Heard| match heard {
            Heard::Message(body) => listener.take_in(body),
            Heard::Lost => told.notify_one(),
        };
        Ok((self.redis.listen(name, pattern, hears).await?, gone))
    }

    async fn until_lost(&self, listening: &mut Listening, gone: &Notify) -> RedisProblem {
        loop {
            tokio::select! {
                () = gone.notified() => return RedisProblem::Away(format!("`{}` closed the connection", self.redis.name())),
                () = tokio::time::sleep(ASK) => {
                    if let Err(problem) = listening.ask(&self.redis).await {
                        return problem;
                    }
                }
            }
        }
    }

    fn say_back(&self, lost_at: Option<Instant>) {
        if let Some(lost_at) = lost_at {
            let (lost, away) = (self.lost.load(Ordering::Relaxed), lost_at.elapsed());
            tracing::warn!(queue = %self.name, lost, ?away, "listening to a channel again: what was published meanwhile never comes");
        }
    }

    /// Never waits: whoever calls reads the connection.
    fn take_in(&self, body: Vec<u8>) {
        let event = self.wrapping.body(clock::id().to_string(), &Bytes::from(body), clock::now());
        let publish = Publish { event: Arc::new(event), due: None };
        // The buffer answers at once.
        if let Some(Err(error)) = self.buffer.publish(vec![publish]).now_or_never() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            // Less and less often: it may be thousands a second.
            if dropped.is_power_of_two() {
                tracing::warn!(queue = %self.name, dropped, %error, "handlers are too slow for a channel: messages are dropped");
            }
        }
    }
}
