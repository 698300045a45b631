//! Reads one queue: asks the server for as many as pulls ask for, takes in what comes, lets wait what is not due.
//!
//! The server sends by itself up to a bound that can't be lowered, only taken away: so it is given as many as are held and asked for, and
//! taken away when nobody asks for more. What was sent to a process that dies counts as tried, whether it ran or not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, FuturesUnordered, SelectAll};
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery as Came;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};

use super::link::{Live, backoff};
use super::lock;
use super::message::{self, Book, Raw};
use super::problem::{ACCESS_REFUSED, NOT_FOUND, Problem, code, said};
use super::publish::Outgoing;
use super::shared::Shared;
use super::steps::Step;
use super::subscription::{Consumers, Parked, Session, Subscription, Token};
use super::url::{Kind, Place};
use crate::clock::{self, Timestamp};
use crate::queue::{Delivery, Position, timer};

/// How many of what is published later are held at once, on their way to the exchange.
const RELAYED_MAX: usize = 64;

/// Most that the server can be asked for.
const PREFETCH_MAX: usize = 65_535;

/// How long the messages that were sent to a queue that is closed are waited for.
const DRAIN_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// How soon what could not be passed on is tried again.
const PASS_AGAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// What a consumer says.
enum Said {
    Came(Box<Came>),
    Failed(lapin::Error),
    /// It ended: taken away by us, or by the server.
    Ended(ShortString),
}

/// What is done with a message that came.
enum Taken {
    /// It is for pulls.
    Ready(Delivery, Token),
    /// It waits here.
    Later(Timestamp, Delivery, Token),
    /// It goes elsewhere, and is done with here.
    Passed(BoxFuture<'static, ()>),
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
        let mut reading = Reading { shared: Arc::clone(&shared), subscription: Arc::clone(&subscription), failures: &mut failures };
        // What was read until it is to end is still to be given back by its channel.
        let Some(problem) = reading.on(&live).await else { break };
        subscription.lose_session();
        tracing::debug!(queue = %shared.name, subscription = %subscription.name, error = problem.text(), "reading ended");
        subscription.inbox.fail(problem.into());
        tokio::select! {
            () = tokio::time::sleep(backoff(failures, fastrand::f64())) => {}
            () = ended.cancelled() => break,
        }
        failures += 1;
    }
}

impl Subscription {
    /// What came by a channel that is gone is not ours for certain any more: from now on that counts.
    fn lose_session(&self) {
        let Some(session) = lock(&self.session).take() else { return };
        let mut hold = self.inbox.hold();
        let lost: Vec<Position> =
            hold.iter().filter(|(_, held)| held.token.session == session.number).map(|(position, _)| position).collect();
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
struct Reading<'a> {
    shared: Arc<Shared>,
    subscription: Arc<Subscription>,
    failures: &'a mut u32,
}

type Streams = SelectAll<BoxStream<'static, Said>>;

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
        let session =
            Arc::new(Session { number, channel, since: Instant::now(), consumers: tokio::sync::Mutex::new(Consumers::default()) });
        *lock(&self.subscription.session) = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Asks the server for as many as pulls ask for.
    async fn ask(&mut self, session: &Session, passing: usize, streams: &mut Streams) -> Result<(), Problem> {
        let subscription = &self.subscription;
        let wanted = match subscription.is_relay {
            true => RELAYED_MAX,
            false => {
                let missing = subscription.inbox.hold().missing();
                if missing == 0 {
                    return Ok(());
                }
                subscription.held() + passing + missing
            }
        };
        let most = subscription.window.load(Ordering::Relaxed).clamp(1, PREFETCH_MAX) + passing;
        let mut consumers = session.consumers.lock().await;
        let more = wanted.min(most).saturating_sub(consumers.prefetch);
        if more == 0 {
            return Ok(());
        }
        // Few consumers of many each: a second one is as many as the first.
        let more = more.max(consumers.prefetch).min(most.saturating_sub(consumers.prefetch)).max(1);
        let prefetch = u16::try_from(more).unwrap_or(u16::MAX);
        let wrong = |error: lapin::Error| self.refused(&error);
        session.channel.basic_qos(prefetch, BasicQosOptions::default()).await.map_err(wrong)?;
        let (queue, options) = (subscription.queue.as_str().into(), BasicConsumeOptions::default());
        let consumer = session.channel.basic_consume(queue, "".into(), options, FieldTable::default()).await.map_err(wrong)?;
        let tag = consumer.tag();
        consumers.tags.push(tag.clone());
        consumers.prefetch += more;
        drop(consumers);
        *self.failures = 0;
        let came = consumer.map(|came| match came {
            Ok(came) => Said::Came(Box::new(came)),
            Err(error) => Said::Failed(error),
        });
        streams.push(came.chain(stream::once(std::future::ready(Said::Ended(tag)))).boxed());
        Ok(())
    }

