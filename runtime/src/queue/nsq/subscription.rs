//! One subscription: a channel, read from every `nsqd` that has the topic. What comes meets what pulls ask for here, and settlements leave.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::client::Problem;
use super::client::command;
use super::client::frame::MessageId;
use super::flow;
use super::line::{Feed, Line};
use super::lock;
use super::memory::Memory;
use super::shared::Shared;
use super::tries::{Note, behind, to_note};
use super::url::Address;
use crate::queue::inbox::{Held, Inbox};
use crate::queue::{Delivery, Position, QueueError, Tries};

/// When nothing has come for so long it is quiet: longer than a server keeps messages back.
const QUIET_AFTER: Duration = Duration::from_millis(60);

/// What a delivery is settled with.
#[derive(Debug, Clone)]
pub(super) struct Token {
    /// The connection that it came by: no other can settle it.
    pub(super) feed: Arc<Feed>,
    pub(super) id: MessageId,
    pub(super) position: Position,
    /// Which delivery it is, from 1.
    pub(super) delivered: u16,
    /// What is noted beside it.
    pub(super) noted: Option<Note>,
    /// When it came: its server takes it back after a time, whatever is done.
    pub(super) since: Instant,
}

pub(super) struct Subscription {
    pub(super) name: String,
    /// Its channel on the servers.
    pub(super) channel: String,
    pub(super) inbox: Inbox<Token>,
    /// A line to each server. Held for a look or a change.
    lines: Mutex<BTreeMap<Address, Arc<Line>>>,
    /// Its lines are made, with the servers that are known.
    pub(super) connected: AtomicBool,
    /// Most deliveries that are held at once.
    window: AtomicUsize,
    /// Moves what can't be shared equally on.
    turn: AtomicUsize,
    /// One at a time says what servers may send, so that what was found last is said last.
    steering: Mutex<()>,
    // Held for a look or a change; the lines, settlements and the heartbeat share it.
    memory: Mutex<Memory>,
    /// Notes to write: who runs an event does not wait for it.
    to_note: Mutex<Vec<(Position, Note)>>,
    /// When something last came; none: it is quiet.
    last_came: Mutex<Option<Instant>>,
    /// Wakes who waits for quiet.
    busy: Notify,
    /// How many deliveries were handed out at the last beat of the heartbeat while nobody waited for more.
    idle: Mutex<bool>,
}

/// When a pull ends, or is dropped, less is asked for.
struct Steered<'a>(&'a Subscription);

impl Drop for Steered<'_> {
    fn drop(&mut self) {
        self.0.steer();
    }
}

