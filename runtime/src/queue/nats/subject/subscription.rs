//! One subscription of a subject: what has come to its queue group here, and how it ends.

use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::held::{Held, Request, Token};
use crate::clock::{self, Timestamp};
use crate::queue::inbox::Inbox;
use crate::queue::nats::{lock, message};
use crate::queue::{Delivery, Position, QueueError, Settle, Settlement, Tries, timer};

/// How often is said that messages were dropped.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// One subscription.
pub(super) struct Subscription {
    name: String,
    inbox: Inbox<Token>,
    // std's mutex: held for a change, never across an await; pulls, settlements and the reader share it.
    held: Mutex<Held>,
    /// Wakes the reader: something waits for its time that did not before.
    timed: Notify,
}

impl Subscription {
    pub(super) fn new(name: &str, ended: CancellationToken) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), inbox: Inbox::new(ended), held: Mutex::default(), timed: Notify::new() })
    }

    pub(super) async fn pull(&self, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        let came = self.inbox.pull(max).await?;
        lock(&self.held).pulled(&came);
        Ok(came)
    }

    pub(super) fn settle(&self, batch: &[Settlement], now: Timestamp) -> Vec<Position> {
        let plan = self.inbox.hold().plan(batch, Instant::now(), None);
        for (Settlement { position, settle }, token) in plan.sent {
            self.inbox.hold().settled(position);
            match settle {
                Settle::Ack => {}
                Settle::Return => self.put_again(position, token),
                Settle::Retry { due, tries } if due <= now => self.put_again(position, Token { tries, ..token }),
                Settle::Retry { due, tries } => {
                    lock(&self.held).wait(due, position, Token { tries, ..token });
                    self.timed.notify_one();
                }
            }
        }
        plan.late
    }

    /// When the sender of a delivery waits no longer; none: nobody does.
    pub(super) fn answer_by(&self, position: Position) -> Option<Instant> {
        let mut hold = self.inbox.hold();
        hold.get_mut(position)?.token.request.as_ref().map(|request| request.by)
    }

    /// Who is to be answered, once.
    pub(super) fn take_request(&self, position: Position) -> Option<Request> {
        self.inbox.hold().get_mut(position)?.token.request.take()
    }

    /// Ends pulls and the reader.
    pub(super) fn end(&self) {
        self.inbox.ended.cancel();
    }

    fn put_again(&self, position: Position, token: Token) {
        lock(&self.held).add(token.event.size());
        self.inbox.put([(delivery(position, &token), token)]);
    }
}

/// Takes in what comes until the subscription ends.
pub(super) async fn read(shared: Arc<Shared>, subscription: Arc<Subscription>, mut messages: Subscriber) {
    let ended = subscription.inbox.ended.clone();
    let mut said: Option<Instant> = None;
    loop {
        let due = timer::until(lock(&subscription.held).next(), std::future::pending());
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => take(&shared, &subscription, message),
                // The client has ended, which it does with the queue.
                None => break,
            },
            () = due => {
                let due = lock(&subscription.held).due(clock::now());
                due.into_iter().for_each(|(position, token)| subscription.put_again(position, token));
            }
            () = subscription.timed.notified() => {}
            () = ended.cancelled() => break,
        }
        if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) && say_dropped(&shared) {
            said = Some(Instant::now());
        }
    }
    say_dropped(&shared);
    let lost = lock(&subscription.held).len();
    if lost > 0 {
        tracing::warn!(queue = %shared.name, subscription = subscription.name, lost, "events that waited here are lost: core NATS keeps none");
    }
}

fn take(shared: &Shared, subscription: &Subscription, message: Message) {
    // Nobody else knows a number of it, and processes share what is remembered by it.
    let id = uuid::Uuid::now_v7();
    let first_seen = clock::now();
    let event = message::event(&shared.wrapping, id.to_string(), message.headers.as_ref(), &message.payload, first_seen);
    if !lock(&subscription.held).admit(event.size()) {
        shared.no_room.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let by = Instant::now() + shared.url.reply_within;
    let request = message.reply.map(|reply| Request { reply, by });
    let token = Token { event: Arc::new(event), first_seen, tries: Tries::default(), request };
    subscription.inbox.put([(delivery(Position(id.as_u128()), &token), token)]);
}

fn delivery(position: Position, token: &Token) -> Delivery {
    Delivery { event: Arc::clone(&token.event), position, tries: token.tries, first_seen: token.first_seen }
}

/// Says how many were dropped, if any.
fn say_dropped(shared: &Shared) -> bool {
    let dropped = shared.dropped();
    let new = dropped.saturating_sub(shared.told.fetch_max(dropped, Ordering::Relaxed));
    if new > 0 {
        tracing::warn!(queue = %shared.name, dropped = new, "events came faster than they are handled: these are lost, core NATS keeps none");
    }
    new > 0
}