    fn refused(&self, error: &lapin::Error) -> Problem {
        let queue = &self.subscription.queue;
        match code(error) {
            Some(ACCESS_REFUSED) => Problem::Refused(format!(
                "`{}`: this user may not read queue `{queue}`: {} [rabbitmqctl set_permissions]",
                self.shared.shown(),
                said(error)
            )),
            Some(NOT_FOUND) => {
                // It was deleted: it is made again.
                self.subscription.made_by.store(0, Ordering::Release);
                Problem::Away(format!("`{}`: queue `{queue}` was deleted", self.shared.shown()))
            }
            _ => self.shared.problem(error),
        }
    }

    /// Hands out what waited here and is due, or says how it goes on; when the next is.
    fn release(&self) -> (Option<Timestamp>, Vec<BoxFuture<'static, ()>>) {
        let now = clock::now();
        let mut parked = lock(&self.subscription.parked);
        let later = parked.split_off(&(Timestamp(now.0.saturating_add(1)), 0));
        let due = std::mem::replace(&mut *parked, later);
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
                Said::Came(came) => match self.taken(session, *came) {
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
                if let Said::Came(came) = said {
                    match self.taken(session, *came) {
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

    /// What is done with a message.
    fn taken(&self, session: &Session, came: Came) -> Taken {
        let (shared, subscription, now) = (&self.shared, &self.subscription, clock::now());
        let Came { delivery_tag, redelivered, properties, data, acker, .. } = came;
        let raw = Raw { properties, body: Bytes::from(data) };
        let mut book = message::book(&raw, clock::id(), now);
        self.learn(&book, redelivered);
        let due = book.due.filter(|due| *due > now);
        let mut before = book.tries;
        let lost = lost_deliveries(&book, redelivered, due.is_some());
        before.failed = before.failed.saturating_add(lost);
        let remembered = lock(&subscription.remembered).remove(&book.position);
        let due = match remembered {
            Some((due, tries)) => {
                before = tries;
                Some(due).filter(|due| *due > now)
            }
            None => due,
        };
        let held = subscription.inbox.hold().get_mut(book.position).map(|held| (held.token.session, held.token.before));
        let mut again = false;
        match held {
            // Another message that says it is the same: a copy of somebody else's making, or of a process that was killed between copy and ack.
            Some((number, _)) if number == session.number => book.position = message::other(book.position, number, delivery_tag),
            // It was lost with a connection, and still runs here.
            Some((_, tries)) => (before, again) = (tries, true),
            None => {}
        }
        let event = Arc::new(message::event(&raw, &book, &shared.wrapping));
        let delivery = Delivery { event, position: book.position, tries: before, first_seen: book.published };
        let token = Token { acker, session: session.number, raw: Arc::new(raw), book, before, since: Instant::now() };
        let may_copy = shared.may_copy.load(Ordering::Relaxed);
        match due {
            _ if again => Taken::Ready(delivery, token),
            Some(due) => match Step::within(due.since(now)) {
                Some(step) if may_copy && remembered.is_none() => Taken::Passed(self.pass(delivery, token, Some(due), Some(step))),
                _ => Taken::Later(due, delivery, token),
            },
            None if subscription.is_relay => Taken::Passed(self.relay(delivery, token)),
            // A queue that does not count tells only that it was delivered before: the copy is new to it, and tells the next time.
            None if lost > 0 && token.book.delivered.is_none() && may_copy => {
                Taken::Passed(self.pass(delivery, token, None, None))
            }
            None => Taken::Ready(delivery, token),
        }
    }

    /// What a delivery tells of the server and the queue.
    fn learn(&self, book: &Book, redelivered: bool) {
        if book.acquired {
            self.shared.nack_is_free.store(true, Ordering::Relaxed);
        }
        let facts = self.subscription.facts();
        if facts.kind.is_none() && redelivered {
            let counts = book.delivered.is_some() || book.acquired;
            let kind = Some(if counts { Kind::Quorum } else { Kind::Classic });
            self.subscription.learn(super::topology::Facts { kind, ..facts });
        }
    }

    /// Sends a copy on its way, or round to the queue's end, and is then done with the message.
    fn pass(&self, delivery: Delivery, token: Token, due: Option<Timestamp>, step: Option<Step>) -> BoxFuture<'static, ()> {
        let (shared, subscription) = (Arc::clone(&self.shared), Arc::clone(&self.subscription));
        async move {
            let copy = message::copy(&token.raw, &token.book, token.before, due);
            let copy = match token.book.key.as_deref().zip(due) {
                Some((key, due)) => message::with_key(copy, key, due),
                None => copy,
            };
            let sent = async {
                let live = shared.reading.up()?;
                let outgoing = shared.waiting(&live, &subscription.queue, copy, step).await?;
                sent(&shared, outgoing).await
            };
            match sent.await {
                Ok(()) => done(&token).await,
                Err(problem) => {
                    if matches!(problem, Problem::Refused(_)) {
                        shared.may_copy.store(false, Ordering::Relaxed);
                    }
                    // It waits here instead.
                    subscription.park(due.unwrap_or_default(), delivery, token);
                }
            }
        }
        .boxed()
    }

    /// Publishes to the exchange what is due.
    fn relay(&self, delivery: Delivery, token: Token) -> BoxFuture<'static, ()> {
        let (shared, subscription) = (Arc::clone(&self.shared), Arc::clone(&self.subscription));
        let exchange = match &shared.url().place {
            Place::Exchange(exchange) => exchange.name.clone(),
            Place::Queue(_) => String::new(),
        };
        let key = token.book.key.clone().unwrap_or_else(|| delivery.event.kind.clone());
        let outgoing = Outgoing { exchange, key, message: message::released(&token.raw) };
        async move {
            match sent(&shared, outgoing).await {
                Ok(()) => done(&token).await,
                Err(problem) => {
                    if shared.warn_once("relay") {
                        let error = problem.text();
                        tracing::warn!(queue = %shared.name, error, "a delayed event could not be published, trying again (said once)");
                    }
                    subscription.park(clock::now().after(PASS_AGAIN), delivery, token);
                }
            }
        }
        .boxed()
    }
}

async fn sent(shared: &Shared, outgoing: Outgoing) -> Result<(), Problem> {
    shared.send(vec![outgoing]).await?.pop().unwrap_or(Ok(()))
}

async fn done(token: &Token) {
    // On a channel that is gone it comes again, and its copy too.
    let _ = token.acker.ack(BasicAckOptions::default()).await;
}

/// Deliveries of a message, since its last copy was made, that did not end. One that is not due was only waited for.
fn lost_deliveries(book: &Book, redelivered: bool, waits: bool) -> u32 {
    match book.delivered {
        _ if waits => 0,
        Some(count) => count,
        // Where the server tells how often it was taken, what was given back counts as none.
        None if book.acquired => 0,
        None => u32::from(redelivered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Tries;

    fn book(delivered: Option<u32>, acquired: bool) -> Book {
        Book {
            position: Position(1),
            tries: Tries::default(),
            due: None,
            key: None,
            delivered,
            acquired,
            published: Timestamp(0),
        }
    }

    #[test]
    fn lost_deliveries_are_counted_by_whoever_can() {
        for (delivered, acquired, redelivered, waits, lost) in [
            (None, false, false, false, 0),
            (Some(0), false, false, false, 0),
            (Some(3), false, true, false, 3),
            (Some(3), false, true, true, 0),
            (None, true, true, false, 0),
            (None, false, true, false, 1),
        ] {
            assert_eq!(lost_deliveries(&book(delivered, acquired), redelivered, waits), lost, "{delivered:?} {acquired}");
        }
    }
}
