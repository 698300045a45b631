//! What one commit does: decided from commands under the lock, written by `store.rs`, then carried over into memory. Pure: no I/O.

use std::collections::BTreeMap;

use tokio::sync::OwnedSemaphorePermit;

use super::command::{Answer, Command};
use super::live::Live;
use super::row::Row;
use super::tables::Numbers;
use crate::clock::Timestamp;
use crate::queue::ledger::{Reading, State};
use crate::queue::{QueueError, Settle, Settlement, Start, Tries};

/// Most numbers that one commit looks at for events that nobody holds any more.
const SWEEP_MAX: u64 = 10_000;

/// One commit.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The queue's numbers before it.
    pub(super) before: Numbers,
    /// The numbers' `floor` and `first` after it.
    pub(super) floor: u64,
    pub(super) first: bool,
    pub(super) published: Vec<Row>,
    pub(super) delayed: Vec<Row>,
    /// Keys of delayed publishes that are taken away.
    pub(super) undelayed: Vec<(u64, u64)>,
    pub(super) settled: BTreeMap<String, Settled>,
    /// Events that nobody holds any more.
    pub(super) freed: Vec<u64>,
    /// Where the next search for events that nobody holds begins: none was planned, or not before this.
    pub(super) swept_to: Option<u64>,
    pub(super) change: Option<Change>,
    /// Set while it is written: the number of the first event that it publishes.
    pub(super) published_from: Option<u64>,
    /// Given back when the commit has ended.
    pub(super) weights: Vec<OwnedSemaphorePermit>,
    /// Answered when the commit stands.
    pub(super) answers: Vec<Answer>,
}

/// What one subscription settles.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) id: u32,
    pub(super) cursor: u64,
    pub(super) ended: Vec<u64>,
    pub(super) retried: Vec<(u64, Timestamp, Tries)>,
    /// Rows that are no longer needed.
    pub(super) dropped: Vec<u64>,
    /// Rows for what the cursor passes and has not ended.
    pub(super) passed: Vec<(u64, Tries)>,
}

/// A subscription that is made or removed.
#[derive(Debug)]
pub(super) enum Change {
    Subscribe { subscription: String, reading: Reading },
    Unsubscribe { subscription: String, id: u32, sweep: Option<(u64, u64)> },
}

/// What came of writing a plan.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Written {
    pub(super) numbers: Numbers,
    pub(super) events: u64,
    pub(super) delayed: u64,
    /// When the next delayed publish arrives.
    pub(super) next_due: Option<Timestamp>,
}

/// What bounds a plan's publishes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// The bound on the bytes of all events.
    pub(super) max_size: u64,
    /// Bytes that may be added before the disk has too little left; none: not known.
    pub(super) disk: Option<u64>,
}

impl Plan {
    /// Decides what a commit does for these commands. What can't be taken is answered at once.
    pub(super) fn make(live: &mut Live, commands: Vec<Command>, room: Room) -> Self {
        let mut plan = Self { before: live.numbers, floor: live.ledger.floor, first: live.ledger.first, ..Self::default() };
        let mut added = 0;
        for command in commands {
            match command {
                Command::Publish { rows, delayed, weight, answer } => {
                    let size = rows.iter().chain(&delayed).map(|row| row.bytes.len() as u64).sum::<u64>();
                    if let Err(refused) = admit(live, added, size, room) {
                        let _ = answer.send(Err(refused));
                        continue;
                    }
                    added += size;
                    plan.published.extend(rows);
                    plan.delayed.extend(delayed);
                    plan.weights.push(weight);
                    plan.answers.push(answer);
                }
                Command::Settle { subscription, batch, answer } => {
                    plan.settle(live, subscription, &batch);
                    plan.answers.push(answer);
                }
                Command::Subscribe { subscription, start, answer } => {
                    plan.subscribe(live, subscription, start);
                    plan.answers.push(answer);
                }
                Command::Unsubscribe { subscription, answer } => {
                    plan.unsubscribe(live, subscription);
                    plan.answers.push(answer);
                }
                Command::Undelay { keys, answer } => {
                    plan.undelayed.extend(keys);
                    plan.answers.push(answer);
                }
                Command::Recover { answer } => plan.answers.push(answer),
                Command::Close => {}
            }
        }
        plan.finish_settled(live);
        plan.sweep(live);
        plan
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.published.is_empty()
            && self.delayed.is_empty()
            && self.undelayed.is_empty()
            && self.change.is_none()
            && self.swept_to.is_none()
            && self.settled.values().all(|settled| settled.ended.is_empty() && settled.retried.is_empty())
    }

    fn settle(&mut self, live: &mut Live, subscription: String, batch: &[Settlement]) {
        let Some(reading) = live.ledger.readings.get(&subscription) else { return };
        let (id, cursor) = (reading.id, reading.cursor);
        let settled = self.settled.entry(subscription.clone()).or_insert_with(|| Settled { id, cursor, ..Settled::default() });
        for Settlement { position, settle } in batch {
            let Ok(seq) = u64::try_from(position.0) else { continue };
            match settle {
                Settle::Ack => {
                    if let Some(free) = live.ledger.begin_end(&subscription, seq) {
                        settled.ended.push(seq);
                        if free {
                            self.freed.push(seq);
                        }
                    }
                }
                Settle::Retry { due, tries } => settled.retried.push((seq, *due, *tries)),
                // Given back in memory, by the caller.
                Settle::Return => {}
            }
        }
    }

