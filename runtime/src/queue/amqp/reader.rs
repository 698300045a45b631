//! Reads one queue: asks the server for as many as pulls ask for, takes in what comes, lets wait what is not due.
//!
//! The server sends by itself up to a bound that can't be lowered, only taken away: so it is given as many as are held and asked for, and
//! taken away when nobody asks for more. What was sent to a process that dies counts as tried, whether it ran or not.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery as Came;
use lapin::types::ShortString;

use super::arrival::Taken;
use super::link::{Live, backoff};
use super::lock;
use super::problem::Problem;
use super::shared::Shared;
use super::subscription::{Consumers, Parked, Session, Subscription};
use crate::clock::{self, Timestamp};
use crate::queue::{Position, timer};

/// How many of what is published later are held at once, on their way to the exchange.
pub(super) const RELAYED_MAX: usize = 64;

/// How soon it is looked again whether what is being settled is settled.
pub(super) const SETTLED_SOON: Duration = Duration::from_millis(3);

/// How long the messages that were sent to a queue that is closed are waited for.
const DRAIN_MAX: Duration = Duration::from_secs(2);

/// What a consumer says.
pub(super) enum Said {
    /// A message, by which asking.
    Came(Box<Came>, u64),
    Failed(lapin::Error),
    /// It ended: taken away by us, or by the server.
    Ended(ShortString),
}

/// Reads until the queue is closed or the subscription removed.
pub(super) async fn read(shared: Arc<Shared>, subscription: Arc<Subscription>) {
    let ended = subscription.inbox.ended.clone();
    let mut failures = 0;
    while !ended.is_cancelled() {
        let live = tokio::select! {
            live = shared.reading.wait() => live,
            () = ended.cancelled() => break,
        };
        let mut reading =
            Reading { shared: Arc::clone(&shared), subscription: Arc::clone(&subscription), failures: &mut failures };
        // What was read until it is to end is still to be given back by its channel.
        let Some(problem) = reading.on(&live).await else { break };
        if ended.is_cancelled() {
            break;
        }
        subscription.lose_session();
        tracing::debug!(queue = %shared.name, subscription = %subscription.name, error = problem.text(), "reading ended");
        subscription.inbox.fail(problem.into());
        tokio::select! {
            () = tokio::time::sleep(backoff(failures, fastrand::f64())) => {}
            () = ended.cancelled() => break,
        }
        failures += 1;
    }
    subscription.quiet.cancel();
}

impl Subscription {
    /// What came by a channel that is gone is not ours for certain any more: from now on that counts.
    fn lose_session(&self) {
        let Some(session) = lock(&self.session).take() else { return };
        let mut hold = self.inbox.hold();
        let lost: Vec<Position> =
            hold.iter().filter(|(_, held)| held.token.session == session.number).map(|(position, _)| position).collect();
        self.lost.store(lost.len(), Ordering::Relaxed);
        for position in lost {
            if let Some(held) = hold.get_mut(position) {
                held.renewed = Instant::now();
            }
        }
        drop(hold);
        let parked = std::mem::take(&mut *lock(&self.parked));
        let mut remembered = lock(&self.remembered);
        for ((due, _), Parked { delivery, token }) in parked {
            // What the message itself says need not be remembered.
            if token.book.due != Some(due) && remembered.len() < self.window.load(Ordering::Relaxed) {
                remembered.insert(delivery.position, (due, delivery.tries));
            }
        }
    }
}

/// One reading of a queue, on one connection.
pub(super) struct Reading<'a> {
    pub(super) shared: Arc<Shared>,
    pub(super) subscription: Arc<Subscription>,
    pub(super) failures: &'a mut u32,
}

pub(super) type Streams = SelectAll<BoxStream<'static, Said>>;

