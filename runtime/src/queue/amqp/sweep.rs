//! What is looked at once a second: what could not be kept over a lost connection, what nobody asks for, and what was held for too long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::BasicNackOptions;

use super::lock;
use super::shared::Shared;
use super::subscription::{Parked, Subscription};
use crate::queue::{Settle, Settlement};

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// How long what runs may wait for its connection, before it is stopped: another process may have it by then (delivery.md §3).
const AWAY_MAX: Duration = Duration::from_secs(20);

/// How long it may take to come again once its queue answers: then another process has it.
const BACK_MAX: Duration = Duration::from_secs(5);

/// How long what came may wait for a pull, before others get it.
const IDLE_MAX: Duration = Duration::from_secs(10);

/// How soon what the server sends by itself is taken away when nobody asks.
const UNASKED_MAX: Duration = Duration::from_secs(1);

/// Looks until the queue is closed.
pub(super) async fn sweep(shared: Arc<Shared>) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = shared.closed.cancelled() => return,
        }
        for subscription in shared.subscriptions() {
            subscription.lapse();
            subscription.give_back_idle(&shared).await;
            subscription.give_back_old(&shared).await;
        }
    }
}

impl Subscription {
    /// Lets go of what came by a channel that is gone, and did not come again.
    fn lapse(&self) {
        let session = self.session();
        let (number, back) = match &session {
            Some(session) => (session.number, session.answered.get().is_some_and(|since| since.elapsed() > BACK_MAX)),
            None => (0, false),
        };
        self.inbox.lapse(|held| held.token.session != number && (back || held.renewed.elapsed() > AWAY_MAX));
    }

    /// When nobody asks for more: the server sends nothing more, and after a while others get what it has sent.
    async fn give_back_idle(&self, shared: &Shared) {
        let session = self.session();
        if self.is_asked(session.as_ref().map_or(0, |session| session.number)) {
            *lock(&self.idle_since) = None;
            return;
        }
        let idle = lock(&self.idle_since).get_or_insert_with(Instant::now).elapsed();
        let Some(session) = session.filter(|_| idle >= UNASKED_MAX) else { return };
        session.stop().await;
        if idle < IDLE_MAX {
            return;
        }
        let unseen = self.inbox.hold().unseen();
        let batch: Vec<_> = unseen.into_iter().map(|position| Settlement { position, settle: Settle::Return }).collect();
        if !batch.is_empty() {
            tracing::debug!(queue = %shared.name, subscription = %self.name, count = batch.len(), "nobody asks for what came: it goes back");
            if let Err(error) = self.settle(shared, &batch).await {
                tracing::debug!(queue = %shared.name, subscription = %self.name, %error, "what nobody asks for could not be given back");
            }
        }
    }

    /// What waits here for so long that the server would take the channel away is given back before, and remembered.
    async fn give_back_old(&self, shared: &Shared) {
        let most = shared.url().hold.mul_f64(0.8);
        let old: Vec<_> = {
            let mut parked = lock(&self.parked);
            let old: Vec<_> =
                parked.iter().filter(|(_, parked)| parked.token.since.elapsed() > most).map(|(key, _)| *key).collect();
            old.into_iter().filter_map(|key| parked.remove(&key).map(|parked| (key.0, parked))).collect()
        };
        for (due, Parked { delivery, token }) in old {
            lock(&self.remembered).insert(delivery.position, (due, delivery.tries));
            // On a channel that is gone it was given back already.
            let _ = token.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await;
        }
    }
}