impl Subscription {
    pub(super) fn new(name: &str, channel: &str, ended: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            channel: channel.to_owned(),
            inbox: Inbox::new(ended),
            lines: Mutex::default(),
            connected: AtomicBool::new(false),
            window: AtomicUsize::new(usize::MAX),
            turn: AtomicUsize::new(0),
            steering: Mutex::default(),
            memory: Mutex::default(),
            to_note: Mutex::default(),
            last_came: Mutex::default(),
            busy: Notify::new(),
            idle: Mutex::default(),
        })
    }

    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    /// Its lines, to look at or to change.
    pub(super) fn lines(&self) -> MutexGuard<'_, BTreeMap<Address, Arc<Line>>> {
        lock(&self.lines)
    }

    fn feeds(&self) -> Vec<Arc<Feed>> {
        self.lines().values().filter_map(|line| line.feed()).collect()
    }

    pub(super) fn set_window(&self, most: usize) {
        self.window.store(most, Ordering::Relaxed);
        self.steer();
    }

    /// Says to each server how many messages it may send.
    pub(super) fn steer(&self) {
        let _one = lock(&self.steering);
        let wanted = if self.inbox.ended.is_cancelled() { 0 } else { self.inbox.hold().missing() };
        let wanted = if lock(&self.last_came).is_some() { wanted } else { wanted.min(1) };
        let feeds = self.feeds();
        let loads: Vec<flow::Feed> = feeds.iter().map(|feed| flow::Feed { in_flight: feed.in_flight(), max: feed.max }).collect();
        let held = loads.iter().map(|load| load.in_flight).sum();
        let room = self.window.load(Ordering::Relaxed).saturating_sub(held);
        let ready = flow::ready(wanted, room, &loads, self.turn.load(Ordering::Relaxed));
        for (feed, ready) in feeds.iter().zip(ready) {
            feed.set_ready(ready);
        }
    }

    /// Something came: until it is quiet again, servers may send all that pulls ask for.
    pub(super) fn stir(&self) {
        if lock(&self.last_came).replace(Instant::now()).is_none() {
            self.busy.notify_one();
        }
    }

    /// Servers keep a message back for others to go with it, for a while, unless it fills RDY. So when it is quiet each may send one, which
    /// then comes at once.
    pub(super) async fn quieten(&self) {
        loop {
            self.busy.notified().await;
            loop {
                let quiet_at = {
                    let mut last = lock(&self.last_came);
                    let at = last.map(|last| last + QUIET_AFTER);
                    if at.is_none_or(|at| at <= Instant::now()) {
                        *last = None;
                        break;
                    }
                    at
                };
                tokio::time::sleep_until(quiet_at.unwrap_or_else(Instant::now).into()).await;
            }
            self.steer();
        }
    }

    /// Waits for events. Whatever comes for a pull that is dropped meanwhile is kept for the next.
    pub(super) async fn pull(&self, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        // Dropped after the pull, when it no longer asks for anything.
        let _steered = Steered(self);
        let mut pulling = std::pin::pin!(self.inbox.pull(max));
        // It asks from its first look on.
        if let Some(came) = pulling.as_mut().now_or_never() {
            return came;
        }
        self.steer();
        pulling.await
    }

    /// A connection was lost: what came by it and was not handed out comes again, what was is ours for as long as that is certain.
    pub(super) fn lost(&self, feed: &Arc<Feed>, beat: Duration) {
        let heard = feed.wire.heard();
        let known = heard.checked_sub(beat).unwrap_or(heard);
        {
            let mut hold = self.inbox.hold();
            let ready = hold.withdraw(|token| Arc::ptr_eq(&token.feed, feed));
            ready.iter().for_each(|position| hold.settled(*position));
            let held: Vec<Position> =
                hold.iter().filter(|(_, held)| Arc::ptr_eq(&held.token.feed, feed)).map(|(position, _)| position).collect();
            for position in held {
                if let Some(held) = hold.get_mut(position) {
                    held.renewed = held.renewed.min(known);
                }
            }
        }
        self.steer();
    }

    /// Lets go of what `gone` names.
    pub(super) fn lapse(&self, gone: impl Fn(&Held<Token>) -> bool) {
        self.inbox.lapse(|held| {
            let goes = gone(held);
            if goes {
                held.token.feed.left(1);
            }
            goes
        });
    }

    /// Whether a delivery is certainly ours. What is not is let go.
    pub(super) fn holds(&self, position: Position, young: Duration) -> bool {
        let now = Instant::now();
        let certain = |held: &Held<Token>| held.token.feed.wire.is_open() && now.duration_since(held.renewed) <= young;
        if self.inbox.hold().get_mut(position).is_some_and(|held| certain(held)) {
            return true;
        }
        self.lapse(|held| held.token.position == position);
        false
    }

    /// Notes how far a delivery has got, to be written soon; whether there is something to write.
    pub(super) fn note(&self, position: Position, tries: Tries) -> bool {
        let mut hold = self.inbox.hold();
        let Some(held) = hold.get_mut(position) else { return false };
        let lost = behind(held.token.delivered.saturating_add(1), held.token.noted);
        // What a lost delivery counts anyway need not be written.
        if lost.failed == tries.failed && lost.outside == tries.outside {
            return false;
        }
        let Some(note) = to_note(held.token.delivered, tries, held.token.noted) else { return false };
        held.token.noted = Some(note);
        lock(&self.to_note).push((position, note));
        true
    }

    /// Writes what was noted.
    pub(super) async fn write_down(&self, shared: &Shared) {
        let notes = std::mem::take(&mut *lock(&self.to_note));
        for (position, note) in &notes {
            self.memory().note(*position, *note);
        }
        shared.write_notes(self, &notes).await;
    }

    /// What is noted of deliveries with these counts: this process's own memory first, then the store.
    pub(super) async fn notes(&self, shared: &Shared, deliveries: &[(Position, u16)]) -> Vec<Option<Note>> {
        let known: Vec<Option<Note>> = {
            let memory = self.memory();
            deliveries.iter().map(|(position, _)| memory.noted(*position)).collect()
        };
        shared.read_notes(self, deliveries, known).await
    }

    /// Renews what is held, lets go of what could not be kept, gives back what nobody has asked for, and moves RDY on.
    pub(super) async fn beat(&self, shared: &Shared) {
        self.renew(shared.beat());
        let (now, young, hold) = (Instant::now(), shared.young(), shared.hold_for());
        self.lapse(|held| now.duration_since(held.renewed) > young || now.duration_since(held.token.since) > hold);
        let idle = self.inbox.hold().is_idle();
        if std::mem::replace(&mut *lock(&self.idle), idle) && idle {
            let unwanted = self.inbox.hold().waiting();
            self.give_back(shared, |token| unwanted.contains(&token.position)).await;
        }
        self.turn.fetch_add(1, Ordering::Relaxed);
        self.steer();
    }

    fn renew(&self, beat: Duration) {
        let at = Instant::now();
        for feed in self.feeds() {
            let mut hold = self.inbox.hold();
            let due = |held: &Held<Token>| Arc::ptr_eq(&held.token.feed, &feed) && at.duration_since(held.renewed) >= beat;
            let touched: Vec<(Position, MessageId)> =
                hold.iter().filter(|(_, held)| due(held)).map(|(position, held)| (position, held.token.id)).collect();
            if touched.is_empty() || feed.wire.put(|out| touched.iter().for_each(|(_, id)| command::touch(out, *id))).is_none() {
                continue;
            }
            for (position, _) in touched {
                if let Some(held) = hold.get_mut(position) {
                    held.renewed = at;
                }
            }
        }
    }

    /// Tells pulls that wait about a problem, unless another server can be read.
    pub(super) fn tell(&self, problem: &Problem) {
        if self.feeds().is_empty() {
            self.inbox.fail(problem.clone().into());
        }
    }
}
