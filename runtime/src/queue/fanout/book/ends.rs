//! What is left to do when a handler is done with a message: nothing yet, its copy, or its settlement below. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::{Book, State};
use crate::clock::Timestamp;
use crate::queue::fanout::copy;
use crate::queue::{Position, Publish, Settle, Settlement, Tries};

/// How long a message waits that is for a handler which this process lacks, before anybody gets it again: one that has the handler should,
/// and one that lacks it not be busy with it.
pub(in crate::queue::fanout) const ELSEWHERE: Duration = Duration::from_secs(5);

/// Handlers that this process lacks and that are told of by name: more are made-up names.
const MISSING_MAX: usize = 100;

/// What is to be done for a batch of settlements.
#[derive(Debug, Default)]
pub(in crate::queue::fanout) struct Plan {
    /// Published before anything else, by the message that each is a copy of.
    pub(in crate::queue::fanout) copies: Vec<(Position, Publish)>,
    /// What the queue below is told.
    pub(in crate::queue::fanout) below: Vec<Settlement>,
    /// What it is told only after [`ELSEWHERE`], because it can't hold that itself.
    pub(in crate::queue::fanout) later: Vec<Settlement>,
    /// These come too late.
    pub(in crate::queue::fanout) late: Vec<Position>,
    /// Tries to be noted below.
    pub(in crate::queue::fanout) notes: Vec<(Position, Tries)>,
    /// Something can be given out again.
    pub(in crate::queue::fanout) again: bool,
}

impl Book {
    /// Gives back what is for handlers that this process lacks. `delays`: the queue below holds what is not due. Names such a handler once.
    pub(in crate::queue::fanout) fn give_back(&mut self, now: Timestamp, delays: bool) -> (Plan, Vec<String>) {
        let (mut plan, mut missing) = (Plan::default(), Vec::new());
        for position in std::mem::take(&mut self.elsewhere) {
            let Some(message) = self.held.get_mut(&position) else { continue };
            let handler = copy::addressee(&message.event).unwrap_or_default();
            if self.missing.len() < MISSING_MAX && self.missing.insert(handler.to_owned()) {
                missing.push(handler.to_owned());
            }
            if delays {
                let settle = Settle::Retry { due: now.after(ELSEWHERE), tries: message.below };
                plan.below.push(Settlement { position, settle });
            } else {
                plan.later.push(Settlement { position, settle: Settle::Return });
            }
        }
        (plan, missing)
    }

    /// What is to be done for a reader's settlements. `delays`: the queue below holds what is not due.
    pub(in crate::queue::fanout) fn plan(&mut self, name: &str, batch: &[Settlement], now: Timestamp, delays: bool) -> Plan {
        let mut plan = Plan::default();
        for settlement in batch {
            self.plan_one(name, *settlement, (now, delays), &mut plan);
        }
        self.end(&mut plan);
        plan
    }

    fn plan_one(
        &mut self,
        name: &str,
        Settlement { position, settle }: Settlement,
        (now, delays): (Timestamp, bool),
        plan: &mut Plan,
    ) {
        let Some(reader) = self.readers.get_mut(name) else { return };
        if reader.late.remove(&position) {
            plan.late.push(position);
            return;
        }
        let Some(message) = self.held.get_mut(&position) else { return };
        let (is_one, number) = (message.shares.len() == 1, message.number);
        let (said, event) = (message.said, Arc::clone(&message.event));
        let Some(share) = message.share(name).filter(|share| share.state == State::Out) else { return };
        match settle {
            Settle::Ack => {
                share.state = State::Ended;
                plan.notes.extend(message.note().map(|tries| (position, tries)));
                if message.is_over() {
                    self.ending.insert(position);
                }
            }
            Settle::Return if is_one => plan.below.push(Settlement { position, settle }),
            Settle::Return => {
                share.state = State::Ready;
                reader.ready.insert(number, position);
                plan.again = true;
            }
            Settle::Retry { due, tries } if is_one => {
                let settle = Settle::Retry { due, tries: copy::rest(said, tries) };
                plan.below.push(Settlement { position, settle });
            }
            Settle::Retry { due, tries } => {
                share.state = State::Passing;
                let event = Arc::new(copy::copy(&event, &reader.handler, tries));
                plan.copies.push((position, Publish { event, due: (delays && due > now).then_some(due) }));
            }
        }
    }

    /// Adds what nobody has any more, and marks what is on its way.
    fn end(&mut self, plan: &mut Plan) {
        for position in &self.ending {
            if self.held.get(position).is_some_and(|message| !message.settling) {
                // Without any reader left it is not ours to end.
                let settle = if self.readers.is_empty() { Settle::Return } else { Settle::Ack };
                plan.below.push(Settlement { position: *position, settle });
            }
        }
        for settlement in &plan.below {
            if let Some(message) = self.held.get_mut(&settlement.position) {
                message.settling = true;
            }
        }
    }

    /// The copies that a reader gets are published.
    pub(in crate::queue::fanout) fn passed(&mut self, name: &str, plan: &mut Plan) {
        for (position, _) in std::mem::take(&mut plan.copies) {
            let Some(message) = self.held.get_mut(&position) else { continue };
            if let Some(share) = message.share(name) {
                share.state = State::Ended;
            }
            plan.notes.extend(message.note().map(|tries| (position, tries)));
            if message.is_over() {
                self.ending.insert(position);
            }
        }
        let unsettled = std::mem::take(&mut plan.below);
        self.end(plan);
        plan.below.splice(0..0, unsettled);
    }

    /// What was not done of a plan is done with the next.
    pub(in crate::queue::fanout) fn undo(&mut self, name: &str, plan: &Plan) {
        for (position, _) in &plan.copies {
            let share = self.held.get_mut(position).and_then(|message| message.share(name));
            if let Some(share) = share.filter(|share| share.state == State::Passing) {
                share.state = State::Out;
            }
        }
        for Settlement { position, .. } in &plan.below {
            if let Some(message) = self.held.get_mut(position) {
                message.settling = false;
                if message.elsewhere {
                    self.elsewhere.push(*position);
                }
            }
        }
    }

    /// The queue below knows; whether there is somebody to be woken for the room.
    pub(in crate::queue::fanout) fn settled(&mut self, settlements: &[Settlement]) -> bool {
        for Settlement { position, .. } in settlements {
            self.held.remove(position);
            self.ending.remove(position);
        }
        std::mem::take(&mut self.refused)
    }

    /// A reader is gone, and what it had is not waited for.
    pub(in crate::queue::fanout) fn remove(&mut self, name: &str) -> Plan {
        self.readers.remove(name);
        for (position, message) in &mut self.held {
            message.shares.retain(|share| &*share.reader != name);
            if message.is_over() {
                self.ending.insert(*position);
            }
        }
        let mut plan = Plan::default();
        self.end(&mut plan);
        plan
    }
}
