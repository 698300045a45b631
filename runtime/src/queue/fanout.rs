//! The layer for queues without groups (delivery.md §10): a Redis list or sorted set, one AMQP queue, SQS, a JetStream work queue. Weir takes
//! a message once, and each handler gets it; it is settled when each has ended or was passed on.
//!
//! The seam: an adapter that has no groups reads as one subscription, which is always called [`READER`], and says `groups: false`;
//! `open` puts this layer over it: `Fanout::over(queue, &opening)`. What it needs of the adapter is the contract of [`Queue`], with
//! `depth().subscriptions` empty or that one reading, and `window` meaning that reading. All that the adapter can do by itself stays its own:
//! leases, tries, delays, order, dead letters. An adapter that puts `weirattempt` on messages of its own for its own retries reads it into
//! [`Delivery::tries`] and takes it out of the event; what it leaves there is read here, of an event with `weirhandler` only.
//!
//! - With one handler, or a message that is for one alone, every settlement is the queue's own: a retry is its native retry.
//! - With several, a handler that must try again gets a copy of its own on the same queue, with `weirhandler` and `weirattempt`, confirmed
//!   before its part of the message counts as ended; the others are not waited for, and don't run again. With `order-by` the dispatcher
//!   holds the retry itself.
//! - A message for a handler that this process lacks goes back, with a warning, and waits for a while before anybody gets it again. No handler
//!   is there that it could be counted for.
//! - What is held is bounded by the largest window of a handler: one that stands still stops the others once it has been waited for that
//!   long, and that is said once. All processes on the queue run the same handlers.
//! - After a crash what was held comes again, for all: also for those that had finished. The tries of a message are the most of those
//!   who still had it.
//!
//! It holds no message itself that the queue below does not hold for us, and repeats nothing.

mod book;
mod copy;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::book::{Book, ELSEWHERE, Plan};
use super::{
    BoxFuture, Delivery, Depth, Features, Health, Opening, Position, Publish, Queue, QueueError, Settlement, Start, Tries,
    not_subscribed,
};
use crate::clock;
use crate::dead::DeadLetters;

/// The one subscription of the queue below.
pub const READER: &str = "weir";

/// A queue without groups, for several handlers.
pub struct Fanout {
    below: Arc<dyn Queue>,
    name: String,
    /// What names of subscriptions begin with, before `-` and the handler's.
    group: String,
    // std's mutex: held for a look or a change, never across an await; all callers share it.
    book: Arc<Mutex<Book>>,
    /// Wakes pulls: something came, or there is room.
    came: Arc<Notify>,
    /// Wakes who waits for lapsed leases.
    lapsing: Notify,
    closed: CancellationToken,
    /// What waits to be given back, where the queue below can't hold it.
    later: Mutex<JoinSet<()>>,
}

/// What is asked of the queue below; dropped when that has answered, or nobody waits for it any more.
struct Asked<'a> {
    fanout: &'a Fanout,
    count: usize,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        // Only who was refused is woken: those that wait for an answer would wake each other for ever.
        if self.fanout.book().asked_no_more(self.count) {
            self.fanout.came.notify_waiters();
        }
    }
}

/// A plan under way; what is not done of it when it is dropped is done with the next.
struct Doing<'a> {
    fanout: &'a Fanout,
    name: &'a str,
    plan: Plan,
}

impl Drop for Doing<'_> {
    fn drop(&mut self) {
        self.fanout.book().undo(self.name, &self.plan);
    }
}

