//! Settling: what is to wait or to come again is published as a copy first, then the server is told, and asked whether it has heard.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use lapin::options::{BasicAckOptions, BasicNackOptions, BasicRejectOptions, ChannelFlowOptions};

use super::lock;
use super::message;
use super::plan::{Action, action};
use super::problem::Problem;
use super::shared::Shared;
use super::subscription::{Parked, Session, Subscription, Token};
use crate::clock::{self, Timestamp};
use crate::queue::{Delivery, Position, QueueError, Settle, Settlement};

/// How long the server may take to answer a settlement; a connection that is silent for longer is noticed by its heartbeat.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// What one call settles.
struct Sorted {
    plain: Vec<(Position, Token, Action)>,
    copies: Vec<(Position, Token, Action)>,
    parked: Vec<(Position, Token, Action)>,
}

/// What one call settles, for as long as it does.
struct Settling<'a> {
    subscription: &'a Subscription,
    positions: Vec<Position>,
}

impl Settling<'_> {
    /// Whether nobody settles it at the moment.
    fn begin(&mut self, position: Position) -> bool {
        let new = lock(&self.subscription.settling).insert(position);
        if new {
            self.positions.push(position);
        }
        new
    }
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        let mut settling = lock(&self.subscription.settling);
        for position in &self.positions {
            settling.remove(position);
        }
    }
}

impl Subscription {
    /// Settles; answers what came too late.
    pub(super) async fn settle(&self, shared: &Shared, batch: &[Settlement]) -> Result<Vec<Position>, QueueError> {
        let plan = self.inbox.hold().plan(batch, Instant::now(), None);
        if plan.sent.is_empty() {
            return Ok(plan.late);
        }
        let again = || {
            Problem::Away(format!(
                "`{}`: the connection was lost; what is held is settled when it has come again",
                shared.shown()
            ))
        };
        let session = self.session().ok_or_else(again)?;
        // What is said twice, or once more while it is done, is done once.
        let mut settling = Settling { subscription: self, positions: Vec::new() };
        let sent = plan.sent.into_iter().filter(|(settlement, _)| settling.begin(settlement.position));
        let (ours, gone): (Vec<_>, Vec<_>) = sent.partition(|(_, token)| token.session == session.number);
        let gives_back = ours.iter().any(|(settlement, _)| settlement.settle == Settle::Return);
        if gives_back && !self.is_asked(session.number) {
            // It would come straight back into the room that it leaves. What comes in place of something else is asked for soon, or stopped
            // by the sweep: to take consumers away costs more than it.
            session.stop().await;
        }
        let settled = tokio::time::timeout(SETTLE_MAX, self.settle_on(shared, &session, ours)).await;
        settled.map_err(|_| Problem::Away(format!("`{}`: the server does not answer", shared.shown())))??;
        match gone.is_empty() {
            true => Ok(plan.late),
            false => Err(again().into()),
        }
    }

    async fn settle_on(&self, shared: &Shared, session: &Session, ours: Vec<(Settlement, Token)>) -> Result<(), Problem> {
        let mut sorted = self.sort(shared, ours);
        match self.publish_copies(shared, &sorted.copies).await {
            Ok(()) => {}
            Err(Problem::Refused(text)) => {
                // It can't be done here at all: then what is to wait waits in this process.
                if shared.may_copy.swap(false, Ordering::Relaxed) {
                    tracing::warn!(queue = %shared.name, text, "retries wait in this process, and are not kept over its end");
                }
                let copies = std::mem::take(&mut sorted.copies).into_iter();
                let (parked, plain): (Vec<_>, Vec<_>) = copies
                    .map(|(position, token, action)| (position, token, without_copy(action)))
                    .partition(|(_, _, action)| matches!(action, Action::Park { .. }));
                sorted.parked.extend(parked);
                sorted.plain.extend(plain);
            }
            Err(other) => return Err(other),
        }
        self.answer(shared, session, &sorted).await?;
        let mut hold = self.inbox.hold();
        for (position, ..) in sorted.plain.iter().chain(&sorted.copies).chain(&sorted.parked) {
            hold.settled(*position);
        }
        drop(hold);
        for (position, token, action) in sorted.parked {
            if let Action::Park { due, tries } = action {
                self.park_again(shared, position, Token { before: tries, ..token }, due);
            }
        }
        Ok(())
    }