impl Reading<'_> {
    /// Reads until it can't; none: it is to end.
    async fn on(&mut self, live: &Arc<Live>) -> Option<Problem> {
        let session = match self.open(live).await {
            Ok(session) => session,
            Err(problem) => return Some(problem),
        };
        let (shared, subscription) = (Arc::clone(&self.shared), Arc::clone(&self.subscription));
        let mut streams = Streams::new();
        let mut passing: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
        loop {
            if let Err(problem) = self.ask(&session, passing.len(), &mut streams).await {
                return Some(problem);
            }
            let (due, relayed) = self.release();
            passing.extend(relayed);
            tokio::select! {
                () = subscription.inbox.ended.cancelled() => {
                    // What is published and not acknowledged would be published again by the next who reads; what comes after is given back.
                    let passed = async { while passing.next().await.is_some() {} };
                    let _ = tokio::time::timeout(DRAIN_MAX, passed).await;
                    self.drain(&session, &mut streams).await;
                    return None;
                }
                () = shared.reading.lost(live) => return Some(shared.reading.up().err().unwrap_or_else(|| self.lost())),
                Some(said) = streams.next(), if !streams.is_empty() => {
                    let (passed, result) = self.take(&session, said, &mut streams).await;
                    passing.extend(passed);
                    if let Err(problem) = result {
                        return Some(problem);
                    }
                }
                Some(()) = passing.next(), if !passing.is_empty() => {}
                () = subscription.inbox.stirred() => {}
                () = timer::until(due, subscription.parking.notified()) => {}
            }
        }
    }

    fn lost(&self) -> Problem {
        Problem::Away(format!("`{}`: the connection was lost", self.shared.shown()))
    }

    async fn open(&self, live: &Arc<Live>) -> Result<Arc<Session>, Problem> {
        self.shared.make(live, &self.subscription).await?;
        let channel = live.channel().await.map_err(|error| self.shared.problem(&error))?;
        let number = self.shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let session = Arc::new(Session {
            number,
            channel,
            answered: OnceLock::new(),
            consumers: tokio::sync::Mutex::new(Consumers::default()),
        });
        *lock(&self.subscription.session) = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Hands out what waited here and is due, or says how it goes on; when the next is.
    fn release(&self) -> (Option<Timestamp>, Vec<BoxFuture<'static, ()>>) {
        let now = clock::now();
        let mut parked = lock(&self.subscription.parked);
        let later = parked.split_off(&(Timestamp(now.0.saturating_add(1)), 0));
        let mut due = std::mem::replace(&mut *parked, later);
        // A copy that was quicker than the settlement of what it is a copy of.
        let early = due.extract_if(.., |_, parked| self.subscription.is_settling(parked.delivery.position));
        let early: Vec<_> = early.map(|((_, number), waits)| ((now.after(SETTLED_SOON), number), waits)).collect();
        parked.extend(early);
        let next = parked.keys().next().map(|(due, _)| *due);
        drop(parked);
        if self.subscription.is_relay {
            return (next, due.into_values().map(|parked| self.relay(parked.delivery, parked.token)).collect());
        }
        if !due.is_empty() {
            self.subscription.inbox.put(due.into_values().map(|parked| (parked.delivery, parked.token)));
        }
        (next, Vec::new())
    }

    /// Takes in what came, and all that came with it; what goes elsewhere, and whether it can go on.
    async fn take(
        &self,
        session: &Session,
        first: Said,
        streams: &mut Streams,
    ) -> (Vec<BoxFuture<'static, ()>>, Result<(), Problem>) {
        let (mut ready, mut passing) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        let mut result = Ok(());
        while let Some(said) = next {
            match said {
                Said::Came(came, asking) => match self.taken(session, *came, asking) {
                    Taken::Ready(delivery, token) => ready.push((delivery, token)),
                    Taken::Later(due, delivery, token) => self.subscription.park(due, delivery, token),
                    Taken::Passed(passed) => passing.push(passed),
                },
                Said::Failed(error) => result = Err(self.refused(&error)),
                Said::Ended(tag) => {
                    let mut consumers = session.consumers.lock().await;
                    if consumers.tags.contains(&tag) {
                        consumers.tags.clear();
                        self.subscription.made_by.store(0, Ordering::Release);
                        let (url, queue) = (self.shared.shown(), &self.subscription.queue);
                        result = result.and(Err(Problem::Away(format!("`{url}`: queue `{queue}` was deleted, or has moved"))));
                    }
                }
            }
            next = streams.next().now_or_never().flatten();
        }
        if !ready.is_empty() {
            self.subscription.inbox.put(ready);
        }
        (passing, result)
    }

    /// Lets come what the server has sent, so that it can be given back.
    async fn drain(&self, session: &Session, streams: &mut Streams) {
        let drained = async {
            session.stop().await;
            while let Some(said) = streams.next().await {
                if let Said::Came(came, asking) = said {
                    match self.taken(session, *came, asking) {
                        Taken::Ready(delivery, token) => self.subscription.inbox.put([(delivery, token)]),
                        Taken::Later(due, delivery, token) => self.subscription.park(due, delivery, token),
                        // What is on its way elsewhere can be given back as it is.
                        Taken::Passed(_) => {}
                    }
                }
            }
        };
        // What does not come in time is given back by the end of the channel.
        let _ = tokio::time::timeout(DRAIN_MAX, drained).await;
    }
}
