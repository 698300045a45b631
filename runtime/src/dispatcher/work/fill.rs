//! Which of the events that may run go into one call of a batch handler, and when (delivery.md §9): as many as a batch holds, or those
//! there are once the oldest has waited long enough. Of a handler that takes one event a call, each is a call.
//!
//! A batch never holds two events of one lane, because only the first of a lane may run. It waits by real time, as deadlines go.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::Notify;

use super::super::lanes::{Item, size};
use super::State;
use super::runners::RUN_EVENTS;
use crate::config::{BatchPolicy, HandlerConfig};

/// The part of its memory that a handler may be given as the events of one call: it holds them as bytes, as what it read from them, and
/// needs room for its own. An event that is larger goes alone.
const MEMORY_PART: u64 = 4;

/// See the module.
pub(in super::super) struct Fill {
    policy: BatchPolicy,
    /// Most bytes of events in one call, but for a single one.
    bytes_max: u64,
    /// The keeper: a batch waits for its events that did not before.
    keeper: Arc<Notify>,
}

impl Default for Fill {
    fn default() -> Self {
        Self { policy: BatchPolicy::default(), bytes_max: u64::MAX, keeper: Arc::default() }
    }
}

impl Fill {
    /// As a handler is configured.
    pub(in super::super) fn of(config: &HandlerConfig) -> Self {
        Self::new(config.batch.unwrap_or_default(), config.limits.memory / MEMORY_PART)
    }

    pub(super) fn new(policy: BatchPolicy, bytes_max: u64) -> Self {
        Self { policy, bytes_max, ..Self::default() }
    }

    pub(super) fn keeper(&self) -> Arc<Notify> {
        Arc::clone(&self.keeper)
    }

    /// Calls that one runner makes before another is started.
    pub(super) fn calls_of_run(&self) -> usize {
        (RUN_EVENTS / self.size()).max(1)
    }

    fn size(&self) -> usize {
        self.policy.size as usize
    }
}

impl State {
    /// How many calls could begin now.
    pub(super) fn calls(&mut self) -> usize {
        let room = self.allowed.saturating_sub(self.running);
        let events = self.lanes.waiting().min(room);
        let BatchPolicy { size, wait } = self.fill.policy;
        if size == 1 {
            return events;
        }
        let now = (!wait.is_zero()).then(Instant::now);
        if now.is_some_and(|now| self.lanes.stamp(now)) {
            self.fill.keeper.notify_one();
        }
        let alone = self.lanes.alone().min(events);
        let waited = self.lanes.since().zip(now).is_none_or(|(since, now)| since + wait <= now);
        // One that has not waited is full with as many as may ever run, not with what just came free, or batches would stay the fragments
        // that quiet times make of them.
        let most = (size as usize).min(if waited { room } else { self.allowed });
        alone + calls(events - alone, most, waited)
    }

    /// When the oldest event that waits for others has waited long enough; none: none waits, or it has.
    pub(super) fn fill_due(&self) -> Option<Instant> {
        let due = self.lanes.since()? + self.fill.policy.wait;
        (due > Instant::now()).then_some(due)
    }

    /// What is left behind waits for others from another time on: the keeper has to know.
    pub(super) fn tell_keeper(&self) {
        if self.lanes.since().is_some() {
            self.fill.keeper.notify_one();
        }
    }

    /// Whether more events would go into the next call.
    pub(super) fn is_filling(&self) -> bool {
        self.fill.size() > 1 && self.lanes.waiting() < self.fill.size()
    }

    /// Takes what goes into the next call, if one may begin.
    pub(super) fn take_batch(&mut self) -> Vec<Item> {
        let mut batch: Vec<Item> = Vec::new();
        if self.calls() == 0 {
            return batch;
        }
        let (most, mut bytes) = (self.fill.size().min(self.allowed - self.running), 0);
        while batch.len() < most
            && let Some(next) = self.lanes.first()
        {
            bytes += size(next);
            let is_alone = next.alone || batch.first().is_some_and(|first| first.alone);
            if !batch.is_empty() && (is_alone || bytes > self.fill.bytes_max) {
                break;
            }
            batch.extend(self.lanes.take());
        }
        if self.probing && !batch.is_empty() {
            self.allowed = 0;
        }
        self.tell_keeper();
        batch
    }
}

/// How many calls take so many events that may run, of which one call holds at most `most`.
fn calls(events: usize, most: usize, waited: bool) -> usize {
    if waited { events.div_ceil(most.max(1)) } else { events / most.max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_full_or_has_waited() {
        let table = [
            (0, 4, false, 0),
            (3, 4, false, 0),
            (4, 4, false, 1),
            (9, 4, false, 2),
            (0, 4, true, 0),
            (3, 4, true, 1),
            (9, 4, true, 3),
            (0, 0, true, 0),
        ];
        for (events, most, waited, expected) in table {
            assert_eq!(calls(events, most, waited), expected, "{events} of {most}, {waited}");
        }
    }
}
