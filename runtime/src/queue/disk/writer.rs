//! The one thread that writes: it gathers what callers ask for into commits, and answers once they stand.
//!
//! The next commit begins as soon as the last one has ended and takes what has gathered meanwhile; there is no timer, so a lone caller
//! waits for one sync and many share one. After a failure it opens the file again with the next command, and finds out what stands.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::Shared;
use super::command::{Answer, Command};
use super::lock::FolderLock;
use super::plan::{Plan, Room, Written};
use crate::clock::{self, Timestamp};
use crate::queue::{QueueError, timer};

/// Most events of one commit; a larger batch is one commit of its own. A commit's cost per event hardly falls beyond it, and the
/// first of its callers waits for all the others.
const COMMIT_EVENTS_MAX: usize = 1_000;

/// Most commands that wait for the next commit; then callers wait to hand theirs over. Two commits' worth of single publishes.
pub(super) const COMMANDS_MAX: usize = 2 * COMMIT_EVENTS_MAX;

/// Shortest time between two attempts to open a file that fails: opening may have to check all of it.
const RECOVER_PAUSE: Duration = Duration::from_millis(250);

/// How much longer than it took the pause is, so that a large file on a full disk is not checked all the time.
const RECOVER_PAUSE_FACTOR: u32 = 10;

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) next_due: Option<Timestamp>,
    /// Released when the thread ends, after the file was closed.
    pub(super) lock: FolderLock,
    /// Tells that the thread has ended, by being dropped.
    pub(super) ended: watch::Sender<()>,
    pub(super) waiting: VecDeque<Command>,
    pub(super) recovery: Recovery,
    /// Answered when nothing is left to be swept.
    pub(super) sweeps: Vec<Answer>,
}

/// What is known about a file that failed.
#[derive(Default)]
pub(super) struct Recovery {
    /// The commit that failed; it may stand all the same.
    attempt: Option<Plan>,
    /// Not before this.
    not_before: Option<Instant>,
}

impl Writer {
    /// Runs until the queue is closed or dropped.
    pub(super) fn run(mut self, runtime: &tokio::runtime::Runtime) {
        runtime.block_on(async {
            while self.gather().await {
                let batch = self.next_batch();
                if matches!(batch.first(), Some(Command::Close)) {
                    break;
                }
                self.commit(batch);
            }
        });
        let Self { shared, lock, ended, commands, waiting, sweeps, .. } = self;
        drop((commands, waiting, sweeps));
        shared.store.close();
        if shared.live().closed {
            // What was leased is given back; without a close it is as if the process had been killed.
            shared.running.remove();
        }
        drop(lock);
        drop(ended);
    }

    /// Waits until there is something to do, then takes what has come; false when nobody can ask any more.
    async fn gather(&mut self) -> bool {
        if self.waiting.is_empty() && !self.sweeping() {
            let wake = self.wake();
            let mut came = Vec::new();
            let mut ended = false;
            let receive = async {
                tokio::select! {
                    count = self.commands.recv_many(&mut came, COMMANDS_MAX) => ended = count == 0,
                    () = self.shared.store.failed() => {}
                }
            };
            timer::until(wake, receive).await;
            self.waiting.extend(came);
            if ended {
                return false;
            }
        }
        while self.waiting.len() < COMMANDS_MAX
            && let Ok(command) = self.commands.try_recv()
        {
            self.waiting.push_back(command);
        }
        true
    }

    /// When there is something to do though nobody asks. A file that failed is tried again, so that it is known when it can be used:
    /// a server that says that it can't is asked for nothing.
    fn wake(&self) -> Option<Timestamp> {
        if self.shared.store.broken().is_none() {
            return self.next_due;
        }
        let pause = self.recovery.not_before.map_or(RECOVER_PAUSE, |at| at.saturating_duration_since(Instant::now()));
        Some(clock::now().after(pause + Duration::from_millis(1)))
    }

    fn sweeping(&self) -> bool {
        let live = self.shared.live();
        live.numbers.sweep_from < live.numbers.sweep_to && self.shared.store.broken().is_none()
    }

