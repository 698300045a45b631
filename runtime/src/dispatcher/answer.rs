//! Requests: events whose sender waits for an answer, for a time. They are tried once (delivery.md §13, core NATS).

use std::sync::Arc;
use std::time::Instant;

use super::Subscription;
use crate::event::Event;
use crate::outcome::Outcome;
use crate::queue::{Answer, Delivery};

impl Subscription {
    /// Until when somebody waits for what comes of a delivery.
    pub(super) fn answer_by(&self, delivery: &Delivery) -> Option<Instant> {
        self.queue.answer_by(&self.name, delivery.position)
    }

    /// Whether somebody waited, and waits no longer: then it is not begun.
    pub(super) fn is_over(&self, delivery: &Delivery) -> bool {
        self.answer_by(delivery).is_some_and(|by| by <= Instant::now())
    }

    /// What its handler replied, once it is done. Without a reply nothing is said: another handler may have one.
    pub(super) async fn reply(&self, delivery: &Delivery, reply: Option<Arc<Event>>) {
        if let Some(reply) = reply {
            self.answer(delivery, Answer::Reply(reply)).await;
        }
    }

    /// That it was given up.
    pub(super) async fn refuse(&self, delivery: &Delivery, outcome: &Outcome) {
        if self.answer_by(delivery).is_some() {
            self.answer(delivery, Answer::Failed(format!("{}: {}", outcome.name(), outcome.reason()))).await;
        }
    }

    async fn answer(&self, delivery: &Delivery, answer: Answer) {
        if let Err(error) = self.queue.answer(&self.name, delivery.position, answer).await {
            let (queue, handler, event) = (&*self.queue_name, &*self.handler.name, &*delivery.event.id);
            tracing::warn!(queue, handler, event, %error, "a request is not answered");
        }
    }
}
