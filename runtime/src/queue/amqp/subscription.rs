//! One handler's reading of a queue: what is held of it, and the channel that it is read by.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use lapin::options::BasicCancelOptions;
use lapin::types::ShortString;
use lapin::{Acker, Channel};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lock;
use super::message::{Book, Raw};
use super::plan::Means;
use super::shared::Shared;
use super::topology::Facts;
use crate::clock::Timestamp;
use crate::queue::inbox::Inbox;
use crate::queue::{Delivery, Position, QueueError, Tries};

/// How many are held at most where nobody has said: `weir move` and the like.
const WINDOW: usize = 1_000;

/// A message as it came, and what it is settled with.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) acker: Acker,
    /// The channel that it came by.
    pub(super) session: u64,
    pub(super) raw: Arc<Raw>,
    pub(super) book: Book,
    /// The tries behind it.
    pub(super) before: Tries,
    pub(super) since: Instant,
    /// Which of the channel's askings it came by.
    pub(super) asking: u64,
}

/// What waits here for its time.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) delivery: Delivery,
    pub(super) token: Token,
}

/// The channel that a queue is read by.
pub(super) struct Session {
    pub(super) number: u64,
    pub(super) channel: Channel,
    /// When the queue first answered on it: one that has just been started again does not for a while, to nobody.
    pub(super) answered: OnceLock<Instant>,
    /// Who changes them waits for the server.
    pub(super) consumers: tokio::sync::Mutex<Consumers>,
}

/// What the server sends by itself.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    pub(super) tags: Vec<ShortString>,
    /// How many it sends before some are settled.
    pub(super) prefetch: usize,
    /// Counts how often all were taken away: what came before is not in the way of what is sent after.
    pub(super) asking: u64,
}

/// One handler's reading.
pub(super) struct Subscription {
    pub(super) name: String,
    /// Its queue.
    pub(super) queue: String,
    /// It reads what is published to the exchange when it is due.
    pub(super) is_relay: bool,
    pub(super) inbox: Inbox<Token>,
    /// The connection on which its queue was made or found.
    pub(super) made_by: AtomicU64,
    /// Whether its reader runs.
    pub(super) reading: AtomicBool,
    /// The most that is held.
    pub(super) window: AtomicUsize,
    // std's mutexes: held for a look or a change, never across an await; reader, settlements and the sweep share them.
    facts: Mutex<Facts>,
    pub(super) session: Mutex<Option<Arc<Session>>>,
    pub(super) parked: Mutex<BTreeMap<(Timestamp, u64), Parked>>,
    parked_count: AtomicU64,
    /// Wakes the reader: something waits for its time here.
    pub(super) parking: Notify,
    /// What waited here, where the queue can't remember it, and was given back before its time.
    pub(super) remembered: Mutex<HashMap<Position, (Timestamp, Tries)>>,
    /// What came by a channel that is gone, at most: it is asked for again.
    pub(super) lost: AtomicUsize,
    /// Its reader takes in nothing more.
    pub(super) quiet: CancellationToken,
    /// What is being settled now.
    pub(super) settling: Mutex<HashSet<Position>>,
    /// Since when nobody asks for more.
    pub(super) idle_since: Mutex<Option<Instant>>,
}

impl Session {
    /// Takes away what the server sends by itself. What it has sent still comes.
    pub(super) async fn stop(&self) {
        let mut consumers = self.consumers.lock().await;
        if consumers.tags.is_empty() {
            return;
        }
        consumers.prefetch = 0;
        consumers.asking += 1;
        for tag in std::mem::take(&mut consumers.tags) {
            // On a channel that is gone there is nothing to take away.
            let _ = self.channel.basic_cancel(tag, BasicCancelOptions::default()).await;
        }
    }
}

impl Subscription {
    pub(super) fn new(name: &str, queue: &str, is_relay: bool, ended: CancellationToken) -> Self {
        Self {
            name: name.to_owned(),
            queue: queue.to_owned(),
            is_relay,
            inbox: Inbox::new(ended),
            made_by: AtomicU64::new(0),
            reading: AtomicBool::new(false),
            window: AtomicUsize::new(WINDOW),
            facts: Mutex::new(Facts { kind: None, limited: false }),
            session: Mutex::default(),
            parked: Mutex::default(),
            parked_count: AtomicU64::new(0),
            parking: Notify::new(),
            remembered: Mutex::default(),
            lost: AtomicUsize::new(0),
            quiet: CancellationToken::new(),
            settling: Mutex::default(),
            idle_since: Mutex::default(),
        }
    }

    pub(super) fn learn(&self, facts: Facts) {
        *lock(&self.facts) = facts;
    }

    pub(super) fn facts(&self) -> Facts {
        *lock(&self.facts)
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        lock(&self.session).clone()
    }

    pub(super) fn means(&self, shared: &Shared) -> Means {
        let Facts { kind, limited } = self.facts();
        Means {
            kind,
            limited,
            nack_is_free: shared.nack_is_free.load(Ordering::Relaxed),
            may_copy: shared.may_copy.load(Ordering::Relaxed),
        }
    }

    /// Waits for events.
    pub(super) async fn pull(&self, max: NonZeroUsize) -> Result<Vec<Delivery>, QueueError> {
        *lock(&self.idle_since) = None;
        self.inbox.pull(max).await
    }

    /// Lets something wait here for its time.
    pub(super) fn park(&self, due: Timestamp, delivery: Delivery, token: Token) {
        let number = self.parked_count.fetch_add(1, Ordering::Relaxed);
        lock(&self.parked).insert((due, number), Parked { delivery, token });
        self.parking.notify_one();
    }

    /// How many are here that came by this asking of the channel.
    pub(super) fn held_by(&self, session: u64, asking: u64) -> usize {
        let by = |token: &Token| token.session == session && token.asking == asking;
        let held = self.inbox.hold().iter().filter(|(_, held)| by(&held.token)).count();
        held + lock(&self.parked).values().filter(|parked| by(&parked.token)).count()
    }

    /// How many came by a channel that is gone.
    pub(super) fn still_lost(&self, session: u64) -> usize {
        if self.lost.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let lost = self.inbox.hold().iter().filter(|(_, held)| held.token.session != session).count();
        self.lost.store(lost, Ordering::Relaxed);
        lost
    }

    /// Whether somebody asks for more, or what was lost with its channel has not come again.
    pub(super) fn is_asked(&self, session: u64) -> bool {
        self.still_lost(session) > 0 || self.inbox.hold().wanted() > 0
    }

    /// Whether it is being settled now.
    pub(super) fn is_settling(&self, position: Position) -> bool {
        lock(&self.settling).contains(&position)
    }

    /// How many are here, out or not.
    pub(super) fn held(&self) -> usize {
        self.inbox.hold().len() + lock(&self.parked).len()
    }

    /// Whether a delivery is certainly ours: the channel that it came by is there. One that is not is let go.
    pub(super) fn holds(&self, position: Position) -> bool {
        let number = self.session().map(|session| session.number);
        let came_by = self.inbox.hold().get_mut(position).map(|held| held.token.session);
        let ours = came_by.is_some() && came_by == number;
        if let (Some(came_by), false) = (came_by, ours) {
            self.inbox.lapse(|held| held.token.session == came_by);
        }
        ours
    }
}