impl Fanout {
    /// The layer over a queue without groups.
    #[must_use]
    pub fn over(below: Arc<dyn Queue>, opening: &Opening) -> Arc<Self> {
        Arc::new(Self {
            below,
            name: opening.name.clone(),
            group: opening.group.clone(),
            book: Arc::default(),
            came: Arc::new(Notify::new()),
            lapsing: Notify::new(),
            closed: CancellationToken::new(),
            later: Mutex::default(),
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    async fn pull_now(&self, name: &str, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        self.book().adopt(name, &self.group);
        loop {
            self.give_back(name).await?;
            let came = self.came.notified();
            let mut came = std::pin::pin!(came);
            // Before looking, so that what comes between looking and waiting wakes as well.
            came.as_mut().enable();
            let asked = {
                let mut book = self.book();
                if self.closed.is_cancelled() {
                    return Err(QueueError::Closed);
                }
                let out = book.hand_out(name, max.get());
                if !out.is_empty() {
                    return Ok(out);
                }
                if !book.knows(name) {
                    return Err(not_subscribed(&self.name, name));
                }
                if let Some((most, count)) = book.say_full() {
                    let (queue, subscription) = (&self.name, &*most);
                    tracing::warn!(
                        queue,
                        subscription,
                        count,
                        "nothing is taken until a handler has ended some of what it holds (said once)"
                    );
                }
                NonZeroUsize::new(book.ask(max.get()))
            };
            let Some(asked) = asked else {
                came.await;
                continue;
            };
            let waiting = Asked { fanout: self, count: asked.get() };
            let pulled = tokio::select! {
                pulled = self.below.pull(READER, asked) => pulled,
                () = came => continue,
            };
            let (lapsed, shared) = self.book().take_in(pulled?);
            drop(waiting);
            if lapsed {
                self.lapsing.notify_waiters();
            }
            if shared {
                self.came.notify_waiters();
            }
        }
    }

    /// What is for handlers that this process lacks goes back.
    async fn give_back(&self, name: &str) -> Result<(), QueueError> {
        let (mut plan, missing) = self.book().give_back(clock::now(), self.below.features().delay);
        for handler in missing {
            let (queue, known) = (&self.name, self.book().handlers());
            tracing::warn!(
                queue,
                handler,
                known,
                "an event is for a handler that this process lacks: it goes back, for a process that has it (said once)"
            );
        }
        self.give_back_later(std::mem::take(&mut plan.later));
        let mut doing = Doing { fanout: self, name, plan };
        self.finish(&mut doing).await.map(drop)
    }

    async fn settle_now(&self, name: &str, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        if self.closed.is_cancelled() {
            return Err(QueueError::Closed);
        }
        let plan = self.book().plan(name, batch, clock::now(), self.below.features().delay);
        let mut late = plan.late.clone();
        let mut doing = Doing { fanout: self, name, plan };
        if !doing.plan.copies.is_empty() {
            let copies = doing.plan.copies.iter().map(|(_, publish)| publish.clone()).collect();
            self.below.publish(copies).await?;
            self.book().passed(name, &mut doing.plan);
        }
        for (position, tries) in std::mem::take(&mut doing.plan.notes) {
            self.below.note(READER, position, tries);
        }
        if doing.plan.again {
            self.came.notify_waiters();
        }
        late.extend(self.finish(&mut doing).await?);
        Ok(late)
    }

    /// Tells the queue below; what came too late of it.
    async fn finish(&self, doing: &mut Doing<'_>) -> Result<Vec<Position>, QueueError> {
        if doing.plan.below.is_empty() {
            return Ok(Vec::new());
        }
        let late = self.below.settle(READER, doing.plan.below.clone()).await?;
        if self.book().settled(&std::mem::take(&mut doing.plan.below)) {
            self.came.notify_waiters();
        }
        Ok(late)
    }

    /// For handlers that this process lacks, on a queue that can't hold a message back itself.
    fn give_back_later(&self, later: Vec<Settlement>) {
        if later.is_empty() {
            return;
        }
        let (below, book, came) = (Arc::clone(&self.below), Arc::clone(&self.book), Arc::clone(&self.came));
        let mut tasks = lock(&self.later);
        // What has ended needs no place any more.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            // Nobody tells when a process that has the handler comes.
            tokio::time::sleep(ELSEWHERE).await;
            // What fails here is given back by the queue's own end of its lease.
            let _ = below.settle(READER, later.clone()).await;
            if lock(&book).settled(&later) {
                came.notify_waiters();
            }
        });
    }

    async fn lapsed_now(&self, name: &str) -> Vec<Position> {
        loop {
            let lapsing = self.lapsing.notified();
            let mut lapsing = std::pin::pin!(lapsing);
            lapsing.as_mut().enable();
            let lapsed = self.book().take_lapsed(name);
            if !lapsed.is_empty() {
                return lapsed;
            }
            tokio::select! {
                biased;
                gone = self.below.lapsed(READER) => {
                    if self.book().lapse(&gone) {
                        self.lapsing.notify_waiters();
                    }
                    // There may be room.
                    self.came.notify_waiters();
                }
                () = lapsing => {}
            }
        }
    }
}

impl Queue for Fanout {
    fn publish(&self, batch: Vec<Publish>) -> BoxFuture<'_, Result<(), QueueError>> {
        self.below.publish(batch)
    }

