//! Reads for one subscription, as much as its pulls ask for: what comes again first, then what is new. A task of its own, so that a
//! pull that is dropped loses nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::redis::{ScriptInvocation, Value, cmd};

use super::Shared;
use super::answer::{self, Found, id};
use super::scripts;
use super::shared::is_without_group;
use super::subscription::Subscription;
use super::tail::Tail;
use crate::clock::{self, Alarm};
use crate::queue::{QueueError, not_subscribed};
use crate::redis::RedisProblem;

/// How often is looked for what others gave back, scheduled or let lapse, and whether the lead is free, of which the server does not tell; and
/// how long a read blocks. At most a quarter of a lease.
const LOOK: Duration = Duration::from_secs(1);

/// Shortest time between two looks for what this process itself knows to be due: retries of a busy subscription come in small batches.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Most events of one read, so that no answer is without bound; a thousand small events are parsed in about a millisecond.
const READ_MAX: usize = 1_000;

/// After a problem, before the next attempt: nobody tells that it is over. Attempts to connect are paced by the connection itself.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Reader {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    tail: Tail,
    /// When to look for what comes again.
    look_at: Alarm,
    /// The connection that the last look was over.
    connection: u64,
    /// Entries may have been given to us that never reached us.
    recovering: bool,
    /// Where taking over from the last reader has got to; none: it is done.
    takeover: Option<String>,
    /// The last id of the stream when there was nothing new.
    last: String,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, subscription: Arc<Subscription>) -> Self {
        let look_at = Alarm::new(None, Duration::ZERO);
        let last = "0-0".to_owned();
        Self { shared, subscription, tail: Tail::default(), look_at, connection: 0, recovering: false, takeover: None, last }
    }

    /// Reads until the queue is closed; then what was still on its way is taken in, to be given back with the rest.
    pub(super) async fn run(mut self) {
        let closed = self.subscription.ended.clone();
        while !closed.is_cancelled() {
            if let Err(error) = self.step().await {
                self.subscription.fail(error);
                self.tail.reset();
                self.recovering = true;
                tokio::select! {
                    () = closed.cancelled() => {}
                    () = tokio::time::sleep(PAUSE) => {}
                }
            }
        }
        if let Some(value) = self.tail.end(&self.shared.redis).await {
            // A problem now is one of a connection that is given up anyway.
            let _ = self.arrived(value);
        }
    }

    async fn step(&mut self) -> Result<(), QueueError> {
        let wanted = self.subscription.hold().wanted().min(READ_MAX);
        if wanted > 0 {
            self.shared.ensure().await?;
            if self.subscription.ordered && !self.leads().await? {
                return self.stand_by().await;
            }
            if self.look(wanted).await? > 0 {
                return Ok(());
            }
            if !self.tail.is_running() && self.read(wanted).await? > 0 {
                return Ok(());
            }
        }
        let subscription = Arc::clone(&self.subscription);
        tokio::select! {
            () = subscription.ended.cancelled() => {}
            read = self.tail.finished() => {
                let value = self.explained(read).await?;
                self.arrived(value)?;
            }
            () = subscription.stirred.notified() => {}
            () = self.look_at.rung(), if wanted > 0 => {}
        }
        Ok(())
    }

    /// What comes again: how many.
    async fn look(&mut self, wanted: usize) -> Result<usize, QueueError> {
        let connection = self.shared.redis.connections();
        if self.connection != connection {
            self.recovering |= self.connection != 0;
            self.connection = connection;
            if !self.tail.is_running() {
                self.tail.reset();
            }
        }
        if self.recovering {
            let came = self.recover(wanted).await?;
            if came > 0 {
                return Ok(came);
            }
        }
        if let Some(after) = self.takeover.clone() {
            return self.take_over(&after, wanted).await;
        }
        if !self.subscription.came_back.swap(false, Ordering::Relaxed) && !self.look_at.rings() {
            return Ok(0);
        }
        let asked = Instant::now();
        let lapsed = !self.subscription.ordered;
        let mut call = self.subscription.asker(&self.shared).call(&scripts::CLAIM);
        call.arg(clock::now().0).arg(clock::millis(self.shared.lease)).arg(wanted).arg(u8::from(lapsed));
        let (came, due) = self.taken(call, asked).await?;
        let due = answer::score(&due).map(|due| due.max(clock::now().after(LOOK_AGAIN)));
        self.look_at = Alarm::new(due, self.shared.block(LOOK));
        if came >= wanted {
            // There may be more.
            self.subscription.came_back.store(true, Ordering::Relaxed);
        }
        Ok(came)
    }

    /// What was given to us in an answer that got lost.
    async fn recover(&mut self, wanted: usize) -> Result<usize, QueueError> {
        let (mut lost, mut from) = (Vec::new(), "-".to_owned());
        let asked = Instant::now();
        while lost.len() < wanted {
            let mut command = cmd("XPENDING");
            command.arg(&self.shared.keys.stream).arg(&self.subscription.group);
            command.arg(&from).arg("+").arg(READ_MAX).arg(&self.shared.consumer);
            let page = self.shared.redis.query(&command).await;
            let page = answer::pending(self.explained(page).await?)?;
            let hold = self.subscription.hold();
            lost.extend(page.iter().copied().filter(|(position, _)| !hold.has(*position)));
            let Some((last, _)) = page.last().filter(|_| page.len() == READ_MAX) else { break };
            from = format!("({}", id(*last));
        }
        lost.truncate(wanted);
        if lost.is_empty() {
            self.recovering = false;
            return Ok(0);
        }
        let mut call = self.subscription.asker(&self.shared).call(&scripts::TAKE);
        for (position, deliveries) in lost {
            call.arg(id(position)).arg(deliveries.saturating_sub(1));
        }
        let (came, _) = self.taken(call, asked).await?;
        Ok(came)
    }

    /// What is new. Nothing new: the tail waits for it.
    async fn read(&mut self, wanted: usize) -> Result<usize, QueueError> {
        let block = self.shared.block(LOOK);
        let millis = clock::millis(block);
        let mut command;
        if self.subscription.ordered {
            let asked = Instant::now();
            let mut call = self.subscription.asker(&self.shared).call(&scripts::READ);
            call.arg(wanted);
            let (came, last) = self.taken(call, asked).await?;
            if came > 0 || last.is_empty() {
                return Ok(came);
            }
            self.last = last;
            // It only wakes us: what it brings is read again by whoever may.
            command = cmd("XREAD");
            command.arg("BLOCK").arg(millis).arg("COUNT").arg(1);
            command.arg("STREAMS").arg(&self.shared.keys.stream).arg(&self.last);
        } else {
            command = cmd("XREADGROUP");
            command.arg("GROUP").arg(&self.subscription.group).arg(&self.shared.consumer);
            command.arg("COUNT").arg(wanted).arg("BLOCK").arg(millis).arg("STREAMS").arg(&self.shared.keys.stream).arg(">");
        }
        let started = self.tail.start(&self.shared.redis, command, block).await;
        self.explained(started).await?;
        Ok(0)
    }

    fn arrived(&mut self, value: Value) -> Result<(), QueueError> {
        if self.subscription.ordered {
            return Ok(());
        }
        let leased = self.tail.sent.unwrap_or_else(Instant::now);
        self.subscription.take_in(&self.shared, answer::read(value)?, leased);
        Ok(())
    }

    /// Takes over, in order, what the last reader had.
    async fn take_over(&mut self, after: &str, wanted: usize) -> Result<usize, QueueError> {
        let asked = Instant::now();
        let mut call = self.subscription.asker(&self.shared).call(&scripts::TAKEOVER);
        call.arg(after).arg(wanted);
        let (came, last) = self.taken(call, asked).await?;
        if self.takeover.is_some() {
            self.takeover = (!last.is_empty()).then_some(last);
        }
        // A page may hold nothing but what is ours: then the next one is looked at before anything new.
        if came == 0 && self.takeover.is_some() {
            self.subscription.stirred.notify_one();
            return Ok(1);
        }
        Ok(came)
    }

    /// Whether this process is the one that reads.
    async fn leads(&mut self) -> Result<bool, QueueError> {
        if self.subscription.hold().leads_since.is_some() {
            return Ok(true);
        }
        let asked = Instant::now();
        let mut call = self.subscription.asker(&self.shared).call(&scripts::LEAD);
        call.arg(clock::millis(self.shared.lease));
        let answer = self.shared.redis.script(&call).await;
        let answer: String = self.explained(answer).await?;
        if answer == "other" {
            return Ok(false);
        }
        self.subscription.hold().leads_since = Some(asked);
        self.takeover = Some("-".to_owned());
        Ok(true)
    }

    async fn stand_by(&mut self) -> Result<(), QueueError> {
        tokio::select! {
            () = self.subscription.ended.cancelled() => {}
            () = tokio::time::sleep(self.shared.block(LOOK)) => {}
        }
        Ok(())
    }

    /// Takes in what a script found: how many, and what else it says.
    async fn taken(&mut self, call: ScriptInvocation<'_>, leased: Instant) -> Result<(usize, String), QueueError> {
        let answer = self.shared.redis.script(&call).await;
        match answer::found(self.explained(answer).await?)? {
            Found::Lost => {
                self.shared.lost_lead(&self.subscription);
                self.takeover = None;
                Ok((0, String::new()))
            }
            Found::Entries(entries, vanished, rest) => {
                if vanished > 0 {
                    let (queue, group) = (&self.shared.name, &self.subscription.group);
                    tracing::warn!(%queue, %group, vanished, "entries were trimmed from the stream before they had ended");
                }
                Ok((self.subscription.take_in(&self.shared, entries, leased), rest))
            }
        }
    }

    /// A group that is gone was removed, by this process or somebody else; then it is made again.
    async fn explained<T>(&mut self, answer: Result<T, RedisProblem>) -> Result<T, QueueError> {
        match answer {
            Err(problem) if is_without_group(&problem) => {
                self.shared.group_is_gone(&self.subscription);
                Err(not_subscribed(&self.shared.name, &self.subscription.name))
            }
            other => self.shared.explained(other).await,
        }
    }
}