    fn park_again(&self, shared: &Shared, position: Position, token: Token, due: Timestamp) {
        let event = Arc::new(message::event(&token.raw, &token.book, &shared.wrapping));
        let delivery = Delivery { event, position, tries: token.before, first_seen: token.book.published };
        self.park(due, delivery, token);
    }

    fn sort(&self, shared: &Shared, ours: Vec<(Settlement, Token)>) -> Sorted {
        let (means, now) = (self.means(shared), clock::now());
        let mut sorted = Sorted { plain: Vec::new(), copies: Vec::new(), parked: Vec::new() };
        for (settlement, token) in ours {
            let action = action(settlement.settle, token.before, means, now);
            let place = match action {
                Action::Copy { .. } => &mut sorted.copies,
                Action::Park { .. } => &mut sorted.parked,
                Action::Ack | Action::Nack | Action::Reject => &mut sorted.plain,
            };
            place.push((settlement.position, token, action));
        }
        sorted
    }

    /// Publishes copies, all confirmed.
    async fn publish_copies(&self, shared: &Shared, copies: &[(Position, Token, Action)]) -> Result<(), Problem> {
        if copies.is_empty() {
            return Ok(());
        }
        let live = shared.reading.up()?;
        let mut outgoing = Vec::with_capacity(copies.len());
        for (_, token, action) in copies {
            if let Action::Copy { tries, due, step } = action {
                let message = message::copy(&token.raw, &token.book, *tries, *due);
                outgoing.push(shared.waiting(&live, &self.queue, message, *step).await?);
            }
        }
        for answer in shared.send(outgoing).await? {
            if let Err(problem) = answer {
                // A queue to wait in may be gone: it is made again.
                shared.waits().clear();
                return Err(problem);
            }
        }
        Ok(())
    }

    /// Tells the server, and waits until it has heard all of it: settlements have no answers of their own, questions have.
    async fn answer(&self, shared: &Shared, session: &Session, sorted: &Sorted) -> Result<(), Problem> {
        let told = join_all(sorted.plain.iter().chain(&sorted.copies).map(|(_, token, action)| tell(token, *action))).await;
        if told.is_empty() {
            return Ok(());
        }
        for told in told {
            told.map_err(|error| shared.problem(&error))?;
        }
        let heard = session.channel.channel_flow(ChannelFlowOptions { active: true }).await;
        heard.map(drop).map_err(|error| shared.problem(&error))
    }

    /// Gives back all that is held, with what it waits for. Its reader has ended.
    pub(super) async fn leave(&self, shared: &Shared) -> Result<(), QueueError> {
        let parked = std::mem::take(&mut *lock(&self.parked));
        let mut batch: Vec<Settlement> = Vec::new();
        for ((due, _), Parked { delivery, token }) in parked {
            let (position, tries) = (delivery.position, delivery.tries);
            batch.push(Settlement { position, settle: Settle::Retry { due, tries } });
            self.inbox.put([(delivery, token)]);
        }
        if self.is_relay {
            // Its messages say themselves what they wait for; the end of the channel gives them back.
            return Ok(());
        }
        let known: HashSet<Position> = batch.iter().map(|settlement| settlement.position).collect();
        let held: Vec<Position> = self.inbox.hold().iter().map(|(position, _)| position).collect();
        let held = held.into_iter().filter(|position| !known.contains(position));
        batch.extend(held.map(|position| Settlement { position, settle: Settle::Return }));
        if batch.is_empty() { Ok(()) } else { self.settle(shared, &batch).await.map(drop) }
    }
}

async fn tell(token: &Token, action: Action) -> lapin::Result<bool> {
    match action {
        Action::Nack => token.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await,
        Action::Reject => token.acker.reject(BasicRejectOptions { requeue: true }).await,
        Action::Ack | Action::Copy { .. } | Action::Park { .. } => token.acker.ack(BasicAckOptions::default()).await,
    }
}

/// What is done instead where no copies can be published.
fn without_copy(action: Action) -> Action {
    match action {
        Action::Copy { tries, due: Some(due), .. } => Action::Park { due, tries },
        Action::Copy { .. } => Action::Nack,
        other => other,
    }
}