    fn too_large(&self, batch: &[Publish]) -> Option<QueueError> {
        self.below.too_large(batch)
    }

    fn pull<'a>(&'a self, subscription: &'a str, max: NonZeroUsize) -> BoxFuture<'a, Result<Vec<Delivery>, QueueError>> {
        Box::pin(self.pull_now(subscription, max))
    }

    fn settle<'a>(&'a self, subscription: &'a str, batch: Vec<Settlement>) -> BoxFuture<'a, Result<Vec<Position>, QueueError>> {
        Box::pin(async move { self.settle_now(subscription, &batch).await })
    }

    fn depth(&self) -> BoxFuture<'_, Result<Depth, QueueError>> {
        Box::pin(async {
            let below = self.below.depth().await?;
            Ok(self.book().depth(below))
        })
    }

    fn features(&self) -> Features {
        // Not `groups`: a handler has no place of its own on the broker, only in this process.
        Features { groups: false, ..self.below.features() }
    }

    fn keep_order(&self, subscription: &str) -> Result<(), QueueError> {
        self.below.keep_order(READER)?;
        let mut book = self.book();
        book.adopt(subscription, &self.group);
        book.keep_order(subscription);
        Ok(())
    }

    fn window(&self, subscription: &str, most: NonZeroUsize) {
        let window = {
            let mut book = self.book();
            book.adopt(subscription, &self.group);
            book.set_window(subscription, most.get())
        };
        self.below.window(READER, NonZeroUsize::new(window).unwrap_or(most));
    }

    fn note(&self, subscription: &str, position: Position, tries: Tries) {
        let note = self.book().note(subscription, position, tries);
        if let Some(tries) = note {
            self.below.note(READER, position, tries);
        }
    }

    fn lapsed<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Vec<Position>> {
        Box::pin(self.lapsed_now(subscription))
    }

    fn holds(&self, subscription: &str, position: Position) -> bool {
        self.book().has(subscription, position) && self.below.holds(READER, position)
    }

    fn health(&self) -> Health {
        self.below.health()
    }

    fn subscribe<'a>(&'a self, subscription: &'a str, start: Start) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            self.below.subscribe(READER, start).await?;
            self.book().adopt(subscription, &self.group);
            Ok(())
        })
    }

    fn unsubscribe<'a>(&'a self, subscription: &'a str) -> BoxFuture<'a, Result<(), QueueError>> {
        Box::pin(async move {
            let plan = self.book().remove(subscription);
            let mut doing = Doing { fanout: self, name: subscription, plan };
            // Its pulls end.
            self.came.notify_waiters();
            self.finish(&mut doing).await?;
            Ok(())
        })
    }

    fn dead_letters(&self) -> Option<Arc<dyn DeadLetters>> {
        self.below.dead_letters()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.closed.cancel();
            self.came.notify_waiters();
            lock(&self.later).abort_all();
            self.below.close().await;
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