    /// Once all commands are known: how far each cursor gets, and which rows that takes.
    fn finish_settled(&mut self, live: &Live) {
        for (subscription, settled) in &mut self.settled {
            let Some(reading) = live.ledger.readings.get(subscription) else { continue };
            settled.retried.retain(|(seq, ..)| reading.state(*seq) == Some(State::Leased));
            let last = settled.ended.iter().chain(settled.retried.iter().map(|(seq, ..)| seq)).max();
            settled.cursor = reading.cursor.max(last.map_or(0, |seq| seq + 1));
            settled.passed = reading.unkept_below(settled.cursor).collect();
            let has_row = |seq: &&u64| reading.pending.get(*seq).is_some_and(|pending| pending.kept);
            settled.dropped = settled.ended.iter().filter(has_row).copied().collect();
            self.first &= settled.ended.is_empty();
        }
        self.freed.sort_unstable();
    }

    fn subscribe(&mut self, live: &mut Live, subscription: String, start: Start) {
        if let Some(mut reading) = live.ledger.would_begin(&subscription, start) {
            reading.id = u32::try_from(live.numbers.subscription_next).unwrap_or(u32::MAX);
            if live.ledger.readings.is_empty() {
                self.first = live.ledger.floor < live.ledger.end;
            }
            self.change = Some(Change::Subscribe { subscription, reading });
        }
    }

    fn unsubscribe(&mut self, live: &mut Live, subscription: String) {
        if let Some(reading) = live.ledger.readings.get(&subscription) {
            let end = live.ledger.end;
            let oldest = reading.oldest(end).map(|oldest| (oldest, end));
            let before = (live.numbers.sweep_from, live.numbers.sweep_to);
            // An earlier search that has not ended is joined with this one.
            let sweep = match oldest {
                Some((from, to)) if before.0 < before.1 => Some((from.min(before.0), to.max(before.1))),
                other => other,
            };
            if live.ledger.readings.len() == 1 {
                (self.floor, self.first) = (end, false);
            }
            self.change = Some(Change::Unsubscribe { subscription, id: reading.id, sweep });
        }
    }

    /// Goes on with the search for events that nobody holds.
    fn sweep(&mut self, live: &Live) {
        let Numbers { sweep_from, sweep_to, .. } = live.numbers;
        if sweep_from >= sweep_to || self.change.is_some() {
            return;
        }
        let to = sweep_to.min(sweep_from.saturating_add(SWEEP_MAX));
        self.freed.extend((sweep_from..to).filter(|seq| !live.ledger.holds(*seq)));
        self.freed.sort_unstable();
        self.freed.dedup();
        self.swept_to = Some(to);
    }

    /// Carries a commit that stands over into memory; `published`: also what it published, else that was taken back.
    pub(super) fn carry_over(&mut self, live: &mut Live, written: &Written, published: bool) {
        live.numbers = written.numbers;
        (live.events, live.delayed) = (written.events, written.delayed);
        for (subscription, settled) in &self.settled {
            for seq in &settled.ended {
                live.ledger.finish_end(subscription, *seq);
                live.slots.free((settled.id, *seq));
            }
            let Some(reading) = live.ledger.readings.get_mut(subscription) else { continue };
            for (seq, due, tries) in &settled.retried {
                reading.retry(*seq, *due, *tries);
                reading.keep(*seq);
                live.slots.free((settled.id, *seq));
            }
            for (seq, _) in &settled.passed {
                reading.keep(*seq);
            }
            reading.cursor = settled.cursor;
        }
        // Before the new end counts: what arrives in the same commit comes after a subscription that it makes or removes.
        match self.change.take() {
            Some(Change::Subscribe { subscription, reading }) => live.ledger.insert(subscription, reading),
            Some(Change::Unsubscribe { subscription, .. }) => live.unsubscribe(&subscription),
            None => {}
        }
        live.ledger.end = written.numbers.end;
        for seq in &self.freed {
            live.recent.remove(*seq);
        }
        if let Some(first) = self.published_from.filter(|_| published) {
            for (seq, row) in (first..).zip(self.published.drain(..)) {
                live.recent.insert(seq, row.into());
            }
        }
    }

    /// The commit failed: what was about to end stays leased.
    pub(super) fn undo(&mut self, live: &mut Live) {
        self.weights.clear();
        for (subscription, settled) in &self.settled {
            for seq in &settled.ended {
                live.ledger.undo_end(subscription, *seq);
            }
        }
    }
}

fn admit(live: &Live, added: u64, size: u64, room: Room) -> Result<(), QueueError> {
    let held = live.numbers.bytes + added;
    if size > room.max_size {
        return Err(QueueError::TooLarge { size, bound: room.max_size });
    }
    if held + size > room.max_size {
        let blocker = live.ledger.blocker().map(str::to_owned);
        return Err(QueueError::Full { held, bound: room.max_size, blocker });
    }
    match room.disk {
        Some(free) if added + size > free => {
            Err(QueueError::Unavailable(format!("disk is full: {free} bytes are left for events (free some space)")))
        }
        _ => Ok(()),
    }
}
