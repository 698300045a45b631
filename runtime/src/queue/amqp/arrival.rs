//! What is done with a message that came: it is for pulls, or waits here, or goes on elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use lapin::message::Delivery as Came;
use lapin::options::BasicAckOptions;

use super::lock;
use super::message::{self, Book, Raw};
use super::problem::Problem;
use super::publish::Outgoing;
use super::reader::{Reading, SETTLED_SOON};
use super::shared::Shared;
use super::steps::Step;
use super::subscription::{Session, Token};
use super::topology::Facts;
use super::url::{Kind, Place};
use crate::clock::{self, Timestamp};
use crate::queue::{Delivery, Tries};

/// How soon what could not be passed on is tried again.
const PASS_AGAIN: Duration = Duration::from_secs(5);

/// What is done with a message that came.
pub(super) enum Taken {
    /// It is for pulls.
    Ready(Delivery, Token),
    /// It waits here.
    Later(Timestamp, Delivery, Token),
    /// It goes elsewhere, and is done with here.
    Passed(BoxFuture<'static, ()>),
}

/// What is held under the name of a message that comes.
enum Seen {
    /// It came by the same channel.
    Here,
    /// It came by one that is gone, with these tries behind it.
    Lost(Tries),
    /// It only has the same name.
    Other,
}

impl Seen {
    fn of(held: &Token, session: u64, came: &Raw) -> Self {
        match held.session == session {
            true => Self::Here,
            false if held.raw.body == came.body => Self::Lost(held.before),
            false => Self::Other,
        }
    }
}

impl Reading<'_> {
    /// What is done with a message.
    pub(super) fn taken(&self, session: &Session, came: Came, asking: u64) -> Taken {
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
        let seen = subscription.inbox.hold().get_mut(book.position).map(|held| Seen::of(&held.token, session.number, &raw));
        let (mut again, mut early) = (false, false);
        match seen {
            // The copy is quicker than the settlement of the original.
            Some(Seen::Here) if subscription.is_settling(book.position) => early = true,
            // It was lost with a connection, and still runs here.
            Some(Seen::Lost(tries)) if redelivered => (before, again) = (tries, true),
            // Another message that says it is the same: a copy of somebody else's making, or of a process that was killed between copy and ack.
            Some(_) => book.position = message::other(book.position, session.number, delivery_tag),
            None => {}
        }
        let event = Arc::new(message::event(&raw, &book, &shared.wrapping));
        let delivery = Delivery { event, position: book.position, tries: before, first_seen: book.published };
        let token = Token { acker, session: session.number, raw: Arc::new(raw), book, before, since: Instant::now(), asking };
        let may_copy = shared.may_copy.load(Ordering::Relaxed);
        match due {
            _ if again => Taken::Ready(delivery, token),
            None if early => Taken::Later(now.after(SETTLED_SOON), delivery, token),
            Some(due) => match Step::within(due.since(now)) {
                Some(step) if may_copy && remembered.is_none() => {
                    Taken::Passed(self.pass(delivery, token, Some(due), Some(step)))
                }
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
            self.subscription.learn(Facts { kind, ..facts });
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
    pub(super) fn relay(&self, delivery: Delivery, token: Token) -> BoxFuture<'static, ()> {
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
    use crate::queue::Position;

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