    /// The commands of one commit, in the order in which they came.
    fn next_batch(&mut self) -> Vec<Command> {
        let (mut batch, mut events) = (Vec::new(), 0);
        while let Some(command) = self.waiting.front() {
            let over = events + command.events() > COMMIT_EVENTS_MAX || command.alone();
            if over && !batch.is_empty() {
                break;
            }
            let alone = command.alone();
            events += command.events();
            batch.extend(self.waiting.pop_front());
            if alone {
                break;
            }
        }
        batch
    }

    fn commit(&mut self, batch: Vec<Command>) {
        if let Err(cause) = self.recover() {
            return refuse(batch.into_iter().filter_map(Command::answer), &cause);
        }
        let room = Room { max_size: self.shared.max_size, disk: self.shared.store.room() };
        let unsubscribes = matches!(batch.first(), Some(Command::Unsubscribe { .. }));
        let mut plan = Plan::make(&mut self.shared.live(), batch, room);
        let now = clock::now();
        let mut answers = std::mem::take(&mut plan.answers);
        if plan.is_empty() && self.next_due.is_none_or(|due| due > now) {
            return answers.into_iter().for_each(accept);
        }
        match self.shared.store.commit(&mut plan, now) {
            Ok(written) => {
                plan.carry_over(&mut self.shared.live(), &written, true);
                self.stands(&written);
                if unsubscribes {
                    self.sweeps.append(&mut answers);
                }
                answers.into_iter().for_each(accept);
                if !self.sweeping() {
                    self.sweeps.drain(..).for_each(accept);
                }
            }
            Err(cause) => {
                plan.undo(&mut self.shared.live());
                tracing::error!(queue = %self.shared.name, error = %cause, "queue can't be written");
                self.recovery.attempt = Some(plan);
                refuse(answers.into_iter().chain(self.sweeps.drain(..)), &cause);
            }
        }
    }

    fn stands(&mut self, written: &Written) {
        self.next_due = written.next_due;
        self.shared.changed.notify_waiters();
    }

    /// Opens a file that failed, unless that was tried a moment ago, and brings memory and file together again.
    fn recover(&mut self) -> Result<(), String> {
        let Some(cause) = self.shared.store.broken() else { return Ok(()) };
        let begun = Instant::now();
        if self.recovery.not_before.is_some_and(|at| begun < at) {
            return Err(cause);
        }
        let recovered = self.reconcile();
        self.recovery.not_before = Some(Instant::now() + RECOVER_PAUSE.max(begun.elapsed() * RECOVER_PAUSE_FACTOR));
        recovered?;
        self.recovery.attempt = None;
        self.shared.store.set_broken(None);
        self.shared.changed.notify_waiters();
        tracing::info!(queue = %self.shared.name, "queue can be written again");
        Ok(())
    }

    /// A commit that failed may stand all the same. What it settled is then settled; what it published is taken back, as its
    /// publishers were told that it failed.
    fn reconcile(&mut self) -> Result<(), String> {
        let loaded = self.shared.store.reopen()?;
        let known = self.shared.live().numbers.commit;
        let found = loaded.written.numbers;
        match &mut self.recovery.attempt {
            _ if found.commit == known => {
                self.next_due = loaded.written.next_due;
                Ok(())
            }
            Some(attempt) if found.commit > known => {
                let written = self.shared.store.take_back(attempt, found)?;
                attempt.carry_over(&mut self.shared.live(), &written, false);
                self.stands(&written);
                Ok(())
            }
            _ => Err(format!(
                "commit {} stands in the queue `{}`, expected {known} (was the file replaced?)",
                found.commit, self.shared.name
            )),
        }
    }
}

fn accept(answer: Answer) {
    // Whoever asked may have gone.
    let _ = answer.send(Ok(()));
}

fn refuse(answers: impl Iterator<Item = Answer>, cause: &str) {
    for answer in answers {
        let _ = answer.send(Err(QueueError::Unavailable(cause.to_owned())));
    }
}
